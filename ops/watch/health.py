"""Is every part there? Each look is bounded, so the answer comes within a second whatever hangs."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import timedelta
from http import HTTPStatus
from typing import Any

import redis
import structlog
from django.conf import settings
from django.db import Error as DatabaseError
from django.db import connection
from django.db.models.functions import Now
from redis.backoff import NoBackoff
from redis.retry import Retry

from execution_app.book import feed, quotes
from execution_app.gate import look, watch
from execution_app.models import Chain, Heartbeat, Wallet
from ops.watch import holds, liveness, node, pricing
from ops.watch.probe import Probe

log = structlog.get_logger(__name__)

SERVICE = "vanta"
PATIENCE_S = 0.3
# A little less than the patience, so that the answer names what happened.
TIMEOUT_S = 0.25
# Only the database turns the answer to 503, so a busy machine gets a little longer before it is believed dead.
DATABASE_PATIENCE_S = 0.7
FRESH_S = 0.8
HEARTBEAT_WITHIN_S = 10
RECONCILED_WITHIN_S = look.RECONCILED_WITHIN_S
HEARTBEATS = ("worker", "tpsl", "beat")
BOT = "bot"
ROW_CHECKS = ("chain", "prices", *HEARTBEATS, BOT, "wallets", "held")
ENDPOINT_LIMIT = 8  # endpoints looked at
NAMED_LIMIT = 5  # symbols named in one detail
CHECKS = ("database", "redis", "node", *ROW_CHECKS)


@dataclass(frozen=True)
class Check:
    """One part: whether it works, and in fixed words why not (the page is public: no addresses, no secrets)."""

    ok: bool
    detail: str = ""

    def as_json(self) -> dict[str, str]:
        return {"status": "ok" if self.ok else "fail", "detail": self.detail}


OK = Check(ok=True)
Checks = Mapping[str, Check]


def execution_mode() -> dict[str, Any]:
    """The mode as this process sees it now; never cached here."""
    return asdict(watch.view())


def answer() -> tuple[HTTPStatus, dict[str, Any]]:
    """What /health says; 503 only when signals cannot be stored."""
    checks = examine()
    body = {
        "status": "ok" if all(check.ok for check in checks.values()) else "degraded",
        "service": SERVICE,
        "version": settings.VERSION,
        "execution_mode": execution_mode(),
        "checks": {name: check.as_json() for name, check in checks.items()},
    }
    return (HTTPStatus.OK if checks["database"].ok else HTTPStatus.SERVICE_UNAVAILABLE), body


def examine() -> dict[str, Check]:
    """Ask every part at once; what does not answer in time has failed."""
    for probe in PROBES:
        probe.begin()
    late = Check(ok=False, detail="no answer in time")
    checks = dict(_DATABASE.answer() or dict.fromkeys(("database", *ROW_CHECKS), late))
    checks |= {"redis": _mode_key(_REDIS.answer() or late), "node": _NODE.answer() or late}
    return {name: checks[name] for name in CHECKS}


def forget() -> None:
    """Look anew next time, whatever was seen a moment ago."""
    _KNOWN_GENESIS.clear()
    for probe in PROBES:
        probe.forget()


def look_at_database() -> Checks:
    """Whether signals can be stored, and what the rows say about the other parts."""
    try:
        with connection.cursor() as cursor:
            cursor.execute("SET statement_timeout = 2000")
            cursor.execute("SELECT pg_is_in_recovery(), current_setting('transaction_read_only')")
            in_recovery, read_only = cursor.fetchone() or (True, "on")
            # The table itself, since an empty database answers, too.
            cursor.execute("SELECT 1 FROM signals LIMIT 1")
        writable = not in_recovery and read_only == "off"
        database = OK if writable else Check(ok=False, detail="read-only")
        return {"database": database, **_rows()}
    except DatabaseError as error:
        failed = Check(ok=False, detail=type(error).__name__)
        unread = Check(ok=False, detail="unknown while the database is away")
        return {"database": failed, **dict.fromkeys(ROW_CHECKS, unread)}
    finally:
        connection.close()


def _rows() -> Checks:
    try:
        return {
            "chain": _chain(),
            "prices": _prices(),
            **_heartbeats(),
            "wallets": _wallets(),
            "held": _held(),
        }
    except DatabaseError as error:
        return dict.fromkeys(ROW_CHECKS, Check(ok=False, detail=type(error).__name__))


def _chain() -> Check:
    chain = Chain.objects.filter(pk=settings.ENVIRONMENT.chain_id).annotate(now=Now()).first()
    _KNOWN_GENESIS[:] = [chain.genesis_hash] if chain is not None else []
    if chain is None:
        return Check(ok=False, detail="chain and database were never compared")
    if chain.halted_reason:
        return Check(ok=False, detail="halted: chain and database disagree")
    if chain.reconciled_at is None or chain.now - chain.reconciled_at > timedelta(
        seconds=RECONCILED_WITHIN_S
    ):
        return Check(ok=False, detail=f"chain and database not compared for {RECONCILED_WITHIN_S} s")
    return OK


def _prices() -> Check:
    """Whether every symbol that may be traded has a price young enough to watch a position by, and a second one to compare."""
    symbols = sorted(settings.ENVIRONMENT.symbols)
    # Nobody publishes a price of a market that is closed.
    closed = feed.closed(feed.known(symbols))
    stale = [
        f"{symbol} never seen" if age_s == quotes.NEVER_SEEN_S else f"{symbol} {int(age_s)} s old"
        for symbol, age_s in quotes.ages_s().items()
        if age_s > quotes.STALE_AFTER_S and symbol not in closed
    ]
    alone = [f"{symbol} by one source only" for symbol in pricing.one_source_only(symbols)]
    problems = [*stale, *alone]
    if not problems:
        return (
            OK if feed.has_prices() else Check(ok=True, detail="one source only: VERANTA_FEED_URL is blank")
        )
    more = f" and {len(problems) - NAMED_LIMIT} more" if len(problems) > NAMED_LIMIT else ""
    return Check(ok=False, detail=f"{', '.join(problems[:NAMED_LIMIT])}{more}")


def _heartbeats() -> Checks:
    with connection.cursor() as cursor:
        cursor.execute(liveness.QUESTION, liveness.PARAMETERS)
        beats = {row[0]: liveness.Beat(*row) for row in cursor.fetchall()}
    problems = {name: liveness.problem(beats.get(name), HEARTBEAT_WITHIN_S) for name in HEARTBEATS}
    found = {name: Check(ok=False, detail=why) if why else OK for name, why in problems.items()}
    return {**found, BOT: _bot(liveness.problem(beats.get(BOT), HEARTBEAT_WITHIN_S))}


def _bot(problem: str) -> Check:
    """Where there is a token people rely on `/stop`, so a bot that hears nobody has failed; its note says why."""
    if not settings.ENVIRONMENT.telegram_bot_token.get_secret_value():
        return Check(ok=True, detail="TELEGRAM_BOT_TOKEN is blank")
    if problem:
        return Check(ok=False, detail=problem)
    note = Heartbeat.objects.values_list("note", flat=True).get(component=BOT)
    return Check(ok=not note.startswith("waiting"), detail=note)


def _wallets() -> Check:
    halted = Wallet.objects.filter(chain_id=settings.ENVIRONMENT.chain_id).exclude(halted_reason="").count()
    return OK if halted == 0 else Check(ok=False, detail=f"{halted} halted")


def _held() -> Check:
    """What waits is told and no part has failed by it: a stop, a DRY or an empty wallet has its own word."""
    found = [f"{hold.count} {hold.reason} for up to {int(hold.oldest_s)} s" for hold in holds.read()]
    return Check(ok=True, detail=", ".join(found))


def look_at_redis() -> Check:
    client = redis.Redis.from_url(
        settings.REDIS_URL,
        socket_timeout=TIMEOUT_S,
        socket_connect_timeout=TIMEOUT_S,
        retry=Retry(NoBackoff(), 0),
    )
    try:
        client.ping()
    except (redis.RedisError, OSError) as error:
        return Check(ok=False, detail=type(error).__name__)
    finally:
        client.close()
    return OK


def _mode_key(redis_answers: Check) -> Check:
    """A Redis that answers but whose mode key this process does not believe has failed, too."""
    if redis_answers.ok and watch.view().redis_health_streak == 0:
        return Check(ok=False, detail="the mode key is not believed")
    return redis_answers


def look_at_node() -> Check:
    """A majority of endpoints must be on our chain with a fresh head, and none on another; who is not well is named."""
    environment = settings.ENVIRONMENT
    urls, genesis_hash = environment.rpc_urls[:ENDPOINT_LIMIT], "".join(_KNOWN_GENESIS)
    with ThreadPoolExecutor(max_workers=ENDPOINT_LIMIT) as pool:
        problems = list(
            pool.map(lambda url: node.problem(url, environment.chain_id, TIMEOUT_S, genesis_hash), urls)
        )
    enough = problems.count("") > len(urls) // 2
    return Check(ok=enough and node.WRONG_CHAIN not in problems, detail=_named(problems))


def _named(problems: Sequence[str]) -> str:
    """Endpoints by their place in BASE_RPC_URL, which itself may hold keys."""
    return "; ".join(f"endpoint {place}: {why}" for place, why in enumerate(problems) if why)


# The first block of our chain, as the last look at the database found it: the look at the nodes does not wait for it.
_KNOWN_GENESIS: list[str] = []
_DATABASE: Probe[Checks] = Probe(
    "database", look_at_database, patience_s=DATABASE_PATIENCE_S, fresh_s=FRESH_S
)
_REDIS: Probe[Check] = Probe("redis", look_at_redis, patience_s=PATIENCE_S, fresh_s=FRESH_S)
_NODE: Probe[Check] = Probe("node", look_at_node, patience_s=PATIENCE_S, fresh_s=FRESH_S)
PROBES: tuple[Probe[Any], ...] = (_DATABASE, _REDIS, _NODE)

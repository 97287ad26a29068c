"""Is this the database that it was? What names it is kept outside of it, since a copy cannot know that it is one.

A small file in STATE_DIR, and Redis where the file is missing, hold the server's
system identifier and timeline, the highest nonce of each wallet and the highest
intent. Another server, a promoted standby or a smaller number halts every wallet:
a person then looks at what the chain knows (`manage.py wallet adopt`).

Only what is halted in rows is forgotten in the file, so a crash in between halts again.
"""

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

import redis
import structlog
from django.conf import settings
from django.db import ProgrammingError, connection, transaction
from django.db.models.functions import Coalesce, Greatest

from execution_app.engine import reconcile
from execution_app.models import Wallet

log = structlog.get_logger(__name__)
FILE = "database.json"
REDIS_KEY = "database_seen"
REDIS_TIMEOUT_S = 0.3
REASON_LIMIT = 200
# All of it at one moment, by one statement, since every pass over the chain asks.
_SERVER = "(SELECT system_identifier::text FROM pg_control_system()), substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)"
_NO_SERVER = "'', '0'"
_SEEN = """(SELECT coalesce(max(id), 0) FROM tx_intents),
    (SELECT coalesce(json_object_agg(chain_id || ':' || address, next_nonce), '{}') FROM wallets)"""


@dataclass(frozen=True)
class Sight:
    """What a database was seen to be. A blank `system` is one whose server does not say."""

    system: str = ""
    timeline: int = 0
    highest_intent: int = 0
    next_nonces: dict[str, int] = field(default_factory=dict)  # by "chain id:address"

    @property
    def is_used(self) -> bool:
        return any(self.next_nonces.values())


def compare() -> None:
    """Hold the database against what was last seen of it, halt every wallet where they differ, and keep what is seen.

    Not inside a transaction: a server that refuses the question would end it.
    """
    # Before the database is read: what another process keeps meanwhile is younger than what was read here.
    known = load()
    now = look()
    if known is None:
        if now.is_used:
            log.warning(
                "no record of this database was kept outside of it; one is begun", folder=str(_path())
            )
    elif problem := difference(known, now):
        _halt_all(problem, known)
    if known != now:
        _store(now)


def difference(known: Sight, now: Sight) -> str:
    """Why `now` is not the database that was known; blank where it may be. A new one that signs for nobody known is new."""
    if not now.is_used and not known.next_nonces.keys() & now.next_nonces.keys():
        return ""
    if known.system and now.system and known.system != now.system:
        return f"another PostgreSQL: system {now.system}, it was {known.system}"
    if known.timeline and now.timeline and known.timeline != now.timeline:
        return (
            f"a standby was promoted or a backup restored: timeline {now.timeline}, it was {known.timeline}"
        )
    lower = [
        f"{place.partition(':')[2]} {now.next_nonces.get(place, 0)} < {nonce}"
        for place, nonce in sorted(known.next_nonces.items())
        if now.next_nonces.get(place, 0) < nonce
    ]
    if lower:
        return f"an older copy of the database: next_nonce of {', '.join(lower)}"
    if now.highest_intent < known.highest_intent:
        return f"an older copy of the database: intent {now.highest_intent} < {known.highest_intent}"
    return ""


def look() -> Sight:
    """Read what names the database now; the server's part is blank where this login may not ask for it."""
    try:
        return _seen(_SERVER)
    except ProgrammingError:  # as on some managed servers
        return _seen(_NO_SERVER)


def _seen(server: str) -> Sight:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {server}, {_SEEN}")
        system, timeline, highest_intent, nonces = cursor.fetchone()
    return Sight(system, int(timeline, 16), highest_intent, nonces)


def _halt_all(problem: str, known: Sight) -> None:
    log.error("this is not the database that it was; every wallet halts", problem=problem)
    for wallet in Wallet.objects.order_by("pk"):
        seen = known.next_nonces.get(f"{wallet.chain_id}:{wallet.address}", 0)
        with transaction.atomic():
            if seen > wallet.next_nonce:
                Wallet.objects.filter(pk=wallet.pk).update(
                    seen_next_nonce=Greatest(Coalesce("seen_next_nonce", 0), seen)
                )
            reconcile.halt_wallet(wallet, problem[:REASON_LIMIT])


def load() -> Sight | None:
    """What was last seen: the file's word, Redis's where there is no file; None where neither knows."""
    try:
        return _read(_path().read_text(encoding="utf-8"))
    except FileNotFoundError:
        pass
    except (OSError, UnicodeDecodeError) as error:
        log.error("the record of the database cannot be read", problem=type(error).__name__)  # noqa: TRY400
    try:
        raw = _redis().get(REDIS_KEY)
    except (redis.RedisError, OSError):
        return None
    return _read(raw.decode("utf-8", "replace")) if isinstance(raw, bytes) else None


def _read(text: str) -> Sight | None:
    try:
        told = json.loads(text)
        nonces = {str(place): int(nonce) for place, nonce in told["next_nonces"].items()}
        return Sight(str(told["system"]), int(told["timeline"]), int(told["highest_intent"]), nonces)
    except (ValueError, TypeError, KeyError, AttributeError):
        log.error("the record of the database is damaged; it is begun anew")  # noqa: TRY400
        return None


def _store(sight: Sight) -> None:
    """Whole or not at all, and on the disk before anybody relies on it; a failure is said, and stops nobody."""
    text = json.dumps(asdict(sight), sort_keys=True)
    path = _path()
    draft = path.with_name(f".{FILE}.{os.getpid()}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with draft.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        log.warning(
            "STATE_DIR takes no record of the database", folder=str(path.parent), problem=error.strerror
        )
    try:
        _redis().set(REDIS_KEY, text)
    except (redis.RedisError, OSError) as error:
        log.warning("redis takes no record of the database", problem=type(error).__name__)


def _path() -> Path:
    return Path(settings.ENVIRONMENT.state_dir) / FILE


def _redis() -> "redis.Redis":
    return redis.Redis.from_url(
        settings.REDIS_URL, socket_timeout=REDIS_TIMEOUT_S, socket_connect_timeout=REDIS_TIMEOUT_S, retry=None
    )

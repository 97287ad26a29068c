"""Gauges, and a counter, that are facts of the whole stack: read from rows and from Redis when somebody scrapes.

They need no process of their own to be alive, and every scraping process says
the same. Floats appear here only, since the exposition format knows nothing else.
"""

from collections.abc import Callable, Iterable
from datetime import timedelta
from decimal import Decimal

import redis
import structlog
from django.conf import settings
from django.db import Error as DatabaseError
from django.db import connection
from django.db.models import Count, DecimalField, DurationField, ExpressionWrapper, F, Max, Min
from django.db.models.functions import Now
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from redis.backoff import NoBackoff
from redis.retry import Retry

from execution_app.book import positions
from execution_app.gate import watch
from execution_app.models import ExternalTrade, Fill, Position, ProtectionTrigger, StackMode, TxIntent, Wallet
from execution_app.states import Action, IntentState, Mode, PositionState, TriggerKind
from ops.watch import alarms, holds, liveness, notices, pricing
from ops.watch.probe import Probe

log = structlog.get_logger(__name__)

QUEUES = ("submit", "track", "tpsl", "notify", "ops")
ROW_PATIENCE_S = 1.0
REDIS_TIMEOUT_S = 0.25
REDIS_PATIENCE_S = 0.3
FRESH_S = 0.8
LABEL_LIMIT = 500  # wallets, components, symbols: more series than this help nobody
TRADES_WITHIN = timedelta(hours=1)
WEI_PER_ETH = Decimal(10**18)

Families = list[Metric]


def collect() -> Iterable[Metric]:
    """Every gauge that can be read right now; what cannot be read is left out, never guessed."""
    for probe in PROBES:
        probe.begin()
    yield from _mode()
    yield _gauge("vanta_build_info", "The running version.", {"version": settings.VERSION}, 1)
    for probe in PROBES:
        families = probe.answer()
        if families is None:
            log.warning("gauges left out of a scrape", source=probe.name, why="no answer in time")
        else:
            yield from families


def forget() -> None:
    """Read anew at the next scrape."""
    for probe in PROBES:
        probe.forget()


def _gauge(name: str, text: str, labels: dict[str, str], value: float) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=list(labels))
    family.add_metric(list(labels.values()), value)
    return family


def _mode() -> Families:
    view = watch.view()
    mode = GaugeMetricFamily("vanta_exec_mode", "1 for the effective execution mode.", labels=["mode"])
    requested = GaugeMetricFamily(
        "vanta_exec_mode_requested", "1 for the requested execution mode.", labels=["mode"]
    )
    for known in Mode:
        mode.add_metric([known.value], float(view.mode == known))
        requested.add_metric([known.value], float(view.requested == known))
    return [
        mode,
        requested,
        GaugeMetricFamily("vanta_emergency_stop", "1 while a stop holds.", float(view.emergency_stop)),
        GaugeMetricFamily(
            "vanta_redis_health_streak",
            "Consecutive healthy reads of the mode key.",
            float(view.redis_health_streak),
        ),
    ]


def read_rows() -> Families:
    """The gauges that rows tell; a reader that fails leaves out its own only."""
    families: Families = []
    try:
        with connection.cursor() as cursor:
            cursor.execute("SET statement_timeout = 900")
        for reader in READERS:
            families += _read(reader)
    except DatabaseError as error:
        log.warning("gauges left out of a scrape", source="database", why=type(error).__name__)
    finally:
        connection.close()
    return families


def _read(reader: Callable[[], Families]) -> Families:
    try:
        return reader()
    except DatabaseError as error:
        if not connection.is_usable():
            raise
        log.warning("gauges left out of a scrape", source=reader.__name__, why=type(error).__name__)
        return []


def _intents() -> Families:
    counts = dict(TxIntent.objects.order_by().values_list("state").annotate(Count("id")))
    family = GaugeMetricFamily("vanta_intents", "Intents by state.", labels=["state"])
    for state in IntentState:
        family.add_metric([state.value], counts.get(state.value, 0))
    return [family]


def _oldest_unsettled() -> Families:
    age = ExpressionWrapper(Now() - Min("accepted_at"), output_field=DurationField())
    unsettled, rests = TxIntent.objects.filter(settled_at=None), positions.resting()
    # What rests at the venue waits for its price, and for however long.
    oldest = unsettled.exclude(pk__in=rests.values("pk")).aggregate(age=age)["age"]
    age_s = oldest.total_seconds() if oldest is not None else 0.0
    return [
        GaugeMetricFamily(
            "vanta_oldest_unsettled_age_seconds",
            "Age of the oldest intent that is not settled and does not rest at the venue.",
            age_s,
        ),
        GaugeMetricFamily(
            "vanta_resting_orders",
            "Orders that rest at the venue: each may fill by its price alone, also under a stop.",
            rests.count(),
        ),
    ]


def _oldest_held() -> Families:
    age_s = max((hold.oldest_s for hold in holds.read()), default=0.0)
    return [
        GaugeMetricFamily(
            "vanta_oldest_held_age_seconds", "For how long the oldest held intent has been held.", age_s
        )
    ]


def _wallets() -> Families:
    family = GaugeMetricFamily("vanta_wallet_balance_eth", "Gas money of a wallet.", labels=["wallet"])
    wallets = Wallet.objects.filter(chain_id=settings.ENVIRONMENT.chain_id, balance_wei__isnull=False)
    for address, balance_wei in wallets.values_list("address", "balance_wei")[:LABEL_LIMIT]:
        family.add_metric([address], float((balance_wei or 0) / WEI_PER_ETH))
    return [family]


def _heartbeats() -> Families:
    beats = GaugeMetricFamily(
        "vanta_heartbeat_timestamp_seconds",
        "When a component was last seen alive: its main process, and a child of its pool at work.",
        labels=["component"],
    )
    starts = GaugeMetricFamily(
        "vanta_process_start_time_seconds",
        "When a component's main process began, the latest of several; a child of its pool is none.",
        labels=["component"],
    )
    with connection.cursor() as cursor:
        cursor.execute(liveness.QUESTION, liveness.PARAMETERS)
        rows = cursor.fetchmany(LABEL_LIMIT)
    for beat in (liveness.Beat(*row) for row in rows):
        if beat.component in liveness.NO_PROCESS:
            continue  # alarms.backups and alarms.retention tell their age
        beats.add_metric([beat.component], beat.alive_at_s)
        starts.add_metric([beat.component], beat.started_at_s)
    return [beats, starts]


def _mode_changes() -> Families:
    changes = StackMode.objects.values_list("changes", flat=True).get(pk=1)
    text = "Changes of the effective mode of the whole stack, each once."
    return [CounterMetricFamily("vanta_exec_mode_changes", text, value=changes)]


def _triggers() -> Families:
    """Counted in rows, so that each trigger counts once, whoever died after it."""
    family = CounterMetricFamily(
        "vanta_tpsl_triggers", "Levels of protected positions that fired, each once.", labels=["type"]
    )
    counts = dict(ProtectionTrigger.objects.order_by().values_list("kind").annotate(Count("id")))
    for kind in TriggerKind:
        family.add_metric([kind.value], counts.get(kind.value, 0))
    return [family]


def _drift() -> Families:
    family = GaugeMetricFamily(
        "vanta_position_drift", "Open LIVE positions that differ from the venue's storage.", labels=["symbol"]
    )
    counts = dict.fromkeys(sorted(settings.ENVIRONMENT.symbols), 0)
    positions = Position.objects.filter(mode=Mode.LIVE, state=PositionState.OPEN).exclude(drift="")
    counts |= dict(positions.order_by().values_list("symbol").annotate(Count("id"))[:LABEL_LIMIT])
    for symbol, count in counts.items():
        family.add_metric([symbol], count)
    return [family]


def _external() -> Families:
    return [
        GaugeMetricFamily(
            "vanta_external_trades",
            "Trades in our traders' names that no order of ours opened.",
            float(ExternalTrade.objects.filter(gone_at=None).count()),
        )
    ]


def _trades() -> Families:
    """What an alert on a breached cap asks for; a maximum over an hour cannot hide between two scrapes."""
    opens = Fill.objects.filter(action=Action.OPEN, mode=Mode.LIVE, filled_at__gte=Now() - TRADES_WITHIN)
    notional = F("collateral_usdc") * F("leverage_x")
    most = opens.aggregate(
        notional_usd=Max(notional, output_field=DecimalField()), leverage_x=Max("leverage_x")
    )
    return [
        GaugeMetricFamily(
            "vanta_trade_notional_usd",
            "Largest notional of one LIVE open executed within the last hour; 0 without any.",
            float(most["notional_usd"] or 0),
        ),
        GaugeMetricFamily(
            "vanta_trade_leverage_x",
            "Highest leverage of one LIVE open executed within the last hour; 0 without any.",
            float(most["leverage_x"] or 0),
        ),
    ]


READERS = (
    _intents,
    _oldest_unsettled,
    _oldest_held,
    _wallets,
    _heartbeats,
    _mode_changes,
    _triggers,
    _drift,
    _external,
    _trades,
    pricing.ages,
    pricing.sources,
    alarms.state_ages,
    alarms.broadcasts_under_stop,
    alarms.wallets,
    alarms.caps,
    alarms.backups,
    alarms.retention,
    notices.notices,
)


def read_queues() -> Families:
    client = redis.Redis.from_url(
        settings.REDIS_URL,
        socket_timeout=REDIS_TIMEOUT_S,
        socket_connect_timeout=REDIS_TIMEOUT_S,
        retry=Retry(NoBackoff(), 0),
    )
    try:
        with client.pipeline(transaction=False) as pipeline:
            for queue in QUEUES:
                pipeline.llen(queue)
            depths = pipeline.execute()
    except (redis.RedisError, OSError) as error:
        log.warning("gauges left out of a scrape", source="redis", why=type(error).__name__)
        return []
    finally:
        client.close()
    family = GaugeMetricFamily("vanta_queue_depth", "Messages that wait in a queue.", labels=["queue"])
    for queue, depth in zip(QUEUES, depths, strict=True):
        family.add_metric([queue], depth)
    return [family]


PROBES: tuple[Probe[Families], ...] = (
    Probe("rows", read_rows, patience_s=ROW_PATIENCE_S, fresh_s=FRESH_S),
    Probe("queues", read_queues, patience_s=REDIS_PATIENCE_S, fresh_s=FRESH_S),
)

"""Gauges that are there to raise an alarm by: how long things stand, what runs out, and what must not be.

Read from rows at the scrape, as the other gauges; each reader raises DatabaseError.
"""

from datetime import timedelta

from django.conf import settings
from django.db import connection
from django.db.models import Min
from django.db.models.functions import Now
from prometheus_client.core import GaugeMetricFamily, Metric

from execution_app.gate import limits
from execution_app.models import Fill, Heartbeat, IntentTransition, Restriction, TxSend, Wallet
from execution_app.states import TERMINAL, Action, IntentState, Mode, RestrictionKind, SendKind
from ops.watch.liveness import BACKUP, RETENTION

Families = list[Metric]

WALLET_LIMIT = 500
TRADES_WITHIN = timedelta(hours=1)
# A first broadcast that began before the stop may be written down, and told by the database's clock, a moment later.
STOP_SETTLES = timedelta(seconds=5)
MOVES_LOOKED_AT = 5_000  # of the newest: the table has no index on time, and a stop that failed shows at once

_STATE_AGES = """
SELECT i.state, extract(epoch FROM clock_timestamp() - min(coalesce(t.at, i.accepted_at)))::float8
FROM tx_intents i LEFT JOIN LATERAL
    (SELECT max(at) AS at FROM intent_transitions WHERE intent_id = i.id AND to_state = i.state) t ON true
WHERE i.settled_at IS NULL AND NOT (i.state = 'ordered' AND i.order_type <> 'market') GROUP BY i.state
"""


def state_ages() -> Families:
    family = GaugeMetricFamily(
        "vanta_intent_state_age_seconds",
        "For how long the longest of the unsettled intents has been in a state; 0 without any. Not what rests at the venue.",
        labels=["state"],
    )
    with connection.cursor() as cursor:
        cursor.execute(_STATE_AGES)
        ages_s = dict(cursor.fetchall())
    for state in IntentState:
        if state not in TERMINAL:
            family.add_metric([state.value], max(0.0, ages_s.get(state.value, 0.0)))
    return [family]


def broadcasts_under_stop() -> Families:
    """What a stop that works leaves at 0; re-sent bytes and cancels in a slot are no first broadcasts of orders."""
    since = Restriction.objects.filter(kind=RestrictionKind.STOP, lifted_at=None).aggregate(at=Min("set_at"))
    left = 0
    if since["at"] is not None:
        newest = IntentTransition.objects.order_by("-id").values("id")[:MOVES_LOOKED_AT]
        # Its reason is the hash that was about to leave.
        cancels = TxSend.objects.filter(kind=SendKind.CANCEL).values("tx_hash")
        left = (
            IntentTransition.objects.filter(
                id__in=newest, to_state=IntentState.SENDING, at__gt=since["at"] + STOP_SETTLES
            )
            .exclude(why__in=cancels)
            .count()
        )
    return [
        GaugeMetricFamily(
            "vanta_broadcasts_under_stop",
            "Orders first broadcast since the stop that holds began; zero by design.",
            float(left),
        )
    ]


def wallets() -> Families:
    own = Wallet.objects.filter(chain_id=settings.ENVIRONMENT.chain_id)
    halted = GaugeMetricFamily(
        "vanta_wallets_halted",
        "Wallets that sign nothing until an operator has looked.",
        float(own.exclude(halted_reason="").count()),
    )
    expiry = GaugeMetricFamily(
        "vanta_delegate_expiry_timestamp_seconds",
        "Until when the venue lets a wallet trade for its trader; 0 where it does not.",
        labels=["wallet"],
    )
    known = own.filter(delegated_until__isnull=False, trader__enabled=True).order_by("id")
    for address, until in known.values_list("address", "delegated_until")[:WALLET_LIMIT]:
        if until is not None:
            expiry.add_metric([address], until.timestamp())
    return [halted, expiry]


def caps() -> Families:
    """What trades are held against: the environment's ceilings, above which no row of `caps` reaches."""
    limit = GaugeMetricFamily(
        "vanta_cap_limit",
        "Ceilings of the environment, each in the unit of its name.",
        labels=["cap"],
    )
    for name, value in limits.ceilings().items():
        limit.add_metric([name.value], float(value))
    symbols = settings.ENVIRONMENT.symbols
    opens = Fill.objects.filter(action=Action.OPEN, mode=Mode.LIVE, filled_at__gte=Now() - TRADES_WITHIN)
    outside = opens.exclude(intent__symbol__in=sorted(symbols)).count() if symbols else 0
    return [
        limit,
        GaugeMetricFamily(
            "vanta_trades_outside_symbols",
            "LIVE opens executed within the last hour in symbols that are not allowed; zero by design.",
            float(outside),
        ),
    ]


def backups() -> Families:
    """Whoever makes a backup leaves a heartbeat of that name once the copy was read back."""
    row = Heartbeat.objects.filter(component=BACKUP).values_list("at", flat=True).first()
    return [
        GaugeMetricFamily(
            "vanta_backup_timestamp_seconds",
            "When the newest backup was made and read back; 0 where none was ever noted.",
            row.timestamp() if row is not None else 0.0,
        )
    ]


def retention() -> Families:
    """A young stack has nothing to archive, so 0 is no fault here."""
    row = Heartbeat.objects.filter(component=RETENTION).values_list("at", flat=True).first()
    return [
        GaugeMetricFamily(
            "vanta_retention_timestamp_seconds",
            "When the newest retention archived all that was due; 0 where there never was one.",
            row.timestamp() if row is not None else 0.0,
        )
    ]

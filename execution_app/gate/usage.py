"""How much of a summed cap is used: counted from the rows, DRY and LIVE apart, days by UTC."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db import connection
from django.db.models import DecimalField, ExpressionWrapper, F, Max, Q, QuerySet, Sum
from django.db.models.functions import Coalesce

from execution_app.gate.caps import SUMMED, Limit
from execution_app.models import Fill, MarginChange, Reservation, TxIntent, TxReceipt
from execution_app.states import UNMINED, Action, CapName, CapScope, Mode, PositionEnd, SendKind

MINUTE = timedelta(seconds=60)
NOTHING = Decimal(0)
# What `used` counts for the whole house, in one statement: a page asks for all of it every few seconds, and
# beginning nine questions takes longer than answering them. What is looked up row by row is so on purpose: a day's
# rows are few, and joined the planner likes to read the whole history. Only opens and increases have anything at stake;
# increases have an index of their own, and so have cancels: to look at each position's intent and at each receipt's send
# would take longer than all the rest.
# tests/execution/gate/test_usage.py holds the two equal.
_HOUSE = """
SELECT counted.name, staked.mode, counted.value FROM (
    SELECT r.mode, count(*) FILTER (WHERE i.id IS NULL) AS opens, sum(r.notional_usdc) AS usdc
    FROM risk_reservations r LEFT JOIN tx_intents i ON i.id = r.intent_id AND i.action = 'increase'
    WHERE r.released_at IS NULL GROUP BY r.mode
) AS staked, LATERAL (VALUES ('open_positions', opens::numeric), ('exposure_usdc', usdc)) AS counted (name, value)
UNION ALL
SELECT 'orders_per_minute', mode, count(*) FROM risk_reservations
WHERE reserved_at > %(now)s - interval '60 seconds' GROUP BY mode
UNION ALL
SELECT 'daily_loss_usdc', mode, sum(lost_usdc) FROM (
    SELECT c.mode, (c.collateral_usdc - coalesce(c.sent_to_trader_usdc, 0))
        * (SELECT count(*) FROM fills o WHERE o.position_id = c.position_id AND o.action = 'open') AS lost_usdc
    FROM fills c WHERE c.action = 'close' AND c.filled_at >= %(day)s
    UNION ALL
    SELECT o.mode, o.collateral_usdc + coalesce((SELECT sum(c.collateral_usdc
            * CASE c.action WHEN 'increase' THEN 1 WHEN 'close' THEN -1 ELSE 0 END)
        FROM fills c WHERE c.position_id = o.position_id), 0)
        + coalesce((SELECT sum(m.change_usdc) FROM margin_changes m WHERE m.position_id = o.position_id), 0)
    FROM fills o JOIN positions p ON p.id = o.position_id
    JOIN risk_reservations r ON r.intent_id = o.intent_id
    WHERE o.action = 'open' AND p.ended_by = 'closed_elsewhere' AND r.released_at >= %(day)s
) AS today GROUP BY mode
UNION ALL
SELECT 'gas_per_day_wei', 'LIVE', sum(wei) FROM (
    SELECT r.gas_used * r.effective_gas_price_wei + r.l1_fee_wei
        + CASE WHEN r.status = 1 AND s.id IS NULL
            THEN coalesce((SELECT value_wei FROM tx_intents WHERE id = r.intent_id), 0) ELSE 0 END AS wei
    FROM tx_receipts r LEFT JOIN tx_sends s ON s.id = r.send_id AND s.kind = 'cancel'
    WHERE r.canonical AND r.seen_at >= %(day)s
    UNION ALL
    SELECT i.gas_limit * coalesce((SELECT max(max_fee_wei) FROM tx_sends WHERE intent_id = i.id), q.max_fee_wei)
        + i.value_wei + i.l1_fee_wei
    FROM tx_intents i LEFT JOIN sign_requests q ON q.intent_id = i.id
    WHERE i.settled_at IS NULL AND i.state = ANY(%(unmined)s)
) AS spent
"""


def used(limit: Limit, mode: Mode, now: datetime, upto: int | None = None) -> Decimal:
    """How much of a summed cap is used, in the unit of its name.

    `upto` leaves out reservations younger than that one, for an order that has
    its own and asks whether it still fits.
    """
    name, scope, scope_value = limit.name, limit.scope, limit.scope_value
    day = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    held = Reservation.objects.filter(mode=mode.value, **_of(scope, scope_value))
    if upto is not None:
        held = held.filter(pk__lte=upto)
    if name is CapName.OPEN_POSITIONS:
        return Decimal(held.filter(released_at=None, intent__action=Action.OPEN).count())
    if name is CapName.EXPOSURE:
        return _sum(held.filter(released_at=None), "notional_usdc")
    if name is CapName.ORDERS_PER_MINUTE:
        return Decimal(held.filter(reserved_at__gt=now - MINUTE).count())
    if name is CapName.DAILY_LOSS:
        return max(NOTHING, _loss_usdc(mode, scope, scope_value, day))
    if name is CapName.GAS_PER_DAY:
        return _gas_wei(scope, scope_value, day, upto) if mode is Mode.LIVE else NOTHING
    raise ValueError(f"{name} is a cap of one order")


def of_house(now: datetime) -> dict[tuple[CapName, Mode], Decimal]:
    """What `used` answers for each summed cap of the whole house and each mode, in the units of their names."""
    day = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    with connection.cursor() as cursor:
        cursor.execute(_HOUSE, {"now": now, "day": day, "unmined": sorted(UNMINED)})
        found = {(CapName(name), Mode(mode)): value or NOTHING for name, mode, value in cursor.fetchall()}
    every = {(name, mode): found.get((name, mode), NOTHING) for name in SUMMED for mode in Mode}
    for mode in Mode:
        every[CapName.DAILY_LOSS, mode] = max(NOTHING, every[CapName.DAILY_LOSS, mode])
    return every


def _of(scope: CapScope, scope_value: str, prefix: str = "", trader: str = "trader__") -> dict[str, Any]:
    """The rows of a scope: of reservations, or of intents behind `prefix`."""
    if scope is CapScope.GLOBAL:
        return {}
    if scope is CapScope.TRADER:
        return {f"{prefix}{trader}tg_user_id": int(scope_value)}
    return {f"{prefix}{scope.value}": scope_value}


def _sum(rows: "QuerySet[Any]", what: Any) -> Decimal:
    return rows.aggregate(total=Sum(what))["total"] or NOTHING


def _loss_usdc(mode: Mode, scope: CapScope, scope_value: str, day: datetime) -> Decimal:
    """Collateral that the day's closes took out, less what they paid; a loss is an opener's, whoever closed.

    What a position paid that ended without a close of ours is not known, and
    counts as nothing on the day on which that became final.
    """
    opener = _of(scope, scope_value, "position__fills__intent__", trader="")
    closes = Fill.objects.filter(mode=mode.value, action=Action.CLOSE, filled_at__gte=day)
    closes = closes.filter(position__fills__action=Action.OPEN, **opener)
    closed = _sum(closes, F("collateral_usdc") - Coalesce(F("sent_to_trader_usdc"), NOTHING))
    gone = Fill.objects.filter(
        mode=mode.value,
        action=Action.OPEN,
        position__ended_by=PositionEnd.CLOSED_ELSEWHERE.value,
        intent__reservation__released_at__gte=day,
        **_of(scope, scope_value, "intent__", trader=""),
    )
    of_it = "position__fills__collateral_usdc"
    put_in = Sum(of_it, filter=Q(position__fills__action=Action.INCREASE))
    taken_out = Sum(of_it, filter=Q(position__fills__action=Action.CLOSE))
    rest = gone.annotate(grown_usdc=Coalesce(put_in, NOTHING), closed_usdc=Coalesce(taken_out, NOTHING))
    lost_usdc = _sum(rest, F("collateral_usdc") + F("grown_usdc") - F("closed_usdc"))
    margin = MarginChange.objects.filter(position__in=gone.values("position"))
    return closed + lost_usdc + _sum(margin, "change_usdc")


def _gas_wei(scope: CapScope, scope_value: str, day: datetime, upto: int | None) -> Decimal:
    """What the day's mined transactions cost, execution fees and data fees included, and what those under way may."""
    mined = TxReceipt.objects.filter(
        canonical=True, seen_at__gte=day, **_of(scope, scope_value, "intent__", trader="")
    )
    whole: DecimalField[Any, Any] = DecimalField(max_digits=60, decimal_places=0)
    spent = _sum(
        mined, ExpressionWrapper(F("gas_used") * F("effective_gas_price_wei") + F("l1_fee_wei"), whole)
    )
    paid = mined.filter(status=1).exclude(send__kind=SendKind.CANCEL)
    spent += _sum(paid, "intent__value_wei")
    unmined = TxIntent.objects.filter(
        state__in=sorted(UNMINED), settled_at=None, **_of(scope, scope_value, trader="")
    )
    if upto is not None:
        unmined = unmined.filter(Q(reservation__isnull=True) | Q(reservation__pk__lte=upto))
    cost = ExpressionWrapper(F("gas_limit") * F("max_fee_wei") + F("value_wei") + F("l1_fee_wei"), whole)
    dearest = Max(Coalesce("sends__max_fee_wei", "sign_request__max_fee_wei"))
    return spent + _sum(unmined.annotate(max_fee_wei=dearest), cost)

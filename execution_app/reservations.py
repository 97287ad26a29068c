"""What each opening order has at stake: taken with its nonce, turned into exposure by its fill, released at its end.

The stake grows only by `take`, whose caller has asked the caps under `lock`. It
shrinks and ends by `follow`, which needs no such lock, since a smaller sum breaks
no cap. Only what is final shrinks it: a refund or a closing fill that a reorg may
still take back leaves the stake as it was, so no reorg can lift the sum above a
cap. One exception is a fill that the venue reports with another size than was
asked, which is paged where it is found: the stake is then what is at stake.

Order of locks, everywhere: wallet row, `lock`, stop's line, control row, then
rows of intents, positions and reservations. Opens take all of them, exits all but
`lock`. Stops take the line and the control row, caps are set under `lock` alone,
receipts and fills take rows only, and none of these takes an earlier one later.
`lock` comes before the line so that a stop waits for the one open's transaction
that has it, not for all that wait for it, and so that the mode is read after the wait.
"""

from collections.abc import Sequence
from decimal import Decimal

from django.db import OperationalError, connection, transaction
from django.db.models import F, Sum
from django.db.models.functions import Now
from psycopg.errors import LockNotAvailable

from execution_app.models import Fill, Position, Reservation, TxIntent
from execution_app.models.arrays import rows_of
from execution_app.states import TERMINAL, Action, IntentState, Mode, ReservationState

SOON = "500ms"
RISK_LOCK = 0x7269736B  # the trigger that guards new reservations takes the same

# States of an open whose arrival may change what is at stake.
SHAPING = TERMINAL | {
    IntentState.PENDING_INCLUSION,
    IntentState.ORDERED,
    IntentState.FILLED,
    IntentState.VENUE_CANCELLED,
}


def lock() -> None:
    """Be the only one who takes or raises a stake or changes a cap, until the transaction ends."""
    if not connection.in_atomic_block:
        raise RuntimeError("caps are asked inside the transaction that they guard")
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [RISK_LOCK])


def lock_soon() -> bool:
    """As `lock`, but wait only a moment: opens hold their wallet meanwhile, and exits want it. Says whether it is ours."""
    if not connection.in_atomic_block:
        raise RuntimeError("caps are asked inside the transaction that they guard")
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SELECT current_setting('lock_timeout')")
            (usual,) = cursor.fetchone()
            cursor.execute("SELECT set_config('lock_timeout', %s, true)", [SOON])
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [RISK_LOCK])
            cursor.execute("SELECT set_config('lock_timeout', %s, true)", [usual])
    except OperationalError as problem:
        if isinstance(problem.__cause__, LockNotAvailable):
            return False
        raise
    return True


def take(intent: TxIntent, mode: Mode) -> Reservation:
    """Reserve an open's notional. The caller holds `lock` and has asked the caps."""
    held = _drawn(intent, mode)
    held.save()
    return held


def take_all(intents: Sequence[TxIntent], mode: Mode) -> None:
    """As `take`, for opens that were asked for one after the other under the same lock."""
    rows_of(Reservation).bulk_create(_drawn(intent, mode) for intent in intents)


def _drawn(intent: TxIntent, mode: Mode) -> Reservation:
    assert intent.trader is not None
    assert intent.collateral_usdc is not None
    assert intent.leverage_x is not None
    notional_usdc = intent.collateral_usdc * intent.leverage_x
    return Reservation(
        intent=intent,
        trader=intent.trader,
        source=intent.source,
        symbol=intent.symbol,
        mode=mode.value,
        asked_usdc=notional_usdc,
        notional_usdc=notional_usdc,
    )


def follow(intent_id: int) -> None:
    """Bring an open's reservation to what its order and its position are now; none or a released one stays.

    Runs in the transaction that changed them.
    """
    with transaction.atomic():
        # Locked before anything is read: of two that follow at once, the later sees what the earlier did.
        held = (
            Reservation.objects.select_for_update()
            .filter(intent_id=intent_id, released_at=None)
            .order_by()
            .first()
        )
        if held is None:
            return
        state, notional_usdc = _due(held, TxIntent.objects.get(pk=intent_id))
        if (state, notional_usdc) == (held.state, held.notional_usdc):
            return
        released = state is ReservationState.RELEASED
        Reservation.objects.filter(pk=held.pk).update(
            state=state.value, notional_usdc=notional_usdc, released_at=Now() if released else None
        )


def reopen(intents: Sequence[TxIntent]) -> None:
    """As `follow`, for opens that moved to a state in which they hold what they asked for."""
    held = Reservation.objects.filter(intent__in=intents, released_at=None)
    held.exclude(state=ReservationState.OPEN, notional_usdc=F("asked_usdc")).update(
        state=ReservationState.OPEN.value, notional_usdc=F("asked_usdc")
    )


def _due(held: Reservation, intent: TxIntent) -> tuple[ReservationState, Decimal]:
    asked_usdc: Decimal = held.asked_usdc
    state = IntentState(intent.state)
    if state in (IntentState.FILLED, IntentState.SIMULATED):
        fill = Fill.objects.filter(intent=intent, action=Action.OPEN).select_related("position").first()
        if fill is None:
            return ReservationState.EXPOSED, asked_usdc  # its fill follows in this transaction
        left_usdc = _left_usdc(fill)
        return (ReservationState.EXPOSED if left_usdc else ReservationState.RELEASED), left_usdc
    refunded = state is IntentState.VENUE_CANCELLED and intent.settled_at is not None
    if refunded or state in TERMINAL:
        return ReservationState.RELEASED, Decimal(0)
    return ReservationState.OPEN, asked_usdc


def _left_usdc(opening: Fill) -> Decimal:
    """Notional of a position that no final close, absence or replacement has taken out; a correction begins it anew."""
    position = opening.position
    if position.absent_at_block is not None or _is_replaced(position):
        return Decimal(0)
    closes = Fill.objects.filter(position=position, action=Action.CLOSE, settled_at__isnull=False)
    held_usdc, leverage_x = opening.collateral_usdc, opening.leverage_x
    corrected = position.corrections.order_by("block_number").last()
    if corrected is not None:
        held_usdc, leverage_x = corrected.collateral_usdc, corrected.leverage_x
        closes = closes.filter(block_number__gt=corrected.block_number)
    closed_usdc: Decimal = closes.aggregate(usdc=Sum("collateral_usdc"))["usdc"] or Decimal(0)
    left_usdc: Decimal = max(held_usdc - closed_usdc, Decimal(0)) * leverage_x
    return left_usdc


def _is_replaced(position: Position) -> bool:
    """Whether a later trade in the same slot of the venue is final; it keeps one a slot."""
    slot = {
        f"position__{name}": getattr(position, name)
        for name in ("trader_id", "venue", "pair_index", "trade_index", "mode")
    }
    later = Fill.objects.filter(**slot, action=Action.OPEN, mode=Mode.LIVE, settled_at__isnull=False)
    return later.filter(position__opened_at__gt=position.opened_at).exists()

"""What each opening order has at stake: taken with its nonce, turned into exposure by its fill, released at its end.

The stake grows only by `take`, whose caller has asked the caps under `lock`. It
shrinks and ends by `follow`, which needs no such lock, since a smaller sum breaks
no cap. Only what is final shrinks it: a refund or a closing fill that a reorg may
still take back leaves the stake as it was, so no reorg can lift the sum above a
cap. Two exceptions, since the stake is what is at stake: a fill that the venue
reports with another size than was asked, which is paged where it is found; and a
position that was taken for ended and is there all the same (`take_up_again`).

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
from django.db.models import F
from django.db.models.functions import Now
from psycopg.errors import LockNotAvailable

from execution_app.models import Reservation, TxIntent
from execution_app.models.arrays import rows_of
from execution_app.states import TERMINAL, IntentState, Mode, ReservationState

SOON = "500ms"
RISK_LOCK = 0x7269736B  # the trigger that guards new reservations takes the same

# A position that no final close, absence or replacement has taken out; a correction begins it anew. Replaced is one
# of which a later trade in the same slot of the venue is final, since it keeps one a slot.
_LEFT = """WITH opening AS (
    SELECT fill.collateral_usdc, fill.leverage_x, held.id, held.trader_id, held.venue, held.pair_index,
        held.trade_index, held.mode, held.opened_at, held.absent_at_block
    FROM fills AS fill JOIN positions AS held ON held.id = fill.position_id
    WHERE fill.intent_id = %s AND fill.action = 'open'
)
SELECT opening.absent_at_block IS NOT NULL OR EXISTS (
        SELECT FROM positions AS later JOIN fills AS fill ON fill.position_id = later.id
        WHERE (later.trader_id, later.venue, later.pair_index, later.trade_index, later.mode)
            = (opening.trader_id, opening.venue, opening.pair_index, opening.trade_index, opening.mode)
        AND later.opened_at > opening.opened_at
        AND fill.action = 'open' AND fill.mode = 'LIVE' AND fill.settled_at IS NOT NULL
    ),
    coalesce(corrected.collateral_usdc, opening.collateral_usdc),
    coalesce(corrected.leverage_x, opening.leverage_x),
    (
        SELECT coalesce(sum(fill.collateral_usdc), 0) FROM fills AS fill
        WHERE fill.position_id = opening.id AND fill.action = 'close' AND fill.settled_at IS NOT NULL
        AND (corrected.block_number IS NULL OR fill.block_number > corrected.block_number)
    )
FROM opening LEFT JOIN LATERAL (
    SELECT collateral_usdc, leverage_x, block_number FROM position_corrections WHERE position_id = opening.id
    ORDER BY block_number DESC LIMIT 1
) AS corrected ON true"""

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
    with connection.cursor() as cursor:
        # Free nearly always; where somebody has it or waits for it already, this has not got it.
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [RISK_LOCK])
        if cursor.fetchone()[0]:
            return True
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


def follow(intent_id: int, moved_to: IntentState | None = None) -> None:
    """Bring an open's reservation to what its order and its position are now; none or a released one stays.

    Runs in the transaction that changed them. `moved_to` is the state that it gave the intent, where it did just that.
    """
    with transaction.atomic(savepoint=False):
        # Locked before anything is read: of two that follow at once, the later sees what the earlier did.
        held = (
            Reservation.objects.select_for_update()
            .filter(intent_id=intent_id, released_at=None)
            .order_by()
            .first()
        )
        if held is None:
            return
        state, notional_usdc = _due(held, moved_to)
        if (state, notional_usdc) == (held.state, held.notional_usdc):
            return
        released = state is ReservationState.RELEASED
        Reservation.objects.filter(pk=held.pk).update(
            state=state.value, notional_usdc=notional_usdc, released_at=Now() if released else None
        )


def take_up_again(intent_id: int) -> None:
    """What an open has at stake whose stake was released, since its position is open all the same, whatever the caps say by now.

    The caller holds `lock`, and has opened the position again in the book.
    """
    left_usdc = _left_usdc(intent_id)
    if left_usdc:
        released = Reservation.objects.filter(intent_id=intent_id, released_at__isnull=False)
        released.update(state=ReservationState.EXPOSED.value, notional_usdc=left_usdc, released_at=None)


def reopen(intents: Sequence[TxIntent]) -> None:
    """As `follow`, for opens that moved to a state in which they hold what they asked for."""
    held = Reservation.objects.filter(intent__in=intents, released_at=None)
    held.exclude(state=ReservationState.OPEN, notional_usdc=F("asked_usdc")).update(
        state=ReservationState.OPEN.value, notional_usdc=F("asked_usdc")
    )


def _due(held: Reservation, moved_to: IntentState | None) -> tuple[ReservationState, Decimal]:
    asked_usdc: Decimal = held.asked_usdc
    state, settled_at = moved_to, None
    if state is None:
        named, settled_at = TxIntent.objects.values_list("state", "settled_at").get(pk=held.intent_id)
        state = IntentState(named)
    if state in (IntentState.FILLED, IntentState.SIMULATED):
        left_usdc = _left_usdc(held.intent_id)
        if left_usdc is None:
            return ReservationState.EXPOSED, asked_usdc  # its fill follows in this transaction
        return (ReservationState.EXPOSED if left_usdc else ReservationState.RELEASED), left_usdc
    refunded = state is IntentState.VENUE_CANCELLED and settled_at is not None
    if refunded or state in TERMINAL:
        return ReservationState.RELEASED, Decimal(0)
    return ReservationState.OPEN, asked_usdc


def _left_usdc(intent_id: int) -> Decimal | None:
    """Notional that an open's fill has at stake; None where it has no fill."""
    with connection.cursor() as cursor:
        cursor.execute(_LEFT, [intent_id])
        row = cursor.fetchone()
    if row is None:
        return None
    is_over, held_usdc, leverage_x, closed_usdc = row
    left_usdc: Decimal = Decimal(0) if is_over else max(held_usdc - closed_usdc, Decimal(0)) * leverage_x
    return left_usdc

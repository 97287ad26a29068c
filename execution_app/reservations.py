"""What opens, increases and margin put in have at stake: taken with the nonce, exposure by what the venue did, released at its end.

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
from decimal import ROUND_CEILING, Context, Decimal
from typing import Any

from django.db import OperationalError, connection, transaction
from django.db.models import F
from django.db.models.functions import Now
from psycopg.errors import LockNotAvailable

from execution_app.models import Reservation, TxIntent
from execution_app.models.arrays import rows_of
from execution_app.states import TERMINAL, IntentState, Mode, ReservationState

SOON = "500ms"
_PLACES, _EXACT = Decimal(1).scaleb(-10), Context(prec=60)
RISK_LOCK = 0x7269736B  # the trigger that guards new reservations takes the same

# All that ever went into or out of the position of an opening, an increase or a change of margin, oldest first, each with
# the last correction of it and whether it is over: absent, or replaced by a later trade in the same slot of the venue
# that is final, since it keeps one a slot. Closes count once they are final.
_OF_POSITION = """WITH held AS (
    SELECT * FROM positions WHERE id IN (
        SELECT position_id FROM fills WHERE intent_id = %(intent)s AND action IN ('open', 'increase')
        UNION SELECT position_id FROM margin_changes WHERE intent_id = %(intent)s
    )
), happened AS (
    SELECT fill.position_id, fill.intent_id, fill.action, fill.collateral_usdc AS usdc, fill.leverage_x,
        fill.leverage_after_x, 0::numeric AS left_usdc, true AS is_final,
        fill.block_number, fill.log_index, fill.id AS fill, 0::bigint AS change
    FROM held JOIN fills AS fill ON fill.position_id = held.id
        AND (fill.action <> 'close' OR fill.settled_at IS NOT NULL)
    UNION ALL
    SELECT margin.position_id, margin.intent_id, 'margin', margin.change_usdc, margin.leverage_x,
        NULL, margin.collateral_usdc, margin.settled_at IS NOT NULL,
        margin.block_number, margin.log_index, margin.after_fill, margin.id
    FROM held JOIN margin_changes AS margin ON margin.position_id = held.id
)
SELECT held.absent_at_block IS NOT NULL OR EXISTS (
        SELECT FROM positions AS later JOIN fills AS fill ON fill.position_id = later.id
        WHERE (later.trader_id, later.venue, later.pair_index, later.trade_index, later.mode)
            = (held.trader_id, held.venue, held.pair_index, held.trade_index, held.mode)
        AND later.opened_at > held.opened_at
        AND fill.action = 'open' AND fill.mode = 'LIVE' AND fill.settled_at IS NOT NULL
    ),
    corrected.block_number, corrected.collateral_usdc, corrected.leverage_x,
    happened.intent_id, happened.action, happened.usdc, happened.leverage_x, happened.leverage_after_x,
    happened.left_usdc, happened.is_final, happened.block_number
FROM held JOIN happened ON happened.position_id = held.id
LEFT JOIN LATERAL (
    SELECT collateral_usdc, leverage_x, block_number FROM position_corrections WHERE position_id = held.id
    ORDER BY block_number DESC LIMIT 1
) AS corrected ON true
ORDER BY happened.block_number, happened.log_index, happened.fill, happened.change"""

# States of what takes a stake whose arrival may change what is at stake.
SHAPING = TERMINAL | {
    IntentState.PENDING_INCLUSION,
    IntentState.ORDERED,
    IntentState.FILLED,
    IntentState.CHANGED,
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
    """Reserve an open's notional, or the margin that goes into a position, without leverage. The caller holds `lock` and has asked the caps."""
    held = _drawn(intent, mode)
    held.save()
    return held


def take_all(intents: Sequence[TxIntent], mode: Mode) -> None:
    """As `take`, for opens that were asked for one after the other under the same lock."""
    rows_of(Reservation).bulk_create(_drawn(intent, mode) for intent in intents)


def _drawn(intent: TxIntent, mode: Mode) -> Reservation:
    assert intent.trader is not None
    notional_usdc = intent.margin_usdc
    if notional_usdc is None:
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
    """Bring a reservation to what its order and its position are now; none or a released one stays.

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
    if state in (IntentState.FILLED, IntentState.SIMULATED, IntentState.CHANGED):
        left_usdc = _left_usdc(held.intent_id)
        if state is IntentState.CHANGED and settled_at is None:
            return (
                ReservationState.EXPOSED,
                asked_usdc,
            )  # whatever became of it since, a reorg may take it back
        if state is IntentState.CHANGED and left_usdc is None:
            return ReservationState.RELEASED, Decimal(0)  # it went into another trade
        if left_usdc is None:
            return ReservationState.EXPOSED, asked_usdc  # its fill follows in this transaction
        return (ReservationState.EXPOSED if left_usdc else ReservationState.RELEASED), left_usdc
    refunded = state is IntentState.VENUE_CANCELLED and settled_at is not None
    if refunded or state in TERMINAL:
        return ReservationState.RELEASED, Decimal(0)
    return ReservationState.OPEN, asked_usdc


def _left_usdc(intent_id: int) -> Decimal | None:
    """What the fill of an open or an increase, or margin put in, has at stake; None where it has done nothing to a position."""
    with connection.cursor() as cursor:
        cursor.execute(_OF_POSITION, {"intent": intent_id})
        rows = cursor.fetchall()
    if not rows:
        return None
    return Decimal(0) if rows[0][0] else _shares(rows).get(intent_id, Decimal(0))


def at_stake(collateral_usdc: Decimal, leverage_x: Decimal) -> Decimal:
    """The notional of a trade in 1e-10 USDC, rounded up: a blended leverage has more digits than that."""
    return _rounded(collateral_usdc * leverage_x)


def _rounded(usdc: Decimal) -> Decimal:
    return usdc.quantize(_PLACES, ROUND_CEILING, _EXACT)


def _shares(rows: Sequence[tuple[Any, ...]]) -> dict[int, Decimal]:
    """What each opening, each increase and margin that we put in have at stake of one position; together they have all of it.

    All of it is the notional, and what of our margin is still in the trade, as it is. In the order in which things happened:
    what a final close, a final withdrawal or a correction takes out is taken from the newest, and the opening has what a
    correction puts in. So a share ends before its position only where nothing brings it back.
    """
    shares: dict[int, Decimal] = {}
    held_usdc, leverage_x, margin_usdc = Decimal(0), Decimal(0), Decimal(0)
    _, corrected_at, corrected_usdc, corrected_x, *_ = rows[0]
    is_corrected = corrected_at is None
    for *_, intent_id, action, usdc, fill_x, after_x, left_usdc, is_final, block_number in rows:
        if not is_corrected and block_number > corrected_at:
            held_usdc, leverage_x, is_corrected = corrected_usdc, corrected_x, True
            margin_usdc = min(margin_usdc, held_usdc)
            _level(shares, at_stake(held_usdc, leverage_x) + margin_usdc)
        if action == "close":
            rest_usdc = max(held_usdc - usdc, Decimal(0))
            margin_usdc = _rounded(margin_usdc * rest_usdc / held_usdc) if held_usdc else Decimal(0)
            held_usdc = rest_usdc
        elif action == "margin":
            before_usdc = at_stake(held_usdc, leverage_x)
            held_usdc, leverage_x = left_usdc, fill_x
            if intent_id is not None and usdc > 0:
                shares[intent_id] = usdc
                margin_usdc += usdc
            elif is_final and usdc < 0:
                margin_usdc = max(margin_usdc + usdc, Decimal(0))
            if not is_final:
                # The venue rounds the leverage down, and a reorg may take that back.
                margin_usdc += max(before_usdc - at_stake(held_usdc, leverage_x), Decimal(0))
        else:
            shares[intent_id] = at_stake(usdc, fill_x)
            held_usdc += usdc
            leverage_x = fill_x if after_x is None else after_x
        _level(shares, at_stake(held_usdc, leverage_x) + margin_usdc)
    if not is_corrected:
        _level(shares, at_stake(corrected_usdc, corrected_x) + min(margin_usdc, corrected_usdc))
    return shares


def _level(shares: dict[int, Decimal], whole_usdc: Decimal) -> None:
    """Let them add up to the whole: less is taken from the newest, more is the opening's, which is the first."""
    more_usdc = whole_usdc - sum(shares.values(), Decimal(0))
    if more_usdc > 0 and shares:
        shares[next(iter(shares))] += more_usdc
    for intent_id in reversed(list(shares)):
        taken_usdc = min(shares[intent_id], max(-more_usdc, Decimal(0)))
        shares[intent_id] -= taken_usdc
        more_usdc += taken_usdc

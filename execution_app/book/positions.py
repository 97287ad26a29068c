"""A position is a fold over its fills: take a fill away and it is as if it had never been."""

from decimal import Decimal
from typing import Any

import structlog
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.db.models.functions import Now

from execution_app import meters, reservations
from execution_app.book import asked_levels, bases, growth, reopened, replaced
from execution_app.models import (
    Correction,
    Fill,
    MarginChange,
    Position,
    TxIntent,
)
from execution_app.states import (
    GROWING,
    IN_FLIGHT,
    RELEASING,
    UNDECIDED,
    UNMINED,
    Action,
    IntentState,
    Mode,
    OrderType,
    PositionEnd,
    PositionState,
)
from execution_app.venues.scales import USDC_DIGITS, from_units, to_units

log = structlog.get_logger(__name__)
PCT_DIGITS = 4

# A close in one of these states has ended without closing; its position is free again.
CLOSE_ENDED = sorted(RELEASING - {IntentState.FILLED, IntentState.SIMULATED})
# After one of these a close that was under way is asked for again.
FAILED_ON_ITS_WAY = (
    IntentState.FINAL_REVERTED,
    IntentState.FINAL_CANCELLED,
    IntentState.VENUE_CANCELLED,
    IntentState.LAPSED,
)


def closable(close: TxIntent, mode: Mode) -> QuerySet[Position]:
    """Open positions from before this close that its request has not dealt with yet, oldest first.

    Another close may be working on them: `is_taken` says so.
    """
    request = close.intent_key.partition("#")[0]
    dealt_with = (
        TxIntent.objects.filter(trader=close.trader, symbol=close.symbol, action=Action.CLOSE)
        .filter(Q(intent_key=request) | Q(intent_key__startswith=f"{request}#"))
        .exclude(state__in=CLOSE_ENDED)
        .exclude(pk=close.pk)
    )
    unfilled = dealt_with.exclude(state=IntentState.FILLED)
    return (
        Position.objects.filter(trader=close.trader, symbol=close.symbol, mode=mode, state=PositionState.OPEN)
        .filter(fills__action=Action.OPEN, fills__intent_id__lt=asked_at(close))
        .exclude(pk__in=dealt_with.filter(position__isnull=False).values("position"))
        # A reorg may have made what was dealt with another row: by its fill, or by its slot until there is one.
        .exclude(pk__in=Fill.objects.filter(action=Action.CLOSE, intent__in=dealt_with).values("position"))
        .exclude(Exists(reopened.void_of(OuterRef).filter(pk__in=unfilled.values("position"))))
        .order_by("id")
    )


def is_taken(position: Position, close: TxIntent) -> bool:
    """Whether another close holds the position, or is in flight on it again after a reorg, or its margin is being changed."""
    # Of closes: no exit waits for new levels. Nor for margin, once it is mined; its nonce is the earlier one until then.
    closes = Q(action=Action.CLOSE) & (Q(holds_position=True) | Q(state__in=sorted(IN_FLIGHT)))
    margin = Q(action=Action.MARGIN, state__in=sorted(UNMINED))
    own = Q(position=position) & (closes | margin)
    # What was asked of the row that a reorg took away is of this one, as soon as the book has heard of both.
    # A transaction names its slot alone; a message the time of the opening that left.
    margin = Q(action=Action.MARGIN, settled_at=None, state__in=sorted(UNMINED | {IntentState.MINED}))
    sent = Q(action=Action.CLOSE, nonce__isnull=False, state__in=sorted(IN_FLIGHT))
    moved = reopened.asked_of_void(position) & (margin | sent)
    return TxIntent.objects.exclude(pk=close.pk).filter(own | moved).exists()


def hold(position: Position, close: TxIntent) -> None:
    """Keep the position for this close and fix how much of it goes, where only a part is asked for.

    The caller holds the wallet and has asked `is_taken`. Raises ValueError where
    the part is less than the smallest amount of USDC.
    """
    amount_usdc = part(position.collateral_usdc, close)
    TxIntent.objects.filter(pk=close.pk, state=close.state).update(
        position=position, holds_position=True, close_usdc=amount_usdc, updated_at=Now()
    )
    close.position, close.holds_position, close.close_usdc = position, True, amount_usdc


def let_go(close: TxIntent) -> None:
    """The close, which has no nonce, gives its position up and looks for one again."""
    freed: dict[str, Any] = {"position": None, "holds_position": False, "close_usdc": None}
    TxIntent.objects.filter(pk=close.pk, state=close.state).update(**freed, updated_at=Now())
    close.position, close.holds_position, close.close_usdc = None, False, None


def part(collateral_usdc: Decimal, close: TxIntent) -> Decimal | None:
    """USDC of collateral that a partial close takes; None where it closes all that there will be.

    A percentage is of the collateral at this moment, floored to 0.000001 USDC:
    the amount on the intent is the exact one. Raises ValueError where that is nothing.
    """
    if close.reduce_usdc is not None:
        wanted_usdc: Decimal = close.reduce_usdc
        return min(wanted_usdc, collateral_usdc)
    if close.reduce_pct is None:
        return None
    units = to_units(collateral_usdc, USDC_DIGITS, "collateral_usdc")
    share = units * to_units(close.reduce_pct, PCT_DIGITS, "reduce_pct") // (100 * 10**PCT_DIGITS)
    if not share:
        raise ValueError(f"{close.reduce_pct:f} % of {collateral_usdc:f} USDC is less than 0.000001 USDC")
    return from_units(share, USDC_DIGITS)


def asked_at(close: TxIntent) -> int:
    """The id of the request's first intent, in whose order it stands; its further ones are younger."""
    first = TxIntent.objects.filter(intent_key=close.intent_key.partition("#")[0])
    return first.values_list("pk", flat=True).get()


def leaves_all(close: TxIntent) -> bool:
    """Whether it closes all there is: then what rests at the venue is taken back, too."""
    return close.reduce_usdc is None and close.reduce_pct is None and not close.only_position


def resting() -> QuerySet[TxIntent]:
    """Opens that wait at the venue for their price: rightly, and for however long."""
    return TxIntent.objects.filter(action=Action.OPEN, state=IntentState.ORDERED).exclude(
        order_type=OrderType.MARKET
    )


def earlier_open(close: TxIntent) -> QuerySet[TxIntent]:
    """Opens on its symbol that were asked for before it and may still become a position."""
    # What the venue refunded may be executed yet, until the refund's block is final.
    undecided = Q(state__in=sorted(UNDECIDED)) | Q(state=IntentState.VENUE_CANCELLED, settled_at=None)
    return TxIntent.objects.filter(
        undecided,
        trader=close.trader,
        symbol=close.symbol,
        action=Action.OPEN,
        id__lt=asked_at(close),
    )


def is_asked_again(close: TxIntent) -> bool:
    """Whether it stands in for an exit that was under way already: one that a stop parks, as it does with slots."""
    request, again, _ = close.intent_key.partition("#")
    if close.action != Action.CLOSE or not again or close.position_id is None:
        return False
    mine = Q(intent_key=request) | Q(intent_key__startswith=f"{request}#")
    # Of the same trade, also as the row that a reorg left void.
    there = Q(position=close.position_id) | Q(position__opened_by__fill__position=close.position_id)
    failed = TxIntent.objects.filter(mine, there, state__in=FAILED_ON_ITS_WAY)
    return failed.filter(pk__lt=close.pk).exists()


def fold(position: Position) -> None:
    """Recompute the position from the fills it has now, and store it.

    Fills count in the order of the chain, not in the one they were read in, and
    from the newest correction or change of margin on only those that came after it. What
    a position paid that ended without a close of ours, nor an event that tells how, is not known: left blank.
    """
    fills = list(position.fills.order_by("block_number", "log_index", "id"))
    opening = next((fill for fill in fills if fill.action == Action.OPEN), None)
    growing = [fill for fill in fills if fill.action == Action.INCREASE]
    closing = [fill for fill in fills if fill.action == Action.CLOSE]
    changes = list(position.margin_changes.all())
    fields: dict[str, object] = {
        "state": PositionState.VOID, "ended_by": "", "close_price": None, "paid_out_usdc": None, "closed_at": None,
    }  # fmt: skip
    if opening is not None:
        corrected = position.corrections.order_by("block_number").last()
        base = bases.newest(corrected, changes)
        later = bases.after(growing, corrected)
        left_usdc = bases.left_usdc(opening, growing, closing, base)
        end = _end(position, left_usdc, closing)
        fields["state"] = PositionState.CLOSED if end else PositionState.OPEN
        fields["ended_by"] = end or ""
        fields["collateral_usdc"] = bases.put_in_usdc(opening, growing, changes) if end else left_usdc
        fields["venue_timestamp"] = bases.refreshed(fills, base)
        fields["leverage_x"] = bases.leverage_x(opening, growing, base)
        if corrected is not None:
            for name in ("take_profit", "stop_loss"):
                fields[name] = getattr(corrected, name)
        fields |= growth.open_price(position, opening, later, corrected)
        fields |= _levels(position, opening, corrected)
        if closing and end is not PositionEnd.CLOSED_ELSEWHERE:
            fields["close_price"] = closing[-1].price
            fields["paid_out_usdc"] = sum(
                (fill.sent_to_trader_usdc or Decimal(0) for fill in closing), Decimal(0)
            )
        if end is not None and end is not PositionEnd.CLOSED_ELSEWHERE:
            fields["closed_at"] = closing[-1].filled_at
    settled = (
        opening is not None and all(fill.settled_at for fill in fills) and not _may_reopen(position, fields)
    )
    fields["settled_at"] = max(fill.settled_at for fill in fills if fill.settled_at) if settled else None
    Position.objects.filter(pk=position.pk).update(updated_at=Now(), **fields)
    staking = [fill.intent_id for fill in fills if fill.action in GROWING]
    staking += [change.intent_id for change in changes]
    for intent_id in sorted(filter(None, staking)):
        reservations.follow(intent_id)


def empty(opening: Fill) -> None:
    """Its opening has left the chain: the void row is what was opened, and by whom, by which it is known again."""
    opened = {"collateral_usdc": opening.collateral_usdc, "leverage_x": opening.leverage_x}
    Position.objects.filter(pk=opening.position_id, state=PositionState.VOID).update(
        **opened,
        open_price=opening.price,
        opened_by=opening.intent_id,
        grown_price=None,
        updated_at=Now(),
    )


def _levels(position: Position, opening: Fill, corrected: Correction | None) -> dict[str, object]:
    """The venue's levels where we had them changed: the last ones taken, or those before where a reorg took them back."""
    asked = TxIntent.objects.filter(position=position, action=Action.LEVELS, message__isnull=False)
    if not asked.exists():
        return {}
    taken = asked.filter(state=IntentState.CHANGED)
    if corrected is not None:
        taken = taken.filter(message__spent_at_block__gt=corrected.block_number)
    source = taken.order_by("message__spent_at_block", "id").last() or corrected or asked_levels.of(opening)
    return {"take_profit": source.take_profit, "stop_loss": source.stop_loss}


def _may_reopen(position: Position, fields: dict[str, object]) -> bool:
    """Whether nothing but an opening in its slot ended it that may leave the chain again."""
    if fields["ended_by"] != PositionEnd.CLOSED_ELSEWHERE or _is_absent(position):
        return False
    return not replaced.replacements(position).filter(settled_at__isnull=False).exists()


def _is_absent(position: Position) -> bool:
    return Position.objects.filter(pk=position.pk, absent_at_block__isnull=False).exists()


def _end(position: Position, left_usdc: Decimal, closing: list[Fill]) -> PositionEnd | None:
    told = next((fill.ended_by for fill in closing if fill.ended_by), None)
    if told is not None:
        return PositionEnd(told)
    if left_usdc <= 0:
        return PositionEnd.CLOSE
    gone = _is_absent(position) or replaced.replacements(position).exists()
    return PositionEnd.CLOSED_ELSEWHERE if gone else None


def end_replaced(position: Position) -> None:
    """End what the book still holds in the slot of a trade that has just been opened.

    The venue keeps one trade a slot, so the older one is gone: liquidated, or
    closed by its owner. What it paid is not known here, and left blank.
    """
    held = Position.objects.filter(**replaced.slot_of(position), state=PositionState.OPEN)
    for older in held.filter(opened_at__lt=position.opened_at):
        meters.INVARIANT_VIOLATIONS.labels("position_ends_by_our_close").inc()
        log.error("a position has ended without a close of ours", position=older.pk, by=position.pk)
        fold(older)


def reopen_replaced(position: Position) -> None:
    """Fold anew what had ended because this trade took its slot, now that its opening has left the chain."""
    older = Position.objects.filter(**replaced.slot_of(position), opened_at__lt=position.opened_at)
    last = older.exclude(state=PositionState.VOID).order_by("opened_at").last()
    if last is not None and last.ended_by == PositionEnd.CLOSED_ELSEWHERE:
        fold(last)


def release_replaced(position: Position) -> None:
    """Let go what older trades of the slot had at stake, now that the one that replaced them is final, and so their end."""
    older = Position.objects.filter(**replaced.slot_of(position), opened_at__lt=position.opened_at)
    for ended in older.filter(ended_by=PositionEnd.CLOSED_ELSEWHERE, settled_at=None):
        fold(ended)
    at_stake = {"intent__reservation__isnull": False, "intent__reservation__released_at": None}
    parts = Fill.objects.filter(position__in=older, action__in=GROWING, **at_stake)
    margin = MarginChange.objects.filter(position__in=older, **at_stake)
    for rows in (parts.values_list("intent_id", flat=True), margin.values_list("intent_id", flat=True)):
        for intent_id in rows:
            reservations.follow(intent_id)

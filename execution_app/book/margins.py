"""Margin of open trades, as the venue's events tell it: what goes in or out is neither profit nor loss.

Seen by its effect: where the venue holds a trade with another collateral, leverage or time than the book, its owner may
have changed its margin by hand. Then most endpoints' logs of the last blocks are read for that, and what they say is in the book
at once, as a fill is: provisional until its block is final, and gone with it. What they do not explain is a
divergence (`book/corrections.py`).
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.db.models.functions import Now

from execution_app import meters, reservations
from execution_app.book import absence, margin_logs, reopened
from execution_app.book.absence import Sighting
from execution_app.book.positions import fold
from execution_app.models import Chain, MarginChange, Position, TxIntent, TxSend
from execution_app.node import quorum
from execution_app.states import UNMINED, Action, IntentState, Mode, PositionState, Reason
from execution_app.venues.margin_events import MarginUpdated
from execution_app.venues.onchain import OpenTrade

log = structlog.get_logger(__name__)
REACH = 10_000  # blocks back from the one at which the difference is seen
BATCH = 100


def follow(position: Position, sighting: Sighting) -> bool:
    """Take over what changed the margin of this trade, if that is how it differs; says whether anything was new.

    Raises RpcFault or NodeError.
    """
    trade = sighting.trades[position.pk]
    if trade is None or not absence.is_there(position, trade) or not _differs(position, trade):
        return False
    return _follow(position, sighting.block_number)


def follow_before(position: Position, stood_at: int, block_number: int) -> None:
    """The same for a trade that was closed in this block, of which the venue says that it had this time (unix s) by then.

    Else what was put in after the book's last look would seem to be gained. Raises RpcFault or NodeError.
    """
    if position.state == PositionState.OPEN and _known_at(position) != stood_at:
        _follow(position, block_number)


def _follow(position: Position, end: int) -> bool:
    opening = position.fills.filter(action=Action.OPEN).order_by("block_number").first()
    if opening is None or opening.block_number is None:
        return False
    start = max(opening.block_number, end - REACH + 1)
    found = [
        event
        for event in margin_logs.of_trader(position.trader.address, start, end)
        if _is_of(position, event)
    ]
    new = [_record(position, event) for event in found]
    return any(new)


def _differs(position: Position, trade: OpenTrade) -> bool:
    """In what a change of margin changes."""
    ours = position.collateral_usdc, position.leverage_x, _known_at(position)
    return ours != (trade.collateral_usdc, trade.leverage_x, trade.opened_at)


def _known_at(position: Position) -> int:
    return int((position.venue_timestamp or position.opened_at).timestamp())


def _is_of(position: Position, event: MarginUpdated) -> bool:
    """Its side is a trade's for life, its slot is not; its opening price is one that it had or has.

    What its owner increased by hand, and then changed, is a divergence until the book has that increase.
    """
    slot = position.trader.address.lower(), position.pair_index, position.trade_index
    if (event.trader.lower(), event.pair_index, event.trade_index) != slot:
        return False
    if event.is_long != position.is_long:
        return False
    return event.open_price == position.open_price or event.open_price in _earlier_prices(position)


def _earlier_prices(position: Position) -> set[Decimal | None]:
    """Opening prices that increases have replaced since."""
    opened = position.fills.filter(action=Action.OPEN).values_list("price", flat=True)
    grown = position.fills.filter(action=Action.INCREASE).values_list("open_price_after", flat=True)
    return {*opened, *grown, *position.corrections.values_list("open_price", flat=True)}


def _record(position: Position, event: MarginUpdated, intent: TxIntent | None = None) -> bool:
    """Put the event into the book, once; says whether it was not there yet, or was not known to be of this intent.

    A transaction stands in one block: what was seen of it in another one, which has left since, is there no more.
    """
    with transaction.atomic():
        locked = Position.objects.select_for_update().get(pk=position.pk)
        if locked.mode != Mode.LIVE or not (
            locked.state == PositionState.OPEN or (intent is not None and _was_there(locked, event))
        ):
            return False
        seen = _unowned(locked, event.tx_hash)
        seen.exclude(block_hash=event.block_hash).delete()
        is_new = _write(locked, event, intent)
        if not is_new and intent is not None:
            # The comparison with the venue saw it before its receipt was read, and took it for the owner's.
            is_new = bool(seen.filter(log_index=event.log_index).update(intent=intent))
        if is_new:
            fold(locked)
    if is_new:
        log.info("margin changed", position=position.pk, change_usdc=str(event.change_usdc))
    return is_new


def _unowned(position: Position, tx_hash: str) -> QuerySet[MarginChange]:
    """What is not final of this transaction, and of no intent as far as the book knows."""
    return MarginChange.objects.filter(position=position, tx_hash=tx_hash, intent=None, settled_at=None)


def _write(position: Position, event: MarginUpdated, intent: TxIntent | None = None) -> bool:
    _, is_new = MarginChange.objects.get_or_create(
        tx_hash=event.tx_hash,
        log_index=event.log_index,
        defaults={
            "position": position,
            "intent": intent,
            "change_usdc": event.change_usdc,
            "collateral_usdc": event.collateral_usdc,
            "leverage_x": event.leverage_x,
            "venue_timestamp": datetime.fromtimestamp(event.opened_at, UTC),
            "block_number": event.block_number,
            "block_hash": event.block_hash,
        },
    )
    return is_new


def _was_there(position: Position, event: MarginUpdated) -> bool:
    """Whether a trade that has ended in the book had not by then: how it ended may be read before its last change is."""
    if position.state != PositionState.CLOSED:
        return False
    if position.absent_at_block is not None and position.absent_at_block < event.block_number:
        return False
    last = position.fills.filter(action=Action.CLOSE).order_by("block_number", "log_index").last()
    if last is None or last.block_number is None:
        return position.absent_at_block is not None
    return (last.block_number, last.log_index) > (event.block_number, event.log_index)


def apply(intent: TxIntent, event: MarginUpdated) -> bool:
    """What a change of ours made of its position, in the transaction of its receipt; False where it hit another trade.

    After a reorg its trade may have been opened anew before it: then it is of the row that this made.
    """
    mine = _meant(intent, event)
    return mine is not None and _record(mine, event, intent)


def is_early(intent: TxIntent, event: MarginUpdated) -> bool:
    """Whether a reorg took its position's opening back, and the book has not heard yet of the one that came again before it.

    Once the event's block was final at an earlier look the book has heard of all before it: to wait longer, for an order
    that rests again, would keep all exits from the slot.
    """
    position = intent.position
    if position is None or position.state != PositionState.VOID or _meant(intent, event) is not None:
        return False
    heard = Chain.objects.filter(
        pk=settings.ENVIRONMENT.chain_id, finalized_number__gte=event.block_number
    ).exclude(finalized_hash="")
    return reopened.outcome(position)[1] and not heard.exists()


def _meant(intent: TxIntent, event: MarginUpdated) -> Position | None:
    position = intent.position
    assert position is not None
    if event.change_usdc != intent.margin_usdc:
        return None
    row = reopened.outcome(position)[0] if position.state == PositionState.VOID else position
    return row if row is not None and _is_of(row, event) else None


def why_reverted(intent: TxIntent) -> dict[str, str]:
    """The columns that say why a change of ours came to nothing; none of any other intent.

    It is no exit, so nobody asks for it again but who wanted it: who still does may have asked long before it is final,
    and would have put in twice as much.
    """
    position = intent.position
    if intent.action != Action.MARGIN or position is None:
        return {}
    reason, detail = Reason.VENUE_REVERT, "the venue reverted it: no USDC went in or out"
    if position.state == PositionState.VOID:
        reason, (again, _) = Reason.NO_POSITION, reopened.outcome(position)
        if again is None:
            detail = (
                "a reorg took its position's opening back, and it was mined before that came again: ask anew"
            )
        else:
            detail = f"a reorg made its position another one, and it was mined before that: ask anew for position {again.pk}"
    elif position.state == PositionState.CLOSED:
        reason, detail = Reason.NO_POSITION, f"position {position.pk} had ended: no USDC went in or out"
    elif intent.transitions.filter(to_state=IntentState.CHANGED).exists():
        detail = "it was done in a block that a reorg took away, and reverted in the one after that: ask anew"
    told = {"reason": reason.value, "reason_detail": detail}
    transaction.on_commit(lambda: log.error("a change of margin reverted", intent=intent.pk, **told))
    return told


def take_back(intent: TxIntent) -> None:
    """The block of a change of ours left the chain."""
    row = MarginChange.objects.filter(intent=intent, settled_at=None).select_related("position").first()
    if row is not None:
        row.delete()
        fold(row.position)


def forget(position: Position) -> None:
    """Its opening leaves the chain, and so does all that came after: the book knows it again as it was opened."""
    later = MarginChange.objects.filter(position=position, settled_at=None)
    if later.delete()[0]:
        fold(position)


def settle_of(intent: TxIntent) -> None:
    """The block of a change of ours is final; in the transaction of whoever says so, who has settled the intent."""
    row = MarginChange.objects.filter(intent=intent).select_related("position").first()
    if row is None:
        reservations.follow(intent.pk)
        return
    MarginChange.objects.filter(pk=row.pk, settled_at=None).update(settled_at=Now())
    fold(row.position)


def simulate(intent: TxIntent, collateral_usdc: Decimal, leverage_x: Decimal) -> None:
    """Put a change of a simulated position into the book; the caller's transaction holds its wallet or its row."""
    position = intent.position
    assert position is not None
    newest = position.fills.order_by("id").values_list("pk", flat=True).last()
    MarginChange.objects.create(
        position=position,
        intent=intent,
        change_usdc=intent.margin_usdc,
        collateral_usdc=collateral_usdc,
        leverage_x=leverage_x,
        tx_hash=f"dry:{intent.pk}",
        log_index=0,
        after_fill=newest,
        settled_at=Now(),
    )
    fold(position)


def under_way(position: Position) -> QuerySet[TxIntent]:
    """Changes of ours that have left, and of which the book has not heard what the venue did."""
    changes = TxIntent.objects.filter(action=Action.MARGIN, settled_at=None)
    mine = Q(position=position) | reopened.asked_of_void(position)
    return changes.filter(mine, state__in=sorted(UNMINED | {IntentState.MINED}))


def settle() -> None:
    """Make final what stands in blocks that most endpoints have as final, and take back what stands in none of theirs.

    What we changed ourselves is made final by its receipt.
    """
    ours = TxSend.objects.filter(
        tx_hash=OuterRef("tx_hash"), intent__action=Action.MARGIN, intent__settled_at=None
    )
    unowned = MarginChange.objects.filter(settled_at=None, intent=None).annotate(is_ours=Exists(ours))
    for row in unowned.order_by("id")[:BATCH]:
        assert row.block_number is not None
        votes = absence.finality(row.block_number, row.block_hash)
        if votes[True] >= quorum.needed() and not row.is_ours:
            _end(row)
        elif votes[False] >= quorum.needed():
            _move(row, margin_logs.of_transaction(row.tx_hash))


def _end(row: MarginChange) -> None:
    with transaction.atomic():
        position = Position.objects.select_for_update().get(pk=row.position_id)
        done = MarginChange.objects.filter(pk=row.pk, intent=None, settled_at=None).update(settled_at=Now())
        if done:
            fold(position)
    if done:
        log.info("margin is final", position=row.position_id, block=row.block_number)


def _move(row: MarginChange, told: Sequence[MarginUpdated]) -> None:
    """Its block left the chain: out of the book, or to where its transaction stands now.

    In one fold: a part may have been closed since, and what had come in before would seem to be all there was.
    """
    with transaction.atomic():
        position = Position.objects.select_for_update().get(pk=row.position_id)
        gone = _unowned(position, row.tx_hash).filter(block_hash=row.block_hash).delete()[0]
        if gone:
            moved = [
                event.block_number for event in told if _is_of(position, event) and _write(position, event)
            ]
            fold(position)
    if gone:
        log.warning("margin's block left", position=row.position_id, block=row.block_number, now_in=moved)
        meters.REORGS.inc()

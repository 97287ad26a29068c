"""New levels of a position at the venue, as an intent beside orders: when they may go, and what waits for them.

Their message names a slot and no trade, so it must never be under way while the slot may change hands: they wait for
opens of the same symbol that are under way, and such opens wait for them, at most until their deadline. A close never
waits for them.
"""

from django.db.models import Q, QuerySet

from execution_app.book import levels, reopened
from execution_app.book.levels import Levels
from execution_app.engine.waiting import end_empty, hold, note, refuse
from execution_app.gate.admission import Admission, Verdict
from execution_app.gate.modes import Ruling
from execution_app.models import Position, TxIntent, VenueMessage, Wallet
from execution_app.states import IN_FLIGHT, UNMINED, WAITING, Action, IntentState, PositionState, Reason

BATCH = 500


def may_go(intent: TxIntent, ruling: Ruling, verdict: Verdict, chain_at: int | None = None) -> bool:
    """Whether these new levels may be signed now; what keeps them is written on the row, or ends it.

    `chain_at` is the chain's clock in unix seconds; without it nothing that a deadline decides is judged.
    """
    position = intent.position
    assert position is not None
    if position.state != PositionState.OPEN:
        _end(intent, position)
    elif verdict is not Verdict.EXECUTE:
        hold(intent, Reason.LIVE_POSITION_IN_DRY, "levels of a live position are not changed by a simulation")
    elif ruling.reduce_only and loosens(intent, position):
        detail = "reduce-only is set, and these levels limit a loss less than those it has"
        refuse(intent, Admission(Verdict.REFUSE, Reason.REDUCE_ONLY, detail))
    elif _is_being_closed(position):
        note(intent, Reason.WAITS_FOR_EARLIER_CLOSE, "a close of this position is not finished")
    elif opens_under_way(intent).exists():
        note(intent, Reason.WAITS_FOR_EARLIER_ORDER, "an open on this symbol is under way")
    elif chain_at is not None and _earlier(intent, chain_at):
        note(intent, Reason.WAITS_FOR_EARLIER_ORDER, "earlier levels of this position may still be taken")
    else:
        return True
    return False


def _end(intent: TxIntent, position: Position) -> None:
    if position.state == PositionState.CLOSED and position.settled_at is None:
        note(intent, Reason.WAITS_FOR_EARLIER_CLOSE, f"position {position.pk} is closed, not finally yet")
        return
    if position.state == PositionState.VOID and reopened.outcome(position)[1]:
        note(intent, Reason.WAITS_FOR_EARLIER_ORDER, f"position {position.pk} is opened anew after a reorg")
        return
    end_empty(intent, Reason.NO_POSITION, f"position {position.pk} is {position.state}")


def is_forbidden(intent: TxIntent, ruling: Ruling) -> bool:
    """Whether reduce-only, set since it was placed, keeps it from leaving."""
    if intent.action != Action.LEVELS or intent.position is None:
        return False
    return ruling.reduce_only and loosens(intent, intent.position)


def loosens(intent: TxIntent, position: Position) -> bool:
    """Whether the venue's own stop would be gone or further away."""
    known = bool(position.is_long), position.open_price
    old = Levels(*known, position.take_profit, position.stop_loss)
    return levels.loosens(old, Levels(*known, intent.take_profit, intent.stop_loss))


def _is_being_closed(position: Position) -> bool:
    closes = TxIntent.objects.filter(position=position, action=Action.CLOSE, settled_at=None)
    return closes.filter(state__in=sorted(IN_FLIGHT)).exists() or closes.filter(holds_position=True).exists()


def opens_under_way(intent: TxIntent) -> QuerySet[TxIntent]:
    """Opens of its symbol that may take the slot which a message names; none of them is the intent itself."""
    opens = TxIntent.objects.filter(trader=intent.trader, symbol=intent.symbol, action=Action.OPEN)
    # A message whose deadline a block has passed unused opens nothing any more.
    over = Q(message__unused_at_block__isnull=False)
    return opens.filter(settled_at=None, state__in=sorted(IN_FLIGHT)).exclude(over)


def _earlier(intent: TxIntent, chain_at: int) -> bool:
    """Messages are spent in no order, so the last one asked for would not be the last one taken."""
    assert intent.position is not None
    mine = Q(position=intent.position)
    others = TxIntent.objects.filter(action=Action.LEVELS, id__lt=intent.pk)
    if others.filter(mine, state__in=sorted(WAITING)).exists():
        return True
    # What has left for the row that a reorg took away may be taken for this one; what has not waits for that row.
    left = others.filter(mine | reopened.asked_of_void(intent.position))
    return unexpired(chain_at).filter(intent__in=left).exists()


def unexpired(chain_at: int) -> QuerySet[VenueMessage]:
    """Messages of new levels that a block after this time may still take, also anew where a reorg took one back."""
    return VenueMessage.objects.filter(
        intent__action=Action.LEVELS,
        intent__settled_at=None,
        intent__state__in=sorted(UNMINED | {IntentState.CHANGED}),
        deadline_ms__gte=chain_at * 1000,
    )


def symbols_kept(wallet: Wallet, chain_at: int) -> frozenset[str]:
    """Symbols of which this wallet opens nothing yet: levels and increases that are under way name a slot alone."""
    kept = (unexpired(chain_at) | _growing(chain_at)).filter(intent__wallet=wallet)[:BATCH]
    return frozenset(kept.values_list("intent__symbol", flat=True))


def _growing(chain_at: int) -> QuerySet[VenueMessage]:
    """Increases that a block after this time may still take, also anew where a reorg took one back."""
    return VenueMessage.objects.filter(
        intent__action=Action.INCREASE,
        intent__settled_at=None,
        intent__state__in=sorted(IN_FLIGHT | {IntentState.FILLED}),
        deadline_ms__gte=chain_at * 1000,
    )

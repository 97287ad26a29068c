"""Closes on their way whose slot at the venue has another trade by now.

The venue's call names a slot and no trade. What is signed after a close is mined after it, so no later order of the
wallet can come into the slot before it; but one that was registered before it can, an order that rests at the venue
above all, and so can its owner's own hand, and a reorg that deals the slots out anew. Such a close is cancelled in its slot
of the wallet while that is possible, and asked for again once the cancel is final: then it finds what there is to close.
"""

import structlog
from django.db.models import Q, QuerySet
from django.db.models.functions import Now

from execution_app import meters
from execution_app.models import Position, TxIntent
from execution_app.states import UNMINED, Action, PositionState

log = structlog.get_logger(__name__)


def make_way(opened: Position, order: TxIntent) -> None:
    """Call off what is on its way to close another trade in the slot of one that `order` has just opened.

    That trade has ended, or its opening left the chain; not where this is that trade, opened anew, and is to be closed.
    """
    names = ("trader_id", "venue", "pair_index", "trade_index", "mode")
    slot = {name: getattr(opened, name) for name in names}
    ended = Q(state=PositionState.CLOSED, opened_at__lt=opened.opened_at)
    left = Q(state=PositionState.VOID, opened_by__isnull=False) & ~Q(opened_by=order)
    call_off(Position.objects.filter(ended | left, **slot))


def call_off(lost: QuerySet[Position]) -> int:
    """Have the slots filled of unmined closes, and margin, of trades that are no longer where they would find them; returns how many.

    A message names the opening of its trade, and needs none of this.
    """
    closes = TxIntent.objects.filter(
        position__in=lost,
        action__in=[Action.CLOSE, Action.MARGIN],
        state__in=sorted(UNMINED),
        nonce__isnull=False,
        cancel_asked_at=None,
        settled_at=None,
    )
    called_off = closes.update(cancel_asked_at=Now(), updated_at=Now())
    if called_off:
        log.warning("called off: another trade is in their slot", intents=called_off)
    return called_off


def took_another(close: TxIntent, closed: Position) -> bool:
    """Whether a close of ours has ended another trade than it was meant for.

    Not where a reorg took the opening of its trade away, and this is what the same order opened anew.
    """
    if close.position_id is None or close.position_id == closed.pk:
        return False
    meant = Position.objects.get(pk=close.position_id)
    if meant.state != PositionState.VOID:
        return True
    orders = closed.fills.filter(action=Action.OPEN).values_list("intent", flat=True)
    return meant.opened_by_id is not None and meant.opened_by_id not in orders


def tell(close: TxIntent, closed: Position) -> None:
    """Page where a close of ours `took_another` trade."""
    if took_another(close, closed):
        meters.INVARIANT_VIOLATIONS.labels("event_matches_intent").inc()
        log.error("a close took another trade than was meant", intent=close.pk, position=closed.pk)

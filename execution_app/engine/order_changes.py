"""What is done to an open that rests at the venue: when it may go, and what it waits for.

It names a slot, and slots are given away again: so it goes only while no other order of the trader on that symbol can
get into the slot before it. Nonces are executed in their order, so what is signed after it cannot.
"""

from django.db.models import Q

from execution_app.engine.waiting import end_empty, hold, note
from execution_app.gate.admission import Verdict
from execution_app.models import TxIntent, VenueOrder
from execution_app.states import (
    UNMINED,
    WAITING,
    Action,
    IntentState,
    OrderType,
    Reason,
)


def may_go(intent: TxIntent, verdict: Verdict) -> bool:
    """Whether this may be signed now; what keeps it is written on the row, or ends it."""
    order = intent.target
    assert order is not None
    if order.state != IntentState.ORDERED:
        _end(intent, order)
    elif verdict is not Verdict.EXECUTE:
        hold(intent, Reason.LIVE_POSITION_IN_DRY, "an order that rests is not taken back by a simulation")
    elif _is_under_way(intent, order):
        note(intent, Reason.WAITS_FOR_EARLIER_ORDER, "this order is being taken back already")
    elif _may_change_hands(order):
        note(intent, Reason.WAITS_FOR_EARLIER_ORDER, "another order may be in its slot by now")
    else:
        return True
    return False


def _end(intent: TxIntent, order: TxIntent) -> None:
    """An order that has ended may rest again after a reorg, until that is final."""
    if order.settled_at is None:
        note(intent, Reason.WAITS_FOR_EARLIER_ORDER, f"{order.intent_key} is {order.state}, not finally")
        return
    end_empty(intent, Reason.NO_ORDER, f"{order.intent_key} is {order.state}: it rests no more")


def _is_under_way(intent: TxIntent, order: TxIntent) -> bool:
    others = TxIntent.objects.filter(target=order, action=Action.CANCEL_ORDER, settled_at=None)
    # Of those that wait the oldest goes first: of two in one round neither has left when the other is judged.
    return others.exclude(pk=intent.pk).exclude(state__in=sorted(WAITING), pk__gt=intent.pk).exists()


def _may_change_hands(order: TxIntent) -> bool:
    """Whether an order whose slot the book does not know yet, or a later one that it has in this very slot, may be there instead.

    An earlier one in that slot has ended, whatever the book knows of its end: slots are given away again when they are free.
    """
    others = TxIntent.objects.filter(trader=order.trader, symbol=order.symbol, action=Action.OPEN)
    others = others.exclude(order_type=OrderType.MARKET).exclude(pk=order.pk)
    coming = Q(state__in=sorted(UNMINED | {IntentState.MINED}))
    mine = VenueOrder.objects.filter(intent=order).values_list("limit_index", "order_id").first()
    if mine is None:
        return True
    slot, number = mine
    there = Q(state=IntentState.ORDERED, venue_order__limit_index=slot, venue_order__order_id__gt=number)
    return others.filter(coming | there, settled_at=None).exists()

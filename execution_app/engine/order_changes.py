"""What is done to an open that rests at the venue: when it may go, and what it waits for.

It names a slot, and slots are given away again: so it goes only while no other order of the trader on that symbol can
get into the slot before it. Nonces are executed in their order, so what is signed after it cannot. For the same reason
an order is taken back behind a change that is mined or under way no more, and a change waits for both.
"""

from django.db.models import Q

from execution_app.engine.waiting import end_empty, hold, note
from execution_app.gate.admission import Verdict
from execution_app.models import TxIntent, VenueOrder
from execution_app.states import (
    TERMINAL,
    UNMINED,
    WAITING,
    Action,
    IntentState,
    OrderType,
    Reason,
)

# After which a change is wanted no more; a reorg that lets the order rest again leaves it as it was.
OVER = (IntentState.FILLED, IntentState.VENUE_CANCELLED)


def may_go(intent: TxIntent, verdict: Verdict) -> bool:
    """Whether this may be signed now; what keeps it is written on the row, or ends it."""
    order = intent.target
    assert order is not None
    changes = intent.action == Action.UPDATE_ORDER
    if changes and (order.state in OVER or order.state in TERMINAL):
        end_empty(intent, Reason.NO_ORDER, f"{order.intent_key} is {order.state}: it rests no more")
    elif order.state != IntentState.ORDERED:
        _end(intent, order)
    elif verdict is not Verdict.EXECUTE:
        hold(intent, Reason.LIVE_POSITION_IN_DRY, "an order that rests is not taken back by a simulation")
    elif _is_under_way(intent, order):
        note(intent, Reason.WAITS_FOR_EARLIER_ORDER, "this order is being taken back or changed already")
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
    """Whether another change of it may still be executed.

    Of those that wait the oldest of its kind goes first: of two in one round neither has left when the other is
    judged. None that takes it back waits for one that only changes it and has no nonce.
    """
    others = TxIntent.objects.filter(target=order, settled_at=None).exclude(pk=intent.pk)
    cancels = Q(action=Action.CANCEL_ORDER) & ~Q(state__in=sorted(WAITING), pk__gt=intent.pk)
    # A change that the venue has made is in nobody's way, though a reorg may have it made again: before what is behind it.
    on_its_way = Q(state__in=sorted(UNMINED))
    if intent.action == Action.UPDATE_ORDER:
        on_its_way |= Q(state=IntentState.MINED) | Q(state__in=sorted(WAITING), pk__lt=intent.pk)
    return others.filter(cancels | (Q(action=Action.UPDATE_ORDER) & on_its_way)).exists()


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

"""Rows whose opening a reorg took back, and the trades that their orders have opened anew, in these rows or in others."""

from collections.abc import Callable
from typing import Any

from django.db.models import Q, QuerySet

from execution_app.models import Position, Protection, TxIntent
from execution_app.states import Action, IntentState, PositionState

SLOT = ("trader_id", "venue", "pair_index", "trade_index", "mode", "is_long")
KEPT = 150  # characters of a key that `Protection.set_by` has room for


def outcome(void: Position) -> tuple[Position | None, bool]:
    """What its order has opened anew, None where nothing; and whether that may come yet, of which the book will hear later.

    Read at once: the order may be filled, or that be taken back, at any moment.
    """
    if void.opened_by_id is None:
        return None, _may_come(void)
    orders = TxIntent.objects.filter(pk=void.opened_by_id)
    settled_at, anew = orders.values_list("settled_at", "fill__position").get()
    return (None, settled_at is None) if anew is None else (Position.objects.get(pk=anew), False)


def _may_come(void: Position) -> bool:
    """Of a row that names no order, made void by a process of the version before: whether any that it may be of is undecided."""
    opens = TxIntent.objects.filter(
        trader=void.trader_id, symbol=void.symbol, action=Action.OPEN, settled_at=None
    )
    return opens.filter(transitions__from_state=IntentState.FILLED).exclude(state=IntentState.FILLED).exists()


def void_of(ref: Callable[[str], Any]) -> QuerySet[Position]:
    """The void rows of the slot of the position that `ref` names the fields of, as a part of a question about it."""
    return Position.objects.filter(**{name: ref(name) for name in SLOT}, state=PositionState.VOID)


def guard_of(position: Position, intent: TxIntent) -> Protection | None:
    """What was set last of the trade that `intent` opens, in this row or in one that a reorg left void; None where nothing was."""
    # Asked in two steps, as all fills do: joined, a planner without statistics reads all positions.
    rows = [position.pk, *Position.objects.filter(opened_by=intent).values_list("pk", flat=True)]
    return Protection.objects.filter(position__in=rows, ended_at=None).order_by("pk").last()


def asked_of_void(position: Position) -> Q:
    """Intents that were asked of void rows of its slot, and may be of this position by now."""
    slot = {name: getattr(position, name) for name in SLOT}
    void = Position.objects.filter(**slot, state=PositionState.VOID)
    # As a list: with a question in its place all intents would be read.
    return Q(position__in=list(void.values_list("pk", flat=True)))

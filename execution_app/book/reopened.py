"""Rows whose opening a reorg took back, and the trades that were opened anew in their slot as rows of their own."""

from typing import Any

from django.db.models import Q

from execution_app.models import IntentTransition, Position, TxIntent
from execution_app.states import Action, IntentState, PositionState


def trades_of(void: Position) -> list[Position]:
    """The trades of its slot that were opened anew, oldest first."""
    again = IntentTransition.objects.filter(from_state=IntentState.FILLED).values("intent")
    opened = Position.objects.filter(**_slot_of(void)).exclude(state=PositionState.VOID)
    return list(opened.filter(fills__action=Action.OPEN, fills__intent__in=again).order_by("pk").distinct())


def may_come(void: Position) -> bool:
    """Whether an opening that a reorg took back may be filled again, of which the book will hear later."""
    opens = TxIntent.objects.filter(
        trader=void.trader_id, symbol=void.symbol, action=Action.OPEN, settled_at=None
    )
    return opens.filter(transitions__from_state=IntentState.FILLED).exclude(state=IntentState.FILLED).exists()


def asked_of_void(position: Position) -> Q:
    """Intents that were asked of void rows of its slot, and may be of this position by now."""
    void = Position.objects.filter(**_slot_of(position), state=PositionState.VOID)
    # As a list: with a question in its place all intents would be read.
    return Q(position__in=list(void.values_list("pk", flat=True)))


def _slot_of(position: Position) -> dict[str, Any]:
    names = ("trader_id", "venue", "pair_index", "trade_index", "mode", "is_long")
    return {name: getattr(position, name) for name in names}

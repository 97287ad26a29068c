"""Rows whose opening a reorg took back, and the trades that were opened anew in their slot as rows of their own."""

from collections.abc import Callable
from typing import Any

from django.db.models import Q, QuerySet

from execution_app.models import IntentTransition, Position, TxIntent
from execution_app.states import Action, IntentState, PositionState

SLOT = ("trader_id", "venue", "pair_index", "trade_index", "mode", "is_long")
KEPT = 150  # characters of a key that `Protection.set_by` has room for


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


def void_of(ref: Callable[[str], Any]) -> QuerySet[Position]:
    """The void rows of the slot of the position that `ref` names the fields of, as a part of a question about it."""
    return Position.objects.filter(**{name: ref(name) for name in SLOT}, state=PositionState.VOID)


def guarded_before(position: Position, intent: TxIntent) -> Position | None:
    """The void row of the trade that `intent` opened before a reorg took that back; None where nothing guarded it."""
    taken_back = IntentTransition.objects.filter(intent=intent, from_state=IntentState.FILLED).exists()
    if not taken_back:
        return None
    names = {name: value for name, value in _slot_of(position).items() if name != "trade_index"}
    void = Position.objects.filter(**names, state=PositionState.VOID, protections__version=1)
    size = position.collateral_usdc, position.leverage_x
    for row in void.exclude(pk=position.pk).order_by("-pk"):
        begun_by = row.protections.get(version=1).set_by
        if begun_by == intent.intent_key[:KEPT]:
            return row
        alike = row.trade_index == position.trade_index and (row.collateral_usdc, row.leverage_x) == size
        if alike and not is_of_an_open(intent, begun_by):
            return row
    return None


def is_of_an_open(intent: TxIntent, set_by: str) -> bool:
    """Whether levels were begun by an open of the same trader and symbol, and not by a person."""
    opens = TxIntent.objects.filter(trader=intent.trader, symbol=intent.symbol, action=Action.OPEN)
    named = {"intent_key": set_by} if len(set_by) < KEPT else {"intent_key__startswith": set_by}
    return opens.filter(**named).exists()


def asked_of_void(position: Position) -> Q:
    """Intents that were asked of void rows of its slot, and may be of this position by now."""
    void = Position.objects.filter(**_slot_of(position), state=PositionState.VOID)
    # As a list: with a question in its place all intents would be read.
    return Q(position__in=list(void.values_list("pk", flat=True)))


def _slot_of(position: Position) -> dict[str, Any]:
    return {name: getattr(position, name) for name in SLOT}

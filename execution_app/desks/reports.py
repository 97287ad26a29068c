"""How an intent stands, in the words of the interface."""

from collections.abc import Mapping

from execution_app.errors import Refused
from execution_app.models import TxIntent
from execution_app.states import IntentState
from execution_app.venues.interface import Outcome, Report

# A state means the same whatever the road; where nobody can say whether it arrived, nothing is said.
OUTCOMES: Mapping[IntentState, Outcome] = {
    IntentState.PENDING: Outcome.PENDING,
    IntentState.HELD: Outcome.PENDING,
    IntentState.RESERVED: Outcome.PENDING,
    IntentState.SIGNED: Outcome.PENDING,
    IntentState.SENDING: Outcome.UNKNOWN,
    IntentState.PENDING_INCLUSION: Outcome.PENDING,
    IntentState.MINED: Outcome.PENDING,
    IntentState.ORDERED: Outcome.PENDING,
    IntentState.FILLED: Outcome.FILLED,
    IntentState.CHANGED: Outcome.FILLED,
    IntentState.SIMULATED: Outcome.FILLED,
    IntentState.VENUE_CANCELLED: Outcome.CANCELLED,
    IntentState.FINAL_CANCELLED: Outcome.CANCELLED,
    IntentState.EXPIRED: Outcome.CANCELLED,
    IntentState.NO_OP: Outcome.CANCELLED,
    IntentState.FINAL_REVERTED: Outcome.FAILED,
    IntentState.REJECTED: Outcome.FAILED,
    IntentState.LOST_NONCE: Outcome.UNKNOWN,
    IntentState.LAPSED: Outcome.CANCELLED,
}


def report(key: str) -> Report:
    """Raises Refused for a key that no intent has."""
    intent = TxIntent.objects.filter(intent_key=key).select_related("fill").first()
    if intent is None:
        raise Refused(f"no order is called {key}")
    fill = getattr(intent, "fill", None)
    return Report(
        key=key,
        outcome=OUTCOMES[IntentState(intent.state)],
        final=intent.settled_at is not None,
        detail=f"{intent.state} {intent.reason} {intent.reason_detail}".strip(),
        position=fill.position_id if fill else intent.position_id,
        fill_price=fill.price if fill else None,
        filled_usdc=fill.collateral_usdc if fill else None,
    )

"""A wallet's slots in any state, and their bytes."""

from datetime import datetime, timedelta
from typing import Any

from execution_app.engine.waiting import database_now
from execution_app.gate.modes import Ruling
from execution_app.models import TxIntent, TxSend, Wallet
from execution_app.states import TERMINAL, IntentState, Mode
from tests.execution import rows

HELD: dict[str, Any] = {"held_at": "2026-01-01T00:00:00Z"}
LONG_AGO = "2026-01-01T00:00:00Z"
CLOSE: dict[str, Any] = {"action": "close", "is_long": None, "collateral_usdc": None, "leverage_x": None}
LIVE = Ruling(Mode.LIVE, Mode.LIVE, emergency_stop=False, reduce_only=False, reason="")


def two_wallets() -> Wallet:
    """The first of two: what is done to it is not done to the other."""
    for _ in range(2):
        rows.wallet(next_nonce=50)
    return Wallet.objects.order_by("id")[0]


def other_wallet() -> Wallet:
    return Wallet.objects.order_by("id")[1]


def slot(wallet: Wallet, nonce: int, state: IntentState = IntentState.SIGNED, **fields: object) -> TxIntent:
    """An order that owns this nonce, led to its state by legal moves; what only a slot has may be among `fields`."""
    late: rows.Row = {
        name: fields.pop(name) for name in ("cancel_asked_at", "speed_up_asked_at") if name in fields
    }
    pk = rows.intent(wallet_id=wallet.pk, trader_id=wallet.trader_id, **fields)
    for step in rows.road(state):
        changes: rows.Row = {"state": step.value}
        if step is IntentState.RESERVED:
            changes |= rows.slot(nonce=nonce) | rows.closing(fields)
        if step in TERMINAL:
            changes["settled_at"] = LONG_AGO
        rows.update("tx_intents", pk, changes)
    if late:
        rows.update("tx_intents", pk, late)
    return TxIntent.objects.get(pk=pk)


def bytes_of(intent: TxIntent, attempt: int = 0, kind: str = "exec", **fields: object) -> TxSend:
    pk = rows.send(intent_id=intent.pk, attempt=attempt, kind=kind, **fields)
    return TxSend.objects.select_related("intent__wallet").get(pk=pk)


def seconds_ago(age_s: float) -> datetime:
    return database_now() - timedelta(seconds=age_s)

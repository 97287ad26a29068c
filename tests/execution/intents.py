"""Intents of one wallet in the state that a rule is about, and positions with the opening that made them."""

from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.utils import timezone

from execution_app.book.prices import Market
from execution_app.gate.modes import Ruling
from execution_app.models import Position, TxIntent, TxSend, Wallet
from execution_app.node import fees
from execution_app.states import IntentState, Mode
from tests.execution import rows

CLOSE: rows.Row = {"action": "close", "is_long": None, "collateral_usdc": None, "leverage_x": None}


def noting(asked: list[Any], answer: Any = None) -> Callable[..., Any]:
    """Stands in for a part: writes down what it was asked, and answers so."""

    def told(*about: Any) -> Any:
        asked.append(about)
        return answer

    return told


def ruling(mode: Mode = Mode.LIVE, *, stop: bool = False, reason: str = "") -> Ruling:
    """LIVE is asked for in any case, so that DRY is for want of health."""
    return Ruling(Mode.LIVE, mode, stop, False, reason)


def market(**fields: Any) -> Market:
    """A fresh price of 60,000 USD, and gas at 1 gwei with no tip of its own."""
    sound = {
        "prices": {"BTC-USD": Decimal(60_000)},
        "published_at": {"BTC-USD": 1_000},
        "execution_fee_wei": 0,
        "gas": fees.Market(10**9, 10**6),
        "balance_wei": 10**18,
        "at": 1_000,
        "costs": None,
    }
    return Market(**(sound | fields))  # type: ignore[arg-type]


def waiting(wallet: Wallet, **fields: Any) -> TxIntent:
    """A pending open, unless told otherwise."""
    late: rows.Row = {name: fields.pop(name) for name in ("state", "holds_position") if name in fields}
    pk = rows.intent(wallet_id=wallet.pk, trader_id=wallet.trader_id, **fields)
    if late:
        rows.update("tx_intents", pk, late)
    return again(pk)


def waiting_close(wallet: Wallet, **fields: Any) -> TxIntent:
    return waiting(wallet, **{**CLOSE, **fields})


def again(intent: TxIntent | int) -> TxIntent:
    """As it is stored now."""
    return TxIntent.objects.get(pk=intent if isinstance(intent, int) else intent.pk)


def in_slot(wallet: Wallet, nonce: int, state: IntentState = IntentState.RESERVED, **fields: Any) -> TxIntent:
    """Led there by legal moves; what a slot has to have may be told otherwise."""
    own = {name: fields.pop(name) for name in rows.slot() if name in fields}
    intent = waiting(wallet, **fields)
    for step in rows.road(state):
        changes: rows.Row = {"state": step.value}
        if step is IntentState.RESERVED:
            changes |= rows.slot(nonce=nonce) | own
        rows.update("tx_intents", intent.pk, changes)
    return again(intent)


def sent(intent: TxIntent, attempt: int = 0, **fields: Any) -> TxSend:
    kind = "exec" if attempt == 0 else "bump"
    return TxSend.objects.get(
        pk=rows.send(**{"intent_id": intent.pk, "attempt": attempt, "kind": kind, **fields})
    )


def opened(wallet: Wallet, **fields: Any) -> Position:
    """A position whose opening was asked for before whatever is asked for next."""
    opening = rows.intent(trader_id=wallet.trader_id, wallet_id=wallet.pk)
    rows.update(
        "tx_intents", opening, {"state": "simulated", "mode": "DRY", "settled_at": "2026-01-01T00:00:00Z"}
    )
    place = Position.objects.filter(trader=wallet.trader_id).count()
    pk = rows.position(**{"trader_id": wallet.trader_id, "trade_index": place, **fields})
    rows.fill(intent_id=opening, position_id=pk)
    return Position.objects.get(pk=pk)


def shortly(seconds: float) -> datetime:
    """A moment from now on; before now where below zero."""
    return timezone.now() + timedelta(seconds=seconds)

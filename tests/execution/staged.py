"""Rows put straight into any state beside each other, for rules that read them; how they come there is told elsewhere."""

from typing import Any

import pytest
from django.utils import timezone

from execution_app.models import Position, TxIntent, Wallet
from execution_app.states import OWNING_NONCE, TERMINAL, Action, IntentState, Reason
from tests.execution import rows
from tests.guards import without_guards

SETTLED = "2026-01-01T00:00:00Z"
FAR_MS = 4_000_000_000_000
_WITHOUT_SIZE = dict.fromkeys(("is_long", "collateral_usdc", "leverage_x"))


@pytest.fixture
def wallets() -> list[Wallet]:
    """One before and one after the one that is looked at."""
    return [a_wallet() for _ in range(3)]


@pytest.fixture
def wallet(wallets: list[Wallet]) -> Wallet:
    return wallets[1]


def a_wallet(**fields: object) -> Wallet:
    return Wallet.objects.get(pk=rows.wallet(**fields))


def trade(of: Wallet, **fields: object) -> Position:
    """An open LIVE position of this wallet's trader."""
    with without_guards():
        return Position.objects.get(pk=rows.position(trader_id=of.trader_id, **fields))


def intent(of: Wallet, action: Action, state: str = "pending", **fields: Any) -> TxIntent:
    """With what a row of this kind must have in this state."""
    row: rows.Row = {"wallet_id": of.pk, "trader_id": of.trader_id, "action": action.value, "state": state}
    if action is Action.MARGIN:
        row |= {**_WITHOUT_SIZE, "margin_usdc": 1, "road": "onchain"}
    elif action is Action.LEVELS:
        row |= {**_WITHOUT_SIZE, "road": "gateway"}
    elif action is Action.INCREASE:
        row |= {"road": "gateway"}
    elif action in (Action.CANCEL_ORDER, Action.UPDATE_ORDER):
        row |= {**_WITHOUT_SIZE, "road": "onchain"}
        row |= {"limit_price": 4} if action is Action.UPDATE_ORDER else {}
    elif action is Action.CLOSE:
        row |= _WITHOUT_SIZE
    row |= fields
    kind = IntentState(state)
    if kind in OWNING_NONCE:
        row = {"mode": "LIVE"} | row if row.get("road") == "gateway" else rows.slot() | row
        if action is Action.CLOSE:
            held = state in ("reserved", "signed", "sending")
            row = {"close_usdc": 5, "holds_position": held} | row
    if kind in TERMINAL:
        row = {"settled_at": SETTLED} | row
    with without_guards():
        pk = rows.intent(**row)
    return TxIntent.objects.get(pk=pk)


def message(of: TxIntent, **fields: object) -> None:
    row: rows.Row = {"signer": rows.address(), "nonce": rows.tx_hash(), "digest": rows.tx_hash()}
    row |= {"content": b"\x01", "deadline_ms": FAR_MS, "from_block": 1, "signature": b"\x02" * 65}
    row |= {"intent_id": of.pk, "posts": 0, "outcome": "unoffered"}
    with without_guards():
        rows.insert("venue_messages", row | fields)


def told(of: TxIntent) -> tuple[str, str, str]:
    """What the row says of it now."""
    of.refresh_from_db()
    return of.state, of.reason, of.reason_detail


def untouched(of: TxIntent) -> bool:
    return told(of) == ("pending", "", "") and of.next_try_at is None


def waits_for(of: TxIntent, reason: Reason, detail: str) -> bool:
    """Whether it is as before, and says so; it is looked at again later."""
    assert told(of) == ("pending", reason.value, detail)
    return of.next_try_at is not None and of.next_try_at > timezone.now()

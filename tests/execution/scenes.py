"""Intents put into a state at once, and what a node would show of them: the road to there is others' to test."""

from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from eth_abi.abi import encode

from execution_app.models import TxIntent, TxReceipt, TxSend
from execution_app.node import quorum, rpc
from execution_app.states import OWNING_NONCE, TERMINAL, IntentState
from execution_app.venues.logs import topic
from tests.execution import rows
from tests.guards import without_guards

TRADING = "0x" + "7a" * 20
TRADER = "0x" + "11" * 20
BLOCK = "0x" + "b1" * 32
Endpoint = Callable[[str, Any], Any]
TRADE = "(address,uint256,uint256,uint256,uint256,uint256,bool,uint256,uint256,uint256,uint256)"


def intent(state: IntentState = IntentState.SENDING, **fields: Any) -> TxIntent:
    """With what the database asks of this state, of a wallet and trader of its own unless they are named."""
    wallet_id = fields.get("wallet_id") or rows.wallet()
    fields |= {"wallet_id": wallet_id, "state": state.value}
    fields.setdefault("trader_id", rows.one("SELECT trader_id FROM wallets WHERE id = %s", wallet_id))
    if fields.get("action", "open") != "open":
        fields = {"is_long": None, "collateral_usdc": None, "leverage_x": None} | fields
    if state in OWNING_NONCE:
        fields = rows.slot(to_address=TRADING) | fields
        if fields.get("road") == "gateway":
            fields["nonce"] = None
        if fields.get("action") == "close":
            fields = {"position_id": None, "close_usdc": 5} | fields
            fields["position_id"] = fields["position_id"] or rows.position()
            fields.setdefault("holds_position", state.value in ("reserved", "signed", "sending"))
    if state in TERMINAL:
        fields.setdefault("settled_at", "2026-01-01T00:00:00Z")
    with without_guards():
        return TxIntent.objects.get(pk=rows.intent(**fields))


def close(state: IntentState, **fields: Any) -> TxIntent:
    return intent(state, action="close", **fields)


def margin(state: IntentState, **fields: Any) -> TxIntent:
    return intent(state, action="margin", **({"margin_usdc": 3, "position_id": rows.position()} | fields))


def change(state: IntentState, target: TxIntent, action: str = "cancel_order", **fields: Any) -> TxIntent:
    return intent(state, action=action, target_id=target.pk, road="onchain", **fields)


def send(of: TxIntent, **fields: Any) -> TxSend:
    return TxSend.objects.get(pk=rows.send(intent_id=of.pk, **fields))


def receipt(of: TxIntent, *, kind: str = "exec", **fields: Any) -> TxReceipt:
    """As stored, of a send of its own."""
    sent = send(of, kind=kind, attempt=of.sends.count())
    pk = rows.receipt(send_id=sent.pk, **({"block_number": 16, "block_hash": BLOCK} | fields))
    return TxReceipt.objects.select_related("intent", "send").get(pk=pk)


def shown(of: TxSend, *logs: Any, **changes: Any) -> dict[str, Any]:
    """What a node answers for these bytes."""
    return {
        "transactionHash": of.tx_hash,
        "blockHash": BLOCK,
        "blockNumber": "0x10",
        "gasUsed": "0x5",
        "effectiveGasPrice": "0x7",
        "l1Fee": "0x3",
        "status": "0x1",
        "logs": list(logs),
    } | changes


def log(event: str, types: str, values: tuple[Any, ...], **changes: Any) -> dict[str, Any]:
    """One log of the venue: `types` are those of its data; the trader is indexed, whatever its place is."""
    kinds = types.split(",") if TRADE not in types else _parts(types)
    data = encode([kind for kind in kinds if kind != "address"], values)
    return {
        "address": TRADING,
        "topics": ["0x" + topic(event, types).hex(), "0x" + TRADER[2:].rjust(64, "0")],
        "data": "0x" + data.hex(),
        "transactionHash": rows.tx_hash(),
        "logIndex": "0x2",
        "blockNumber": "0x10",
        "blockHash": BLOCK,
    } | changes


def _parts(types: str) -> list[str]:
    before, after = types.split(TRADE)
    return [*filter(None, before.split(",")), TRADE, *filter(None, after.split(","))]


def registered(order_id: int, **changes: Any) -> dict[str, Any]:
    types = "address,uint256,bool,uint256,uint256,bool,bool,uint256,uint256"
    values = (1, True, order_id, 1_700_000_000, True, True, 5_000_000, 20_000_000_000)
    return log("MarketOrderInitiated", types, values, **changes)


def taken_back(order_id: int, **changes: Any) -> dict[str, Any]:
    types = "address,uint256,uint256,uint256,uint256"
    return log("OpenLimitCanceled", types, (1, 0, order_id, 1_700_000_000), **changes)


def refunded(order_id: int, **changes: Any) -> dict[str, Any]:
    return log("MarketOpenCanceled", "uint256,address,uint256", (order_id, 1), **changes)


def updated(order_id: int, price: int, take_profit: int = 0, stop_loss: int = 0) -> dict[str, Any]:
    """Its prices in USD."""
    types = ",".join(("address", *("uint256",) * 7))
    prices = [one * 10**10 for one in (price, take_profit, stop_loss)]
    return log("OpenLimitUpdated", types, (1, 0, order_id, *prices, 1_700_000_000))


def margin_updated(usdc: int = 3, *, kind: int = 0, **changes: Any) -> dict[str, Any]:
    trade = (TRADER, 1, 0, 8_000_000, 0, 60_000 * 10**10, True, 12_500_000_000, 0, 0, 1_700_000_000)
    types = f"address,uint256,uint256,uint8,uint256,{TRADE}"
    return log("MarginUpdated", types, (1, 0, kind, usdc * 10**6, trade), **changes)


def past(of: TxIntent, *states: str) -> None:
    """What it has come through already."""
    for state in states:
        rows.transition(intent_id=of.pk, to_state=state)


def statements(asked: Any) -> str:
    """What was asked of the database meanwhile."""
    return "\n".join(query["sql"] for query in asked)


def in_transaction() -> bool:
    return bool(connection.in_atomic_block)


class Nodes:
    """What the node that is asked first shows, and what each endpoint says where all are asked; two decide."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        patch.setattr(rpc, "read_batch", self.read_batch)
        patch.setattr(quorum, "ask_each", self.ask_each)
        patch.setattr(quorum, "needed", lambda: 2)
        self.shown: dict[str, Any] = {}
        self.endpoints: list[Endpoint] = []
        self.first: list[rpc.Call] = []
        self.all: list[list[rpc.Call]] = []
        self.heard = 0

    def read_batch(self, calls: list[rpc.Call]) -> list[Any]:
        self.first += calls
        return [self.shown.get(params[0]) for _, params in calls]

    def ask_each(self, calls: list[rpc.Call]) -> Any:
        self.all.append(list(calls))
        for position, says in enumerate(self.endpoints if calls else ()):
            self.heard += 1
            yield position, [says(method, params) for method, params in calls]

"""A trader, their delegate and the operator at the rehearsal venue, driven by hand."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, Unpack

import pytest

from execution_app.venues import events, onchain
from execution_app.venues.onchain import CloseOrder, OpenOrder
from ops.rehearsal import venue
from ops.rehearsal.contracts import artefact
from ops.rehearsal.deployment import Deployment
from ops.rehearsal.keeper import BASE_GAS, ORDER_GAS
from ops.rehearsal.rpc import Message, Node, NodeRefusedError, Sender

BTC = onchain.PAIRS["BTC-USD"]
GAS = 1_000_000
FEE_WEI = venue.TERMS["execution_fee_wei"]


@dataclass
class Desk:
    """The venue, a trader with USDC and an allowance, and their delegate."""

    node: Node
    deployment: Deployment
    trader: Sender
    delegate: Sender
    operator: Sender

    @property
    def url(self) -> str:
        return self.node.url

    def order(self, **changes) -> OpenOrder:
        usual = OpenOrder(
            trader=self.trader.address,
            pair_index=BTC,
            is_long=True,
            collateral_usdc=Decimal(5),
            leverage_x=Decimal(2),
            wanted_price=Decimal(100_000),
            slippage_pct=Decimal("0.5"),
        )
        return replace(usual, **changes)

    def message(self, data: bytes, value_wei: int = FEE_WEI) -> Message:
        return Message(self.deployment.trading, data, GAS, value_wei)

    def delegated(self, data: bytes) -> bytes:
        return onchain.encode_delegated(self.trader.address, data)

    def transact(self, sender: Sender, data: bytes, value_wei: int = FEE_WEI) -> list[events.OrderEvent]:
        (receipt,) = sender.transact(self.message(data, value_wei))
        return self.events_of(receipt)

    def events_of(self, receipt: dict[str, Any]) -> list[events.OrderEvent]:
        decoded = (events.decode(log, trading_address=self.deployment.trading) for log in receipt["logs"])
        return [event for event in decoded if event]

    def open(self, **changes) -> events.OrderRegistered:
        """Register an open through the delegate."""
        (event,) = self.transact(self.delegate, self.delegated(onchain.encode_open(self.order(**changes))))
        assert isinstance(event, events.OrderRegistered)
        return event

    def close(self, index: int, collateral: Decimal, pair: int = BTC) -> events.OrderRegistered:
        order = CloseOrder(self.trader.address, pair, index, collateral, Decimal(100_000))
        (event,) = self.transact(self.delegate, self.delegated(onchain.encode_close(order)))
        assert isinstance(event, events.OrderRegistered)
        return event

    def execute(self, *orders: int) -> list[events.OrderEvent]:
        call = artefact("Trading").call("executeMarketOrders", list(orders), [], 0, 0)
        gas = BASE_GAS + ORDER_GAS * len(orders)
        (receipt,) = self.operator.transact(Message(self.deployment.trading, call, gas))
        return self.events_of(receipt)

    def fill(self, **changes) -> events.OrderExecuted:
        (event,) = self.execute(self.open(**changes).order_id)
        assert isinstance(event, events.OrderExecuted)
        return event

    def revert(self, sender: Sender, data: bytes, value_wei: int = FEE_WEI) -> str | None:
        """What a call reverts with."""
        with pytest.raises(NodeRefusedError) as refused:
            self.node.call(self.deployment.trading, data, sender=sender.address, value_wei=value_wei)
        return onchain.revert_name(refused.value.data or refused.value.message)

    def usdc(self, address: str) -> int:
        return onchain.read_uint(self.node.call(self.deployment.usdc, onchain.call_balance(address)))

    def trade(self, index: int, pair: int = BTC) -> onchain.OpenTrade | None:
        call = onchain.call_open_trade(self.trader.address, pair, index)
        return onchain.read_open_trade(self.node.call(self.deployment.storage, call))

    def is_pending(self, order_id: int) -> bool:
        call = onchain.call_is_pending(order_id)
        return onchain.read_is_pending(self.node.call(self.deployment.storage, call))

    def set_terms(self, **terms: Unpack[venue.Terms]) -> None:
        venue.apply(self.node, self.deployment, venue.completed(terms))

    def drain_pool(self) -> int:
        """Empty the storage of its USDC; return how much it was, in units."""
        store, held = self.deployment.storage, self.usdc(self.deployment.storage)
        self.node.request("anvil_impersonateAccount", store)
        self.node.request("anvil_setBalance", store, hex(10**18))
        data = artefact("USDC").call("transfer", self.operator.address, held)
        message = {"from": store, "to": self.deployment.usdc, "data": "0x" + data.hex()}
        self.node.receipts([self.node.request("eth_sendTransaction", message)])
        return held


def until(met: Callable[[], bool], within_s: float = 60) -> None:
    deadline_s = time.monotonic() + within_s
    while not met():
        assert time.monotonic() < deadline_s, "it did not come about in time"
        time.sleep(0.02)

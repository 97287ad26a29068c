"""The operator behind the gateway: submits what was accepted, and tells what the chain made of it.

It shares the operator's account with the keeper, which executes what is
registered, so both are driven by one thread: `step` beside `Keeper.step`.
"""

import logging
import time
from typing import Any

from execution_app.venues import events, onchain
from execution_app.venues.increase_events import PositionIncreased
from execution_app.venues.scales import USDC_DIGITS, VENUE_DIGITS, to_units
from ops.rehearsal.contracts import artefact
from ops.rehearsal.deployment import Deployment
from ops.rehearsal.gateway.faults import Faults
from ops.rehearsal.gateway.ledger import (
    ATTEMPT_FAILED,
    CANCELED,
    ERROR,
    EXECUTED,
    INCREASED,
    INITIATED,
    REQUESTED,
    Ledger,
    Request,
    Stage,
)
from ops.rehearsal.rpc import Message, Node, NodeRefusedError, Sender
from ops.rehearsal.venue import OPERATOR_KEY

GAS = 1_000_000
UNMINED_S = 15.0  # then it is submitted anew
ATTEMPTS = 3
LEVELS = 5
INCREASE = 9

log = logging.getLogger("gateway")


class Operator:
    """One operator over one deployment and one ledger."""

    def __init__(self, node: Node, deployment: Deployment, ledger: Ledger, faults: Faults) -> None:
        self.node = node
        self.deployment = deployment
        self.ledger = ledger
        self.faults = faults
        self._account = Sender(node, OPERATOR_KEY)

    def step(self) -> None:
        """One look at everything that has not ended. Raises NodeUnreachableError and NodeRefusedError; rows stay."""
        for request in self.ledger.under_way():
            if request.stage is Stage.ACCEPTED:
                self._submit(request)
            elif request.stage is Stage.SENT:
                self._look_for_receipt(request)
            elif request.stage is Stage.REGISTERED:
                self._look_for_end(request)

    def _submit(self, request: Request) -> None:
        if self.faults.never or time.monotonic() < request.accepted_at_s + self.faults.delay_s:
            return
        if self.faults.lie:
            self._invent(request)
            return
        call = artefact("Trading").call("executeIntent", request.kind, request.intent, request.signature)
        try:
            self.node.call(self.deployment.trading, call, sender=self._account.address)
        except NodeRefusedError as refusal:
            self._fail(request, onchain.revert_name(refusal.data or refusal.message) or "SUBMISSION_FAILED")
            return
        (request.tx_hash,) = self._account.send([Message(self.deployment.trading, call, GAS)])
        request.sent_at_s = time.monotonic()
        request.stage = Stage.SENT
        log.info("event=submitted tracking=%s tx=%s", request.tracking_id, request.tx_hash)

    def _look_for_receipt(self, request: Request) -> None:
        receipt = self._receipt(request)
        if receipt is None:
            if time.monotonic() > request.sent_at_s + UNMINED_S:
                self._try_again(request, "TX_NOT_EXECUTED")
            return
        if int(receipt["status"], 16) != 1:
            self._try_again(request, "TX_REVERTED")
            return
        if request.kind == LEVELS:
            self.ledger.tell(request, EXECUTED, {"transactionHash": request.tx_hash})
            return
        for entry in receipt["logs"]:
            event = events.decode(entry, trading_address=self.deployment.trading)
            if isinstance(event, events.Registered):
                request.order_id, request.block_number = event.order_id, event.block_number
        request.stage = Stage.REGISTERED
        self.ledger.tell(request, _begun(request), self._named(request))

    def _look_for_end(self, request: Request) -> None:
        if self._receipt(request) is None:
            # Its block left the chain, and the order with it; nodes do not always take it back by themselves.
            self._try_again(request, "TX_NOT_EXECUTED")
            return
        call = onchain.call_is_pending(request.order_id)
        if onchain.read_is_pending(self.node.call(self.deployment.storage, call)):
            return
        span = {
            "address": self.deployment.trading,
            "fromBlock": hex(request.block_number),
            "toBlock": "latest",
        }
        for entry in self.node.request("eth_getLogs", span):
            event = events.decode(entry, trading_address=self.deployment.trading)
            if isinstance(event, events.OrderExecuted) and event.order_id == request.order_id:
                self.ledger.tell(request, EXECUTED, executed(event))
            elif isinstance(event, PositionIncreased) and event.order_id == request.order_id:
                self.ledger.tell(request, INCREASED, increased(event))
            elif isinstance(event, events.OrderCancelled) and event.order_id == request.order_id:
                self.ledger.tell(
                    request, CANCELED, {**self._named(request), "transactionHash": event.tx_hash}
                )

    def _try_again(self, request: Request, code: str) -> None:
        request.attempts += 1
        if request.attempts >= ATTEMPTS:
            self._fail(request, code)
            return
        payload = {"attempt": request.attempts, "code": code, "message": code, "willRetry": True}
        self.ledger.tell(request, ATTEMPT_FAILED, payload)
        request.stage = Stage.ACCEPTED

    def _fail(self, request: Request, code: str) -> None:
        log.info("event=failed tracking=%s code=%s", request.tracking_id, code)
        self.ledger.tell(request, ERROR, {"code": code, "message": f"not executed: {code}"})

    def _invent(self, request: Request) -> None:
        request.order_id = 10**9
        request.tx_hash = "0x" + "ab" * 32
        ended = INCREASED if request.kind == INCREASE else EXECUTED
        self.ledger.tell(request, _begun(request), self._named(request))
        self.ledger.tell(request, ended, {**self._named(request), "price": "1"})

    def is_undone(self, request: Request) -> bool:
        """Whether the transaction that carried it out has left the chain."""
        return bool(request.tx_hash) and self._receipt(request) is None

    def _receipt(self, request: Request) -> dict[str, Any] | None:
        receipt: dict[str, Any] | None = self.node.request("eth_getTransactionReceipt", request.tx_hash)
        return receipt

    def _named(self, request: Request) -> dict[str, Any]:
        return {"orderId": str(request.order_id), "transactionHash": request.tx_hash}


def _begun(request: Request) -> str:
    return REQUESTED if request.kind == INCREASE else INITIATED


def increased(event: PositionIncreased) -> dict[str, Any]:
    """What was added and, as `t`, the trade as it is from then on; in raw units, as strings."""
    added = to_units(event.collateral_usdc, USDC_DIGITS, "collateral_usdc")
    size = added * to_units(event.leverage_x, VENUE_DIGITS, "leverage_x") // 10**VENUE_DIGITS
    price = to_units(event.price, VENUE_DIGITS, "price")
    return {
        "orderId": str(event.order_id),
        "transactionHash": event.tx_hash,
        "logIndex": event.log_index,
        "price": str(price),
        "coinExposureAdded": str(size * 10 ** (2 * VENUE_DIGITS) // price // 10**USDC_DIGITS),
        "isPnl": False,
        "t": {
            "trader": event.trader,
            "pairIndex": str(event.pair_index),
            "index": str(event.trade_index),
            "initialPosToken": str(to_units(event.held_usdc, USDC_DIGITS, "held_usdc")),
            "openPrice": str(to_units(event.open_price, VENUE_DIGITS, "open_price")),
            "buy": event.is_long,
            "leverage": str(to_units(event.held_leverage_x, VENUE_DIGITS, "held_leverage_x")),
            "timestamp": str(event.opened_at),
        },
    }


def executed(event: events.OrderExecuted) -> dict[str, Any]:
    """The fill in the venue's raw units, as strings."""
    trade = {
        "trader": event.trader,
        "pairIndex": str(event.pair_index),
        "index": str(event.trade_index),
        "initialPosToken": str(to_units(event.collateral_usdc, USDC_DIGITS, "collateral_usdc")),
        "openPrice": str(to_units(event.open_price, VENUE_DIGITS, "open_price")),
        "buy": event.is_long,
        "leverage": str(to_units(event.leverage_x, VENUE_DIGITS, "leverage_x")),
        "timestamp": str(event.opened_at),
    }
    return {
        "orderId": str(event.order_id),
        "transactionHash": event.tx_hash,
        "logIndex": event.log_index,
        "open": event.is_open,
        "price": str(to_units(event.price, VENUE_DIGITS, "price")),
        "positionSizeUSDC": str(to_units(event.position_size_usdc, USDC_DIGITS, "position_size_usdc")),
        "percentProfit": str(int(event.pnl_pct * 10**VENUE_DIGITS)),
        "usdcSentToTrader": str(to_units(event.usdc_sent_to_trader, USDC_DIGITS, "usdc_sent_to_trader")),
        "isPnl": False,
        "t": trade,
    }

"""The rehearsal venue's keeper: executes registered orders, and ends trades at their levels, in transactions of its own.

`python -m ops.rehearsal.keeper --rpc URL --deployment var/chain.json [--delay-s S] [--never] [--no-triggers] [--gateway-port N]`

Which orders wait is read from the storage at every new head, never from memory, so a killed keeper, a
restarted node and a reorg need no recovery. Executing an order twice does nothing on this venue.
The local gateway (gateway/) is served beside it, since both send from the operator's account.
"""

import argparse
import logging
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from eth_abi.abi import decode

from ops.rehearsal.contracts import artefact
from ops.rehearsal.deployment import Deployment, VenueMismatchError, load
from ops.rehearsal.gateway.server import Gateway
from ops.rehearsal.rpc import Message, Node, NodeRefusedError, NodeUnreachableError, Sender, pauses
from ops.rehearsal.triggers import TRIGGER_GAS, Slot, Triggers
from ops.rehearsal.venue import OPERATOR_KEY

POLL_S = 0.1
SPAN = 1000  # ids that the storage's view looks at in one call
BATCH = 40
ASKED = 128  # orders that the venue judges in one call
BASE_GAS = 150_000
ORDER_GAS = (
    200_000  # measured: 62,000 in a batch, 160,000 for a pair's first trade; a full batch asks 8 of 30 M
)
MINED_WITHIN_S = 15.0
FAILED_ORDER_PAUSE_S = 10.0
BACKOFF_S = (0.2, 5.0)

log = logging.getLogger("keeper")


@dataclass
class Keeper:
    """One operator over one deployment.

    `delay_s` and `never` are faults to rehearse: orders executed late, or not at all. With `ends_trades` it
    fires the trades' own levels and liquidates, too; without, that is another fault.
    """

    node: Node
    deployment: Deployment
    delay_s: float = 0.0
    never: bool = False
    ends_trades: bool = False
    stopping: threading.Event = field(default_factory=threading.Event)
    beside: Callable[[], None] = lambda: None  # what else sends from the operator's account, after each look

    def __post_init__(self) -> None:
        self._operator = Sender(self.node, OPERATOR_KEY)
        self._head: tuple[int, str] | None = None
        self._oldest = 1  # no order below it is pending on the chain of `_head`
        self._seen_at_s: dict[int, float] = {}
        self._triggers = Triggers(self.node, self.deployment, self.delay_s)
        self._triggers_from_s = 0.0  # a batch of them failed: not before then
        self._alone_at_s: dict[int, float] = {}  # orders whose batch reverted: not before then, by themselves

    def run(self) -> None:
        """Execute until `stopping` is set. Errors of the node are waited out."""
        backoff_s = BACKOFF_S[0]
        verified = False
        while not self.stopping.is_set():
            try:
                if not verified:
                    self._verify()
                    verified = True
                self.step()
                self.beside()
            except (NodeUnreachableError, NodeRefusedError, VenueMismatchError) as fault:
                log.warning('event=node_trouble retry_in_s=%.1f error="%s"', backoff_s, fault)
                verified, self._head = False, None
                self.stopping.wait(backoff_s)
                backoff_s = min(2 * backoff_s, BACKOFF_S[1])
            else:
                backoff_s = BACKOFF_S[0]
                self.stopping.wait(POLL_S)

    def step(self) -> None:
        """Look at the head; execute what is due there."""
        block = self.node.request("eth_getBlockByNumber", "latest", False)
        head = int(block["number"], 16), str(block["hash"])
        is_new = head != self._head
        if is_new:
            if not self._extends(head):
                self._oldest = 1
                self._triggers.forget()
            self._head = head
        # Between heads only a delay or a pause can make an order due.
        if is_new or self._seen_at_s or self._alone_at_s:
            self._execute(self._due(self._ready(self.pending())))
        ready = self.ends_trades and not self.never and time.monotonic() >= self._triggers_from_s
        if ready and (is_new or self._triggers.is_waiting):
            self._end_trades(self._triggers.due(head[0]))

    def pending(self) -> list[int]:
        """Return the ids of registered orders, oldest first."""
        store = artefact("TradingStorage")
        (last,) = self._view("uint256", store.call("lastOrderId"))
        found: list[int] = []
        start = self._oldest
        while start <= last:
            found += self._view("uint256[]", store.call("pendingOrderIds", start))[0]
            start += SPAN
        self._oldest = found[0] if found else last + 1
        return found

    def _ready(self, pending: list[int]) -> list[int]:
        """Those of these that do not rest on: what rests waits for its price, which comes with a block."""
        ready: list[int] = []
        for start in range(0, len(pending), ASKED):
            call = artefact("Trading").call("dueOrders", pending[start : start + ASKED])
            ready += decode(["uint256[]"], self.node.call(self.deployment.trading, call))[0]
        return ready

    def _due(self, pending: list[int]) -> list[int]:
        now_s = time.monotonic()
        if self.never:
            new = [order for order in pending if order not in self._seen_at_s]
            if new:
                log.info("event=left_alone orders=%s", _listed(new))
            self._seen_at_s = dict.fromkeys(pending, now_s)
            return []
        self._alone_at_s = {order: at_s for order, at_s in self._alone_at_s.items() if order in pending}
        if not self.delay_s:
            return pending
        self._seen_at_s = {order: self._seen_at_s.get(order, now_s) for order in pending}
        return [order for order in pending if now_s - self._seen_at_s[order] >= self.delay_s]

    def _execute(self, due: list[int]) -> None:
        """Send the batches and wait until they are mined, so that the next look sees their effect."""
        now_s = time.monotonic()
        batches = list(_batches(order for order in due if order not in self._alone_at_s))
        batches += [[order] for order, at_s in self._alone_at_s.items() if order in due and at_s <= now_s]
        if not batches:
            return
        hashes = self._operator.send(
            Message(
                self.deployment.trading,
                artefact("Trading").call("executeMarketOrders", batch, [], 0, 0),
                BASE_GAS + ORDER_GAS * len(batch),
            )
            for batch in batches
        )
        for batch, tx_hash in zip(batches, hashes, strict=True):
            log.info(
                "event=sent head=%s orders=%s tx=%s", self._head and self._head[0], _listed(batch), tx_hash
            )
        deadline_s = time.monotonic() + MINED_WITHIN_S
        for batch, tx_hash in zip(batches, hashes, strict=True):
            self._settle(batch, tx_hash, self._receipt(tx_hash, deadline_s))

    def _end_trades(self, due: list[Slot]) -> None:
        """Send the batches; what was not mined, or reverted, is due at the next look again."""
        batches = [due[start : start + BATCH] for start in range(0, len(due), BATCH)]
        hashes = self._operator.send(
            Message(
                self.deployment.trading,
                artefact("Trading").call("executeTriggers", batch),
                BASE_GAS + TRIGGER_GAS * len(batch),
            )
            for batch in batches
        )
        deadline_s = time.monotonic() + MINED_WITHIN_S
        for batch, tx_hash in zip(batches, hashes, strict=True):
            receipt = self._receipt(tx_hash, deadline_s)
            if receipt is not None and int(receipt["status"], 16) == 1:
                log.info("event=trades_ended trades=%d first=%s tx=%s", len(batch), batch[0], tx_hash)
                continue
            self._triggers_from_s = time.monotonic() + FAILED_ORDER_PAUSE_S
            log.warning("event=trades_not_ended trades=%d first=%s tx=%s", len(batch), batch[0], tx_hash)

    def _receipt(self, tx_hash: str, deadline_s: float) -> dict[str, Any] | None:
        looks = pauses()
        while not self.stopping.is_set() and time.monotonic() < deadline_s:
            receipt: dict[str, Any] | None = self.node.request("eth_getTransactionReceipt", tx_hash)
            if receipt is not None:
                return receipt
            self.stopping.wait(next(looks))
        return None

    def _settle(self, batch: list[int], tx_hash: str, receipt: dict[str, Any] | None) -> None:
        if receipt is None and self.stopping.is_set():
            log.info("event=left_on_its_way orders=%s tx=%s", _listed(batch), tx_hash)
            return
        if receipt is None:
            log.warning("event=not_mined orders=%s tx=%s", _listed(batch), tx_hash)
            return
        block, gas = int(receipt["blockNumber"], 16), int(receipt["gasUsed"], 16)
        if int(receipt["status"], 16) == 1:
            log.info("event=executed orders=%s tx=%s block=%d gas=%d", _listed(batch), tx_hash, block, gas)
            for order in batch:
                self._alone_at_s.pop(order, None)
            return
        log.error("event=reverted orders=%s tx=%s block=%d gas=%d", _listed(batch), tx_hash, block, gas)
        pause_s = FAILED_ORDER_PAUSE_S if len(batch) == 1 else 0.0
        self._alone_at_s |= dict.fromkeys(batch, time.monotonic() + pause_s)

    def _extends(self, head: tuple[int, str]) -> bool:
        """Whether the last head seen is still part of the chain."""
        if self._head is None or head[0] < self._head[0]:
            return False
        block = self.node.request("eth_getBlockByNumber", hex(self._head[0]), False)
        return block is not None and block["hash"] == self._head[1]

    def _view(self, kind: str, data: bytes) -> tuple[Any, ...]:
        answer = self.node.call(self.deployment.storage, data)
        if not answer:
            raise VenueMismatchError(f"there is no storage contract at {self.deployment.storage}")
        return decode([kind], answer)

    def _verify(self) -> None:
        self.node.require_rehearsal()
        found = self.node.genesis_hash()
        if found != self.deployment.genesis_hash:
            raise VenueMismatchError(f"genesis {found} is not the recorded {self.deployment.genesis_hash}")
        log.info(
            "event=watching rpc=%s trading=%s delay_s=%s never=%s",
            self.node.url,
            self.deployment.trading,
            self.delay_s,
            self.never,
        )


def _batches(orders: Iterable[int]) -> Iterator[list[int]]:
    batch: list[int] = []
    for order in orders:
        batch.append(order)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _listed(orders: list[int]) -> str:
    """Name the orders, in bounded length."""
    if len(orders) > 1 and orders[-1] - orders[0] == len(orders) - 1:
        return f"{orders[0]}-{orders[-1]}"
    few = 10
    named = ",".join(map(str, orders[:few]))
    return named if len(orders) <= few else f"{named},+{len(orders) - few}"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Executes the rehearsal venue's registered orders.")
    parser.add_argument("--rpc", required=True, help="the node's URL")
    parser.add_argument("--deployment", required=True, type=Path, help="the venue's record, chain.json")
    parser.add_argument("--delay-s", type=float, default=0.0, help="execute orders only after this long")
    parser.add_argument("--never", action="store_true", help="execute nothing")
    parser.add_argument(
        "--no-triggers", action="store_true", help="fire no trade's own level and liquidate nothing"
    )
    parser.add_argument("--gateway-port", type=int, default=0, help="serve the local gateway there")
    options = parser.parse_args(arguments)
    logging.basicConfig(
        stream=sys.stdout,
        level=logging.INFO,
        format="timestamp=%(asctime)s.%(msecs)03dZ level=%(levelname)s component=keeper %(message)s",
        datefmt="%Y-%m-%dT%H:%M:%S",
    )
    logging.Formatter.converter = time.gmtime
    deployment = load(options.deployment)
    keeper = Keeper(
        Node(options.rpc), deployment, options.delay_s, options.never, ends_trades=not options.no_triggers
    )

    def stop(_signal: int, _frame: FrameType | None) -> None:
        keeper.stopping.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    gateway = Gateway(options.rpc, deployment, options.gateway_port) if options.gateway_port else None
    if gateway is not None:
        keeper.beside = gateway.operator.step
        log.info("event=serving gateway=%s", gateway.url)
    with gateway or nullcontext():
        keeper.run()
    log.info("event=stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main())

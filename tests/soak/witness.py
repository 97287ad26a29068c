"""Watches the chain itself, by its own way to the node: what was registered and executed, and when it was seen."""

import threading
import time
from collections import Counter
from contextlib import suppress
from decimal import Decimal

from execution_app.venues import events
from ops.rehearsal.rpc import Node, NodeRefusedError, NodeUnreachableError
from tests.e2e.stack import RunningStack
from tests.soak.watched import Watched

LOOK_S = 0.25
BACK = 30  # blocks read again at each look, so that one missed look misses nothing


class Witness:
    """`seen_s[amount]` is time.monotonic() when an open of that amount was first seen executed."""

    def __init__(self, stack: RunningStack) -> None:
        self.seen_s: dict[Decimal, float] = {}
        self._node = Node(stack.env["BASE_RPC_URL"])
        self._trading = stack.env["VENUE_TRADING_ADDRESS"]
        self._ended = threading.Event()

    def begin(self) -> None:
        self._thread = Watched("witness", self._run)

    @property
    def died_of(self) -> str:
        return self._thread.died_of

    def end(self) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(LOOK_S):
            with suppress(NodeUnreachableError, NodeRefusedError):
                head = self._node.number("eth_blockNumber")
                for event in self._events(max(0, head - BACK)):
                    if isinstance(event, events.OrderExecuted) and event.is_open:
                        self.seen_s.setdefault(event.collateral_usdc, time.monotonic())

    def _events(self, first: int) -> list[events.OrderEvent]:
        span = {"address": self._trading, "fromBlock": hex(first), "toBlock": "latest"}
        logs = self._node.request("eth_getLogs", span)
        found = (events.decode(entry, trading_address=self._trading) for entry in logs)
        return [event for event in found if event is not None]

    def opens(self) -> tuple[Counter[Decimal], Counter[Decimal]]:
        """How often the canonical chain registered, and executed, an open of each amount."""
        registered: Counter[Decimal] = Counter()
        executed: Counter[Decimal] = Counter()
        for event in self._events(0):
            if isinstance(event, events.OrderRegistered) and event.is_open:
                registered[event.collateral_usdc] += 1
            if isinstance(event, events.OrderExecuted) and event.is_open:
                executed[event.collateral_usdc] += 1
        return registered, executed

    def next_execution_s(self, after_s: float) -> float | None:
        later = [at_s for at_s in list(self.seen_s.values()) if at_s >= after_s]
        return min(later) if later else None

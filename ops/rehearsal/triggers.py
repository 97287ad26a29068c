"""The trades that the rehearsal venue ends by itself: at their own take profit or stop loss, or by liquidation.

Which trades there are is read from the venue's events, from the first block on after every start and reorg, and the
contract alone judges which of them are due. So nothing here has to be kept, and a batch may be sent twice.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from eth_abi.abi import decode

from ops.rehearsal.contracts import artefact
from ops.rehearsal.deployment import Deployment
from ops.rehearsal.rpc import Node

ASKED = 128  # trades that the venue judges in one call
SPAN = 10_000  # blocks of one question for events
NOTHING = 255  # what the contract says of a trade that stays
TRIGGER_GAS = 200_000
_TRADE = "(address,uint256,uint256,uint256,uint256,uint256,bool,uint256,uint256,uint256,uint256)"
_EXECUTED = ["uint256", _TRADE, "bool"]
_TRIGGERED = ["uint256", "uint256", _TRADE, "uint8"]

Slot = tuple[str, int, int]  # trader, pair and index


@dataclass
class Triggers:
    """One deployment's trades. `delay_s` is a fault to rehearse: a level that fires late."""

    node: Node
    deployment: Deployment
    delay_s: float = 0.0
    _read_to: int = -1
    _slots: dict[int, set[Slot]] = field(default_factory=dict)  # by pair, with those that are gone by now
    _due_at_s: dict[Slot, float] = field(
        default_factory=dict
    )  # since when; asked about again until they are gone

    def forget(self) -> None:
        """The chain is another one from somewhere on: begin at its first block."""
        self._read_to = -1
        self._slots.clear()
        self._due_at_s.clear()

    @property
    def is_waiting(self) -> bool:
        """Whether some are due later without another block."""
        return bool(self._due_at_s)

    def due(self, head: int) -> list[Slot]:
        """Slots whose trade is to be ended at this head, oldest trigger first."""
        asked = sorted(self._moved(head) | set(self._due_at_s))
        now_s = time.monotonic()
        crossed = [slot for slot, kind in zip(asked, self._kinds(asked), strict=True) if kind != NOTHING]
        self._due_at_s = {slot: self._due_at_s.get(slot, now_s) for slot in crossed}
        late = [slot for slot, at_s in self._due_at_s.items() if now_s - at_s >= self.delay_s]
        return sorted(late, key=lambda slot: self._due_at_s[slot])

    def _moved(self, head: int) -> set[Slot]:
        """The trades of every pair that has another price, or another trade, since the last look."""
        pairs: set[int] = set()
        while self._read_to < head:
            upto = min(head, self._read_to + SPAN)
            for entry in self._logs(self._read_to + 1, upto):
                pairs.add(self._note(entry))
            self._read_to = upto
        return {slot for pair in pairs for slot in self._slots.get(pair, ())}

    def _logs(self, low: int, high: int) -> list[dict[str, Any]]:
        trading, aggregator = artefact("Trading"), artefact("PriceAggregator")
        topics = [
            trading.topic("MarketExecuted"),
            trading.topic("LimitExecuted"),
            aggregator.topic("PriceSet"),
        ]
        found: list[dict[str, Any]] = self.node.request(
            "eth_getLogs",
            {
                "address": [self.deployment.trading, self.deployment.price_aggregator],
                "topics": [["0x" + topic.hex() for topic in topics]],
                "fromBlock": hex(low),
                "toBlock": hex(high),
            },
        )
        return found

    def _note(self, entry: dict[str, Any]) -> int:
        """Remember the trade that the event tells of; returns its pair."""
        topic, data = bytes.fromhex(entry["topics"][0][2:]), bytes.fromhex(entry["data"][2:])
        if topic == artefact("PriceAggregator").topic("PriceSet"):
            return int(entry["topics"][1], 16)
        triggered = topic == artefact("Trading").topic("LimitExecuted")
        trade = decode(_TRIGGERED, data)[2] if triggered else decode(_EXECUTED, data)[1]
        self._slots.setdefault(trade[1], set()).add((trade[0], trade[1], trade[2]))
        return int(trade[1])

    def _kinds(self, slots: list[Slot]) -> Iterable[int]:
        for start in range(0, len(slots), ASKED):
            call = artefact("Trading").call("triggered", slots[start : start + ASKED])
            yield from decode(["uint8[]"], self.node.call(self.deployment.trading, call))[0]

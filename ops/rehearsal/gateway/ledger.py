"""What was accepted, and everything told about it: numbered events that can be read again from any number on."""

import threading
import time
import uuid
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from eth_utils.crypto import keccak

from execution_app.venues.messages import Message
from ops.rehearsal.gateway.faults import ACCEPTED

ATTEMPT_FAILED, INITIATED = "AttemptFailed", "MarketOrderInitiated"
EXECUTED, CANCELED, ERROR = "MarketOrderExecuted", "MarketOrderCanceled", "Error"
REQUESTED, INCREASED = (
    "IncreasePositionRequested",
    "PositionSizeIncreased",
)  # an increase's, in place of the others
LIMIT = 10_000  # requests that are remembered
TERMINAL = frozenset({EXECUTED, INCREASED, CANCELED, ERROR})


class Stage(Enum):
    ACCEPTED = "accepted"
    SENT = "sent"  # the operator's transaction is under way
    REGISTERED = "registered"  # the venue took the order
    ENDED = "ended"


@dataclass(frozen=True)
class Event:
    seq: int
    type: str
    payload: dict[str, Any]


@dataclass
class Request:
    """One signed intent. `kind` is the venue's number of it: 0 an open, 1 a close, 5 new levels, 9 an increase."""

    tracking_id: str
    kind: int
    message: Message
    intent: bytes
    signature: bytes
    accepted_at_s: float = field(default_factory=time.monotonic)
    stage: Stage = Stage.ACCEPTED
    events: list[Event] = field(default_factory=list)
    tx_hash: str = ""
    sent_at_s: float = 0.0
    order_id: int = 0
    block_number: int = 0
    attempts: int = 0


class Ledger:
    """Thread-safe."""

    def __init__(self) -> None:
        self._news = threading.Condition()
        self._requests: dict[str, Request] = {}
        self._by_bytes: dict[bytes, str] = {}

    def accept(
        self, kind: int, message: Message, intent: bytes, signature: bytes, *, again: bool = False
    ) -> Request:
        """The request of these bytes: the same one when they come again, unless `again` asks for another."""
        name = keccak(bytes([kind]) + intent + signature)
        with self._news:
            known = self._by_bytes.get(name)
            if known is not None and not again:
                return self._requests[known]
            request = Request(str(uuid.uuid4()), kind, message, intent, signature)
            self._requests[request.tracking_id] = request
            self._by_bytes[name] = request.tracking_id
            self._shorten()
        self.tell(request, ACCEPTED, {"trackingId": request.tracking_id})
        return request

    def _shorten(self) -> None:
        """Forget the oldest that have ended beyond LIMIT."""
        over = len(self._requests) - LIMIT
        ended = (
            [one.tracking_id for one in self._requests.values() if one.stage is Stage.ENDED]
            if over > 0
            else []
        )
        for tracking_id in ended[:over]:
            del self._requests[tracking_id]
            self._by_bytes = {name: known for name, known in self._by_bytes.items() if known != tracking_id}

    def get(self, tracking_id: str) -> Request | None:
        with self._news:
            return self._requests.get(tracking_id)

    def under_way(self) -> list[Request]:
        with self._news:
            return [request for request in self._requests.values() if request.stage is not Stage.ENDED]

    def all(self) -> list[Request]:
        with self._news:
            return list(self._requests.values())

    def tell(self, request: Request, type_: str, payload: dict[str, Any]) -> None:
        with self._news:
            request.events.append(Event(len(request.events), type_, payload))
            if type_ in TERMINAL:
                request.stage = Stage.ENDED
            self._news.notify_all()

    def after(self, request: Request, seq: int, wait_s: float = 0.0) -> list[Event]:
        """Events above this number; waits that long for the first of them."""
        with self._news:
            self._news.wait_for(lambda: len(request.events) > seq + 1, wait_s)
            return request.events[seq + 1 :]

    def forget(self) -> int:
        """As a gateway that lost its store: no tracking id is known any more, and nothing accepted is carried out.

        Returns how many requests that were.
        """
        with self._news:
            known = len(self._requests)
            self._requests.clear()
            self._by_bytes.clear()
        return known

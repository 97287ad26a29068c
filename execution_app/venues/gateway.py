"""What the venue's gateway is sent and says: order bodies, the events of its stream and of its status. Pure.

Nothing that it says is proof of what became of an order; that is the chain's to say.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from execution_app.venues.messages import CloseMessage, IncreaseMessage, LevelsMessage, Message, OpenMessage

ORDER_TYPES = {OpenMessage: 0, CloseMessage: 1, IncreaseMessage: 9}
ACCEPTED = "MarketOrderAccepted"
TERMINAL = frozenset({"MarketOrderExecuted", "PositionSizeIncreased", "MarketOrderCanceled", "Error"})
# An Error that tells of the connection alone.
STREAM_TIMEOUT = "STREAM_TIMEOUT"
EVENTS_LIMIT = 1_000
LINE_LIMIT = 64 * 1024
WORDS = 200
SEQ_DIGITS = 10
_TRACKING_ID = frozenset("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ._-")
TRACKING_ID_LIMIT = 64


@dataclass(frozen=True, slots=True)
class Offer:
    """What is sent of a message; `trigger` is where new levels are put, blank for an order."""

    body: bytes
    trigger: str = ""


@dataclass(frozen=True, slots=True)
class Event:
    """One event; `seq` is -1 where it has no number, as those of a connection have none."""

    type: str
    payload: dict[str, Any]
    seq: int = -1

    @property
    def tracking_id(self) -> str:
        """Blank unless this accepts an order under a usable name."""
        found = self.payload.get("trackingId") if self.type == ACCEPTED else None
        return found if isinstance(found, str) and is_tracking_id(found) else ""

    @property
    def words(self) -> str:
        """For people, bounded: the type and the code of a failure."""
        code = self.payload.get("code")
        return plain(f"{self.type} {code if isinstance(code, str) else ''}".strip())

    @property
    def is_terminal(self) -> bool:
        return self.type in TERMINAL and self.payload.get("code") != STREAM_TIMEOUT


def plain(text: str) -> str:
    """Fit for a column and for a log, whatever was said."""
    return "".join(letter if letter.isprintable() else "?" for letter in text[:WORDS])


def is_tracking_id(text: str) -> bool:
    """Whether it may stand in a path."""
    return 0 < len(text) <= TRACKING_ID_LIMIT and set(text) <= _TRACKING_ID and set(text) != {"."}


def order_type(message: Message) -> int:
    """The gateway's number of it. Raises KeyError for messages that go another way."""
    return ORDER_TYPES[type(message)]


def body(kind: int, content: bytes, signature: bytes) -> bytes:
    """The same bytes for the same message, always."""
    signed = {"userIntent": "0x" + content.hex(), "userSignature": "0x" + signature.hex()}
    return json.dumps({"orderType": kind, "erc712": signed}, separators=(",", ":")).encode()


def offer(message: Message, content: bytes, signature: bytes) -> Offer:
    """The same bytes to the same place for the same message, always. Raises KeyError as `order_type`."""
    if isinstance(message, LevelsMessage):
        trigger = f"global-tp-{message.trader}-{message.pair_index}-{message.trade_index}"
        return Offer(levels_body(content, signature), trigger)
    return Offer(body(order_type(message), content, signature))


def levels_body(content: bytes, signature: bytes) -> bytes:
    """New levels, both of which the message has whatever the trigger is called."""
    signed = {"userIntent": "0x" + content.hex(), "signedMessage": "0x" + signature.hex()}
    return json.dumps(signed, separators=(",", ":")).encode()


def read_taken(raw: bytes) -> Event:
    """What an answer says that took new levels; most name nothing by which they could be asked for."""
    return Event(ACCEPTED, _payload(raw.decode("utf-8", errors="replace")))


def read_stream(lines: Iterable[bytes]) -> Iterator[Event]:
    """Server-sent events; what is no event of ours is passed over. An event that was cut off is none."""
    type_, data, seq = "", list[str](), -1
    for raw in lines:
        line = raw[:LINE_LIMIT].decode("utf-8", errors="replace").rstrip("\r\n")
        if not line:
            if type_:
                yield Event(type_, _payload("\n".join(data)), seq)
            type_, data, seq = "", [], -1
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            type_ = value[:WORDS]
        elif field == "data":
            data.append(value)
        elif field == "id":
            seq = _seq(value)


def read_status(raw: bytes) -> list[Event]:
    """The events of a status, in their order. Raises ValueError for another shape."""
    try:
        found = json.loads(raw)
        events = found["events"][:EVENTS_LIMIT]
        return [
            Event(str(event["type"])[:WORDS], event.get("payload") or {}, _seq(event.get("seq")))
            for event in events
            if isinstance(event.get("payload") or {}, dict)
        ]
    except (KeyError, TypeError, AttributeError, RecursionError) as problem:
        raise ValueError(f"no status of an order: {type(problem).__name__}") from problem


def _seq(value: object) -> int:
    """What fits the column, else no number at all."""
    text = str(value)
    return int(text) if text.isascii() and text.isdecimal() and len(text) < SEQ_DIGITS else -1


def _payload(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}

"""Where on the chain a log stands, and how its bytes are read."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from eth_abi.abi import decode as abi_decode
from eth_abi.exceptions import DecodingError
from eth_utils.crypto import keccak

from execution_app.venues.scales import VENUE_DIGITS, from_units
from execution_app.venues.words import checksummed

Place = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Event:
    """Where on the chain a log stands; `emitter` is the contract that wrote it."""

    emitter: str
    tx_hash: str
    log_index: int
    block_number: int
    block_hash: str


def level(units: int) -> Decimal | None:
    """The venue writes "none" as 0."""
    return from_units(units, VENUE_DIGITS) if units else None


def indexed_address(topics: Sequence[bytes]) -> str:
    """The one indexed address of an event. Raises ValueError where there is none."""
    if len(topics) != 2:  # noqa: PLR2004 - the event's own topic and the trader
        raise ValueError("the log lacks its indexed trader")
    return checksummed(topics[1][-20:])


def decoded(types: Sequence[str], data: bytes) -> tuple[Any, ...]:
    """Raises ValueError for bytes of another shape."""
    try:
        return abi_decode(types, data)
    except (DecodingError, OverflowError) as fault:
        raise ValueError(f"not the bytes of ({','.join(types)}): {fault}") from fault


def topic(event: str, types: str) -> bytes:
    return keccak(text=f"{event}({types})")

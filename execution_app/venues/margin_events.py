"""What the venue's logs say about the margin of an open trade: collateral put in or taken out by a call of its own."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from eth_abi.abi import decode as abi_decode
from eth_abi.exceptions import DecodingError
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from execution_app.venues.calls import Margin
from execution_app.venues.logs import Event
from execution_app.venues.onchain import TRADE_TYPE
from execution_app.venues.scales import USDC_DIGITS, VENUE_DIGITS, from_units

_DATA = ("uint256", "uint256", "uint8", "uint256", TRADE_TYPE)
# One per venue version: what the live venue writes is published nowhere, so it must not borrow this one.
TOPICS = {"rehearsal-v2": keccak(text=f"MarginUpdated(address,{','.join(_DATA)})")}


@dataclass(frozen=True, slots=True)
class MarginUpdated(Event):
    """`change_usdc` is above zero where it was put in; all after it is the trade afterwards.

    Its notional stays, so its leverage changes, and its time (unix s) is refreshed.
    """

    trader: str
    pair_index: int
    trade_index: int
    change_usdc: Decimal
    is_long: bool
    open_price: Decimal
    collateral_usdc: Decimal
    leverage_x: Decimal
    opened_at: int


def topics_of(trader: str, version: str = "rehearsal-v2") -> list[str]:
    """What eth_getLogs is asked for, so that it answers with this trader's alone."""
    return ["0x" + TOPICS[version].hex(), "0x" + trader[2:].lower().rjust(64, "0")]


def decode(
    log: Mapping[str, Any], *, trading_address: str, version: str = "rehearsal-v2"
) -> MarginUpdated | None:
    """Read one log; None where it is none of these, as `events.decode` does. Raises ValueError likewise."""
    topics = [bytes.fromhex(topic[2:]) for topic in log["topics"]]
    if topics[:1] != [TOPICS[version]] or log.get("removed"):
        return None
    if log["address"].lower() != trading_address.lower():
        return None
    if len(topics) != 2:  # noqa: PLR2004 - the event's own topic and the trader
        raise ValueError("the log lacks its indexed trader")
    try:
        pair, index, kind, amount, trade = abi_decode(_DATA, bytes.fromhex(log["data"][2:]))
    except (DecodingError, OverflowError) as fault:
        raise ValueError(f"not the bytes of ({','.join(_DATA)}): {fault}") from fault
    _trader, _pair, _index, collateral, _size, open_price, is_long, leverage, _tp, _sl, opened_at = trade
    change_usdc = from_units(amount, USDC_DIGITS)
    return MarginUpdated(
        emitter=to_checksum_address(log["address"]),
        tx_hash=log["transactionHash"],
        log_index=int(log["logIndex"], 16),
        block_number=int(log["blockNumber"], 16),
        block_hash=log["blockHash"],
        trader=to_checksum_address(topics[1][-20:]),
        pair_index=pair,
        trade_index=index,
        change_usdc=change_usdc if Margin(kind) is Margin.DEPOSIT else -change_usdc,
        is_long=is_long,
        open_price=from_units(open_price, VENUE_DIGITS),
        collateral_usdc=from_units(collateral, USDC_DIGITS),
        leverage_x=from_units(leverage, VENUE_DIGITS),
        opened_at=opened_at,
    )

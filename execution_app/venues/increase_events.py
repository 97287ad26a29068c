"""What the venue's logs say about an increase: requested, then carried out, or refunded as an open is.

The shapes are the rehearsal venue's. Of the live one only the names are known, and that the second tells of the
trade as it is from then on.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from eth_utils.address import to_checksum_address

from execution_app.venues.logs import Event, Place, decoded, indexed_address, level
from execution_app.venues.onchain import TRADE_TYPE
from execution_app.venues.scales import USDC_DIGITS, VENUE_DIGITS, from_units

REQUESTED_DATA = ("uint256", "uint256", "uint256", "uint256", "bool", "uint256", "uint256")
INCREASED_DATA = ("uint256", TRADE_TYPE, *("uint256",) * 6)


@dataclass(frozen=True, slots=True)
class IncreaseRequested(Event):
    """The venue took the collateral that is to be added to the trade in this slot."""

    order_id: int
    trader: str
    pair_index: int
    trade_index: int
    is_long: bool
    collateral_usdc: Decimal
    leverage_x: Decimal
    registered_at: int


@dataclass(frozen=True, slots=True)
class PositionIncreased(Event):
    """An increase was carried out.

    `price`, `collateral_usdc` (after its fee) and `leverage_x` are of what was added. `held_usdc`, `held_leverage_x`,
    `open_price`, the levels and `opened_at` (unix s) are the trade's from then on; `open_price_before` and
    `opened_at_before` were the trade's until then.
    """

    order_id: int
    trader: str
    pair_index: int
    trade_index: int
    is_long: bool
    price: Decimal
    collateral_usdc: Decimal
    leverage_x: Decimal
    held_usdc: Decimal
    held_leverage_x: Decimal
    open_price: Decimal
    take_profit: Decimal | None
    stop_loss: Decimal | None
    opened_at: int
    open_price_before: Decimal
    opened_at_before: int


def requested(place: Place, topics: Sequence[bytes], data: bytes) -> IncreaseRequested:
    pair, slot, order_id, timestamp, is_long, collateral, leverage = decoded(REQUESTED_DATA, data)
    return IncreaseRequested(
        **place,
        order_id=order_id,
        trader=indexed_address(topics),
        pair_index=pair,
        trade_index=slot,
        is_long=is_long,
        collateral_usdc=from_units(collateral, USDC_DIGITS),
        leverage_x=from_units(leverage, VENUE_DIGITS),
        registered_at=timestamp,
    )


def increased(place: Place, topics: Sequence[bytes], data: bytes) -> PositionIncreased:
    order_id, trade, price, added, leverage, _coins, price_before, opened_before = decoded(
        INCREASED_DATA, data
    )
    trader, pair, slot, held, _size, open_price, is_long, held_leverage, tp, sl, opened_at = trade
    if to_checksum_address(trader) != indexed_address(topics):
        raise ValueError("the increased trade is another trader's than the log's")
    return PositionIncreased(
        **place,
        order_id=order_id,
        trader=to_checksum_address(trader),
        pair_index=pair,
        trade_index=slot,
        is_long=is_long,
        price=from_units(price, VENUE_DIGITS),
        collateral_usdc=from_units(added, USDC_DIGITS),
        leverage_x=from_units(leverage, VENUE_DIGITS),
        held_usdc=from_units(held, USDC_DIGITS),
        held_leverage_x=from_units(held_leverage, VENUE_DIGITS),
        open_price=from_units(open_price, VENUE_DIGITS),
        take_profit=level(tp),
        stop_loss=level(sl),
        opened_at=opened_at,
        open_price_before=from_units(price_before, VENUE_DIGITS),
        opened_at_before=opened_before,
    )

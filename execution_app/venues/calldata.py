"""Orders read back from the call data of a delegate's transaction: the inverse of `onchain.encode_*`."""

from decimal import Decimal

from eth_abi.abi import decode as abi_decode
from eth_abi.exceptions import DecodingError
from eth_utils.address import to_checksum_address

from execution_app.venues import onchain
from execution_app.venues.calls import UPDATE_LIMIT, UPDATE_LIMIT_ARGUMENTS
from execution_app.venues.onchain import CloseOrder, OpenOrder
from execution_app.venues.orders import Kind, Terms
from execution_app.venues.scales import USDC_DIGITS, VENUE_DIGITS, from_units


def read_order(data: bytes) -> OpenOrder | CloseOrder | None:
    """The order that a delegated call carries; None where it is no order of ours. Never raises."""
    if data[:4] != onchain.DELEGATED_ACTION:
        return None
    try:
        trader, inner = abi_decode(("address", "bytes"), data[4:])
        if inner[:4] == onchain.OPEN_TRADE:
            return _open(trader, inner[4:])
        if inner[:4] == onchain.CLOSE_TRADE_MARKET:
            return _close(trader, inner[4:])
    except (DecodingError, OverflowError, ValueError):
        return None
    return None


def read_terms(data: bytes) -> Terms:
    """The terms that a delegated change of an order that rests gives it. Raises ValueError for any other bytes."""
    _, inner = onchain.read_delegated(data)
    if inner[:4] != UPDATE_LIMIT:
        raise ValueError("no change of an order that rests")
    _pair, _slot, price, slippage, take_profit, stop_loss = abi_decode(UPDATE_LIMIT_ARGUMENTS, inner[4:])
    return Terms(
        from_units(price, VENUE_DIGITS),
        from_units(slippage, VENUE_DIGITS),
        _level(take_profit),
        _level(stop_loss),
    )


def _open(trader: str, data: bytes) -> OpenOrder:
    trade, kind, slippage = abi_decode((onchain.TRADE_TYPE, "uint8", "uint256"), data)
    _trader, pair, _index, _size, collateral, price, is_long, leverage, take_profit, stop_loss, _at = trade
    return OpenOrder(
        trader=to_checksum_address(trader),
        pair_index=pair,
        is_long=is_long,
        collateral_usdc=from_units(collateral, USDC_DIGITS),
        leverage_x=from_units(leverage, VENUE_DIGITS),
        wanted_price=from_units(price, VENUE_DIGITS),
        slippage_pct=from_units(slippage, VENUE_DIGITS),
        take_profit=_level(take_profit),
        stop_loss=_level(stop_loss),
        kind=Kind(kind),
    )


def _close(trader: str, data: bytes) -> CloseOrder:
    pair, index, collateral, price = abi_decode(("uint256",) * 4, data)
    return CloseOrder(
        trader=to_checksum_address(trader),
        pair_index=pair,
        trade_index=index,
        collateral_usdc=from_units(collateral, USDC_DIGITS),
        wanted_price=from_units(price, VENUE_DIGITS),
    )


def _level(units: int) -> Decimal | None:
    return from_units(units, VENUE_DIGITS) if units else None

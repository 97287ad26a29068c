"""The venue's on-chain path as bytes: orders and views, encoded and decoded, without a network.

Shapes, selectors and scales are the venue's (v2). The views are those of the rehearsal contracts.
Addresses are hex strings; those handed out carry their checksum. Decoders raise ValueError on bytes of
another shape.
"""

from collections.abc import Sequence
from decimal import Decimal
from functools import lru_cache
from typing import Any

from eth_abi.abi import decode as abi_decode
from eth_abi.abi import encode as abi_encode
from eth_abi.exceptions import DecodingError
from eth_utils.address import to_canonical_address, to_checksum_address
from eth_utils.crypto import keccak

from execution_app.venues.calls import (
    CANCEL_LIMIT,
    CANCEL_LIMIT_ARGUMENTS,
    UPDATE_LIMIT,
    UPDATE_LIMIT_ARGUMENTS,
    UPDATE_MARGIN,
    UPDATE_MARGIN_ARGUMENTS,
)
from execution_app.venues.orders import CloseOrder as CloseOrder  # noqa: PLC0414 - part of this path, as the next ones
from execution_app.venues.orders import OpenOrder as OpenOrder  # noqa: PLC0414
from execution_app.venues.orders import OpenTrade as OpenTrade  # noqa: PLC0414
from execution_app.venues.orders import Terms
from execution_app.venues.reverts import revert_name as revert_name  # noqa: PLC0414 - part of this path
from execution_app.venues.scales import USDC_DIGITS, VENUE_DIGITS, from_units, to_units
from execution_app.venues.words import WORD, are_words, checksummed, read_words, words

TRADE_TYPE = "(address,uint256,uint256,uint256,uint256,uint256,bool,uint256,uint256,uint256,uint256)"

# trader, pair, slot, type, is it an open, is it long, collateral, leverage, then its terms and its time
_PENDING_ORDER = f"(address,uint256,uint256,uint256,bool,bool,{','.join(['uint256'] * 7)})"

# Pair indices of the venue; assert the name with `call_pair_name` before trading one.
PAIRS: dict[str, int] = {
    "ETH-USD": 0,
    "BTC-USD": 1,
    "SOL-USD": 2,
    "BNB-USD": 3,
    "DOGE-USD": 5,
    "EUR-USD": 11,
    "USD-JPY": 12,
    "GBP-USD": 13,
    "XAG-USD": 20,
    "XAU-USD": 21,
    "XRP-USD": 59,
    "HYPE-USD": 62,
}
PAIR_NAMES: dict[int, str] = {index: symbol for symbol, index in PAIRS.items()}

_OPEN_ARGUMENTS = (TRADE_TYPE, "uint8", "uint256")
_CLOSE_ARGUMENTS = ("uint256", "uint256", "uint256", "uint256")
_DELEGATED_ARGUMENTS = ("address", "bytes")


@lru_cache(maxsize=128)
def _selector(function: str, types: tuple[str, ...]) -> bytes:
    return keccak(text=f"{function}({','.join(types)})")[:4]


OPEN_TRADE = _selector("openTrade", _OPEN_ARGUMENTS)
CLOSE_TRADE_MARKET = _selector("closeTradeMarket", _CLOSE_ARGUMENTS)
DELEGATED_ACTION = _selector("delegatedAction", _DELEGATED_ARGUMENTS)

# What a signer may put its key under when the transaction goes to the trading contract, and what such a
# delegated call may carry inside.
ALLOWED_SELECTORS: frozenset[bytes] = frozenset({DELEGATED_ACTION})
_ORDERS: dict[bytes, Sequence[str]] = {
    OPEN_TRADE: _OPEN_ARGUMENTS,
    CLOSE_TRADE_MARKET: _CLOSE_ARGUMENTS,
    CANCEL_LIMIT: CANCEL_LIMIT_ARGUMENTS,
    UPDATE_LIMIT: UPDATE_LIMIT_ARGUMENTS,
    UPDATE_MARGIN: UPDATE_MARGIN_ARGUMENTS,
}
ALLOWED_DELEGATED_SELECTORS: frozenset[bytes] = frozenset(_ORDERS)


def encode_open(order: OpenOrder) -> bytes:
    """Return openTrade's call data. Raises ValueError where a number would lose a digit."""
    trade = (
        _number(order.trader),
        order.pair_index,
        0,
        0,
        _positive(order.collateral_usdc, USDC_DIGITS, "collateral_usdc"),
        _positive(order.wanted_price, VENUE_DIGITS, "wanted_price"),
        int(order.is_long),
        _positive(order.leverage_x, VENUE_DIGITS, "leverage_x"),
        _level(order.take_profit, "take_profit"),
        _level(order.stop_loss, "stop_loss"),
        0,
    )
    slippage = _positive(order.slippage_pct, VENUE_DIGITS, "slippage_pct")
    return OPEN_TRADE + words((*trade, int(order.kind), slippage))


def encode_close(order: CloseOrder) -> bytes:
    """Return closeTradeMarket's call data (v2 form). Raises ValueError where a number would lose a digit."""
    return CLOSE_TRADE_MARKET + words(
        (
            order.pair_index,
            order.trade_index,
            _positive(order.collateral_usdc, USDC_DIGITS, "collateral_usdc"),
            _positive(order.wanted_price, VENUE_DIGITS, "wanted_price"),
        )
    )


def encode_delegated(trader: str, data: bytes) -> bytes:
    """Wrap an order so that the trader's delegate may send it.

    Raises ValueError for inner calls that a delegate has no business making.
    """
    if data[:4] not in ALLOWED_DELEGATED_SELECTORS:
        raise ValueError(f"0x{data[:4].hex()} may not be delegated")
    return _delegated(_number(trader), data)


def _delegated(trader: int, data: bytes) -> bytes:
    """The trader, where the bytes begin, how many they are, and they themselves, filled up to whole words."""
    return DELEGATED_ACTION + words((trader, 2 * WORD, len(data))) + data + bytes(-len(data) % WORD)


def _number(address: str) -> int:
    return int.from_bytes(to_canonical_address(address), "big")


def read_delegated(data: bytes) -> tuple[str, bytes]:
    """Return the trader of a delegated call and the call inside.

    Raises ValueError for any bytes that we would not have written ourselves, since a
    decoder forgives what a contract may read otherwise.
    """
    if data[:4] != DELEGATED_ACTION:
        raise ValueError("not a delegated call")
    head = 4 + 3 * WORD
    trader, _, size = read_words(("address", "uint256", "uint256"), data[4:head])
    inner = bytes(data[head : head + size])
    if _delegated(trader, inner) != data:
        raise ValueError("a delegated call in another encoding")
    return checksummed(bytes(data[4 + WORD - 20 : 4 + WORD])), inner


def read_order(order: bytes) -> str | None:
    """Return the trader whom an order's own arguments name; none but an open names one.

    Raises ValueError for anything but a whole call of an order, written as we write it.
    """
    arguments = _ORDERS.get(order[:4])
    if arguments is None:
        raise ValueError("not an order")
    if are_words(arguments):
        read_words(arguments, order[4:])  # each number has one encoding
    elif order[:4] + abi_encode(arguments, _decoded(arguments, order[4:])) != order:
        raise ValueError("an order in another encoding")
    return checksummed(bytes(order[4 + WORD - 20 : 4 + WORD])) if order[:4] == OPEN_TRADE else None


# Views of the trading contract.


def call_execution_fee() -> bytes:
    """Ask the trading contract for the msg.value of an order, in wei; read with `read_uint`."""
    return _selector("executionFee", ())


def call_delegate(trader: str) -> bytes:
    """Ask the trading contract for a trader's delegate; read with `read_delegate`."""
    return _call("delegations", ("address",), (to_canonical_address(trader),))


def read_delegate(data: bytes) -> tuple[str, int]:
    """Return the delegate (the zero address: none) and the unix second at which it ends."""
    delegate, expiry = _decoded(("address", "uint256"), data)
    return to_checksum_address(delegate), expiry


def call_nonce_bitmap(signer: str, word: int) -> bytes:
    """Ask the trading contract which of 256 nonces of a signer are spent; read with `read_uint`, bit by bit."""
    return _call("nonceBitmap", ("address", "uint256"), (to_canonical_address(signer), word))


# Views of the price aggregator.


def call_price(pair_index: int) -> bytes:
    return _call("price", ("uint256",), (pair_index,))


def read_price(data: bytes) -> tuple[Decimal, int]:
    """Return the oracle price and the unix second of its publication. Raises ValueError for no price."""
    price, published_at = _decoded(("uint256", "uint256"), data)
    if not price:
        raise ValueError("the venue has no price for this pair")
    return from_units(price, VENUE_DIGITS), published_at


def call_pair_name(pair_index: int) -> bytes:
    return _call("pairs", ("uint256",), (pair_index,))


def read_pair_name(data: bytes) -> str:
    """Return the symbol as in PAIRS, `BTC-USD`."""
    ((base, quote),) = _decoded(("(string,string)",), data)
    return f"{base}-{quote}"


# Views of the storage.


def call_open_trade(trader: str, pair_index: int, trade_index: int) -> bytes:
    arguments = (to_canonical_address(trader), pair_index, trade_index)
    return _call("openTrades", ("address", "uint256", "uint256"), arguments)


def read_open_trade(data: bytes) -> OpenTrade | None:
    """Return the stored trade, None where the slot is empty."""
    ((trader, pair, index, collateral, size, price, is_long, leverage, tp, sl, opened_at),) = _decoded(
        (TRADE_TYPE,), data
    )
    if not leverage:
        return None
    return OpenTrade(
        trader=to_checksum_address(trader),
        pair_index=pair,
        trade_index=index,
        collateral_usdc=from_units(collateral, USDC_DIGITS),
        position_size_usdc=from_units(size, USDC_DIGITS),
        open_price=from_units(price, VENUE_DIGITS),
        is_long=is_long,
        leverage_x=from_units(leverage, VENUE_DIGITS),
        take_profit=from_units(tp, VENUE_DIGITS) if tp else None,
        stop_loss=from_units(sl, VENUE_DIGITS) if sl else None,
        opened_at=opened_at,
    )


def call_open_trades_count(trader: str, pair_index: int) -> bytes:
    """Ask the storage how many trades a trader holds on a pair; read with `read_uint`."""
    return _call("openTradesCount", ("address", "uint256"), (to_canonical_address(trader), pair_index))


def call_is_pending(order_id: int) -> bytes:
    """Ask the storage whether an order is registered and not yet executed or cancelled."""
    return _call("isPending", ("uint256",), (order_id,))


def read_is_pending(data: bytes) -> bool:
    (pending,) = read_words(("bool",), data)
    return bool(pending)


def call_pending_order(order_id: int) -> bytes:
    """Ask the storage for an order that is not executed yet."""
    return _call("pendingOrder", ("uint256",), (order_id,))


def read_terms(data: bytes) -> Terms | None:
    """Return the terms of the order, None where there is none any more."""
    ((trader, *_, price, slippage, tp, sl, _at),) = _decoded((_PENDING_ORDER,), data)
    if not int(trader, 16):
        return None
    return Terms(
        from_units(price, VENUE_DIGITS),
        from_units(slippage, VENUE_DIGITS),
        from_units(tp, VENUE_DIGITS) if tp else None,
        from_units(sl, VENUE_DIGITS) if sl else None,
    )


# Views of the USDC.


def call_balance(owner: str) -> bytes:
    """Ask for a balance in USDC units (1e-6); read with `read_uint`."""
    return _call("balanceOf", ("address",), (to_canonical_address(owner),))


def call_allowance(owner: str, spender: str) -> bytes:
    """Ask for an allowance in USDC units (1e-6); read with `read_uint`."""
    arguments = (to_canonical_address(owner), to_canonical_address(spender))
    return _call("allowance", ("address", "address"), arguments)


def read_uint(data: bytes) -> int:
    (number,) = _decoded(("uint256",), data)
    return int(number)


def _call(function: str, types: tuple[str, ...], arguments: Sequence[bytes | int]) -> bytes:
    """All of them are numbers and addresses, the latter as bytes."""
    numbers = (one if isinstance(one, int) else int.from_bytes(one, "big") for one in arguments)
    return _selector(function, types) + words(numbers)


def _decoded(types: Sequence[str], data: bytes) -> tuple[Any, ...]:
    try:
        return abi_decode(types, data)
    except (DecodingError, UnicodeDecodeError, OverflowError) as fault:
        raise ValueError(f"not the bytes of ({','.join(types)}): {fault}") from fault


def _positive(value: Decimal, digits: int, name: str) -> int:
    units = to_units(value, digits, name)
    if not units:
        raise ValueError(f"{name} must be above zero")
    return units


def _level(value: Decimal | None, name: str) -> int:
    """Scale a take-profit or stop-loss price; the venue writes "none" as 0."""
    return 0 if value is None else _positive(value, VENUE_DIGITS, name)

"""Signed intents: the venue's EIP-712 messages (v2), built here and never taken from a server.

Deadlines are unix **milliseconds**, the expiry of a delegation is unix **seconds**; each refuses what looks
like the other.
"""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from execution_app.venues import typed_data
from execution_app.venues.onchain import CloseOrder, OpenOrder
from execution_app.venues.orders import IncreaseOrder, Kind
from execution_app.venues.scales import USDC_DIGITS, VENUE_DIGITS, from_units, to_units
from execution_app.venues.typed_data import CLOSE, DELEGATE, INCREASE, LEVELS, OPEN, TERMS, TYPES, Domain

_NONCE_LIMIT = 2**256
# 2001 and 2286 in milliseconds, and so years 33,658 and beyond in seconds.
_MS_RANGE = range(10**12, 10**13)
_S_RANGE = range(10**9, 10**10)


@dataclass(frozen=True, slots=True)
class OpenMessage:
    """A market open; `deadline_ms` in unix milliseconds."""

    order: OpenOrder
    deadline_ms: int
    nonce: int


@dataclass(frozen=True, slots=True)
class CloseMessage:
    """A market close of the trade with this storage timestamp (unix s), which partial closes refresh."""

    order: CloseOrder
    opened_at: int
    deadline_ms: int
    nonce: int


@dataclass(frozen=True, slots=True)
class IncreaseMessage:
    """An increase of whatever trade is in a slot by then: it binds no timestamp, as a close does."""

    order: IncreaseOrder
    deadline_ms: int
    nonce: int


@dataclass(frozen=True, slots=True)
class LevelsMessage:
    """New levels of a stored trade, both at once; None means no level, for the take profit the venue's largest gain."""

    trader: str
    pair_index: int
    trade_index: int
    take_profit: Decimal | None
    stop_loss: Decimal | None
    deadline_ms: int
    nonce: int


@dataclass(frozen=True, slots=True)
class DelegateMessage:
    """A trader's delegate until the unix second `expiry_s`; the trader alone signs it, no key of ours."""

    trader: str
    delegate: str
    expiry_s: int
    deadline_ms: int
    nonce: int


Message = OpenMessage | CloseMessage | IncreaseMessage | LevelsMessage | DelegateMessage


def nonce_of(key: str, domain: Domain) -> int:
    """The nonce of whatever is asked for under this key: one signer can have the same key executed once, for ever.

    The venue spends nonces in no order, so it need not be counted, and a database that was restored from a
    backup chooses the same again. Spent is what one signer spent: another delegate may use it again.
    """
    named = f"vanta intent {domain.chain_id} {domain.trading_address.lower()} {key}"
    return int.from_bytes(keccak(text=named), "big")


def kind_of(message: Message) -> str:
    """The primary type's name."""
    return _KINDS[type(message)]


def encode(message: Message) -> bytes:
    """The struct as the gateway and the contract take it. Raises ValueError where a number would lose a digit."""
    return typed_data.encode(kind_of(message), values(message))


def payload(domain: Domain, message: Message) -> bytes:
    """The 66 bytes whose keccak is signed. Raises ValueError as `encode` does."""
    return typed_data.signed_bytes(domain, kind_of(message), values(message))


def digest(domain: Domain, message: Message) -> bytes:
    """What the signature is over."""
    return keccak(payload(domain, message))


def decode(kind: str, data: bytes) -> Message:
    """The message that these bytes are. Raises ValueError for bytes that `encode` would not have written."""
    reader = _READERS.get(kind)
    if reader is None:
        raise ValueError(f"{kind} is not read here")
    message = reader(typed_data.decode(kind, data))
    if encode(message) != data:
        raise ValueError(f"{kind} in another encoding, or of another kind of order")
    return message


def values(message: Message) -> dict[str, Any]:
    """By field name, in the order of the type; structs within are dicts as well."""
    deadline_ms, nonce = _deadline(message.deadline_ms), _nonce(message.nonce)
    match message:
        case OpenMessage(order=order):
            found: list[Any] = [
                _trade(order),
                0,
                _units(order.slippage_pct, VENUE_DIGITS, "slippage_pct"),
                deadline_ms,
                nonce,
            ]
        case CloseMessage(order=order, opened_at=opened_at):
            found = [
                to_checksum_address(order.trader),
                order.pair_index,
                order.trade_index,
                opened_at,
                _units(order.collateral_usdc, USDC_DIGITS, "collateral_usdc"),
                _units(order.wanted_price, VENUE_DIGITS, "wanted_price"),
                deadline_ms,
                nonce,
            ]
        case IncreaseMessage(order=order):
            found = [
                _added(order),
                _units(order.slippage_pct, VENUE_DIGITS, "slippage_pct"),
                deadline_ms,
                nonce,
            ]
        case LevelsMessage():
            found = [
                to_checksum_address(message.trader),
                message.pair_index,
                message.trade_index,
                _level(message.take_profit, "take_profit"),
                _level(message.stop_loss, "stop_loss"),
                deadline_ms,
                nonce,
            ]
        case DelegateMessage():
            if message.expiry_s not in _S_RANGE:
                raise ValueError(f"expiry_s is not in unix seconds: {message.expiry_s}")
            found = [
                to_checksum_address(message.trader),
                to_checksum_address(message.delegate),
                message.expiry_s,
                deadline_ms,
                TERMS,
                nonce,
            ]
    return dict(zip((name for name, _ in TYPES[kind_of(message)]), found, strict=True))


def _trade(order: OpenOrder) -> dict[str, Any]:
    if order.kind is not Kind.MARKET:
        raise ValueError(f"no {order.kind.name.lower()} order goes by message")
    return {
        "trader": to_checksum_address(order.trader),
        "pairIndex": order.pair_index,
        "index": 0,
        "initialPosToken": 0,
        "positionSizeUSDC": _units(order.collateral_usdc, USDC_DIGITS, "collateral_usdc"),
        "openPrice": _units(order.wanted_price, VENUE_DIGITS, "wanted_price"),
        "buy": order.is_long,
        "leverage": _units(order.leverage_x, VENUE_DIGITS, "leverage_x"),
        "tp": _level(order.take_profit, "take_profit"),
        "sl": _level(order.stop_loss, "stop_loss"),
        "timestamp": 0,
    }


def _added(order: IncreaseOrder) -> dict[str, Any]:
    return {
        "trader": to_checksum_address(order.trader),
        "pairIndex": order.pair_index,
        "index": order.trade_index,
        "openPrice": _units(order.wanted_price, VENUE_DIGITS, "wanted_price"),
        "initialPosToken": _units(order.collateral_usdc, USDC_DIGITS, "collateral_usdc"),
        "leverage": _units(order.leverage_x, VENUE_DIGITS, "leverage_x"),
    }


def _read_open(values: tuple[Any, ...]) -> OpenMessage:
    trade, _type, slippage, deadline_ms, nonce = values
    trader, pair, _index, _held, collateral, price, is_long, leverage, take_profit, stop_loss, _at = trade
    order = OpenOrder(
        trader=to_checksum_address(trader),
        pair_index=pair,
        is_long=is_long,
        collateral_usdc=from_units(collateral, USDC_DIGITS),
        leverage_x=from_units(leverage, VENUE_DIGITS),
        wanted_price=from_units(price, VENUE_DIGITS),
        slippage_pct=from_units(slippage, VENUE_DIGITS),
        take_profit=_read_level(take_profit),
        stop_loss=_read_level(stop_loss),
    )
    return OpenMessage(order, deadline_ms, nonce)


def _read_close(values: tuple[Any, ...]) -> CloseMessage:
    trader, pair, index, opened_at, collateral, price, deadline_ms, nonce = values
    order = CloseOrder(
        trader=to_checksum_address(trader),
        pair_index=pair,
        trade_index=index,
        collateral_usdc=from_units(collateral, USDC_DIGITS),
        wanted_price=from_units(price, VENUE_DIGITS),
    )
    return CloseMessage(order, opened_at, deadline_ms, nonce)


def _read_increase(values: tuple[Any, ...]) -> IncreaseMessage:
    (trader, pair, index, price, collateral, leverage), slippage, deadline_ms, nonce = values
    order = IncreaseOrder(
        trader=to_checksum_address(trader),
        pair_index=pair,
        trade_index=index,
        collateral_usdc=from_units(collateral, USDC_DIGITS),
        leverage_x=from_units(leverage, VENUE_DIGITS),
        wanted_price=from_units(price, VENUE_DIGITS),
        slippage_pct=from_units(slippage, VENUE_DIGITS),
    )
    return IncreaseMessage(order, deadline_ms, nonce)


def _read_levels(values: tuple[Any, ...]) -> LevelsMessage:
    trader, pair, index, take_profit, stop_loss, deadline_ms, nonce = values
    levels = _read_level(take_profit), _read_level(stop_loss)
    return LevelsMessage(to_checksum_address(trader), pair, index, *levels, deadline_ms, nonce)


_READERS: dict[str, Callable[[tuple[Any, ...]], Message]] = {
    OPEN: _read_open,
    CLOSE: _read_close,
    INCREASE: _read_increase,
    LEVELS: _read_levels,
}
_KINDS: dict[type, str] = {
    OpenMessage: OPEN,
    CloseMessage: CLOSE,
    IncreaseMessage: INCREASE,
    LevelsMessage: LEVELS,
    DelegateMessage: DELEGATE,
}


def _deadline(deadline_ms: int) -> int:
    if deadline_ms not in _MS_RANGE:
        raise ValueError(f"deadline_ms is not in unix milliseconds: {deadline_ms}")
    return deadline_ms


def _nonce(nonce: int) -> int:
    if not 0 <= nonce < _NONCE_LIMIT:
        raise ValueError(f"the nonce does not fit a uint256: {nonce}")
    return nonce


def _units(value: Decimal, digits: int, name: str) -> int:
    units = to_units(value, digits, name)
    if not units:
        raise ValueError(f"{name} must be above zero")
    return units


def _level(value: Decimal | None, name: str) -> int:
    return 0 if value is None else _units(value, VENUE_DIGITS, name)


def _read_level(units: int) -> Decimal | None:
    return from_units(units, VENUE_DIGITS) if units else None

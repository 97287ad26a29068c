"""What an order and a stored trade are on the venue's on-chain path, in Decimals."""

from dataclasses import dataclass
from decimal import Decimal
from enum import IntEnum


class Kind(IntEnum):
    """The venue's numbers of its ways to open."""

    MARKET = 0
    STOP_LIMIT = 1
    LIMIT = 2


@dataclass(frozen=True, slots=True)
class OpenOrder:
    """An open. The fill must lie within `slippage_pct` of `wanted_price`, else the venue refunds a market order.

    A limit or stop-limit order rests at the venue until the oracle reaches `wanted_price`, its trigger.
    """

    trader: str
    pair_index: int
    is_long: bool
    collateral_usdc: Decimal
    leverage_x: Decimal
    wanted_price: Decimal
    slippage_pct: Decimal
    take_profit: Decimal | None = None
    stop_loss: Decimal | None = None
    kind: Kind = Kind.MARKET


@dataclass(frozen=True, slots=True)
class Terms:
    """What may be changed of an order that rests: its trigger in USD, how far from it the fill may be, and its levels."""

    limit_price: Decimal
    slippage_pct: Decimal
    take_profit: Decimal | None
    stop_loss: Decimal | None


@dataclass(frozen=True, slots=True)
class CloseOrder:
    """A market close of `collateral_usdc` out of the trade's collateral; all of it ends the trade."""

    trader: str
    pair_index: int
    trade_index: int
    collateral_usdc: Decimal
    wanted_price: Decimal


@dataclass(frozen=True, slots=True)
class IncreaseOrder:
    """More of a trade: `collateral_usdc` at `leverage_x`, filled within `slippage_pct` of `wanted_price`, else refunded.

    It names a slot and no trade, and its levels are the trade's.
    """

    trader: str
    pair_index: int
    trade_index: int
    collateral_usdc: Decimal
    leverage_x: Decimal
    wanted_price: Decimal
    slippage_pct: Decimal


@dataclass(frozen=True, slots=True)
class OpenTrade:
    """A trade as the venue's storage holds it; `opened_at` is unix seconds, refreshed by partial closes and increases."""

    trader: str
    pair_index: int
    trade_index: int
    collateral_usdc: Decimal
    position_size_usdc: Decimal
    open_price: Decimal
    is_long: bool
    leverage_x: Decimal
    take_profit: Decimal | None
    stop_loss: Decimal | None
    opened_at: int

"""What the venue takes: spread and fees as its trading contract publishes them, and what they make of an order.

The arithmetic is the venue's own, in its integers, so that a simulated fill is the one the venue would give.
"""

from dataclasses import dataclass
from decimal import Decimal

from eth_abi.abi import decode as abi_decode
from eth_abi.exceptions import DecodingError
from eth_utils.crypto import keccak

from execution_app.venues.scales import USDC_DIGITS, VENUE_DIGITS, from_units, to_units

_ONE = 10**VENUE_DIGITS
_HUNDRED_P = 100 * _ONE
_BPS = 10_000
# Of the venue's parameters names alone are known (docs/venue.md), so no figure of ours has any.
FUNDING = "not modelled: the venue publishes no rule"
LIQUIDATION_P = -85 * _ONE
MAX_GAIN_P = 2_500 * _ONE
MAX_SL_PCT = 80


@dataclass(frozen=True, slots=True)
class Costs:
    """Fees in 1e-4 of the notional; `spread_units` in the venue's percent, 1 % is 1e10."""

    open_fee_bps: int
    close_fee_bps: int
    spread_units: int


@dataclass(frozen=True, slots=True)
class Proceeds:
    """What a close pays the trader, and the fee within."""

    paid_usdc: Decimal
    fee_usdc: Decimal


@dataclass(frozen=True, slots=True)
class Held:
    """A trade, or what is added to one, by what an increase blends."""

    collateral_usdc: Decimal
    leverage_x: Decimal
    open_price: Decimal


def blended(held: Held, added: Held) -> Held:
    """The trade that both together are: its opening price is by coins, so that its profit is the sum of theirs."""
    sizes = [_notional(one.collateral_usdc, one.leverage_x) for one in (held, added)]
    prices = [to_units(one.open_price, VENUE_DIGITS, "open_price") for one in (held, added)]
    whole = sum(sizes)
    price = whole * prices[0] * prices[1] // (sizes[0] * prices[1] + sizes[1] * prices[0])
    collateral_usdc = held.collateral_usdc + added.collateral_usdc
    leverage_x = held.leverage_x
    if added.leverage_x != leverage_x:
        collateral = to_units(collateral_usdc, USDC_DIGITS, "collateral_usdc")
        leverage_x = from_units(whole * _ONE // collateral, VENUE_DIGITS)
    return Held(collateral_usdc, leverage_x, from_units(price, VENUE_DIGITS))


@dataclass(frozen=True, slots=True)
class Margined:
    """A trade after its margin was changed; `refusal` says why the venue, or the trade's own stop, does not let it be. "" where it does."""

    collateral_usdc: Decimal
    leverage_x: Decimal
    refusal: str = ""


def leverage_after_x(held_usdc: Decimal, leverage_x: Decimal, left_usdc: Decimal) -> Decimal:
    """What the venue makes of a trade's leverage whose notional stays and whose collateral becomes this, above zero."""
    left = to_units(left_usdc, USDC_DIGITS, "margin_usdc")
    return from_units(_notional(held_usdc, leverage_x) * _ONE // left, VENUE_DIGITS)


def margin_terms(
    held: Held, change_usdc: Decimal, price: Decimal, stop_loss: Decimal | None, *, is_long: bool
) -> Margined:
    """What becomes of a trade whose notional stays while this much collateral goes in, above zero, or out, at this price.

    What comes out must leave it above its liquidation, and its stop loss within the loss that the venue lets one have.
    """
    left_usdc = held.collateral_usdc + change_usdc
    if left_usdc <= 0:
        return Margined(left_usdc, Decimal(0), f"the trade has {held.collateral_usdc:f} USDC of collateral")
    after_x = leverage_after_x(held.collateral_usdc, held.leverage_x, left_usdc)
    if after_x < 1:
        return Margined(left_usdc, after_x, f"its leverage would be {after_x:f}x, less than 1x")
    if change_usdc > 0:
        return Margined(left_usdc, after_x)
    end = liquidation_price(held.open_price, after_x, is_long=is_long)
    refusal = ""
    if end is not None and (price <= end if is_long else price >= end):
        refusal = f"at {after_x:f}x it would be liquidated at {end:f}, the price is {price:f}"
    elif stop_loss is not None:
        refusal = levels_refusal(price, held.open_price, after_x, None, stop_loss, is_long=is_long)
    return Margined(left_usdc, after_x, refusal)


def call_costs() -> bytes:
    """Ask the trading contract for its costs; read with `read_costs`."""
    return keccak(text="costs()")[:4]


def read_costs(data: bytes) -> Costs:
    """Raises ValueError on bytes of another shape."""
    try:
        open_bps, close_bps, spread, _execution_fee = abi_decode(("uint256",) * 4, data)
    except (DecodingError, OverflowError) as fault:
        raise ValueError(f"not the bytes of costs: {fault}") from fault
    return Costs(open_bps, close_bps, spread)


def fill_price(oracle: Decimal, costs: Costs, *, buys: bool) -> Decimal:
    """The oracle's price moved by the spread: buyers fill above it, sellers below."""
    price = to_units(oracle, VENUE_DIGITS, "price")
    spread = price * costs.spread_units // _HUNDRED_P
    return from_units(price + spread if buys else price - spread, VENUE_DIGITS)


def open_fee_usdc(collateral_usdc: Decimal, leverage_x: Decimal, costs: Costs) -> Decimal:
    """The fee that an open pays out of its collateral."""
    return from_units(_notional(collateral_usdc, leverage_x) * costs.open_fee_bps // _BPS, USDC_DIGITS)


def proceeds(
    collateral_usdc: Decimal, leverage_x: Decimal, open_price: Decimal, price: Decimal, costs: Costs, *, is_long: bool
) -> Proceeds:  # fmt: skip
    """What closing this much collateral at this price pays: nothing at a loss of 85 % or more."""
    opened = to_units(open_price, VENUE_DIGITS, "open_price")
    moved = to_units(price, VENUE_DIGITS, "price") - opened
    leverage = to_units(leverage_x, VENUE_DIGITS, "leverage_x")
    # Solidity and Vyper divide towards zero, Python towards minus infinity.
    numerator = (moved if is_long else -moved) * 100 * leverage
    profit = abs(numerator) // opened * (1 if numerator >= 0 else -1)
    profit = max(-_HUNDRED_P, min(MAX_GAIN_P, profit))
    if profit <= LIQUIDATION_P:
        return Proceeds(Decimal(0), Decimal(0))
    gross = to_units(collateral_usdc, USDC_DIGITS, "collateral_usdc") * (profit + _HUNDRED_P) // _HUNDRED_P
    fee = min(gross, _notional(collateral_usdc, leverage_x) * costs.close_fee_bps // _BPS)
    return Proceeds(from_units(gross - fee, USDC_DIGITS), from_units(fee, USDC_DIGITS))


def liquidation_price(open_price: Decimal, leverage_x: Decimal, *, is_long: bool) -> Decimal | None:
    """The first price, seen from the opening one, at which a close pays nothing; None where no price above zero does.

    By price alone: what the venue takes for lending brings it nearer with time.
    """
    opened = to_units(open_price, VENUE_DIGITS, "open_price")
    leverage = to_units(leverage_x, VENUE_DIGITS, "leverage_x")
    moved = -(LIQUIDATION_P * opened // (100 * leverage))  # rounded away from the opening price
    price = opened - moved if is_long else opened + moved
    return from_units(price, VENUE_DIGITS) if price > 0 else None


def would_cancel(
    price: Decimal,
    wanted_price: Decimal,
    slippage_pct: Decimal,
    take_profit: Decimal | None,
    stop_loss: Decimal | None,
    *,
    is_long: bool,
) -> str:
    """Why the venue would refund an open at this fill: beyond the slippage, or a level crossed; "" where not."""
    slack = wanted_price * slippage_pct / 100
    if (price > wanted_price + slack) if is_long else (price + slack < wanted_price):
        return f"the fill at {price:f} is beyond {slippage_pct:f} % of {wanted_price:f}"
    if take_profit is not None and (price >= take_profit if is_long else price <= take_profit):
        return f"take_profit {take_profit:f} is crossed already at {price:f}"
    if stop_loss is not None and (price <= stop_loss if is_long else price >= stop_loss):
        return f"stop_loss {stop_loss:f} is crossed already at {price:f}"
    return ""


def levels_refusal(
    price: Decimal,
    open_price: Decimal,
    leverage_x: Decimal,
    take_profit: Decimal | None,
    stop_loss: Decimal | None,
    *,
    is_long: bool,
) -> str:
    """Why the venue would not take these levels for an open trade at this price; "" where it would."""
    if take_profit is not None and (price >= take_profit if is_long else price <= take_profit):
        return f"take_profit {take_profit:f} is crossed already at {price:f}"
    if stop_loss is not None and (price <= stop_loss if is_long else price >= stop_loss):
        return f"stop_loss {stop_loss:f} is crossed already at {price:f}"
    if stop_loss is None:
        return ""
    lost = (open_price - stop_loss if is_long else stop_loss - open_price) * 100 * leverage_x
    if lost > MAX_SL_PCT * open_price:
        return f"stop_loss {stop_loss:f} is beyond a loss of {MAX_SL_PCT} % from {open_price:f} at {leverage_x:f}x"
    return ""


def _notional(collateral_usdc: Decimal, leverage_x: Decimal) -> int:
    collateral = to_units(collateral_usdc, USDC_DIGITS, "collateral_usdc")
    notional: int = collateral * to_units(leverage_x, VENUE_DIGITS, "leverage_x") // _ONE
    return notional

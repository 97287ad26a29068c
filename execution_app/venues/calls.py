"""The rarer calls of the venue's on-chain path, byte for byte: an order that rests, margin, the end of a delegation.

What of these is signed stands in `onchain.ALLOWED_DELEGATED_SELECTORS`; the others nothing of ours sends.
"""

from collections.abc import Sequence
from decimal import Decimal
from enum import IntEnum

from eth_abi.abi import encode as abi_encode
from eth_utils.address import to_canonical_address
from eth_utils.crypto import keccak

from execution_app.venues.scales import USDC_DIGITS, VENUE_DIGITS, to_units

CANCEL_LIMIT_ARGUMENTS = ("uint256", "uint256")
UPDATE_LIMIT_ARGUMENTS = ("uint256",) * 6
UPDATE_MARGIN_ARGUMENTS = ("uint256", "uint256", "uint8", "uint256", "bytes[]", "uint8")


def _selector(function: str, types: Sequence[str]) -> bytes:
    return keccak(text=f"{function}({','.join(types)})")[:4]


CANCEL_LIMIT = _selector("cancelOpenLimitOrder", CANCEL_LIMIT_ARGUMENTS)
UPDATE_LIMIT = _selector("updateOpenLimitOrder", UPDATE_LIMIT_ARGUMENTS)
UPDATE_MARGIN = _selector("updateMargin", UPDATE_MARGIN_ARGUMENTS)
REMOVE_DELEGATE = _selector("removeDelegate", ("address",))


class Margin(IntEnum):
    """Which way collateral goes."""

    DEPOSIT = 0
    WITHDRAW = 1


def encode_cancel_limit(pair_index: int, order_index: int) -> bytes:
    """`order_index` is the slot in which the order rests, not its number."""
    return CANCEL_LIMIT + abi_encode(CANCEL_LIMIT_ARGUMENTS, (pair_index, order_index))


def encode_update_limit(
    pair_index: int,
    order_index: int,
    price: Decimal,
    slippage_pct: Decimal,
    *,
    take_profit: Decimal | None = None,
    stop_loss: Decimal | None = None,
) -> bytes:
    """Raises ValueError where a number would lose a digit."""
    terms = (
        to_units(price, VENUE_DIGITS, "price"),
        to_units(slippage_pct, VENUE_DIGITS, "slippage_pct"),
        to_units(take_profit or Decimal(0), VENUE_DIGITS, "take_profit"),
        to_units(stop_loss or Decimal(0), VENUE_DIGITS, "stop_loss"),
    )
    return UPDATE_LIMIT + abi_encode(UPDATE_LIMIT_ARGUMENTS, (pair_index, order_index, *terms))


def encode_update_margin(
    pair_index: int, trade_index: int, way: Margin, amount_usdc: Decimal, price_updates: Sequence[bytes]
) -> bytes:
    """Raises ValueError where the amount would lose a digit. `price_updates` are the oracle's own bytes."""
    amount = to_units(amount_usdc, USDC_DIGITS, "amount_usdc")
    values = (pair_index, trade_index, int(way), amount, list(price_updates), 0)
    return UPDATE_MARGIN + abi_encode(UPDATE_MARGIN_ARGUMENTS, values)


def encode_remove_delegate(delegate: str) -> bytes:
    """Call data to the trading contract; the trader alone sends it."""
    return REMOVE_DELEGATE + abi_encode(("address",), (to_canonical_address(delegate),))

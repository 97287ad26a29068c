"""EIP-1559 fees, all in wei, as pure arithmetic.

A replacement raises both fields by at least an eighth, above the tenth that
nodes ask for (geth's txpool pricebump), so that rounding never falls short.
"""

from dataclasses import dataclass

GWEI = 10**9
MIN_TIP_WEI = GWEI // 1000


@dataclass(frozen=True)
class Fee:
    """maxFeePerGas and maxPriorityFeePerGas."""

    max_fee_wei: int
    tip_wei: int


@dataclass(frozen=True)
class Market:
    """The last base fee and the tip the node suggests."""

    base_fee_wei: int
    tip_wei: int


def quote(market: Market, ceiling_wei: int) -> Fee | None:
    """The fee for a first send: cap = 2·base + tip, survives six full blocks. None above the ceiling."""
    tip_wei = max(market.tip_wei, MIN_TIP_WEI)
    max_fee_wei = 2 * market.base_fee_wei + tip_wei
    return Fee(max_fee_wei, tip_wei) if max_fee_wei <= ceiling_wei else None


def raised(old: Fee, market: Market, ceiling_wei: int) -> Fee | None:
    """The fee for a replacement; None when the ceiling does not allow a valid one."""
    tip_wei = max(market.tip_wei, MIN_TIP_WEI, _an_eighth_more(old.tip_wei))
    max_fee_wei = max(2 * market.base_fee_wei + tip_wei, _an_eighth_more(old.max_fee_wei))
    return Fee(max_fee_wei, tip_wei) if max_fee_wei <= ceiling_wei else None


def _an_eighth_more(wei: int) -> int:
    return max(-(-wei * 9 // 8), wei + 1)

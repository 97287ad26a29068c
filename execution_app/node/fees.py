"""EIP-1559 fees, all in wei, as pure arithmetic.

A replacement raises both fields by at least an eighth, above the tenth that
nodes ask for (geth's txpool pricebump), so that rounding never falls short.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median_low

GWEI = 10**9
MIN_TIP_WEI = GWEI // 1000


@dataclass(frozen=True)
class Fee:
    """maxFeePerGas and maxPriorityFeePerGas."""

    max_fee_wei: int
    tip_wei: int


@dataclass(frozen=True)
class Market:
    """The last base fee, the tip that blocks take, and the most that the chain below may charge for an order's data."""

    base_fee_wei: int
    tip_wei: int
    l1_fee_wei: int = 0


def tip(rewards: Sequence[int], suggested_wei: int | None, *, floor_wei: int, ceiling_wei: int) -> int:
    """The median of what recent blocks were paid, else what the node suggests; within floor and ceiling.

    One block that somebody overpaid moves nothing. The ceiling wins over the floor.
    """
    wanted_wei = int(median_low(rewards)) if rewards else (suggested_wei or 0)
    return min(max(wanted_wei, floor_wei, MIN_TIP_WEI), max(ceiling_wei, 0))


def ceiling(
    environment_wei: int, max_cost_wei: int | None, *, value_wei: int, gas_limit: int, l1_fee_wei: int
) -> int:
    """The highest fee per gas at which a transaction stays within the environment's ceiling and its own cost."""
    if max_cost_wei is None:
        return environment_wei
    return max(0, min(environment_wei, (max_cost_wei - value_wei - l1_fee_wei) // max(gas_limit, 1)))


def with_room_to_cancel(ceiling_wei: int) -> int:
    """The ceiling of an order below which a cancel that replaces it stays under `ceiling_wei`."""
    return max(0, ceiling_wei * 8 // 9 - 1)


def quote(market: Market, ceiling_wei: int) -> Fee | None:
    """The fee for the first send of an open: cap = 2·base + tip, survives six full blocks.

    None where the ceiling leaves no room to replace it twice: an open that cannot
    be replaced blocks the exits behind it.
    """
    fee = _first(market)
    replaced_wei = _an_eighth_more(_an_eighth_more(fee.max_fee_wei))
    return fee if replaced_wei <= ceiling_wei else None


def quote_exit(market: Market, ceiling_wei: int) -> Fee | None:
    """The fee for the first send of an exit: as for an open, or as much as the ceiling allows.

    None only where that is too little for the next block.
    """
    fee = _first(market)
    affordable_wei = min(fee.max_fee_wei, ceiling_wei)
    return Fee(affordable_wei, fee.tip_wei) if affordable_wei >= market.base_fee_wei + fee.tip_wei else None


def _first(market: Market) -> Fee:
    tip_wei = max(market.tip_wei, MIN_TIP_WEI)
    return Fee(2 * market.base_fee_wei + tip_wei, tip_wei)


def raised(old: Fee, market: Market, ceiling_wei: int) -> Fee | None:
    """The fee for a replacement, as for a first send, or as much as the ceiling allows.

    None only where that is no valid one, or too little for the next block: exits are behind whatever is stuck.
    """
    tip_wei = max(market.tip_wei, MIN_TIP_WEI, _an_eighth_more(old.tip_wei))
    least_wei = max(market.base_fee_wei + tip_wei, _an_eighth_more(old.max_fee_wei))
    max_fee_wei = min(max(2 * market.base_fee_wei + tip_wei, least_wei), ceiling_wei)
    return Fee(max_fee_wei, tip_wei) if max_fee_wei >= least_wei else None


def _an_eighth_more(wei: int) -> int:
    return max(-(-wei * 9 // 8), wei + 1)

"""How far the prices of several sources lie apart. Pure, and exact: what is compared is not rounded."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Context, Decimal

from execution_app.states import PriceSource

# A price has at most 30 digits, a percentage 12: nothing that is compared below is rounded.
EXACT = Context(prec=80)
SHOWN = Decimal("0.0001")


@dataclass(frozen=True, slots=True)
class Deviation:
    """The two of some prices that are furthest apart, in USD."""

    low_source: PriceSource
    low: Decimal
    high_source: PriceSource
    high: Decimal

    @property
    def pct(self) -> Decimal:
        """In percent of the lower one, for people: rounded."""
        gap = EXACT.multiply(self.high - self.low, Decimal(100))
        return EXACT.divide(gap, self.low).quantize(SHOWN, context=EXACT)

    def exceeds(self, limit_pct: Decimal) -> bool:
        gap = EXACT.multiply(EXACT.subtract(self.high, self.low), Decimal(100))
        return gap > EXACT.multiply(limit_pct, self.low)

    def words(self, symbol: str, limit_pct: Decimal) -> str:
        return (
            f"prices of {symbol} differ by {self.pct:f} %: {self.low_source.value} says {self.low:f}, "
            f"{self.high_source.value} {self.high:f}; MAX_PRICE_DEVIATION_PCT is {limit_pct:f}"
        )


def widest(prices: Mapping[PriceSource, Decimal]) -> Deviation | None:
    """None where fewer than two sources have a price."""
    if len(prices) < 2:  # noqa: PLR2004 - one alone deviates from nobody
        return None
    low = min(prices, key=lambda source: prices[source])
    high = max(prices, key=lambda source: prices[source])
    return Deviation(low, prices[low], high, prices[high])

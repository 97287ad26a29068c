"""What each position ought to do, from the list of prices alone: in fractions, and with no word of the engine's.

`execution_app/book/levels.py` judges one price at a time and keeps a best one; this looks at the whole path.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction

DIGITS = 10  # of a price


@dataclass(frozen=True)
class Asked:
    """A position's levels in USD, percent and the database's time; None where it has none."""

    is_long: bool
    opened_at: Fraction
    take_profit: Fraction | None = None
    stop_loss: Fraction | None = None
    trailing_pct: Fraction | None = None
    break_even_pct: Fraction | None = None
    closes_at: datetime | None = None


@dataclass(frozen=True)
class Look:
    """One look of the watch: the price, and between which moments of the database's clock it was."""

    price: Fraction
    begun: datetime
    ended: datetime


@dataclass(frozen=True)
class Fired:
    kind: str
    look: int
    level: Fraction | None


def expected(asked: Asked, looks: Sequence[Look]) -> list[Fired | None]:
    """Everything that is right: one thing, or two where a time ran out during a look. None: nothing fires."""
    found: list[Fired | None] = []
    side = 1 if asked.is_long else -1
    best = side * asked.opened_at  # in signed prices higher is better, for longs and shorts alike
    for at, look in enumerate(looks):
        price = side * look.price
        best = max(best, price)
        crossed = _crossed(asked, side, best, price)
        if crossed is not None:
            return [*found, Fired(crossed[0], at, round(crossed[1], DIGITS))]
        if asked.closes_at is not None and look.ended >= asked.closes_at:
            found.append(Fired("time_stop", at, None))
            if look.begun >= asked.closes_at:
                return found
    return found or [None]


def _crossed(asked: Asked, side: int, best: Fraction, price: Fraction) -> tuple[str, Fraction] | None:
    stop = asked.stop_loss
    if stop is not None and price <= side * stop:
        return "stop_loss", stop
    if asked.trailing_pct is not None:
        # A percentage of the best price: below it for a long, above it for a short.
        trail = best - abs(best) * asked.trailing_pct / 100
        if price <= trail:
            return "trailing_stop", side * trail
    if asked.break_even_pct is not None:
        opened = side * asked.opened_at
        if best - opened >= asked.opened_at * asked.break_even_pct / 100 and price <= opened:
            return "break_even", asked.opened_at
    target = asked.take_profit
    if target is not None and price >= side * target:
        return "take_profit", target
    return None

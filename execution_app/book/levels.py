"""When a protected position is to be closed: price and time in, the level that is crossed out. Pure.

Prices are USD and exact: a product of a price and a percentage is compared with all its digits.
"""

from dataclasses import dataclass
from datetime import datetime
from decimal import Context, Decimal

from execution_app.states import TriggerKind

HUNDRED = Decimal(100)
# A price has at most 30 digits, a percentage 12: nothing below is rounded.
EXACT = Context(prec=80)


@dataclass(frozen=True, slots=True)
class Levels:
    """One version of a position's protection; what is None is not watched.

    `trailing_stop_usd` is a distance, `watermark` the best price seen since the
    protection began: the highest of a long, the lowest of a short.
    """

    is_long: bool
    open_price: Decimal
    take_profit: Decimal | None = None
    stop_loss: Decimal | None = None
    trailing_stop_pct: Decimal | None = None
    trailing_stop_usd: Decimal | None = None
    break_even_pct: Decimal | None = None
    closes_at: datetime | None = None
    watermark: Decimal | None = None

    @property
    def follows(self) -> bool:
        """Whether a level hangs on the watermark."""
        return (self.trailing_stop_pct or self.trailing_stop_usd or self.break_even_pct) is not None


@dataclass(frozen=True, slots=True)
class Hit:
    """What was crossed; `level` is a price in USD, None of a time."""

    kind: TriggerKind
    level: Decimal | None


def decide(levels: Levels, price: Decimal | None, now: datetime) -> Hit | None:
    """What is crossed, the one that limits a loss first; None where nothing is.

    Touching a level crosses it, and so does a gap through it. Without a price,
    which is one that is too old as well, only the time counts.
    """
    if price is not None:
        best = better(levels, price)
        stops = (
            (TriggerKind.STOP_LOSS, levels.stop_loss),
            (TriggerKind.TRAILING_STOP, _trailing(levels, best)),
            (TriggerKind.BREAK_EVEN, _break_even(levels, best)),
        )
        for kind, level in stops:
            if level is not None and (price <= level if levels.is_long else price >= level):
                return Hit(kind, level)
        target = levels.take_profit
        if target is not None and (price >= target if levels.is_long else price <= target):
            return Hit(TriggerKind.TAKE_PROFIT, target)
    if levels.closes_at is not None and now >= levels.closes_at:
        return Hit(TriggerKind.TIME_STOP, None)
    return None


def better(levels: Levels, price: Decimal) -> Decimal:
    """The best price so far, this one among them."""
    if levels.watermark is None:
        return price
    return max(levels.watermark, price) if levels.is_long else min(levels.watermark, price)


def loosens(old: Levels, new: Levels) -> bool:
    """Whether something that limits a loss is gone or further away; a take profit never does."""
    sign = 1 if old.is_long else -1
    return any(
        before is not None and (after is None or after > before)
        for before, after in (
            (_signed(old.stop_loss, -sign), _signed(new.stop_loss, -sign)),
            (old.trailing_stop_pct, new.trailing_stop_pct),
            (old.trailing_stop_usd, new.trailing_stop_usd),
            (old.break_even_pct, new.break_even_pct),
        )
    ) or (old.closes_at is not None and (new.closes_at is None or new.closes_at > old.closes_at))


def _trailing(levels: Levels, best: Decimal) -> Decimal | None:
    """Where the trailing stop stands now."""
    if levels.trailing_stop_pct is not None:
        return _moved(best, -levels.trailing_stop_pct if levels.is_long else levels.trailing_stop_pct)
    if levels.trailing_stop_usd is not None:
        distance = -levels.trailing_stop_usd if levels.is_long else levels.trailing_stop_usd
        return EXACT.add(best, distance)
    return None


def _break_even(levels: Levels, best: Decimal) -> Decimal | None:
    """The opening price, once the best one was far enough from it."""
    if levels.break_even_pct is None:
        return None
    pct = levels.break_even_pct if levels.is_long else -levels.break_even_pct
    armed_from = _moved(levels.open_price, pct)
    armed = best >= armed_from if levels.is_long else best <= armed_from
    return levels.open_price if armed else None


def _moved(price: Decimal, pct: Decimal) -> Decimal:
    return EXACT.divide(EXACT.multiply(price, HUNDRED + pct), HUNDRED)


def _signed(price: Decimal | None, sign: int) -> Decimal | None:
    return None if price is None else price * sign

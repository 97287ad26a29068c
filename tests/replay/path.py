"""A day of prices of the shape that markets have: volatility in clusters, fat tails, busy and quiet hours, gaps."""

import math
import random
from fractions import Fraction

CENTS = 100
DAY_S = 86_400
DAILY_VOLATILITY = 0.045
# How much of the last shock and of the last variance the next variance keeps; the rest is the long run's.
SHOCK, KEPT = 0.08, 0.90
FREEDOM = 4  # of Student's t: fat tails
GAPS_A_DAY, GAP = 4.0, 0.012


def ticks(seed: int, open_cents: int, step_s: float, hours: float) -> list[int]:
    """Prices in cents, one every `step_s` seconds of the market; the same seed is the same day."""
    dice = random.Random(seed)
    steps = round(hours * 3600 / step_s)
    usual = DAILY_VOLATILITY**2 * step_s / DAY_S
    variance, log_price, found = usual, 0.0, []
    for step in range(steps):
        hour = step * step_s / 3600 % 24
        season = 1 + 0.6 * math.sin((hour - 8) / 24 * 2 * math.pi) ** 2
        shock = math.sqrt(variance * season) * _student(dice)
        variance = (1 - SHOCK - KEPT) * usual + SHOCK * min(shock**2, 50 * usual) + KEPT * variance
        if dice.random() < GAPS_A_DAY * step_s / DAY_S:
            shock += dice.gauss(0, GAP)
        log_price += shock
        found.append(max(1, round(open_cents * math.exp(log_price))))
    return found


def _student(dice: random.Random) -> float:
    """A draw of variance 1."""
    chi = sum(dice.gauss(0, 1) ** 2 for _ in range(FREEDOM))
    return dice.gauss(0, 1) / math.sqrt(chi / FREEDOM) / math.sqrt(FREEDOM / (FREEDOM - 2))


def usd(cents: int) -> Fraction:
    return Fraction(cents, CENTS)

"""Prices that were written down, as `manage.py prices` tells them, in place of a made day."""

import csv
import itertools
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path

MOST = 2_000_000


class TicksError(Exception):
    """The file is no history of one symbol's prices."""


@dataclass(frozen=True)
class History:
    """`cents` are prices as if the first had been `open_cents`, so that any symbol moves as the replayed one would have."""

    symbol: str
    cents: list[int]
    hours: float
    step_s: float


def read(path: Path, open_cents: int) -> History:
    """Raises TicksError and OSError."""
    with path.open(encoding="utf-8", newline="") as source:
        rows = list(csv.DictReader(source))
    if not 1 < len(rows) <= MOST:
        raise TicksError(f"{path} has {len(rows)} prices")
    try:
        symbols = {row["symbol"] for row in rows}
        moments = [datetime.fromisoformat(row["at"]) for row in rows]
        prices = [Decimal(row["price"]) for row in rows]
    except (KeyError, ValueError, InvalidOperation) as wrong:
        raise TicksError(f"{path}: not the columns at, symbol and price: {wrong}") from wrong
    if len(symbols) != 1:
        raise TicksError(f"{path} has several symbols: {', '.join(sorted(symbols))}")
    if any(later <= earlier for earlier, later in itertools.pairwise(moments)):
        raise TicksError(f"{path}: its times do not go on")
    if any(not price.is_finite() or price <= 0 for price in prices):
        raise TicksError(f"{path} has a price that is none")
    took_s = (moments[-1] - moments[0]).total_seconds()
    cents = [max(1, round(price * open_cents / prices[0])) for price in prices]
    return History(symbols.pop(), cents, took_s / 3600, took_s / (len(rows) - 1))

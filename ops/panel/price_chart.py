"""The price while a position was open, beside where it was opened, guarded and closed; from the kept history.

The history is for people to look at: nobody trades by it, and it has holes where no price was fresh.
"""

import json
import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any

from execution_app.book.ticks import STEP_S
from execution_app.engine.waiting import database_now
from execution_app.models import Position
from execution_app.states import PositionState
from ops.panel import words
from ops.panel.charts import BAD, BLUE, GOOD, INK, Chart, ask, made, options_of

POINTS = 120
LONGEST = timedelta(days=7)
# What came before it was opened, and after it was closed: so its ends are seen.
AROUND = timedelta(minutes=2)
AMBER = "#b45309"
_HISTORY = """
SELECT date_bin(make_interval(secs => %(step_s)s), at, 'epoch') AS begins_at,
    (array_agg(price ORDER BY at DESC))[1], min(price), max(price)
FROM price_ticks WHERE symbol = %(symbol)s AND at >= %(since)s AND at < %(until)s GROUP BY 1 ORDER BY 1
"""
_OPTIONS = options_of(
    legend={"boxHeight": 2}, x={"maxTicksLimit": 8, "maxRotation": 0}, y={"maxTicksLimit": 6}, from_zero=False
)
Row = tuple[
    datetime, Decimal, Decimal, Decimal
]  # begin of the bin; its last, lowest and highest price in USD


def of(position: Position) -> Chart:
    """Its chart: the newest LONGEST of it in at most about POINTS bins. One that cannot be made says so.

    Raises DatabaseError where the connection is gone.
    """
    return made(f"{position.symbol}: price while open (USD, UTC)", "line", partial(_made, position))


def _made(position: Position, title: str) -> Chart:
    now = database_now()
    until = min((_ended_at(position) or now) + AROUND, now)
    since = max(position.opened_at - AROUND, until - LONGEST)
    if since == until - LONGEST:
        title = f"{title}, newest {LONGEST.days} days"
    length_s = max((until - since).total_seconds(), STEP_S)
    step_s = STEP_S * math.ceil(length_s / POINTS / STEP_S)
    found = ask(_HISTORY, symbol=position.symbol, since=since, until=until, step_s=step_s)
    rows = [(words.utc(at), *(words.grouped(price) for price in prices)) for at, *prices in found]
    heads = (f"Within {words.age(step_s)} from", "Last", "Lowest", "Highest")
    empty = "No price of that time is kept: the history is archived by the day, or nobody wrote it."
    return Chart(title, "line", heads, rows, _data(position, found, step_s), empty, options=_OPTIONS)


def _ended_at(position: Position) -> datetime | None:
    """When it ended, or when that was noted where nobody can tell; None for one that is open."""
    if position.state == PositionState.OPEN:
        return None
    ended_at: datetime = position.closed_at or position.updated_at
    return ended_at


def _data(position: Position, found: Sequence[Row], step_s: int) -> str:
    """Every bin from the first to the last, those without a price among them: the line breaks there."""
    prices = {at: float(last) for at, last, _, _ in found}
    first, count = (found[0][0], _bins(found, step_s)) if found else (datetime.fromtimestamp(0, UTC), 0)
    bins = [first + number * timedelta(seconds=step_s) for number in range(count)]
    shows_days = bool(bins) and bins[-1] - first > timedelta(days=1)
    labels = [f"{at:%m-%d %H:%M}" if shows_days else f"{at:%H:%M:%S}" for at in bins]
    series = [_line("price", [prices.get(at) for at in bins], BLUE)]
    guard = position.protections.order_by("version").last() or position
    flat = (
        ("opened at", position.open_price, INK),
        ("closed at", position.close_price, AMBER),
        ("take profit", guard.take_profit, GOOD),
        ("stop loss", guard.stop_loss, BAD),
    )
    series += [_level(name, at, color, len(bins)) for name, at, color in flat if at]
    return json.dumps({"labels": labels, "datasets": series})


def _bins(found: Sequence[Row], step_s: int) -> int:
    return int((found[-1][0] - found[0][0]).total_seconds()) // step_s + 1


def _line(name: str, values: Sequence[float | None], color: str) -> dict[str, Any]:
    look = {"backgroundColor": color, "borderColor": color, "borderWidth": 2, "pointRadius": 0}
    return {"label": name, "data": list(values), **look}


def _level(name: str, at: Decimal, color: str, count: int) -> dict[str, Any]:
    return {**_line(name, [float(at)] * count, color), "borderWidth": 1, "borderDash": [6, 4]}

"""The course of the price while a position was open, beside what it was opened, guarded and closed at; from the kept history.

The history is for people to look at: nobody trades by it, and it has holes where no price was fresh.
"""

import json
import math
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import structlog
from django.db import Error as DatabaseError
from django.db import connection

from execution_app.book.ticks import STEP_S
from execution_app.engine.waiting import database_now
from execution_app.models import Position
from ops.panel import words
from ops.panel.charts import AXIS, BAD, DRY, GOOD, INK, WITHIN_MS, Chart, ask
from ops.panel.home.box import bounded

log = structlog.get_logger(__name__)

POINTS = 120
LONGEST = timedelta(days=7)  # of a position that was open for longer its newest part is drawn
# What came before it was opened, and after it was closed: so its ends are seen.
AROUND = timedelta(minutes=2)
AMBER = "#b45309"
_COURSE = """
SELECT date_bin(make_interval(secs => %(step_s)s), at, 'epoch') AS begins_at,
    (array_agg(price ORDER BY at DESC))[1], min(price), max(price)
FROM price_ticks WHERE symbol = %(symbol)s AND at >= %(since)s AND at < %(until)s GROUP BY 1 ORDER BY 1
"""
_OPTIONS = json.dumps(
    {
        "responsive": True,
        "maintainAspectRatio": False,
        "animation": False,
        "plugins": {"legend": {"labels": {"color": INK, "boxHeight": 2}}},
        "scales": {
            "x": {**AXIS, "ticks": {"color": INK, "maxTicksLimit": 8, "maxRotation": 0}},
            "y": {"grid": {}, "ticks": {"color": INK, "maxTicksLimit": 6}},
        },
    }
)


def of(position: Position) -> Chart:
    """Its chart; one that cannot be made says so."""
    title = f"{position.symbol} while it was open (USD)"
    try:
        with bounded(WITHIN_MS):
            return _made(position, title)
    except DatabaseError as problem:
        log.warning("a course was not drawn", position=position.pk, error=type(problem).__name__)
        if not connection.is_usable():
            raise
        why = f"the database did not answer this within {WITHIN_MS} ms"
        return Chart(title, "line", (), (), "", "", why)


def _made(position: Position, title: str) -> Chart:
    until = min((position.closed_at or database_now()) + AROUND, database_now())
    since = max(position.opened_at - AROUND, until - LONGEST)
    length_s = max((until - since).total_seconds(), STEP_S)
    step_s = STEP_S * math.ceil(length_s / POINTS / STEP_S)
    found = ask(_COURSE, symbol=position.symbol, since=since, until=until, step_s=step_s)
    rows = [(words.utc(at), *(words.grouped(price) for price in prices)) for at, *prices in found]
    heads = (f"Within {words.age(step_s)} from", "Last", "Lowest", "Highest")
    empty = "No price of that time is kept: the history is archived by the day, or nobody wrote it."
    return Chart(title, "line", heads, rows, _data(position, found, since), empty, options=_OPTIONS)


def _data(position: Position, found: list[tuple[Any, ...]], since: datetime) -> str:
    shows_days = bool(found) and found[-1][0] - since > timedelta(days=1)
    labels = [f"{at:%m-%d %H:%M}" if shows_days else f"{at:%H:%M:%S}" for at, *_ in found]
    series = [_line("price", [float(last) for _, last, _, _ in found], DRY)]
    flat = (
        ("opened at", position.open_price, INK),
        ("closed at", position.close_price, AMBER),
        ("take profit", position.take_profit, GOOD),
        ("stop loss", position.stop_loss, BAD),
    )
    series += [_level(name, at, colour, len(found)) for name, at, colour in flat if at]
    return json.dumps({"labels": labels, "datasets": series})


def _line(name: str, values: list[float], colour: str) -> dict[str, Any]:
    look = {"backgroundColor": colour, "borderColor": colour, "borderWidth": 2, "pointRadius": 0}
    return {"label": name, "data": values, **look}


def _level(name: str, at: Decimal, colour: str, count: int) -> dict[str, Any]:
    return {**_line(name, [float(at)] * count, colour), "borderWidth": 1, "borderDash": [6, 4]}

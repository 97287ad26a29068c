"""Charts of the panel: made of rows by the server, drawn by the library that the theme ships, beside their numbers.

DRY and LIVE have a chart each. Floats are for drawing only: the numbers beside are exact.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import structlog
from django.contrib import admin
from django.db import Error as DatabaseError
from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from execution_app.engine.waiting import database_now
from execution_app.states import Mode
from ops.panel import roles, words
from ops.panel.home.box import bounded
from ops.panel.home.money import day_of

log = structlog.get_logger(__name__)

DAYS, HOURS, SYMBOLS, NEWEST = 14, 24, 20, 5_000
WITHIN_MS = 2_000
INK, GOOD, BAD, BLUE = "#6f7886", "#16a34a", "#dc2626", "#3b82f6"
LIVE, DRY = BAD, BLUE


def options_of(
    *,
    legend: Mapping[str, int] | None = None,
    x: Mapping[str, int] | None = None,
    y: Mapping[str, int] | None = None,
    from_zero: bool = True,
) -> str:
    """As Chart.js takes them; `legend` is more of its labels, `x` and `y` of the ticks of these axes."""
    return json.dumps(
        {
            "responsive": True,
            "maintainAspectRatio": False,
            "animation": False,
            "plugins": {"legend": {"labels": {"color": INK, **(legend or {})}}},
            "scales": {
                "x": {"grid": {}, "ticks": {"color": INK, **(x or {})}},
                "y": {"grid": {}, "ticks": {"color": INK, **(y or {})}, "beginAtZero": from_zero},
            },
        }
    )


OPTIONS, OF_COUNTS = options_of(), options_of(y={"precision": 0})  # nobody has half an intent
_BY_DAY = """
SELECT (filled_at AT TIME ZONE 'UTC')::date, sum(coalesce(sent_to_trader_usdc - collateral_usdc, 0)), count(*),
    count(*) FILTER (WHERE sent_to_trader_usdc IS NULL)
FROM fills WHERE action = 'close' AND mode = %(mode)s AND filled_at >= %(since)s GROUP BY 1
"""
_AT_STAKE = """
SELECT symbol, sum(notional_usdc), count(*) FROM risk_reservations
WHERE released_at IS NULL AND mode = %(mode)s GROUP BY 1 ORDER BY 2 DESC LIMIT %(most)s
"""
_BY_HOUR = """
SELECT date_trunc('hour', r.seen_at, 'UTC'), count(*), percentile_cont(ARRAY[0.5, 0.99])
    WITHIN GROUP (ORDER BY extract(epoch FROM r.seen_at - i.accepted_at)::float8)
FROM (SELECT intent_id, seen_at FROM tx_receipts WHERE canonical AND seen_at > now() - make_interval(hours => %(hours)s)
    ORDER BY seen_at DESC LIMIT 20000) r
JOIN tx_intents i ON i.id = r.intent_id GROUP BY 1 ORDER BY 1
"""
_OUTCOMES = """
SELECT state, count(*) FILTER (WHERE mode = 'LIVE'), count(*) FILTER (WHERE mode = 'DRY'),
    count(*) FILTER (WHERE mode IS NULL)
FROM (SELECT state, mode FROM tx_intents ORDER BY id DESC LIMIT %(newest)s) AS newest
GROUP BY 1 ORDER BY count(*) DESC, 1
"""


@dataclass(frozen=True)
class Chart:
    """`data` is what the library draws; `rows` are the same numbers as words, the first word names the row."""

    title: str
    kind: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    data: str
    empty: str
    problem: str = ""
    options: str = OPTIONS


@dataclass(frozen=True)
class Plan:
    title: str
    permission: str
    make: Callable[[str], Chart]


def ask(question: str, **parameters: Any) -> list[tuple[Any, ...]]:
    """All rows of the answer; the caller bounds how long it may take."""
    with connection.cursor() as cursor:
        cursor.execute(question, parameters)
        return list(cursor.fetchall())


def _data(labels: Sequence[str], **series: tuple[Sequence[float], str | list[str]]) -> str:
    datasets = [
        {
            "label": name.replace("_", " "),
            "data": list(values),
            "backgroundColor": colour,
            "borderColor": colour,
        }
        for name, (values, colour) in series.items()
    ]
    return json.dumps({"labels": list(labels), "datasets": datasets})


def _result(mode: Mode) -> Callable[[str], Chart]:
    def make(title: str) -> Chart:
        today = day_of(database_now())
        since = today - timedelta(days=DAYS - 1)
        found: dict[date, list[Any]] = {
            day: told for day, *told in ask(_BY_DAY, mode=mode.value, since=since)
        }
        days = [(since + timedelta(days=number)).date() for number in range(DAYS)]
        gains = [found.get(day, [Decimal(0), 0, 0]) for day in days]
        colours = [GOOD if gain >= 0 else BAD for gain, *_ in gains]
        rows = [
            (str(day), words.signed(gain), f"{count:,}", f"{unpaid:,}")
            for day, (gain, count, unpaid) in zip(days, gains, strict=True)
        ]
        drawn = _data([f"{day:%m-%d}" for day in days], USDC=([float(gain) for gain, *_ in gains], colours))
        empty = f"No {mode.value} close in the last {DAYS} UTC days."
        # What a close without a known payment brought is in no sum, so it is counted apart.
        heads = ("UTC day", "Result", "Closes", "Payment not known")
        return Chart(title, "bar", heads, rows if found else (), drawn, empty)

    return make


def _exposure(mode: Mode) -> Callable[[str], Chart]:
    def make(title: str) -> Chart:
        found = ask(_AT_STAKE, mode=mode.value, most=SYMBOLS)
        rows = [(symbol, words.grouped(usdc, "USDC"), f"{count:,}") for symbol, usdc, count in found]
        colour = LIVE if mode is Mode.LIVE else DRY
        drawn = _data([row[0] for row in found], USDC=([float(row[1]) for row in found], colour))
        empty = f"Nothing is at stake in {mode.value}."
        return Chart(title, "bar", ("Symbol", "Notional at stake", "Orders"), rows, drawn, empty)

    return make


def _latency(title: str) -> Chart:
    found = ask(_BY_HOUR, hours=HOURS)
    rows = [(words.utc(at), words.age(p50), words.age(p99), f"{count:,}") for at, count, (p50, p99) in found]
    drawn = _data(
        [f"{at:%H:%M}" for at, _, _ in found],
        p50_s=([pair[0] for _, _, pair in found], DRY),
        p99_s=([pair[1] for _, _, pair in found], BAD),
    )
    empty = f"No transaction was mined within {HOURS} hours."
    return Chart(title, "line", ("Hour", "p50", "p99", "Mined"), rows, drawn, empty)


def _outcomes(title: str) -> Chart:
    found = ask(_OUTCOMES, newest=NEWEST)
    rows = [(state, *(f"{count:,}" for count in counts)) for state, *counts in found]
    drawn = _data(
        [row[0] for row in found],
        LIVE=([row[1] for row in found], LIVE),
        DRY=([row[2] for row in found], DRY),
        no_mode_yet=([row[3] for row in found], INK),
    )
    empty = "No intent yet. Send a signal to POST /signals."
    return Chart(title, "bar", ("State", "LIVE", "DRY", "No mode yet"), rows, drawn, empty, options=OF_COUNTS)


PLANS = (
    *(
        Plan(f"{mode.value}: realised by UTC day (USDC)", "execution_app.view_fill", _result(mode))
        for mode in Mode
    ),
    *(
        Plan(f"{mode.value}: exposure now (USDC)", "execution_app.view_reservation", _exposure(mode))
        for mode in Mode
    ),
    Plan("LIVE: from the intent to its block (s), by UTC hour", "execution_app.view_txreceipt", _latency),
    Plan(f"States of the newest {NEWEST:,} intents", "execution_app.view_txintent", _outcomes),
)


def may_see(user: roles.User) -> bool:
    """Whether there is a chart for this person."""
    return any(user.has_perm(plan.permission) for plan in PLANS)


def charts(request: HttpRequest) -> HttpResponse:
    """Every chart that this user may see; one that cannot be made says so and hides no other."""
    drawn = [made(plan.title, "bar", plan.make) for plan in PLANS if request.user.has_perm(plan.permission)]
    context = {**admin.site.each_context(request), "title": "Charts", "charts": drawn}
    return TemplateResponse(request, "panel/charts.html", context)


def made(title: str, kind: str, make: Callable[[str], Chart]) -> Chart:
    """What `make` makes of the title within WITHIN_MS, or a chart of this kind that says why there is none.

    Raises DatabaseError where the connection is gone.
    """
    try:
        with bounded(WITHIN_MS):
            return make(title)
    except DatabaseError as problem:
        log.warning("a chart was not made", chart=title, error=type(problem).__name__)
        if not connection.is_usable():
            raise
        why = f"the database did not answer this within {WITHIN_MS} ms"
        return Chart(title, kind, (), (), "", "", why)

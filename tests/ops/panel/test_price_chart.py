"""The price on a position's page: from the kept history, with its holes, ends and levels."""

import json
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from html import unescape
from typing import Any

import pytest
from django.db import DatabaseError
from django.db.models.functions import Now
from django.test import Client
from django.urls import reverse

from execution_app.models import Position, PriceTick, Protection
from execution_app.states import PositionState
from ops.panel import price_chart
from tests.guards import without_guards
from tests.ops.panel.rows import one_of_each


def keep(price: str, ago: timedelta) -> None:
    PriceTick.objects.create(symbol="BTC-USD", at=datetime.now(UTC) - ago, price=Decimal(price))


def position(**fields: Any) -> Position:
    """The one position, made to be so around its guards."""
    with without_guards():
        Position.objects.update(**fields)
    return Position.objects.get()


def page(client: Client) -> str:
    path = reverse("admin:execution_app_position_change", args=[Position.objects.get().pk])
    answer = client.get(path)
    assert answer.status_code == 200
    return answer.content.decode()


def words(html: str) -> str:
    return unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html)))


def drawn(of: Position) -> tuple[list[str], dict[str, list[float | None]]]:
    """Labels, and values by series."""
    data = json.loads(price_chart.of(of).data)
    return data["labels"], {one["label"]: one["data"] for one in data["datasets"]}


def test_it_stands_beside_the_levels_and_says_when_nothing_is_kept(admin: Client) -> None:
    one_of_each()
    assert "BTC-USD: price while open (USD, UTC) No price of that time is kept" in words(page(admin))
    opened = position(opened_at=Now() - timedelta(hours=2))
    for minutes, price in ((180, "1"), (100, "61000"), (40, "59000.5")):
        keep(price, timedelta(minutes=minutes))
    html = page(admin)
    assert re.search(r"Numbers Within 1 min \d+ s from Last Lowest Highest \d{4}-", words(html))
    assert "59,000.5 59,000.5 59,000.5" in words(html)
    shown = json.loads(unescape(re.search(r'data-value="([^"]+)"', html)[1]))  # type: ignore[index]
    labels, series = drawn(opened)
    assert {one["label"] for one in shown["datasets"]} == series.keys()
    assert (series["price"][0], series["price"][-1]) == (61_000, 59_000.5), (
        "nothing from before it was opened"
    )
    assert len(labels) == len(series["price"]) == len(series["opened at"])
    assert set(series["price"][1:-1]) == {None}, "where no price was kept the line breaks"
    assert set(series["opened at"]) == {float(opened.open_price)}


@pytest.mark.parametrize("closed_ago", [timedelta(days=20), None], ids=["closed", "closed elsewhere"])
def test_it_ends_with_its_position(database: None, closed_ago: timedelta | None) -> None:
    one_of_each()
    ended_ago = timedelta(days=20)
    ended = position(
        opened_at=Now() - ended_ago - timedelta(hours=1),
        closed_at=None if closed_ago is None else Now() - closed_ago,
        updated_at=Now() - ended_ago,
        state=PositionState.CLOSED,
    )
    keep("60000", ended_ago + timedelta(minutes=30))
    keep("1", ended_ago - timedelta(hours=1))
    assert [value for value in drawn(ended)[1]["price"] if value] == [60_000]


def test_of_a_long_one_the_newest_week_is_drawn_with_its_days(database: None) -> None:
    one_of_each()
    long = position(opened_at=Now() - timedelta(days=300))
    for days, price in ((8, "2"), (6, "60000"), (1, "61000")):
        keep(price, timedelta(days=days))
    labels, series = drawn(long)
    assert price_chart.of(long).title == "BTC-USD: price while open (USD, UTC), newest 7 days"
    assert [value for value in series["price"] if value] == [60_000, 61_000]
    assert all(re.fullmatch(r"\d\d-\d\d \d\d:\d\d", label) for label in labels)
    assert len(labels) <= price_chart.POINTS + 1


def test_levels_are_those_that_guard_it_now(database: None) -> None:
    one_of_each()
    guarded = position(opened_at=Now() - timedelta(hours=1))
    keep("60000", timedelta(minutes=30))
    newest = Protection.objects.filter(position=guarded).order_by("version").last()
    assert newest is not None
    with without_guards():
        Protection.objects.filter(pk=newest.pk).update(take_profit=None, stop_loss=Decimal(55_000))
    series = drawn(guarded)[1]
    assert series["stop loss"] == [55_000]
    assert "take profit" not in series


def test_what_the_database_does_not_answer_is_said_on_the_page(
    admin: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    one_of_each()

    def slow(*_: object, **__: object) -> None:
        raise DatabaseError

    monkeypatch.setattr(price_chart, "ask", slow)
    assert "Not known: the database did not answer this within 2000 ms" in words(page(admin))

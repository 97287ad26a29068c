"""The load of `python -m tests.panel_load` in small: what it writes is a history that the panel can read."""

import re

import pytest
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from execution_app.models import Position, TxIntent
from tests.ops.panel.test_home import box, text_of
from tests.panel_load.history import HELD, UNKNOWN, Size, write

SMALL = Size(intents=2_000, positions=100)


@pytest.fixture
def history(database: None) -> None:
    assert list(write(SMALL)) == ["traders", "plan", "intents", "signals", "road", "book"]


def test_home_reads_it_with_a_bounded_number_of_questions(
    admin: Client, history: None, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    admin.get("/admin/")
    with django_assert_max_num_queries(100):
        text = text_of(admin)
    assert TxIntent.objects.count() == SMALL.intents
    still_open = Position.objects.filter(state="open").count()
    assert SMALL.positions * 0.9 <= still_open <= SMALL.positions
    assert f"open positions {still_open} {still_open * 10:,} USDC notional" in box(text, "positions")
    words = box(text, "attention")
    assert f"held: mode_degraded {HELD}" in words
    assert f"sent, answer unknown {UNKNOWN}" in words
    assert re.search(r"to mined p50 4.00 s · p99 4.00 s", box(text, "latency"))
    assert "Not known" not in text


def test_every_page_of_the_load_answers(admin: Client, history: None) -> None:
    from tests.panel_load.look import Look

    for path in Look.paths(SMALL.intents):
        assert admin.get(path).status_code in {200, 302}, path
    assert "LIVE open filled" in text_of(admin, f"/admin/trace/sig:load:{SMALL.paired - 3}/")

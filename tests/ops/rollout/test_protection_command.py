"""`manage.py protection`: levels of open positions in a shell."""

import io
import json
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from execution_app.models import Protection
from tests.execution import rows


def run(*words: str) -> Any:
    out = io.StringIO()
    call_command("protection", *words, "--json", stdout=out)
    return json.loads(out.getvalue())


@pytest.fixture
def position(database: None) -> str:
    return str(rows.position())


def test_levels_are_set_shown_and_cleared(position: str) -> None:
    (row,) = run("list")
    assert (row["position"], row["version"], row["side"]) == (int(position), 0, "LONG")
    words = ("--stop-loss", "50000.5", "--trailing-stop-usd", "100", "--time-stop-s", "60")
    (row,) = run("set", position, *words, "--reason", "the market turns")
    assert (row["changed"], row["version"], row["stop_loss"]) == (True, 1, "50000.5")
    assert row["trailing_stop_usd"] == "100"
    (row,) = run("set", position, "--trailing-stop-pct", "2", "--reason", "the market turns")
    assert (row["trailing_stop_pct"], row["trailing_stop_usd"]) == ("2", None)
    (row,) = run("set", position, "--stop-loss", "none", "--reason", "the market turns")
    assert (row["stop_loss"], row["trailing_stop_pct"]) == (None, "2")
    (row,) = run("clear", position, "--reason", "the market turns")
    assert row["version"] == Protection.objects.count() == 4
    assert [row["trailing_stop_pct"], row["closes_at"]] == [None, None]
    assert run("list")[0]["version"] == 4


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("set", "1", "--reason", "why not now"), "name a level"),
        (("set", "1", "--stop-loss", "much", "--reason", "r"), "neither a number nor none"),
        (("set", "1", "--time-stop-s", "0", "--reason", "r"), "no number of seconds"),
        (("set", "99999", "--stop-loss", "1", "--reason", "r"), "no position 99999"),
        (("set", "1", "--stop-loss", "1"), "--reason"),
    ],
)
def test_what_cannot_be_is_refused_with_its_reason(database: None, words: tuple[str, ...], said: str) -> None:
    with pytest.raises(CommandError, match=said):
        run(*words)
    assert not Protection.objects.exists()


def test_less_protection_needs_a_reason_of_some_length(position: str) -> None:
    run("set", position, "--stop-loss", "50000", "--reason", "r")
    with pytest.raises(CommandError, match="8 characters"):
        run("clear", position, "--reason", "r")
    assert Protection.objects.get(ended_at=None).stop_loss == 50_000

"""The history of prices: only what was fresh, once a moment; told as CSV, which a replay takes."""

import io
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.models import F
from pytest_django.fixtures import Settings

from execution_app.book import ticks
from execution_app.engine import rounds
from execution_app.models import FeedPrice, Price, PriceTick
from execution_app.node import feed
from tests.execution.test_quotes import pass_seconds
from tests.feeds import served_feed
from tests.guarded import move_price
from tests.replay import ticks as told
from tests.rig import Rig


def go_back(seconds: int) -> None:
    """What is kept moves into the past, so that the next one is of another moment."""
    PriceTick.objects.update(at=F("at") - timedelta(seconds=seconds))


def exported(*words: str) -> str:
    out = io.StringIO()
    call_command("prices", *words, stdout=out)
    return out.getvalue()


def test_each_moment_is_kept_once(rig: Rig) -> None:
    rounds.compare_positions()
    kept = {row.symbol: row for row in PriceTick.objects.all()}
    assert set(kept) == {"BTC-USD", "ETH-USD", "SOL-USD"}
    row = kept["BTC-USD"]
    assert (row.price, row.core, row.pro) == (100_000, None, None)
    assert (row.at.second % ticks.STEP_S, row.at.microsecond) == (0, 0)
    move_price(99_000)
    for _ in range(3):
        rounds.compare_positions()
    assert PriceTick.objects.get(symbol="BTC-USD", at=row.at).price == 100_000, "written once"
    assert PriceTick.objects.filter(symbol="BTC-USD").count() <= 2 + _moments_since(row)


def _moments_since(row: PriceTick) -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        (now,) = cursor.fetchone()
    return int((now - row.at).total_seconds()) // ticks.STEP_S


def test_what_is_old_is_a_hole(rig: Rig) -> None:
    rounds.compare_positions()
    PriceTick.objects.all().delete()
    pass_seconds(6)
    ticks.keep()
    assert not PriceTick.objects.exists()
    Price.objects.update(
        seen_at=F("seen_at") + timedelta(seconds=6), published_at=F("published_at") - timedelta(seconds=31)
    )
    ticks.keep()
    assert not PriceTick.objects.exists()


def test_the_feeds_prices_stand_beside_it_where_they_are_fresh(rig: Rig, settings: Settings) -> None:
    with served_feed(settings) as gateway:
        gateway.faults.core_off_pct = 1.0
        rounds.keep_feed()
        FeedPrice.objects.filter(source="pro").update(published_at=F("published_at") - timedelta(seconds=6))
        rounds.compare_positions()
    row = PriceTick.objects.filter(symbol="BTC-USD").first()
    assert row is not None
    assert (row.price, row.core, row.pro) == (100_000, 101_000, None)
    feed.breaker.cache_clear()


def test_it_is_told_as_csv_in_utc_and_a_replay_reads_it(rig: Rig, tmp_path: Path) -> None:
    for price in ("50000", "50500.5", "49750"):
        move_price(price)
        go_back(ticks.STEP_S * 2)
        rounds.compare_positions()
    text = exported("btc-usd")
    head, first, *_ = text.splitlines()
    assert head == "at,symbol,price,core,pro"
    assert first.endswith("Z,BTC-USD,50000,,")
    file = tmp_path / "day.csv"
    file.write_text(text)
    history = told.read(file, 10_000_000)
    assert (history.symbol, history.cents) == ("BTC-USD", [10_000_000, 10_100_100, 9_950_000])
    assert history.step_s == pytest.approx(10, abs=6)


def test_a_span_is_a_span(rig: Rig) -> None:
    rounds.compare_positions()
    (row,) = PriceTick.objects.filter(symbol="ETH-USD")[:1]
    at = row.at.strftime("%Y-%m-%dT%H:%M:%SZ")
    later = (row.at + timedelta(seconds=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert exported("ETH-USD", "--since", at, "--until", later).splitlines()[1:] == [f"{at},ETH-USD,3500,,"]
    assert exported("ETH-USD", "--since", "2020-01-01", "--until", at).splitlines()[1:] == []
    for wrong in (("--since", "soon"), ("--since", later, "--until", at)):
        with pytest.raises(CommandError) as refused:
            exported("ETH-USD", *wrong)
        assert refused.value.returncode == 2


@pytest.mark.parametrize(
    "lines",
    [
        ["at,symbol,price"],
        ["at,symbol,price", "2026-01-01T00:00:00Z,BTC-USD,1"],
        ["at,price", "2026-01-01T00:00:00Z,1", "2026-01-01T00:00:05Z,1"],
        ["at,symbol,price", "2026-01-01T00:00:00Z,BTC-USD,1", "2026-01-01T00:00:05Z,ETH-USD,1"],
        ["at,symbol,price", "2026-01-01T00:00:05Z,BTC-USD,1", "2026-01-01T00:00:00Z,BTC-USD,1"],
        ["at,symbol,price", "2026-01-01T00:00:00Z,BTC-USD,1", "2026-01-01T00:00:05Z,BTC-USD,NaN"],
        ["at,symbol,price", "2026-01-01T00:00:00Z,BTC-USD,1", "2026-01-01T00:00:05Z,BTC-USD,0"],
        ["at,symbol,price", "soon,BTC-USD,1", "2026-01-01T00:00:05Z,BTC-USD,1"],
    ],
    ids=range(8),
)
def test_a_replay_refuses_what_is_no_history(lines: list[str], tmp_path: Path) -> None:
    file = tmp_path / "day.csv"
    file.write_text("\n".join(lines))
    with pytest.raises(told.TicksError):
        told.read(file, Decimal(100))  # type: ignore[arg-type]

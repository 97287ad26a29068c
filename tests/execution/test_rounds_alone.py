"""Who does a round alone, and whom a process that hangs keeps from it."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from django.conf import settings as django_settings
from django.db import connection
from structlog.testing import capture_logs

from execution_app.book import feed, liquidation, protections
from execution_app.engine import level_watch
from execution_app.engine import rounds as engine
from tests.execution.test_rounds import road

__all__ = ["road"]  # the fixture
pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture
def other() -> Iterator[psycopg.Connection[Any]]:
    """A session of another process."""
    url = django_settings.ENVIRONMENT.database_url.get_secret_value()
    with psycopg.connect(url, autocommit=True) as found:
        yield found


def held(other: psycopg.Connection[Any], *lock: int) -> bool:
    """Whether anybody has this lock; it is not kept."""
    row = other.execute("SELECT pg_try_advisory_lock(%s, %s)", lock).fetchone()
    assert row is not None
    if row[0]:
        other.execute("SELECT pg_advisory_unlock(%s, %s)", lock)
    return not row[0]


def take(other: psycopg.Connection[Any], *lock: int) -> None:
    other.execute("SELECT pg_advisory_lock(%s, %s)", lock)


def test_nobody_else_places_for_a_wallet_until_the_block_ends(other: psycopg.Connection[Any]) -> None:
    far = 2**31 + 5
    with engine.alone_with(far) as alone:
        assert alone
        assert held(other, engine.SUBMIT_LOCK, 5)
        assert not held(other, engine.SUBMIT_LOCK, 6)
    assert not held(other, engine.SUBMIT_LOCK, 5)
    with pytest.raises(ValueError, match="ended"), engine.alone_with(5):
        raise ValueError("ended")
    assert not held(other, engine.SUBMIT_LOCK, 5)


def test_each_has_a_lock_of_its_own() -> None:
    of_rounds = {engine.TRACK_LOCK, engine.WATCH_LOCK, engine.FEED_LOCK}
    assert len(of_rounds) == 3
    assert engine.SUBMIT_LOCK not in {first for first, _ in of_rounds}


def test_who_has_it_already_is_left_alone_unless_it_hangs(
    monkeypatch: pytest.MonkeyPatch, other: psycopg.Connection[Any]
) -> None:
    take(other, engine.SUBMIT_LOCK, 5)
    with capture_logs() as logged, engine.alone_with(5) as alone:
        assert alone is False
    assert logged == []
    assert engine.HUNG_S == 10
    monkeypatch.setattr(engine, "HUNG_S", 0)
    with capture_logs() as logged, engine.alone_with(5) as alone:
        assert alone is True
    assert [(line["lock"], line["its_session"]) for line in logged] == [
        ((engine.SUBMIT_LOCK, 5), other.info.backend_pid)
    ]
    assert engine._hangs((engine.SUBMIT_LOCK, 5)) == other.info.backend_pid
    assert engine._hangs((engine.SUBMIT_LOCK, 6)) is None
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()")
        assert cursor.fetchone() == (0,)


def test_one_follows_the_chain_and_one_watches_levels(
    monkeypatch: pytest.MonkeyPatch, road: SimpleNamespace, other: psycopg.Connection[Any]
) -> None:
    found = level_watch.Tick()
    monkeypatch.setattr(level_watch, "watch", lambda: found)
    assert engine.watch_levels() is found
    take(other, *engine.TRACK_LOCK)
    take(other, *engine.WATCH_LOCK)
    assert engine.track() == []
    assert road.done == []
    monkeypatch.setattr(level_watch, "watch", lambda: pytest.fail("somebody is at it"))
    assert engine.watch_levels() == level_watch.Tick()


@pytest.mark.parametrize(
    ("has_prices", "has_hours", "asked"), [(True, False, 1), (False, True, 1), (False, False, 0)]
)
def test_the_feed_is_kept_by_one_for_what_is_simulated_or_guarded(
    monkeypatch: pytest.MonkeyPatch, other: psycopg.Connection[Any], *, has_prices: bool, has_hours: bool, asked: int
) -> None:  # fmt: skip
    kept: list[Any] = []
    monkeypatch.setattr(feed, "has_prices", lambda: has_prices)
    monkeypatch.setattr(feed, "has_hours", lambda: has_hours)
    monkeypatch.setattr(feed, "keep", kept.append)
    monkeypatch.setattr(liquidation, "simulated_symbols", lambda: {"BTC-USD"})
    monkeypatch.setattr(protections, "guarded_symbols", lambda: {"ETH-USD"})
    engine.keep_feed()
    assert kept == [{"BTC-USD", "ETH-USD"}] * asked
    take(other, *engine.FEED_LOCK)
    engine.keep_feed()
    assert len(kept) == asked

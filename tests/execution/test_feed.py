"""The window to the feed: bounded in time, asked once, and left alone for a while once it hangs or fails."""

import json
import re
import time
from collections.abc import Iterator
from decimal import Decimal

import pytest
from pytest_django.fixtures import Settings

from execution_app import meters
from execution_app.errors import Retryable
from execution_app.node import feed, feed_cache
from execution_app.node.breaker import Rules
from execution_app.states import PriceSource
from execution_app.venues.feed import Leg
from tests.execution.test_meters import value
from tests.feeds import Scripted, lead_to, scripted

LEG = {"price": "100000", "publishTimestampMs": 1_764_000_000_000}
BOTH = json.dumps({"core": LEG, "pro": LEG}).encode()
GENEROUS_S = 30.0  # on a busy machine, for what is bounded to less than a second


@pytest.fixture
def server(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scripted]:
    """Of much patience, whatever else the machine does."""
    for name in ("CONNECT_TIMEOUT_S", "ANSWER_S", "WITHIN_S"):
        monkeypatch.setattr(feed, name, 60.0)
    monkeypatch.setattr(feed, "RULES", Rules(faults=3, slow_s=60.0, rest_s=3600.0))
    monkeypatch.setattr(feed_cache, "KEPT_S", 0.0)
    with scripted() as script:
        lead_to(settings, script.url)
        yield script
    feed.breaker.cache_clear()


@pytest.fixture
def hurried(server: Scripted, monkeypatch: pytest.MonkeyPatch) -> Scripted:
    monkeypatch.setattr(feed, "ANSWER_S", 0.3)
    monkeypatch.setattr(feed, "WITHIN_S", 0.6)
    monkeypatch.setattr(feed, "RULES", Rules(faults=3, slow_s=0.2, rest_s=3600.0))
    feed.breaker.cache_clear()
    return server


def words_of(symbol: str = "BTC-USD") -> str:
    answer = feed.prices([symbol])[symbol]
    assert isinstance(answer, str), answer
    return answer


def test_every_symbol_is_asked_for_by_its_own_index(server: Scripted) -> None:
    server.body = BOTH
    found = feed.prices(["BTC-USD", "ETH-USD", "NOBODY-KNOWS"])
    assert sorted(server.asked) == [f"/feed/v2/pairs/{index}/price-update-data" for index in (0, 1)]
    leg = Leg(Decimal(100_000), 1_764_000_000_000)
    assert found["ETH-USD"] == found["BTC-USD"] == {PriceSource.CORE: leg, PriceSource.PRO: leg}
    assert "no such pair" in str(found["NOBODY-KNOWS"])


def test_one_hang_is_enough_and_nobody_waits_for_it_twice(hurried: Scripted) -> None:
    hurried.hang_s = 60
    begun_s = time.monotonic()
    assert re.search("away|in time", words_of())
    assert "not asked for a while" in words_of()
    assert time.monotonic() - begun_s < GENEROUS_S
    assert len(hurried.asked) <= 1


def test_a_server_that_drips_is_left_in_time(hurried: Scripted) -> None:
    hurried.drip_s = 0.05
    begun_s = time.monotonic()
    assert "in time" in words_of()
    assert time.monotonic() - begun_s < GENEROUS_S
    assert "not asked for a while" in words_of()


@pytest.mark.parametrize("status", [429, 500, 502])
def test_what_is_busy_or_broken_rests_after_three(server: Scripted, status: int) -> None:
    server.status = status
    meters.FEED_REQUESTS.labels("price", "refused")
    before = value("vanta_feed_requests_total", route="price", outcome="refused")
    for _ in range(3):
        assert f"HTTP {status}" in words_of()
    assert "not asked for a while" in words_of()
    assert len(server.asked) == 3, "nothing is repeated by itself"
    assert value("vanta_feed_requests_total", route="price", outcome="refused") == before + 3


def test_a_pair_that_the_feed_does_not_have_is_an_answer(server: Scripted) -> None:
    server.status = 404
    for _ in range(4):
        assert "HTTP 404" in words_of()


def test_a_redirect_is_not_followed(server: Scripted) -> None:
    server.status, server.headers = 302, {"Location": f"{server.url}/elsewhere"}
    assert "HTTP 302" in words_of()
    assert len(server.asked) == 1


def test_an_answer_that_is_none_is_no_price(server: Scripted) -> None:
    server.body = b"<html>maintenance</html>"
    assert "is none" in words_of()
    with pytest.raises(Retryable, match="is none"):
        feed.catalogue()


def test_an_answer_that_has_no_end_is_cut_off(server: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "PRICE_BYTES", 100)
    server.body = b" " * 200_000 + BOTH
    assert "away" in words_of()


def test_the_catalogue_and_the_feed_rest_apart(server: Scripted) -> None:
    server.status = 503
    for _ in range(3):
        with pytest.raises(Retryable, match="HTTP 503"):
            feed.catalogue()
    with pytest.raises(Retryable, match="not asked for a while"):
        feed.catalogue()
    server.status, server.body = 200, BOTH
    assert isinstance(feed.prices(["BTC-USD"])["BTC-USD"], dict)


def test_when_its_rest_is_over_one_answer_opens_the_way(
    server: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "RULES", Rules(faults=1, slow_s=5.0, rest_s=0.0))
    feed.breaker.cache_clear()
    server.status = 500
    words_of()
    server.status, server.body = 200, BOTH
    assert isinstance(feed.prices(["BTC-USD"])["BTC-USD"], dict)


def test_nobody_there(settings: Settings) -> None:
    with scripted() as script:
        url = script.url
    lead_to(settings, url)
    assert "away" in words_of()
    feed.breaker.cache_clear()

"""Answers of the feed shared through Redis: they save questions, and nothing that is in there is trusted past its age."""

import base64
import json
import time
from collections.abc import Iterator

import pytest
import redis as redis_py
from pytest_django.fixtures import Settings

from execution_app.node import feed, feed_cache
from execution_app.node.breaker import Rules
from tests.execution.test_feed import BOTH
from tests.feeds import Scripted, lead_to, scripted

BTC = feed_cache.KEY.format("BTC-USD")


@pytest.fixture
def server(valkey: redis_py.Redis, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scripted]:
    """Of much patience, whatever else the machine does; an answer is shared for a minute."""
    for name in ("CONNECT_TIMEOUT_S", "ANSWER_S", "WITHIN_S"):
        monkeypatch.setattr(feed, name, 60.0)
    monkeypatch.setattr(feed, "RULES", Rules(slow_s=60.0))
    monkeypatch.setattr(feed_cache, "RULES", Rules(faults=1, slow_s=60.0, rest_s=3600.0))
    monkeypatch.setattr(feed_cache, "TIMEOUT_S", 20.0)
    monkeypatch.setattr(feed_cache, "KEPT_S", 60.0)
    forget()
    with scripted() as script:
        script.body = BOTH
        lead_to(settings, script.url)
        yield script
    forget()


def forget() -> None:
    feed.breaker.cache_clear()
    feed_cache.breaker.cache_clear()
    feed_cache._client.cache_clear()


def look(*symbols: str) -> None:
    for symbol, answer in feed.prices(symbols or ["BTC-USD"]).items():
        assert isinstance(answer, dict), (symbol, answer)
        assert len(answer) == 2


def entry(asked_at_s: object, answer: bytes = BOTH) -> str:
    return json.dumps({"asked_at_s": asked_at_s, "answer": base64.b64encode(answer).decode()})


def test_whoever_looks_next_finds_the_answer_of_who_asked(server: Scripted) -> None:
    look("BTC-USD", "ETH-USD")
    look("BTC-USD", "ETH-USD")
    look("SOL-USD", "BTC-USD")
    assert len(server.asked) == 3


def test_redis_forgets_it_by_itself(server: Scripted, valkey: redis_py.Redis) -> None:
    look()
    assert 0 < valkey.pttl(BTC) <= 60_000


def test_a_flush_means_asking(server: Scripted, valkey: redis_py.Redis) -> None:
    look()
    valkey.flushall()
    look()
    assert len(server.asked) == 2


@pytest.mark.parametrize("age_s", [61.0, 3600.0, -30.0, -3600.0])
def test_what_is_too_old_or_of_a_clock_ahead_is_not_trusted_whatever_redis_thinks(
    server: Scripted, valkey: redis_py.Redis, age_s: float
) -> None:
    valkey.set(BTC, entry(time.time() - age_s))
    look()
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    "garbage",
    ["", "x", "null", "[]", "{}", "NaN", "[" * 5_000, entry(True), entry("now"), entry(None), entry(float("nan"))],
    ids=range(11),
)  # fmt: skip
def test_garbage_means_asking(server: Scripted, valkey: redis_py.Redis, garbage: str) -> None:
    valkey.set(BTC, garbage)
    look()
    assert len(server.asked) == 1
    look()
    assert len(server.asked) == 1, "it was written anew"


@pytest.mark.parametrize("answer", [b"<html>", b"{}", b'{"core": {"price": "NaN", "publishTimestampMs": 1}}'])
def test_an_answer_that_is_none_means_asking(server: Scripted, valkey: redis_py.Redis, answer: bytes) -> None:
    valkey.set(BTC, entry(time.time(), answer))
    look()
    assert len(server.asked) == 1


def test_a_wrong_type_under_its_key_means_asking(server: Scripted, valkey: redis_py.Redis) -> None:
    valkey.rpush(BTC, "x")
    look()
    assert len(server.asked) == 1


def test_a_redis_that_is_away_means_asking_and_is_left_alone_for_a_while(
    server: Scripted, settings: Settings
) -> None:
    usual = settings.REDIS_URL
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    look()
    settings.REDIS_URL = usual
    feed_cache._client.cache_clear()
    look()
    look()
    assert len(server.asked) == 3, "nobody asks Redis again at once"


def test_an_answer_that_failed_is_not_shared(server: Scripted, valkey: redis_py.Redis) -> None:
    server.status = 503
    feed.prices(["BTC-USD"])
    assert valkey.get(BTC) is None
    server.status = 200
    look()
    assert len(server.asked) == 2

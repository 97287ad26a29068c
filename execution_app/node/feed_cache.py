"""Answers of the feed that processes share through Redis, so that all of them together ask about once a second and symbol.

It saves questions and decides nothing. An answer that was asked for too long ago, or by a clock ahead of ours, one that
nobody wrote like this, and a Redis that is away all mean that the feed is asked. How old the price in an answer is, is
judged by whoever uses it, as of an answer that has just come.
"""

import base64
import binascii
import json
import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TypeVar

import redis
import structlog
from django.conf import settings
from redis.backoff import NoBackoff
from redis.retry import Retry

from execution_app.node.breaker import Breaker, BreakerState, Rules

T = TypeVar("T")
log = structlog.get_logger(__name__)
# A little less than between two bells, each of which is to ask.
KEPT_S = 0.9
TIMEOUT_S = 0.2
# A Redis that is away costs one timeout now and then.
RULES = Rules(faults=1, slow_s=0.15, rest_s=5.0, rest_limit_s=60.0)
KEY = "feed_price:{}"


def get(symbols: Sequence[str]) -> dict[str, bytes]:
    """The answers of the last KEPT_S, by symbol."""
    if not symbols:
        return {}
    told = _ask(lambda client: client.mget([KEY.format(symbol) for symbol in symbols]))
    now_s = time.time()
    answers = {symbol: _read(raw, now_s) for symbol, raw in zip(symbols, told or (), strict=False)}
    return {symbol: answer for symbol, answer in answers.items() if answer is not None}


def put(symbol: str, asked_at_s: float, answer: bytes) -> None:
    """Share an answer; `asked_at_s` is the world's clock."""
    value = json.dumps({"asked_at_s": asked_at_s, "answer": base64.b64encode(answer).decode()})
    left_ms = int(1000 * (asked_at_s + KEPT_S - time.time()))
    if left_ms > 0:
        _ask(lambda client: client.set(KEY.format(symbol), value, px=left_ms))


def _read(raw: object, now_s: float) -> bytes | None:
    """None for what is too old, whatever Redis thinks of it, and for what is none."""
    if not isinstance(raw, bytes):
        return None
    try:
        told = json.loads(raw)
        asked_at_s, answer = told["asked_at_s"], told["answer"]
        if not isinstance(asked_at_s, int | float) or not 0 <= now_s - asked_at_s <= KEPT_S:
            return None
        return base64.b64decode(answer, validate=True)
    except (ValueError, TypeError, KeyError, RecursionError, binascii.Error):
        log.warning("what Redis has of the feed is not ours", length=len(raw))
        return None


def _ask(question: Callable[["redis.Redis"], T]) -> T | None:
    """None where Redis is away, or was a moment ago."""
    begun_s = time.monotonic()
    if not breaker().admits(begun_s):
        return None
    try:
        found = question(_client())
    except (redis.RedisError, OSError):
        now_s = time.monotonic()
        breaker().fail(now_s, now_s - begun_s)
        return None
    now_s = time.monotonic()
    breaker().succeed(now_s, now_s - begun_s)
    return found


def _changed(state: BreakerState) -> None:
    log.warning("the shared answers of the feed", breaker=state.value)


@lru_cache(maxsize=1)
def breaker() -> Breaker:
    return Breaker(RULES, _changed)


@lru_cache(maxsize=1)
def _client() -> "redis.Redis":
    # Made by a process's first question.
    return redis.Redis.from_url(
        settings.REDIS_URL,
        socket_timeout=TIMEOUT_S,
        socket_connect_timeout=TIMEOUT_S,
        retry=Retry(NoBackoff(), 0),
    )

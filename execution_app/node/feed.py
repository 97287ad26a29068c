"""The window to the venue's feed and catalogue: questions that anybody may ask, each bounded in time and asked once.

Nothing is repeated here, and nothing is redirected. A feed that hangs once, or
fails several times in a row, rests (breaker.py), so that nobody waits for it
again and again; the catalogue has a breaker of its own, since it may be another server.
"""

import threading
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from functools import lru_cache
from typing import TypeVar

import structlog
import urllib3
from django.conf import settings

from execution_app import meters
from execution_app.errors import Retryable
from execution_app.node import feed_cache
from execution_app.node.breaker import Breaker, BreakerState, Rules
from execution_app.states import PriceSource
from execution_app.venues import feed as words
from execution_app.venues import onchain
from execution_app.venues.feed import Leg, Listing

T = TypeVar("T")
log = structlog.get_logger(__name__)
CONNECT_TIMEOUT_S = 1.0
ANSWER_S = 2.5  # until the end of an answer
WITHIN_S = 3.5  # nobody waits longer, also for a server that drips byte by byte
PRICE_BYTES = 256 * 1024
CATALOGUE_BYTES = 8 * 1024 * 1024
AT_ONCE = 12
# Short rests: a price is good for seconds, and who opens waits for it.
RULES = Rules(faults=3, slow_s=2.4, rest_s=2.0, rest_limit_s=30.0)
OK, TOO_MANY, SERVER_ERROR = 200, 429, 500
_CHUNK = 64 * 1024
PRICE, CATALOGUE = meters.FEED_ROUTES


class _Question(threading.Thread):
    """One request in a thread of its own, which nobody waits for longer than WITHIN_S, whatever the server does."""

    def __init__(self, route: str, url: str, most_bytes: int) -> None:
        super().__init__(name=f"feed-{route}", daemon=True)
        self.route, self.url, self.most_bytes = route, url, most_bytes
        self.begun_s, self.asked_at_s = time.monotonic(), time.time()
        self.body: bytes | None = None
        self.problem = ""
        if breaker(route).admits(self.begun_s):
            self.start()
        else:
            self.problem = f"the {route} is not asked for a while: it hung, or failed several times in a row"

    def run(self) -> None:
        try:
            status, body = _get(self.url, self.most_bytes, self.begun_s + ANSWER_S)
        except (urllib3.exceptions.HTTPError, OSError) as fault:
            _note(self, answered=False)
            self._say("unclear", f"the {self.route} is away: {type(fault).__name__}")
            return
        _note(self, answered=status != TOO_MANY and status < SERVER_ERROR)
        if status != OK:
            self._say("refused", f"the {self.route} is refused: HTTP {status}")
            return
        self.body = body

    def _say(self, outcome: str, problem: str) -> None:
        _count(self.route, outcome)
        self.problem = problem

    def answer(self, read: Callable[[bytes], T]) -> T:
        """What the body says. Raises Retryable where there is none in time, or none that can be read."""
        if not self.problem:
            self.join(max(0.0, self.begun_s + WITHIN_S - time.monotonic()))
        if self.problem:
            raise Retryable(self.problem)
        if self.body is None:
            _note(self, answered=False)
            _count(self.route, "unclear")
            raise Retryable(f"the {self.route} does not answer in time")
        try:
            found = read(self.body)
        except ValueError as wrong:
            _count(self.route, "unclear")
            raise Retryable(f"the answer of the {self.route} is none: {wrong}") from wrong
        _count(self.route, "ok")
        return found


def prices(symbols: Collection[str]) -> dict[str, dict[PriceSource, Leg] | str]:
    """What the feed has of these symbols, all asked at once; in words why, where it has nothing of one.

    What another process was told a moment ago is not asked again (feed_cache.py).
    """
    found: dict[str, dict[PriceSource, Leg] | str] = {**_shared(symbols)}
    asked = {symbol: _of(symbol) for symbol in symbols if symbol in onchain.PAIRS and symbol not in found}
    for symbol in symbols:
        if symbol not in found:
            found[symbol] = _told(symbol, asked.get(symbol))
    return found


def _shared(symbols: Collection[str]) -> dict[str, dict[PriceSource, Leg]]:
    found = {}
    for symbol, answer in feed_cache.get([symbol for symbol in symbols if symbol in onchain.PAIRS]).items():
        with suppress(ValueError):
            found[symbol] = words.read_update(answer)
    return {symbol: legs for symbol, legs in found.items() if legs}


def _told(symbol: str, question: _Question | None) -> dict[PriceSource, Leg] | str:
    if question is None:
        return "the venue has no such pair"
    try:
        legs = question.answer(words.read_update)
    except Retryable as problem:
        return str(problem)
    if legs and question.body is not None:
        feed_cache.put(symbol, question.asked_at_s, question.body)
    return legs


def _of(symbol: str) -> _Question:
    base = settings.ENVIRONMENT.veranta_feed_url
    return _Question(PRICE, f"{base}/v2/pairs/{onchain.PAIRS[symbol]}/price-update-data", PRICE_BYTES)


def catalogue() -> dict[int, Listing]:
    """Every pair that the venue lists, by its index. Raises Retryable where the catalogue is away or is none."""
    url = f"{settings.ENVIRONMENT.veranta_data_api_url}/v2/trading"
    return _Question(CATALOGUE, url, CATALOGUE_BYTES).answer(words.read_catalogue)


@lru_cache(maxsize=2)
def breaker(route: str) -> Breaker:
    """Of this process alone: one that cannot reach the feed says nothing of the others."""

    def changed(state: BreakerState) -> None:
        meters.FEED_BREAKER.labels(route, state.value).inc()
        log.warning("the feed's breaker", route=route, state=state.value)

    return Breaker(RULES, changed)


def _note(question: _Question, *, answered: bool) -> None:
    now_s = time.monotonic()
    told = breaker(question.route)
    (told.succeed if answered else told.fail)(now_s, now_s - question.begun_s)


def _count(route: str, outcome: str) -> None:
    meters.FEED_REQUESTS.labels(route, outcome).inc()


def _get(url: str, most_bytes: int, deadline_s: float) -> tuple[int, bytes]:
    """Raises TimeoutError, too, for an answer that drips, and for one that is too long."""
    answer = _pool().request(
        "GET",
        url,
        headers={"Accept": "application/json"},
        timeout=urllib3.Timeout(connect=CONNECT_TIMEOUT_S, read=ANSWER_S),
        preload_content=False,
        redirect=False,
    )
    parts, size = [], 0
    try:
        while part := answer.read1(_CHUNK):
            parts.append(part)
            size += len(part)
            if size > most_bytes or time.monotonic() > deadline_s:
                raise TimeoutError("too long")
        return answer.status, b"".join(parts)
    finally:
        answer.close()  # a connection whose answer was read to its end is back in the pool already


@lru_cache(maxsize=1)
def _pool() -> urllib3.PoolManager:
    # Made by a process's first request, and it retries nothing by itself: prices are asked again by the next look.
    return urllib3.PoolManager(num_pools=2, maxsize=AT_ONCE, retries=False)

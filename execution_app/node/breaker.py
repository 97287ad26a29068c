"""When an endpoint is asked: not while it rests, and then by one caller first.

closed → open after `faults` provider faults in a row, or one that took longer
than `slow_s`; open → half open when the rest is over, which lets one caller try;
half open → closed by an answer in time, → open by anything else, for twice as
long up to a limit. What a node says about a transaction is an answer like any
other: only whoever calls knows which faults are the provider's.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum


class BreakerState(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True)
class Rules:
    """`faults` counts answers; all else is in seconds."""

    faults: int = 3
    slow_s: float = 5.0
    rest_s: float = 10.0
    rest_limit_s: float = 120.0


def _say_nothing(_: BreakerState) -> None:
    """Nobody is told of changes."""


class Breaker:
    """Thread-safe; every moment is the caller's `time.monotonic()` or what stands for it."""

    def __init__(self, rules: Rules, changed: Callable[[BreakerState], None] = _say_nothing) -> None:
        self._rules = rules
        self._changed = changed
        self._lock = threading.Lock()
        self._state = BreakerState.CLOSED
        self._strikes = 0
        self._rest_s = rules.rest_s
        self._rests_until_s = float("-inf")
        self._probed_until_s = float("-inf")

    def state(self) -> BreakerState:
        return self._state

    def rank(self, now_s: float) -> int:
        """In which turn to ask: 0, or 1 for a while after a fault, or 2 when open."""
        with self._lock:
            if self._state is BreakerState.OPEN:
                return 2 if now_s < self._rests_until_s else 0
            return int(now_s < self._rests_until_s)

    def admits(self, now_s: float) -> bool:
        """Whether to ask now. After a rest one caller gets a yes, who must then say how it went.

        A caller who never says it holds the others up for as long as an answer may be slow.
        """
        with self._lock:
            if self._state is BreakerState.CLOSED:
                return True
            if now_s < max(self._rests_until_s, self._probed_until_s):
                return False
            self._probed_until_s = now_s + max(self._rules.slow_s, self._rules.rest_s)
            self._become(BreakerState.HALF_OPEN)
            return True

    def succeed(self, now_s: float, took_s: float) -> None:
        """An answer, whatever it says. One that came late is a strike."""
        with self._lock:
            if took_s > self._rules.slow_s:
                self._strike(now_s)
                return
            self._strikes = 0
            self._rest_s = self._rules.rest_s
            self._rests_until_s = self._probed_until_s = float("-inf")
            self._become(BreakerState.CLOSED)

    def fail(self, now_s: float, took_s: float) -> None:
        """No usable answer; who also kept us waiting for it is not asked a second time."""
        with self._lock:
            self._strike(now_s, at_once=took_s > self._rules.slow_s)

    def _strike(self, now_s: float, *, at_once: bool = False) -> None:
        self._strikes += 1
        if self._state is BreakerState.OPEN:
            return  # asked although it rests, for want of another: that makes its rest no longer
        if self._state is BreakerState.HALF_OPEN:
            self._rest_s = min(self._rules.rest_limit_s, self._rest_s * 2)
        elif not at_once and self._strikes < self._rules.faults:
            self._rests_until_s = now_s + self._rules.rest_s
            return
        self._rests_until_s = now_s + self._rest_s
        self._probed_until_s = float("-inf")
        self._become(BreakerState.OPEN)

    def _become(self, state: BreakerState) -> None:
        if state is not self._state:
            self._state = state
            self._changed(state)

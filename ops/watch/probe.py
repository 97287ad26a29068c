"""A look at something that may hang, with a bounded wait and at most one look under way."""

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

import structlog

log = structlog.get_logger(__name__)

T = TypeVar("T")


class Probe(Generic[T]):
    """Runs `look` in a thread of its own, so that a part that hangs delays nobody longer than `patience_s`.

    An answer is reused for `fresh_s`. While a look hangs no second one is
    begun, so a dead part costs one thread, however often it is asked about.
    """

    def __init__(self, name: str, look: Callable[[], T], *, patience_s: float, fresh_s: float) -> None:
        self.name = name
        self._look = look
        self._patience_s = patience_s
        self._fresh_s = fresh_s
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._running = False
        self._generation = 0
        self._answer: T | None = None
        self._asked_at_s = float("-inf")
        self._answered_at_s = float("-inf")

    def begin(self) -> None:
        """Start a look unless one is under way or the last answer is still fresh."""
        with self._lock:
            if self._running or time.monotonic() - self._answered_at_s < self._fresh_s:
                return
            self._running = True
            self._done.clear()
            self._asked_at_s = time.monotonic()
            asked = (self._generation,)
        threading.Thread(target=self._run, args=asked, name=f"probe-{self.name}", daemon=True).start()

    def answer(self) -> T | None:
        """The fresh answer, waiting for the look under way; None when it does not come in time."""
        self._done.wait(max(0.0, self._asked_at_s + self._patience_s - time.monotonic()))
        with self._lock:
            if time.monotonic() - self._answered_at_s < self._fresh_s:
                return self._answer
        return None

    def forget(self) -> None:
        """Look anew next time; what a look under way still finds counts no more."""
        with self._lock:
            self._generation += 1
            self._running = False
            self._answered_at_s = float("-inf")

    def _run(self, generation: int) -> None:
        found: list[T] = []
        try:
            found.append(self._look())
        finally:
            # An exception nobody foresaw goes to the thread's excepthook; the probe counts as unanswered.
            with self._lock:
                if generation == self._generation:
                    if found:
                        self._answer = found[0]
                        self._answered_at_s = time.monotonic()
                    self._running = False
                    self._done.set()

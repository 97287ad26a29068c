"""A look at something that may hang, with a bounded wait and at most one look under way."""

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

import structlog

log = structlog.get_logger(__name__)

T = TypeVar("T")
REST_S = 20.0


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
        self._thread: threading.Thread | None = None  # of the look under way
        self._answer: T | None = None
        self._begun_at_s = float("-inf")  # of the last call of `begin`
        self._asked_at_s = float("-inf")
        self._answered_at_s = float("-inf")

    def begin(self) -> None:
        """Start a look unless one is under way or the last answer is still fresh."""
        with self._lock:
            self._begun_at_s = time.monotonic()
            if self._thread is not None or self._is_fresh():
                return
            self._done.clear()
            self._asked_at_s = self._begun_at_s
            self._thread = threading.Thread(target=self._run, name=f"probe-{self.name}", daemon=True)
            # Under the lock, so that nobody meets a thread that has not been started.
            self._thread.start()

    def answer(self) -> T | None:
        """The answer that was fresh at `begin`, or has come since; None when the look under way does not end in time."""
        self._done.wait(max(0.0, self._asked_at_s + self._patience_s - time.monotonic()))
        with self._lock:
            return self._answer if self._is_fresh() else None

    def _is_fresh(self) -> bool:
        """As of the last `begin`: who loses a second between asking and reading was answered all the same."""
        return self._begun_at_s - self._answered_at_s < self._fresh_s

    def forget(self) -> None:
        """Look anew next time.

        Waits for a look under way: it would tell of a world that has changed since, and whoever takes a part
        away for good must know that nobody is looking at it any more. Raises TimeoutError after REST_S.
        """
        with self._lock:
            under_way = self._thread
        if under_way is not None:
            under_way.join(REST_S)
            if under_way.is_alive():
                raise TimeoutError(f"the look at {self.name} does not end")
        with self._lock:
            self._answered_at_s = float("-inf")

    def _run(self) -> None:
        found: list[T] = []
        try:
            found.append(self._look())
        finally:
            # An exception nobody foresaw goes to the thread's excepthook; the probe counts as unanswered.
            with self._lock:
                if found:
                    self._answer = found[0]
                    self._answered_at_s = time.monotonic()
                self._thread = None
                self._done.set()

"""`/health` as an operator's monitor reads it: once, until something holds, or again and again in the background."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import urllib3

from ops.rollout.drills.report import CannotRun, Failed

POLL_S = 0.05
TIMEOUT_S = 5.0
ASKED = 3

Mode = dict[str, Any]


@dataclass(frozen=True)
class Look:
    """One answer; times are time.monotonic(). `mode` is empty where nobody answered; `failing` is check: detail."""

    asked_at_s: float
    answered_at_s: float
    status: str
    mode: Mode
    failing: tuple[str, ...] = ()


class Health:
    """Several web workers answer in turn, so one answer is not the stack's."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._http = urllib3.PoolManager(maxsize=4, retries=False, timeout=urllib3.Timeout(total=TIMEOUT_S))

    def look(self) -> Look:
        asked_at_s = time.monotonic()
        try:
            body = self._http.request("GET", f"{self.url}/health").json()
            failing = tuple(
                f"{name}: {check['detail']}"
                for name, check in body["checks"].items()
                if check["status"] != "ok"
            )
            return Look(
                asked_at_s, time.monotonic(), str(body["status"]), dict(body["execution_mode"]), failing
            )
        except (OSError, ValueError, KeyError, TypeError, urllib3.exceptions.HTTPError):
            return Look(asked_at_s, time.monotonic(), "no answer", {})

    def require(self) -> Mode:
        """The mode of a stack that answers; it is asked some times, since a busy one may be late. Raises CannotRun."""
        looks = (self.look() for _ in range(ASKED))
        look = next((look for look in looks if look.mode), None)
        if look is None:
            raise CannotRun(f"nobody answers at {self.url}/health")
        return look.mode

    def metrics(self) -> str:
        """A scrape. Raises Failed."""
        try:
            return self._http.request("GET", f"{self.url}/metrics").data.decode()
        except (OSError, urllib3.exceptions.HTTPError) as error:
            raise Failed(f"/metrics: {type(error).__name__}") from error

    def await_mode(self, met: Callable[[Mode], bool], within_s: float, why: str) -> float:
        """Until several answers in a row agree; returns the seconds it took. Raises Failed with the last answer."""
        began_s = time.monotonic()
        agreed = 0
        while agreed < 4:  # noqa: PLR2004 -- twice as many as there are web workers
            look = self.look()
            agreed = agreed + 1 if look.mode and met(look.mode) else 0
            if time.monotonic() - began_s > within_s:
                raise Failed(f"not within {within_s:g} s: {why}; /health says {look.status} {look.mode}")
            time.sleep(POLL_S)
        return time.monotonic() - began_s


class HealthWatch:
    """Looks without rest in a thread of its own and keeps every answer."""

    def __init__(self, health: Health) -> None:
        self._health = health
        self.looks: list[Look] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="drill-health", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(2 * TIMEOUT_S)

    def _run(self) -> None:
        while not self._ended.wait(POLL_S):
            self.looks.append(self._health.look())

    def between(self, from_s: float, to_s: float) -> list[Look]:
        """Answers to questions that were asked in that time."""
        return [look for look in self.looks if from_s <= look.asked_at_s <= to_s]

    def last(self, met: Callable[[Mode], bool], from_s: float, to_s: float) -> float | None:
        """When the last such answer was asked for in that time, in seconds after `from_s`; None without one."""
        found = [look.asked_at_s for look in self.between(from_s, to_s) if look.mode and met(look.mode)]
        return max(found) - from_s if found else None

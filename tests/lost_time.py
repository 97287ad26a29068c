"""What this machine loses: moments in which a thread that wants to run all the time did not.

Of how long something took that is no part of anybody's; a process that watches a clock may have missed a moment then.
"""

import re
import threading
import time
from functools import lru_cache

# What a process says whose look at Redis came too late for that; elsewhere it is a fault.
MISSED_A_LOOK = re.compile(r"FAILING SAFE TO DRY MODE.*TimeoutError|TimeoutError.*FAILING SAFE TO DRY MODE")
STEP_S = 0.02
LEAST_S = 0.2  # less is how threads take turns


class LostTime:
    """Notes the moments from when it is made on."""

    def __init__(self) -> None:
        self._lost: list[tuple[float, float]] = []
        self._at_s = time.monotonic()
        threading.Thread(target=self._watch, daemon=True, name="lost-time").start()

    def _watch(self) -> None:
        while True:
            before_s = self._at_s
            time.sleep(STEP_S)
            self._at_s = time.monotonic()
            if self._at_s - before_s > LEAST_S:
                self._lost.append((before_s + STEP_S, self._at_s))

    def since(self, begun_s: float) -> float:
        """Seconds that were lost from then, of time.monotonic(), until now."""
        now_s = time.monotonic()
        # The moment in which it did not run yet itself counts, too.
        still = [(self._at_s + STEP_S, now_s)] if now_s - self._at_s > LEAST_S else []
        return sum(max(0.0, end_s - max(begun_s, from_s)) for from_s, end_s in [*self._lost, *still])


@lru_cache(maxsize=1)
def meter() -> LostTime:
    """The one of this process."""
    return LostTime()

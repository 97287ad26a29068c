"""What a test costs: seconds of the clock, without those in which it, or a part that it asks, waited for a core.

On a busy machine the clock says many times as much, and a budget then has room for a test or two.
"""

import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

PROC = Path("/proc")


class Stopwatch:
    """Of this process and these parts with their children, from `begin` on."""

    def __init__(self, pids: Sequence[int]) -> None:
        self._pids = pids

    def begin(self) -> None:
        self._begun_s = time.monotonic()
        self._own_s = time.process_time()
        self._ran_s, self._waited_s = spent("self", self._pids)

    def costs_s(self) -> float:
        """Never less than was computed; what waited without anybody waiting for it makes it no less than that."""
        clock_s = time.monotonic() - self._begun_s
        own_s = time.process_time() - self._own_s
        ran_s, waited_s = spent("self", self._pids)
        computed_s = own_s + ran_s - self._ran_s
        return max(min(clock_s, computed_s), clock_s - (waited_s - self._waited_s))


def spent(process: int | str, parts: Sequence[int]) -> tuple[float, float]:
    """Seconds that the parts and their children ran, and that they and the process waited for a core."""
    ran_s, (_, waited_s) = 0.0, _of(PROC / str(process) / "schedstat")
    for pid in parts:
        for one in [str(pid), *_children(pid)]:
            for task in (PROC / one / "task").glob("*/schedstat"):
                ran, waited = _of(task)
                ran_s += ran
                waited_s += waited
    return ran_s, waited_s


def ran(pid: int) -> float:
    """Seconds that its first thread has run."""
    return _of(PROC / str(pid) / "schedstat")[0]


def is_runnable(pid: int) -> bool:
    """Whether it runs, or would if it had a core."""
    try:
        return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] == "R"
    except (OSError, IndexError):
        return False


def _children(pid: int) -> list[str]:
    found: list[str] = []
    for path in (PROC / str(pid) / "task").glob("*/children"):
        with suppress(OSError):
            found += path.read_text().split()
    return found


def _of(path: Path) -> tuple[float, float]:
    """Nothing where the kernel does not say it, or for what has ended."""
    try:
        ran, waited, _ = path.read_text().split()
    except (OSError, ValueError):
        return 0.0, 0.0
    return int(ran) / 1e9, int(waited) / 1e9

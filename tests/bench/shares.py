"""How much of a core each part took while something was measured."""

import time
from collections.abc import Mapping

import psutil  # type: ignore[import-untyped]


class Shares:
    """CPU time by name from now on; a name stands for a process and those of its children that have no name here."""

    def __init__(self, pids: Mapping[str, int]) -> None:
        self._processes = {name: psutil.Process(pid) for name, pid in pids.items()}
        self._named = frozenset(pids.values())
        self._before = self._seconds()
        self._idle_s = psutil.cpu_times().idle
        self._begun_s = time.monotonic()
        self.took_s = 0.0  # until it was read

    def read(self) -> dict[str, float]:
        """Cores in use by each part, and by nobody (`idle`), of `psutil.cpu_count()`."""
        self.took_s = time.monotonic() - self._begun_s
        used = self._seconds()
        found = {name: used[name] - self._before[name] for name in used}
        found["idle"] = psutil.cpu_times().idle - self._idle_s
        return {name: round(seconds / self.took_s, 3) for name, seconds in found.items()}

    def _seconds(self) -> dict[str, float]:
        return {name: self._of(process) for name, process in self._processes.items()}

    def _of(self, process: psutil.Process) -> float:
        """Of a process and its children, those that have ended and were waited for included."""
        try:
            times = process.cpu_times()
            children = [child for child in process.children() if child.pid not in self._named]
        except psutil.NoSuchProcess:
            return 0.0
        own: float = times.user + times.system + times.children_user + times.children_system
        return own + sum(self._of(child) for child in children)


def limit(cores: Mapping[str, float], count: int | None = None) -> str:
    """What bound the run on so many cores (this machine's), as far as CPU shares tell."""
    busiest = max((name for name in cores if name != "idle"), key=lambda name: cores[name])
    count = count or psutil.cpu_count() or 1
    if cores["idle"] < 0.1 * count:
        return f"all {count} cores are busy; {busiest} takes most, {cores[busiest]:.2f} of one"
    if cores[busiest] > 0.85:
        return f"{busiest}, one process that is busy {cores[busiest]:.0%} of the time"
    return f"no part is busy all the time ({busiest} most, {cores[busiest]:.0%}): they wait for each other or for blocks"

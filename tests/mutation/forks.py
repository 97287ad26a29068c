"""A forked process that does one piece of work under a deadline that it pushes forward itself, test by test.

Seconds in which it waits for a core do not count: on a busy machine it would seem to hang.
"""

import json
import mmap
import os
import select
import signal
import struct
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.mutation.stopwatch import is_runnable, ran, spent

BEGIN_WITHIN_S = 120.0
LENT_MOST_S = 600.0
MEMORY = struct.Struct("dq")  # the deadline, and the step that it was given for
AUTOGROUP = Path("/proc/self/autogroup")


@dataclass(frozen=True)
class Ended:
    """What the process said, its seconds of CPU, whether it was ended because its deadline had passed, and its last step."""

    said: Any
    cpu_s: float
    timed_out: bool
    step: int


class Clock:
    """The deadline, in memory that parent and child share; time.monotonic() is the machine's.

    It is given step by step, so that the parent knows with which one a child died; before the first there is none.
    """

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, MEMORY.size)
        self.give(BEGIN_WITHIN_S)

    def give(self, seconds: float, step: int = 0) -> None:
        self._memory[:] = MEMORY.pack(time.monotonic() + seconds, step)

    def deadline_s(self) -> float:
        return float(MEMORY.unpack(self._memory[:])[0])

    def step(self) -> int:
        return int(MEMORY.unpack(self._memory[:])[1])


class Patience:
    """The parent's view of the deadline: put off by what the child, or a part that it asks, waited for a core since."""

    def __init__(self, clock: Clock, pid: int, parts: Sequence[int]) -> None:
        self._clock, self._pid, self._parts = clock, pid, parts
        self._deadline_s = clock.deadline_s()
        self._seen = self._begun = time.monotonic(), self._waited()
        self._ran_s, self._ran_at_s = ran(pid), self._seen[0]

    def left_s(self) -> float:
        """Asked again and again; never lends more than went by since the deadline was given."""
        now_s, waited_s, ran_s = time.monotonic(), self._waited(), ran(self._pid)
        deadline_s = self._clock.deadline_s()
        if deadline_s != self._deadline_s:  # some time since it was looked at
            self._deadline_s, self._begun = deadline_s, self._seen
        self._seen = now_s, waited_s
        if ran_s != self._ran_s or not is_runnable(self._pid):
            self._ran_s, self._ran_at_s = ran_s, now_s
        # The kernel says how long it has waited when it runs again; until then it is what went by.
        begun_s, before_s = self._begun
        lent_s = min(now_s - begun_s, waited_s - before_s + now_s - self._ran_at_s, LENT_MOST_S)
        return deadline_s + max(0.0, lent_s) - now_s

    def _waited(self) -> float:
        return spent(self._pid, self._parts)[1]


def fork(work: Callable[[Clock], Any], parts: Sequence[int] = ()) -> Ended:
    """Do the work in a process and a session of its own, with all that it starts, and wait for its answer.

    The answer is None where the process died or was too late. `parts` are processes that it asks.
    """
    clock = Clock()
    with tempfile.TemporaryDirectory(prefix="vanta-mutant-") as folder:
        answer = Path(folder) / "answer.json"
        pid = os.fork()
        if pid == 0:
            _live(work, clock, answer)
        timed_out = _await(pid, Patience(clock, pid, parts))
        _, status, used = os.wait4(pid, 0)
        said = json.loads(answer.read_text()) if answer.exists() and not timed_out else None
    if os.WIFSIGNALED(status) and not timed_out:
        sys.stderr.write(f"the process of a job was ended by {signal.Signals(os.WTERMSIG(status)).name}\n")
    return Ended(said, used.ru_utime + used.ru_stime, timed_out, clock.step())


def stay_nice() -> None:
    """Give this session the niceness of its process: Linux shares the cores between sessions, `nice` within one."""
    niceness = os.nice(0)
    if niceness > 0 and AUTOGROUP.exists():
        with suppress(BlockingIOError):  # only so often within a second; the next fork asks again
            AUTOGROUP.write_text(str(niceness))


def _live(work: Callable[[Clock], Any], clock: Clock, answer: Path) -> None:
    try:
        os.setsid()
        stay_nice()
        text = json.dumps(work(clock))
        partial = answer.with_suffix(".partial")
        partial.write_text(text)
        partial.rename(answer)
    except BaseException:  # noqa: BLE001  (whatever it is, this process must not go on as its parent)
        traceback.print_exc()
    finally:
        os._exit(0)


def _await(pid: int, patience: Patience) -> bool:
    """Until it has ended, or its deadline has passed; what it started ends with it."""
    watched = os.pidfd_open(pid)
    try:
        left_s = patience.left_s()
        while not select.select([watched], [], [], max(0.0, min(left_s, 1.0)))[0]:
            left_s = patience.left_s()
            if left_s <= 0:
                _end_group(pid)
                select.select([watched], [], [])
                return True
        _end_group(pid)
        return False
    finally:
        os.close(watched)


def _end_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        return  # nobody was left

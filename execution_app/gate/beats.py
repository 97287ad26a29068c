"""Which processes live, and whether those behind them work.

A component's row says when its main process began and when it was last there. The main process of a worker
runs no thread of ours, since its children are forked from it and would inherit whatever lock such a thread
holds at that moment; its children speak for it, and have rows of their own, which say whether they work.
"""

import mmap
import multiprocessing
import os
import socket
import struct
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.db.models.functions import Now

from execution_app.models import Heartbeat, PoolBeat

BEAT_EVERY_S = 2.0
FORGET_CHILD_AFTER = timedelta(hours=1)

_imported_at_s = time.monotonic()
# Shared with the children that are forked after this import: when a task last began or ended in any of them.
_HEARD = struct.Struct("d")
_heard = mmap.mmap(-1, _HEARD.size)
_HEARD.pack_into(_heard, 0, _imported_at_s)
_working_since_s: float | None = None  # time.monotonic() of the task under way in this process


def begin_work() -> None:
    """A task begins in this process."""
    global _working_since_s  # noqa: PLW0603  (one task at a time in a pool child)
    _working_since_s = time.monotonic()
    _HEARD.pack_into(_heard, 0, _working_since_s)


def end_work() -> None:
    """The task has ended, however it did."""
    global _working_since_s  # noqa: PLW0603  (one task at a time in a pool child)
    _working_since_s = None
    _HEARD.pack_into(_heard, 0, time.monotonic())


def idle_s() -> float:
    """For how long no child of this pool has begun or ended a task; 0 while this process is at one."""
    if _working_since_s is not None:
        return 0.0
    (heard_at_s,) = _HEARD.unpack_from(_heard, 0)
    return time.monotonic() - float(heard_at_s)


class Pulse:
    """The heartbeat of this process; not for two threads."""

    def __init__(self, component: str, *, pool_child: bool = False) -> None:
        self._component = component
        self._pool_child = pool_child
        self._beat_at_s = float("-inf")
        # Children come and go under one parent, a pool's as a web server's: it is the parent that is restarted.
        parent = multiprocessing.parent_process()
        web_parent_pid = parent.pid if parent is not None and parent.pid is not None else os.getpid()
        self._pid = os.getppid() if pool_child else web_parent_pid
        self._process, self._born_at_s = identify(self._pid)
        self._own_process = identify(os.getpid())[0]

    def beat(self) -> None:
        """Say that this process lives, every 2 s at most. Raises DatabaseError."""
        now_s = time.monotonic()
        if now_s - self._beat_at_s < BEAT_EVERY_S:
            return
        self._beat_at_s = now_s
        if self._pool_child:
            self._beat_in_pool(now_s)
            if os.getppid() != self._pid:
                return  # an orphan speaks for nobody
        self._beat_for_component(now_s)

    def _beat_for_component(self, now_s: float) -> None:
        """Of several replicas the one that began last owns the row; the others say that they live, too."""
        row = Heartbeat.objects.filter(component=self._component)
        if row.filter(process=self._process).update(at=Now()):
            return
        me: dict[str, Any] = {
            "process": self._process,
            "pid": self._pid,
            # By the database's clock, so that replicas on other machines can be compared.
            "started_at": Now() - timedelta(seconds=now_s - self._born_at_s),
            "at": Now(),
        }
        if row.exclude(process=self._process).filter(started_at__lt=me["started_at"]).update(**me):
            return
        Heartbeat.objects.bulk_create([Heartbeat(component=self._component, **me)], ignore_conflicts=True)
        row.update(at=Now())

    def _beat_in_pool(self, now_s: float) -> None:
        began_s = _working_since_s
        busy_since = None if began_s is None else Now() - timedelta(seconds=now_s - began_s)
        if PoolBeat.objects.filter(process=self._own_process).update(busy_since=busy_since, at=Now()):
            return
        PoolBeat.objects.filter(at__lt=Now() - FORGET_CHILD_AFTER).delete()
        PoolBeat.objects.create(
            process=self._own_process,
            component=self._component,
            pid=os.getpid(),
            busy_since=busy_since,
            at=Now(),
        )


def identify(pid: int) -> tuple[str, float]:
    """A name that no other process has or will have, and when it began, as time.monotonic() counts.

    Without /proc the latter is when this module was imported.
    """
    host = socket.gethostname()[:64]
    try:
        # The name in brackets may hold anything, spaces and brackets too; what is counted follows it.
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2]
        ticks = int(fields.split()[19])
        age_s = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError, AttributeError):
        return f"{host}/{pid}", _imported_at_s
    return f"{host}/{pid}/{ticks}", time.monotonic() - age_s

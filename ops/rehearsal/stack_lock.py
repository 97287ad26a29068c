"""One stack per clone, and no left-overs of a killed one."""

import fcntl
import os
import signal
from pathlib import Path
from typing import IO

import psutil  # type: ignore[import-untyped]

from ops.rehearsal.parts import Anvil, Postgres, Valkey
from ops.rehearsal.parts.process import end

TAG = "VANTA_STACK"
# They are ended by their own part, each with its own signal and patience.
OF_PARTS = frozenset(part.program_name for part in (Postgres, Valkey, Anvil))
ORPHAN_GRACE_S = 10


class RunningError(RuntimeError):
    """Another process holds the lock; the message names it."""


def tag(folder: Path, verb: str) -> dict[str, str]:
    """What every process of a stack carries in its environment, so that it is known after its parent's death."""
    return {TAG: f"{verb}:{folder.resolve()}"}


class StackLock:
    """Held while a stack runs; the kernel lets go of it whatever way the holder ends."""

    def __init__(self, path: Path, verb: str) -> None:
        self._path = path
        self._verb = verb
        self._file: IO[str] | None = None

    def acquire(self) -> None:
        """Raises RunningError."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        file = self._path.open("a+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            file.close()
            raise RunningError(
                f"already running here: {holder}; Ctrl-C there stops it, or `kill` with that pid"
            ) from None
        file.truncate(0)
        file.write(f"`make {self._verb}`, pid {os.getpid()}")
        file.flush()
        self._file = file

    def release(self) -> None:
        if self._file:
            self._file.truncate(0)
            self._file.close()
            self._file = None

    def abandon(self) -> None:
        """Let go of a lock whose file has been deleted."""
        if self._file:
            self._file.close()
            self._file = None

    def is_held(self) -> bool:
        """Whether some process holds it now."""
        try:
            self.acquire()
        except RunningError:
            return True
        self.release()
        return False


def orphans(folder: Path, verb: str) -> list[psutil.Process]:
    """Processes of a former stack of this folder, known by the tag in their environment."""
    wanted = tag(folder, verb)[TAG]
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get(TAG) == wanted:
                found.append(process)
        except (psutil.Error, OSError):  # It is gone, or belongs to somebody else.
            continue
    return found


def end_orphans(folder: Path, verb: str) -> list[str]:
    """End them in an orderly way, by force after the grace; answers what they were."""
    left = []
    for process in orphans(folder, verb):
        try:
            if Path(process.exe()).name not in OF_PARTS:
                left.append((process, f"{process.pid} ({' '.join(process.cmdline()[1:5])})"))
        except psutil.Error:  # It has just ended by itself.
            continue
    end([process for process, _ in left], signal.SIGTERM, ORPHAN_GRACE_S)
    return [what for _, what in left]

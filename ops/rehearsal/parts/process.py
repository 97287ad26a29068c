"""Foreground child processes that end in an orderly way, even when their parent is killed."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil  # type: ignore[import-untyped]

PR_SET_PDEATHSIG = 1
POLL_S = 0.02


@dataclass(frozen=True)
class Account:
    """A system account to run a child as."""

    uid: int
    gid: int


@dataclass(frozen=True)
class Command:
    """How one process is run; `env` is the whole environment, not an addition."""

    argv: tuple[str, ...]
    cwd: Path
    env: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    account: Account | None = None
    # Asks the process to end in an orderly way: by us, and by the kernel when we are killed.
    stop_signal: signal.Signals = signal.SIGTERM


def _tied_to(parent_pid: int, death_signal: signal.Signals) -> Callable[[], None] | None:
    """What a fresh child runs before exec so that the kernel signals it when its parent dies (Linux only)."""
    if not sys.platform.startswith("linux"):
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl

    def tie() -> None:
        prctl(PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
        if os.getppid() != parent_pid:  # The parent died before the tie was made.
            os._exit(1)

    return tie


class Child:
    """One running process in a session of its own, so that Ctrl-C reaches only its parent.

    Launch from the main thread: the kernel ties a child to the *thread* that made it.
    """

    def __init__(self, command: Command, log: Path) -> None:
        self.command = command
        self.started_at_s = time.monotonic()
        account = command.account
        with log.open("ab") as sink:
            self._process = subprocess.Popen(
                command.argv,
                cwd=command.cwd,
                env=dict(command.env),
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                user=account.uid if account else None,
                group=account.gid if account else None,
                extra_groups=() if account else None,
                umask=0o077 if account else -1,
                # One system call, no Python lock: safe even were there threads.
                preexec_fn=_tied_to(os.getpid(), command.stop_signal),  # noqa: PLW1509
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; minus the signal number when a signal ended it."""
        return self._process.poll()

    @property
    def is_alive(self) -> bool:
        return self.exit_code is None

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def wait(self, timeout_s: float) -> bool:
        """Whether it has ended within the time."""
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def stop(self, grace_s: float) -> bool:
        """Ask to end, wait, then kill what is left of its session; whether it ended by itself."""
        orderly = True
        if self.is_alive:
            self.signal(self.command.stop_signal)
            orderly = self.wait(grace_s)
        self.sweep()
        return orderly

    def kill(self) -> None:
        """SIGKILL the process itself and reap it, as a crash would; its own children are left alone."""
        self._process.kill()
        self._process.wait()

    def sweep(self) -> None:
        """SIGKILL all that is left of the process's group, such as workers orphaned by a crash."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()


def processes_in(folder: Path, program: str) -> list[psutil.Process]:
    """Running processes of that program name whose working folder is exactly this one."""
    home = folder.resolve()
    found = []
    for process in psutil.process_iter():
        try:
            if Path(process.exe()).name == program and Path(process.cwd()) == home:
                found.append(process)
        except (psutil.Error, OSError):  # It is gone, or belongs to somebody else.
            continue
    return found


def end(processes: list[psutil.Process], number: signal.Signals, grace_s: float) -> None:
    """Signal processes that are not our children, wait, and SIGKILL those that stay."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)
    _, alive = psutil.wait_procs(processes, timeout=grace_s)
    for process in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, timeout=5)

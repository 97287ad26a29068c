"""What the embedded servers share: a folder, a port, a command, a life between start and stop."""

import abc
import shutil
import signal
import time
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from ops.rehearsal.parts import port as ports
from ops.rehearsal.parts.process import POLL_S, Child, Command, end, processes_in

TAIL_BYTES = 2_000


class PartError(RuntimeError):
    """An embedded server could not be prepared or did not come up; the message says why."""


class Part(abc.ABC):
    """One embedded server over one folder, which survives restarts."""

    name: ClassVar[str]
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM
    program_name: ClassVar[str]

    def __init__(self, folder: Path, port: int | None = None) -> None:
        """Take the port as given, or any free one on the loopback when None; touches nothing yet."""
        self.folder = folder.absolute()
        self.port = port if port is not None else ports.any_free()
        self.log = self.folder.parent / f"{self.folder.name}.log"
        self._child: Child | None = None

    @property
    @abc.abstractmethod
    def url(self) -> str:
        """Where clients connect."""

    @property
    def home(self) -> Path:
        """The working folder of the server process, by which a left-over one is recognised."""
        return self.folder

    @abc.abstractmethod
    def prepare(self) -> None:
        """Make the folder ready for the next start; safe to repeat. Raises PartError."""

    @abc.abstractmethod
    def command(self) -> Command:
        """The foreground server, to be run after `prepare`."""

    @abc.abstractmethod
    def is_ready(self) -> bool:
        """Whether it answers clients now."""

    def settle(self) -> None:  # noqa: B027 -- most parts have nothing left to do
        """What remains to be done once it answers; safe to repeat."""

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child and self._child.is_alive else None

    def end_orphans(self) -> None:
        """End servers of this very folder that outlived a killed parent."""
        end(processes_in(self.home, self.program_name), self.stop_signal, grace_s=15)

    def start(self, timeout_s: float = 60) -> Self:
        """Prepare, run and wait until it answers. Raises PartError with the end of its log."""
        if self.pid is not None:
            return self
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        self.prepare()
        if not ports.is_free(self.port):  # Else whoever listens there would pass for this server.
            raise PartError(f"{self.name} cannot start: port {self.port} is in use")
        self._child = Child(self.command(), self.log)
        deadline_s = time.monotonic() + timeout_s
        while not self.is_ready():
            if not self._child.is_alive or time.monotonic() > deadline_s:
                self._child.stop(grace_s=5)
                raise PartError(f"{self.name} did not start on port {self.port}:\n{self._log_tail()}")
            time.sleep(POLL_S)
        self.settle()
        return self

    def stop(self, grace_s: float = 15) -> None:
        """End in an orderly way, by force after the grace; safe when it does not run."""
        if self._child:
            self._child.stop(grace_s)
            self._child = None

    def kill(self) -> None:
        """SIGKILL, as a crash; the next `start` recovers."""
        if self._child:
            self._child.kill()
            self._child = None

    def destroy(self) -> None:
        """Stop and delete the folder with its data."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)
        self.log.unlink(missing_ok=True)

    def _log_tail(self) -> str:
        return self.log.read_bytes()[-TAIL_BYTES:].decode(errors="replace") if self.log.exists() else ""

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

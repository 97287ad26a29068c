"""Owns the processes of a stack: starts them, starts them again when they die, stops them in order."""

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

from ops.rehearsal.parts.part import Part, PartError
from ops.rehearsal.parts.process import Child, Command

POLL_S = 0.05
BACKOFF_FIRST_S = 0.2
BACKOFF_LAST_S = 2.0
HEALTHY_AFTER_S = 4.0  # longer than any start that fails by itself
LOG_BYTES = 20_000_000
LOG_LOOK_S = 10.0


class StoppedError(Exception):
    """Somebody asked the stack to end while it was still starting."""


@dataclass
class Service:
    """One process that is to run always. `stage` orders the stop: lower ends earlier."""

    name: str
    command: Callable[[], Command]
    stage: int
    grace_s: float = 10.0
    prepare: Callable[[], None] = lambda: None
    is_ready: Callable[[], bool] = lambda: True
    settle: Callable[[], None] = lambda: None
    child: Child | None = None
    deaths: int = 0
    again_at_s: float = field(default=0.0)

    @classmethod
    def of(cls, part: Part, stage: int, env: Mapping[str, str]) -> "Service":
        """An embedded server, tagged with `env` on top of its own environment."""

        def command() -> Command:
            plain = part.command()
            return Command(
                plain.argv, plain.cwd, {**plain.env, **env}, plain.account, stop_signal=plain.stop_signal
            )

        return cls(
            part.name,
            command,
            stage,
            grace_s=15.0,
            prepare=part.prepare,
            is_ready=part.is_ready,
            settle=part.settle,
        )


class Supervisor:
    """Single-threaded: whoever waits calls `tick`, which looks after every process.

    `folder` gets `pids.json`, kept current, and `log/NAME.log`.
    """

    def __init__(self, folder: Path, pids_name: str = "pids.json") -> None:
        self.services: list[Service] = []
        self.stopping = False
        self._folder = folder
        self._logs = folder / "log"
        self._pids = folder / pids_name
        self._looked_at_s = 0.0
        self._extras: list[Callable[[], object]] = []
        self._logs.mkdir(parents=True, exist_ok=True)

    def listen(self) -> None:
        """End on Ctrl-C, on SIGTERM and when the terminal closes; a second request ends everything at once."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._ask_to_stop)

    def every_tick(self, action: Callable[[], object]) -> None:
        self._extras.append(action)

    def say(self, line: str) -> None:
        """One line for the operator, kept in supervisor.log, too; a terminal that is gone is no reason to die."""
        with contextlib.suppress(OSError):
            print(line, flush=True)
        with self.log("supervisor").open("a") as sink:
            sink.write(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {line}\n")

    def log(self, name: str) -> Path:
        return self._logs / f"{name}.log"

    def start(self, *services: Service, timeout_s: float = 60.0) -> None:
        """Start them side by side and wait until all are ready. Raises PartError, StoppedError."""
        for service in services:
            self._shorten_log(service.name, LOG_BYTES // 4)
            self.services.append(service)
            service.prepare()
            self._launch(service)
        deadline_s = time.monotonic() + timeout_s
        waiting = list(services)
        while waiting:
            for service in [one for one in waiting if one.is_ready()]:
                service.settle()
                waiting.remove(service)
            if waiting and time.monotonic() > deadline_s:
                names = ", ".join(service.name for service in waiting)
                raise PartError(f"not ready after {timeout_s:.0f} s: {names}; see {self._logs}")
            if waiting:
                self.pause(POLL_S)

    def pause(self, duration_s: float) -> None:
        """Wait while looking after the processes. Raises StoppedError as soon as the stack is to end."""
        deadline_s = time.monotonic() + duration_s
        while True:
            self.tick()
            if self.stopping:
                raise StoppedError
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                return
            time.sleep(min(left_s, POLL_S))

    def run_once(self, name: str, command: Command) -> Child:
        """Begin a command that ends by itself; its words go to NAME.log, emptied first."""
        self.log(name).write_bytes(b"")
        return Child(command, self.log(name))

    def finish(self, name: str, child: Child, timeout_s: float) -> str:
        """Wait for such a command and answer its words. Raises PartError with them when it fails."""
        deadline_s = time.monotonic() + timeout_s
        try:
            while child.is_alive:
                if time.monotonic() > deadline_s:
                    raise PartError(f"{name} took longer than {timeout_s:.0f} s; see {self.log(name)}")
                self.pause(POLL_S)
        finally:
            child.stop(grace_s=2)
        words = self.log(name).read_text(errors="replace")
        if child.exit_code != 0:
            raise PartError(f"{name} failed (exit {child.exit_code}):\n{words[-4000:]}")
        return words

    def tick(self) -> None:
        """Start again what died and is due; cheap enough for many times a second."""
        for service in self.services:
            if service.child and not service.child.is_alive:
                self._mourn(service, service.child)
            if service.child is None and time.monotonic() >= service.again_at_s and not self.stopping:
                try:
                    service.prepare()
                    self._launch(service)
                except (PartError, OSError) as error:
                    service.deaths += 1
                    service.again_at_s = time.monotonic() + backoff_s(service.deaths)
                    self.say(f"{service.name} cannot start: {error}")
        for action in self._extras:
            action()
        if time.monotonic() - self._looked_at_s > LOG_LOOK_S:
            self._looked_at_s = time.monotonic()
            for path in self._logs.glob("*.log"):
                self._shorten_log(path.stem, LOG_BYTES)

    def stop(self) -> None:
        """End every process, stage by stage, each within its grace, then by force."""
        self.stopping = True
        for stage in sorted({service.stage for service in self.services}):
            ending = [service for service in self.services if service.stage == stage]
            for service in ending:
                if service.child and service.child.is_alive:
                    service.child.signal(service.child.command.stop_signal)
            asked_at_s = time.monotonic()
            for service in ending:
                child = service.child
                if child is None:
                    continue
                left_s = max(0.1, asked_at_s + service.grace_s - time.monotonic())
                if not child.wait(left_s):
                    self.say(f"{service.name} did not end within {service.grace_s:.0f} s: killed")
                    child.signal(signal.SIGKILL)
                child.sweep()
                service.child = None
        self._pids.unlink(missing_ok=True)

    def pids(self) -> dict[str, int]:
        alive = {service.name: service.child.pid for service in self.services if service.child}
        return {"supervisor": os.getpid(), **alive}

    def _launch(self, service: Service) -> None:
        service.child = Child(service.command(), self.log(service.name))
        self._write_pids()

    def _mourn(self, service: Service, child: Child) -> None:
        child.sweep()  # Its own children must not serve on beside the next one.
        if time.monotonic() - child.started_at_s > HEALTHY_AFTER_S:
            service.deaths = 0
        service.deaths += 1
        pause_s = backoff_s(service.deaths)
        service.again_at_s = time.monotonic() + pause_s
        service.child = None
        self._write_pids()
        if not self.stopping:
            how = ended(child.exit_code)
            self.say(f"{service.name} (pid {child.pid}) ended: {how}; again in {pause_s:.1f} s")

    def _write_pids(self) -> None:
        draft = self._pids.with_suffix(".draft")
        draft.write_text(json.dumps(self.pids(), indent=1) + "\n")
        draft.replace(self._pids)

    def _shorten_log(self, name: str, limit_bytes: int) -> None:
        """Keep one older half beside it; writers append, so truncating under them is safe."""
        path = self.log(name)
        if path.exists() and path.stat().st_size > limit_bytes:
            older = path.with_suffix(".log.1")
            older.unlink(missing_ok=True)
            with path.open("rb") as source, older.open("wb") as sink:
                source.seek(max(0, path.stat().st_size - LOG_BYTES))
                while chunk := source.read(1 << 20):
                    sink.write(chunk)
            os.truncate(path, 0)

    def _ask_to_stop(self, _number: int, _frame: FrameType | None) -> None:
        if self.stopping:  # Asked twice: no more grace.
            for service in self.services:
                if service.child:
                    service.child.signal(signal.SIGKILL)
        self.stopping = True


def backoff_s(deaths: int) -> float:
    """0.2 s after the first death, doubling, at most 2 s."""
    return min(BACKOFF_FIRST_S * 2.0 ** min(deaths - 1, 20), BACKOFF_LAST_S)


def ended(exit_code: int | None) -> str:
    if exit_code is None:
        return "still running"
    if exit_code >= 0:
        return f"exit {exit_code}"
    try:
        return signal.Signals(-exit_code).name
    except ValueError:
        return f"signal {-exit_code}"

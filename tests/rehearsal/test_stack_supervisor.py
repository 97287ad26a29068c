"""Processes are started again when they die, stopped in order, and never left behind."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

from ops.rehearsal.parts import Command, PartError
from ops.rehearsal.stack_lock import RunningError, StackLock, end_orphans, orphans, tag
from ops.rehearsal.supervisor import Service, StoppedError, Supervisor, backoff_s

ROOT = Path(__file__).parents[2]
SLEEP = "import time; time.sleep(600)"
# Ignores the polite request and has a child of its own.
STUBBORN = (
    "import signal, subprocess, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    f"print(subprocess.Popen([sys.executable, '-c', {SLEEP!r}]).pid, flush=True); time.sleep(600)"
)


def python(folder: Path, code: str) -> Command:
    return Command((sys.executable, "-c", code), cwd=ROOT, env={**os.environ, **tag(folder, "run")})


def service(folder: Path, name: str, code: str = SLEEP, stage: int = 0, grace_s: float = 5) -> Service:
    return Service(name, lambda: python(folder, code), stage, grace_s)


def tick_until(supervisor: Supervisor, met: Callable[[], bool], within_s: float = 60) -> None:
    deadline_s = time.monotonic() + within_s
    while not met():
        assert time.monotonic() < deadline_s, "it did not come about in time"
        supervisor.tick()
        time.sleep(0.02)


def pids(folder: Path) -> dict[str, int]:
    found: dict[str, int] = json.loads((folder / "pids.json").read_text())
    return found


@pytest.fixture
def supervisor(tmp_path):
    made = Supervisor(tmp_path)
    yield made
    made.stop()


def test_a_killed_process_is_started_again_and_named_in_one_line(supervisor, tmp_path, capsys):
    supervisor.start(service(tmp_path, "worker"))
    first = pids(tmp_path)["worker"]
    os.kill(first, signal.SIGKILL)
    tick_until(supervisor, lambda: pids(tmp_path).get("worker") not in {None, first})
    assert psutil.pid_exists(pids(tmp_path)["worker"])
    assert pids(tmp_path)["supervisor"] == os.getpid()
    assert f"worker (pid {first}) ended: SIGKILL; again in 0.2 s\n" in capsys.readouterr().out


def test_what_a_dead_process_leaves_is_ended_before_the_next_one(supervisor, tmp_path):
    supervisor.start(service(tmp_path, "webhook", STUBBORN))
    log = supervisor.log("webhook")
    tick_until(supervisor, lambda: log.read_text().endswith("\n"))
    grandchild = int(log.read_text())
    os.kill(pids(tmp_path)["webhook"], signal.SIGKILL)
    tick_until(supervisor, lambda: not _lives(grandchild))


def _lives(pid: int) -> bool:
    return bool(psutil.pid_exists(pid)) and bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)


def test_pauses_grow_to_a_bound():
    assert [backoff_s(deaths) for deaths in (1, 2, 3)] == [0.2, 0.4, 0.8]
    assert backoff_s(7) == backoff_s(10_000) == 2.0


def test_a_process_that_dies_at_once_is_not_started_in_a_storm(supervisor, tmp_path):
    supervisor.start(service(tmp_path, "beat", "raise SystemExit(3)"))
    began_s = time.monotonic()
    (beat,) = supervisor.services
    tick_until(supervisor, lambda: beat.deaths == 3)
    assert time.monotonic() - began_s > 0.2 + 0.4


def test_the_stop_goes_stage_by_stage_and_leaves_nothing(supervisor, tmp_path):
    note = tmp_path / "order"
    code = (
        "import signal, sys, time\n"
        "def end(*_):\n open({note!r}, 'a').write({name!r} + ' '); sys.exit()\n"
        "signal.signal(signal.SIGTERM, end); print('up', flush=True); time.sleep(600)"
    )
    for name, stage in (("database", 2), ("webhook", 0), ("worker", 1)):
        supervisor.start(service(tmp_path, name, code.format(note=str(note), name=name), stage))
    logs = [supervisor.log(name) for name in ("database", "webhook", "worker")]
    tick_until(supervisor, lambda: all(log.exists() and log.read_text() for log in logs))
    numbers = pids(tmp_path)
    del numbers["supervisor"]
    supervisor.stop()
    assert note.read_text().split() == ["webhook", "worker", "database"]
    assert not any(psutil.pid_exists(pid) for pid in numbers.values())
    assert not (tmp_path / "pids.json").exists()


def test_a_process_that_does_not_end_within_its_grace_is_killed(supervisor, tmp_path, capsys):
    supervisor.start(service(tmp_path, "worker", STUBBORN, grace_s=0.3))
    log = supervisor.log("worker")
    tick_until(supervisor, lambda: log.read_text().endswith("\n"))
    grandchild, pid = int(log.read_text()), pids(tmp_path)["worker"]
    supervisor.stop()
    assert not psutil.pid_exists(pid)
    tick_until(supervisor, lambda: not _lives(grandchild))
    assert "worker did not end within" in capsys.readouterr().out


def test_a_command_that_fails_says_its_words(supervisor, tmp_path):
    child = supervisor.run_once("migrate", python(tmp_path, "print('no such table'); raise SystemExit(4)"))
    with pytest.raises(PartError, match=r"(?s)exit 4.*no such table"):
        supervisor.finish("migrate", child, timeout_s=10)


def test_a_stop_during_the_start_is_obeyed(supervisor, tmp_path):
    child = supervisor.run_once("migrate", python(tmp_path, SLEEP))
    supervisor.stopping = True
    with pytest.raises(StoppedError):
        supervisor.finish("migrate", child, timeout_s=10)
    assert not child.is_alive


def test_one_stack_per_clone(tmp_path):
    first, second = StackLock(tmp_path / "run.lock", "run"), StackLock(tmp_path / "run.lock", "run")
    first.acquire()
    with pytest.raises(RunningError, match=rf"already running here: `make run`, pid {os.getpid()}; Ctrl-C"):
        second.acquire()
    assert second.is_held()
    first.release()
    assert not second.is_held()


OWNER = """
import sys
from pathlib import Path
from ops.rehearsal.stack_lock import StackLock
from ops.rehearsal.supervisor import Supervisor
from tests.rehearsal.test_stack_supervisor import STUBBORN, service
folder = Path(sys.argv[1])
StackLock(folder / "run.lock", "run").acquire()
supervisor = Supervisor(folder)
supervisor.start(service(folder, "worker", STUBBORN))
print("up", flush=True)
while True:
    supervisor.pause(1)
"""


def test_after_a_kill_of_the_supervisor_lock_and_processes_are_recovered(tmp_path):
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout is not None
    assert owner.stdout.readline() == "up\n"
    log = tmp_path / "log" / "worker.log"
    deadline_s = time.monotonic() + 60
    while not (log.exists() and log.read_text().endswith("\n")):
        assert time.monotonic() < deadline_s
        time.sleep(0.02)
    owner.kill()
    owner.wait()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("ops.rehearsal.stack_lock.ORPHAN_GRACE_S", 0.5)
        lock = StackLock(tmp_path / "run.lock", "run")
        lock.acquire()
        # The worker ignores its parent's death; it and its child carry the stack's tag.
        assert len(orphans(tmp_path, "run")) == 2
        assert orphans(tmp_path, "chain") == []
        assert len(end_orphans(tmp_path, "run")) == 2
        assert orphans(tmp_path, "run") == []
        lock.release()


def test_a_log_is_shortened_in_place_and_its_end_is_kept(supervisor, tmp_path, monkeypatch):
    monkeypatch.setattr("ops.rehearsal.supervisor.LOG_BYTES", 1000)
    supervisor.start(service(tmp_path, "worker", "print('x' * 3000 + 'end', flush=True); " + SLEEP))
    older = tmp_path / "log" / "worker.log.1"
    supervisor._looked_at_s = float("-inf")
    tick_until(supervisor, lambda: supervisor.log("worker").stat().st_size > 0)
    supervisor._looked_at_s = float("-inf")
    supervisor.tick()
    assert older.read_text().endswith("end\n")
    assert older.stat().st_size <= 1000
    assert supervisor.log("worker").stat().st_size == 0

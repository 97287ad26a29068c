"""Drills end and stop processes of their own stack only, and say when they did nothing."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

from ops.rehearsal.stack_lock import tag
from ops.rollout.drills.embedded import EmbeddedParts
from ops.rollout.drills.report import CannotRun, NotInjected

NOWHERE = "redis://127.0.0.1:9/0"


def sleeper(**env: str) -> subprocess.Popen[bytes]:
    code = "print(flush=True); import time; time.sleep(600)"
    process = subprocess.Popen(
        [sys.executable, "-c", code], env={**os.environ, **env}, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.readline()  # it runs its own program, in its own environment, from here on
    return process


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    process = sleeper()
    yield process
    process.kill()
    process.wait()


@pytest.fixture
def ours(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    process = sleeper(**tag(tmp_path, "run"))
    (tmp_path / "pids.json").write_text(json.dumps({"worker": process.pid}))
    yield process
    process.kill()
    process.wait()


def test_a_process_of_another_stack_is_left_alone(tmp_path: Path, stranger: subprocess.Popen[bytes]) -> None:
    (tmp_path / "pids.json").write_text(json.dumps({"worker": stranger.pid, "valkey": stranger.pid}))
    parts = EmbeddedParts(tmp_path, NOWHERE)
    for harm in (parts.pause, parts.kill, parts.take_down):
        for name in ("worker", "redis"):
            with pytest.raises(NotInjected, match="is left alone"):
                harm(name)
    parts.unpause("worker")
    assert stranger.poll() is None
    assert psutil.Process(stranger.pid).status() != psutil.STATUS_STOPPED


def test_a_process_of_the_stack_is_paused_and_goes_on_and_is_killed(
    tmp_path: Path, ours: subprocess.Popen[bytes]
) -> None:
    parts = EmbeddedParts(tmp_path, NOWHERE)
    parts.pause("worker")
    assert psutil.Process(ours.pid).status() == psutil.STATUS_STOPPED
    parts.unpause("worker")
    assert psutil.Process(ours.pid).status() != psutil.STATUS_STOPPED
    parts.kill("worker")
    assert ours.wait(10) == -signal.SIGKILL
    with pytest.raises(NotInjected, match="is not there"):
        parts.kill("worker")


def test_who_is_not_there_cannot_be_harmed(tmp_path: Path, ours: subprocess.Popen[bytes]) -> None:
    parts = EmbeddedParts(tmp_path, NOWHERE)
    with pytest.raises(NotInjected, match="no process of this stack"):
        parts.pause("redis")
    (tmp_path / "pids.json").unlink()
    with pytest.raises(CannotRun, match="no running stack"):
        parts.identities()

"""Processes of the bot that need not import aiogram each: forked from one that has, with nothing of ours in it yet.

To import it takes longer than to import all the rest and to begin. What is run is `manage.py bot` as it stands.
"""

import contextlib
import importlib
import json
import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import psutil  # type: ignore[import-untyped]

from ops.rehearsal.parts.process import Command

ENDS_WITHIN_S = 10
SLOW_TO_IMPORT = ("aiogram", "django.db.models", "kombu.transport.redis", "psycopg")


class Fork:
    """One process of them; as `ops.rehearsal.parts.process.Child`."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)

    @property
    def is_alive(self) -> bool:
        return bool(self._process.is_running())

    def kill(self) -> None:
        """SIGKILL, as a crash would."""
        self._process.kill()
        self._process.wait(ENDS_WITHIN_S)

    def stop(self, grace_s: float) -> bool:
        """Ask to end and wait, then kill; whether it ended by itself."""
        with contextlib.suppress(psutil.NoSuchProcess):
            self._process.terminate()
            try:
                self._process.wait(grace_s)
            except psutil.TimeoutExpired:
                self.kill()
                return False
        return True


class Forks:
    """The process that they are forked from. Use it as a context; those that are left end with it."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            (sys.executable, "-m", "tests.ops.bot.forks"),
            cwd=self._root,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=ENDS_WITHIN_S)

    def begin(self, command: Command, log: Path) -> Fork:
        """As `Child(command, log)`, for a command of manage.py."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        order = {"argv": command.argv[1:], "env": dict(command.env), "log": str(log)}
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return Fork(int(self._process.stdout.readline()))


def main() -> None:
    """Fork a process for each line that comes, and say its number; all end where no more can come."""
    for name in SLOW_TO_IMPORT:
        importlib.import_module(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody asks how they ended
    for line in iter(sys.stdin.readline, ""):
        order = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _become(order["argv"], order["env"], order["log"])
            return
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.killpg(0, signal.SIGTERM)


def _become(argv: list[str], env: Mapping[str, Any], log: str) -> None:
    """The command, from now on."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.environ.clear()
    os.environ.update(env)
    sink = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (sink, 1), (sink, 2)):
        os.dup2(source, target)
    sys.argv = argv
    runpy.run_path(argv[0], run_name="__main__")


if __name__ == "__main__":
    main()

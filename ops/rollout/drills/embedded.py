"""The stack of `make run`: pids from var/pids.json, signals, and its supervisor, which starts again what ended."""

import contextlib
import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import redis

from ops.rehearsal.stack_lock import TAG, tag
from ops.rollout.drills.parts import DATABASE, NODE, REDIS, WATCHERS, Mark
from ops.rollout.drills.report import CannotRun, Failed, NotInjected

NAMES = {REDIS: "valkey", DATABASE: "postgres", NODE: "anvil"}
# What they are asked by to end: the node writes its state down then, and PostgreSQL ends its sessions.
ORDERLY = {NODE: signal.SIGTERM, DATABASE: signal.SIGINT}
ENDS_WITHIN_S = 30.0
AOF = "appendonlydir"
SIGNALLED_WITHIN_S = 3.0
POLL_S = 0.01
HOLD_EVERY_S = 0.005  # shorter than a server needs until it answers
REDIS_TIMEOUT_S = 1.0


class EmbeddedParts:
    """`folder` is the stack's var/. A pid counts only while its process carries this stack's tag."""

    form = "embedded"

    def __init__(self, folder: Path, redis_url: str) -> None:
        self._folder = folder
        self._redis_url = redis_url
        self._home = folder.resolve()
        self._tag = tag(folder, "run")[TAG]
        self._holding: dict[str, _Holding] = {}

    def identities(self) -> dict[str, str]:
        return {name: f"pid {pid}" for name, pid in self._pids().items()}

    def pause(self, name: str) -> None:
        self._signal(name, signal.SIGSTOP)
        process = self._process(name)
        if not _comes(lambda: process.status() == psutil.STATUS_STOPPED, SIGNALLED_WITHIN_S):
            raise NotInjected(f"{name} (pid {process.pid}) did not stop: it is {process.status()}")

    def unpause(self, name: str) -> None:
        with contextlib.suppress(NotInjected):  # it has ended meanwhile, which is no pause either
            self._signal(name, signal.SIGCONT)

    def names(self) -> set[str]:
        """Which parts are processes of this stack, by the names that drills use."""
        own = set(self._pids())
        return {name for name, here in NAMES.items() if here in own} | own - set(NAMES.values())

    def kill(self, name: str) -> None:
        self._end(name, signal.SIGKILL, SIGNALLED_WITHIN_S)

    def restart(self, name: str) -> None:
        self._end(name, ORDERLY.get(name, signal.SIGTERM), ENDS_WITHIN_S)

    def _end(self, name: str, number: signal.Signals, within_s: float) -> None:
        process = self._process(name)
        self._signal(name, number)
        if not _comes(lambda: not _lives(process), within_s):
            raise NotInjected(f"{name} (pid {process.pid}) survived {number.name}")

    def take_down(self, name: str) -> None:
        """The supervisor starts it again and again, so it is killed again and again until `bring_back`."""
        if name in ORDERLY:
            self.restart(name)
        else:
            self.kill(name)
        self._holding[name] = _Holding(lambda: self._kill_quietly(name))

    def bring_back(self, name: str) -> None:
        holding = self._holding.pop(name, None)
        if holding is not None:
            holding.end()

    def redis(self, *words: str) -> str:
        client = redis.Redis.from_url(
            self._redis_url,
            socket_timeout=REDIS_TIMEOUT_S,
            socket_connect_timeout=REDIS_TIMEOUT_S,
            retry=None,
            decode_responses=True,
        )
        try:
            return str(client.execute_command(*words))  # type: ignore[no-untyped-call]
        except (redis.RedisError, OSError) as error:
            raise Failed(f"redis {words[0]}: {type(error).__name__}: {error}") from error
        finally:
            client.close()

    def save_redis(self, to: Path) -> None:
        shutil.copytree(self._aof(), to / AOF)

    def put_back_redis(self, saved: Path) -> None:
        """Two renames, since a server that is being started may look at any moment."""
        home = self._aof().parent
        fresh, stale = home / f"{AOF}.drill", home / f"{AOF}.former"
        for path in (fresh, stale):
            shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(saved / AOF, fresh)
        (home / AOF).rename(stale)
        fresh.rename(home / AOF)
        shutil.rmtree(stale)
        self._kill_quietly(REDIS)

    def mark(self) -> Mark:
        return {name: str(path.stat().st_size) for name in WATCHERS if (path := self._log(name)).exists()}

    def log_since(self, mark: Mark, name: str) -> str:
        with self._log(name).open("rb") as source:
            size = source.seek(0, os.SEEK_END)
            begun = int(mark.get(name, "0"))
            source.seek(begun if begun <= size else 0)  # it may have been shortened meanwhile
            return source.read().decode(errors="replace")

    def _log(self, name: str) -> Path:
        return self._folder / "log" / f"{NAMES.get(name, name)}.log"

    def _aof(self) -> Path:
        path = self._folder / "valkey" / AOF
        if not path.is_dir():
            raise NotInjected(f"no persisted Redis in {path}: this stack's Redis is somebody else's")
        return path

    def _pids(self) -> dict[str, int]:
        try:
            content: Any = json.loads((self._folder / "pids.json").read_text())
            return {str(name): int(pid) for name, pid in content.items()}
        except (OSError, ValueError, AttributeError) as error:
            raise CannotRun(
                f"no running stack in {self._folder}: pids.json: {type(error).__name__}; `make run` starts one"
            ) from error

    def _process(self, name: str) -> psutil.Process:
        """The process of that name, known by the tag that every process of this stack carries."""
        pid = self._pids().get(NAMES.get(name, name), 0)
        if not pid:
            raise NotInjected(f"{name} is no process of this stack just now")
        try:
            process = psutil.Process(pid)
            # Redis writes its title over its environment; what it works in shows whose it is, too.
            ours = process.environ().get(TAG) == self._tag or self._home in Path(process.cwd()).parents
        except (psutil.Error, OSError) as error:
            raise NotInjected(f"{name} (pid {pid}) is not there: {type(error).__name__}") from error
        if not ours:
            raise NotInjected(f"pid {pid} of pids.json is not the {name} of this stack; it is left alone")
        return process

    def _signal(self, name: str, number: signal.Signals) -> None:
        process = self._process(name)
        try:
            process.send_signal(number)
        except psutil.Error as error:
            raise NotInjected(f"{number.name} did not reach {name}: {type(error).__name__}") from error

    def _kill_quietly(self, name: str) -> None:
        with contextlib.suppress(NotInjected, CannotRun):  # between two starts there is nothing to kill
            self._signal(name, signal.SIGKILL)


class _Holding:
    """Does something again and again, in a thread of its own, until it is ended."""

    def __init__(self, action: Callable[[], object]) -> None:
        self._action = action
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="drill-holding", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._ended.wait(HOLD_EVERY_S):
            self._action()

    def end(self) -> None:
        self._ended.set()
        self._thread.join()


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _comes(met: Callable[[], bool], within_s: float) -> bool:
    deadline_s = time.monotonic() + within_s
    while not met():
        if time.monotonic() > deadline_s:
            return False
        time.sleep(POLL_S)
    return True

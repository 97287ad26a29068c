"""Shards side by side: each is given the next job when it has done its last one."""

import json
import queue
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Self

from tests.crash import prepared

END_WITHIN_S = 20


class ShardError(RuntimeError):
    """A shard ended by itself; its log says why."""


class Pool:
    """Use as a context manager. `root` is the clone whose code is walked: this one, or a copy with a bug planted.

    `database` are files that `prepared` made; without them each shard makes its own. `long` says that hundreds of
    trials are to come, for which shards prepare themselves.
    With `first` each shard keeps to one core: that one, and those after it.
    `roads` are the scenarios with their faults, as the walked code has them, once somebody is ready.
    """

    def __init__(
        self,
        jobs: int,
        root: Path,
        logs: Path,
        *,
        database: Path | None = None,
        long: bool = False,
        first: int | None = None,
    ) -> None:
        self._root = root
        self._variables = {"PYTHONPATH": str(root)}
        if database is not None:
            self._variables[prepared.VARIABLE] = str(database)
        self._words = ["--long"] if long else []
        self._logs = logs
        self._jobs, self._first = jobs, first
        self._said: queue.Queue[tuple[int, dict[str, Any] | None]] = queue.Queue()
        self._shards: list[subprocess.Popen[str]] = []
        self._ready: set[int] = set()
        self.roads: dict[str, list[str]] = {}

    def __enter__(self) -> Self:
        self._logs.mkdir(parents=True, exist_ok=True)
        for number in range(self._jobs):
            with (self._logs / f"shard-{number}.log").open("w") as log:
                shard = subprocess.Popen(
                    [sys.executable, "-m", "tests.crash.shard", *self._words, *self._core(number)],
                    cwd=self._root,
                    env=prepared.environment() | self._variables,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    text=True,
                )
            self._shards.append(shard)
            threading.Thread(target=self._hear, args=(number, shard), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for shard in self._shards:
            assert shard.stdin is not None
            shard.stdin.close()
        for shard in self._shards:
            try:
                shard.wait(END_WITHIN_S)
            except subprocess.TimeoutExpired:
                shard.kill()  # it is in the middle of a job that nobody waits for; its parts end with it
                shard.wait()

    def _core(self, number: int) -> list[str]:
        return [] if self._first is None else [f"--core={self._first + number}"]

    def await_ready(self) -> None:
        """Until one shard is ready; the others join in while the first works."""
        if not self._ready:
            number, result = self._said.get()
            self._note_ready(number, result)

    def _note_ready(self, number: int, result: dict[str, Any] | None) -> dict[str, Any]:
        if result is None:
            raise ShardError(f"shard {number} has ended: see {self._logs / f'shard-{number}.log'}")
        if "ready" in result:
            self._ready.add(number)
            self.roads = result["ready"]
        return result

    def run(self, jobs: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Results as they come. Whoever stops listening ends the work with this pool."""
        waiting = iter(jobs)
        busy: set[int] = set()
        for number in sorted(self._ready):
            self._give(number, waiting, busy)
        while busy or len(self._ready) < self._jobs:
            number, said = self._said.get()
            result = self._note_ready(number, said)
            if "ready" in result:
                self._give(number, waiting, busy)
            elif result.get("done"):
                busy.discard(number)
                self._give(number, waiting, busy)
            else:
                yield result

    def _give(self, number: int, waiting: Iterator[dict[str, Any]], busy: set[int]) -> None:
        job = next(waiting, None)
        if job is None:
            return
        stdin = self._shards[number].stdin
        assert stdin is not None
        stdin.write(json.dumps(job) + "\n")
        stdin.flush()
        busy.add(number)

    def _hear(self, number: int, shard: subprocess.Popen[str]) -> None:
        assert shard.stdout is not None
        for line in shard.stdout:
            if line.startswith("@"):
                self._said.put((number, json.loads(line[1:])))
        self._said.put((number, None))

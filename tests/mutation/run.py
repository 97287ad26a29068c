"""One run: measure what is not measured yet, then show each mutant to its tests, and keep what came of it."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Self

from tests.mutation import scope
from tests.mutation.choice import Choice
from tests.mutation.mutants import ROOT, Mutant, Source
from tests.mutation.passes import Passed, Passes

WATCH_LIMIT_S = 300.0  # of one test
END_WITHIN_S = 20
# Each other variable costs every import of the settings, which look whether it is one of ours misspelt.
ENVIRONMENT = ("PATH", "HOME", "LANG", "TMPDIR", "TEST_NODE")


class WorkerError(RuntimeError):
    """The worker ended by itself; its log says why."""


@dataclass(frozen=True)
class Found:
    """What came of one mutant: killed, timeout, survived, or uncovered where no test passes it."""

    key: str
    name: str
    module: str
    line: int
    kind: str
    verdict: str
    finder: str = ""
    cpu_s: float = 0.0
    tests: int = 0


class Worker:
    """The process that does the jobs; use as a context manager."""

    def __init__(self, files: list[str], tests: tuple[str, ...], log: Path) -> None:
        self._setup = {"files": files, "tests": tests}
        self._log = log

    def __enter__(self) -> Self:
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.mutation.worker"],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env={name: value for name, value in os.environ.items() if name in ENVIRONMENT},
                text=True,
                start_new_session=True,
            )
        self.begun = self.ask(self._setup)
        if not self.begun["tests"]:
            raise WorkerError(f"no tests were collected: see {self._log}")
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(END_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()  # in the middle of a test that nobody waits for; its parts end with it
            self._process.wait()

    def ask(self, job: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(job) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError as gone:
            raise WorkerError(f"the worker has ended: see {self._log}") from gone
        for line in self._process.stdout:
            if line.startswith("@"):
                return dict(json.loads(line[1:]))
        raise WorkerError(f"the worker has ended: see {self._log}")


class Run:
    """Mutants against tests. `kept` is where measurements lie; `choice` is there once `measure` was done."""

    def __init__(self, worker: Worker, kept: Path, budget_s: float) -> None:
        self._worker = worker
        self._kept = kept
        self._budget_s = budget_s
        self._sources = [Source(file) for file in scope.files()]
        self._proven: set[tuple[str, str]] = set()
        self.passes = Passes.read(kept)
        self.unsteady: set[str] = set()

    def measure(self) -> Iterator[str]:
        """Watch the tests of each file that is new, has changed or did not pass; yields their names."""
        collected = {
            file: list(names)
            for file, names in groupby(self._worker.begun["tests"], key=lambda name: name.split("::")[0])
        }
        self.passes.at_import = self._worker.begun["at_import"]
        for file in [one for one in self.passes.files if one not in collected and not (ROOT / one).exists()]:
            self.passes.forget(file)
        for file, names in collected.items():
            digest = hashlib.sha256((ROOT / file).read_bytes()).hexdigest()
            passing = all(name in self.passes.tests and self.passes.tests[name].ok for name in names)
            if passing and self.passes.files.get(file) == digest:
                continue
            self.passes.forget(file)
            job = {"mode": "watch", "tests": names, "limit_s": WATCH_LIMIT_S}
            for name, one in self._worker.ask(job)["watched"].items():
                self.passes.tests[name] = Passed(**one)
            self.passes.files[file] = digest
            if not self.passes.digests:
                self.passes.digests = self._digests()
            self.passes.write(self._kept)
            yield file

    def failing(self) -> list[str]:
        """Tests of this run that do not pass on the unchanged code."""
        return [
            name
            for name in self._worker.begun["tests"]
            if name in self.passes.tests and not self.passes.tests[name].ok
        ]

    def _digests(self) -> dict[str, str]:
        return {
            f"{source.module}:{name}": source.digest_of(name)
            for source in self._sources
            for name, _ in source.functions
        }

    def show(self, mutants: list[Mutant]) -> Iterator[Found]:
        """What came of each, in their order."""
        choice = Choice(self.passes, self._worker.begun["tests"], self._sources, self._budget_s)
        for mutant in mutants:
            yield self._show(mutant, choice)

    def _show(self, mutant: Mutant, choice: Choice) -> Found:
        tests = [name for name in choice.of(mutant) if name not in self.unsteady]
        if not tests:
            return _found(mutant, "uncovered")
        mode = "import" if choice.is_imported(mutant) else "swap"
        answer = self._ask(mode, mutant, tests) if mode == "swap" else self._ask_importing(mutant, tests)
        if answer["verdict"] == "unfit":
            mode = "import"
            answer = self._ask_importing(mutant, tests)
        finder = answer["finder"]
        if finder in tests:
            if not self._is_steady(mode, finder):
                self.unsteady.add(finder)
                return self._show(mutant, choice)
            choice.note(mutant, finder)
        verdict = "survived" if answer["verdict"] == "passed" else answer["verdict"]
        return _found(mutant, verdict, finder, answer["cpu_s"], len(tests))

    def _ask_importing(self, mutant: Mutant, tests: list[str]) -> dict[str, Any]:
        """The tests of the first file, then of all others: each file costs its own import."""
        first = [name for name in tests if name.split("::")[0] == tests[0].split("::")[0]]
        others = [name for name in tests if name not in first]
        answer = self._ask("import", mutant, first)
        if answer["verdict"] == "passed" and others:
            spent_s = answer["cpu_s"]
            answer = self._ask("import", mutant, others)
            answer["cpu_s"] += spent_s
        return answer

    def _is_steady(self, mode: str, test: str) -> bool:
        """Whether the test passes on the unchanged code in the same kind of process. Asked once of each finder."""
        if (mode, test) not in self._proven:
            if self._ask(mode, None, [test])["verdict"] != "passed":
                return False
            self._proven.add((mode, test))
        return True

    def _ask(self, mode: str, mutant: Mutant | None, tests: list[str]) -> dict[str, Any]:
        return self._worker.ask(
            {
                "mode": mode,
                "mutant": asdict(mutant) if mutant else None,
                "file": mutant.module.replace(".", "/") + ".py" if mutant else "",
                "tests": tests,
                "seconds": {name: self.passes.tests[name].seconds for name in tests},
            }
        )


def _found(mutant: Mutant, verdict: str, finder: str = "", cpu_s: float = 0.0, tests: int = 0) -> Found:
    return Found(
        mutant.key, mutant.name, mutant.module, mutant.line, mutant.kind, verdict, finder, cpu_s, tests
    )

"""One run: measure what is not measured yet, then show each mutant to its tests, and keep what came of it."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

from tests.mutation import scope
from tests.mutation.choice import Choice
from tests.mutation.mutants import ROOT, Mutant, Source
from tests.mutation.passes import Passed, Passes
from tests.mutation.together import Group, grouped

WATCH_LIMIT_S = 300.0  # of one test
ALONE_S = 2.0  # of tests that a mutant is shown alone; what is found later is found by few
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
    shown: tuple[str, ...] = ()  # marks of the tests that did not find it


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
        self._proven: set[tuple[str, ...]] = set()
        self.passes = Passes.read(kept)
        self._unfit: set[tuple[str, str]] = set()
        self.unsteady: set[str] = set()
        self.unwatched: set[str] = set()

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
            watched = self._worker.ask(job)["watched"]
            for name, one in watched.items():
                self.passes.tests[name] = Passed(**one)
            if not watched:
                self.unwatched.add(file)
            self.passes.files[file] = digest
            if not self.passes.digests:
                self.passes.digests = self._digests()
            self.passes.write(self._kept)
            yield file

    def failing(self) -> list[str]:
        """Tests of this run that do not pass on the unchanged code, or that end the process that watches their file."""
        tests = self.passes.tests
        return [name for name in self._worker.begun["tests"] if name not in tests or not tests[name].ok]

    def _digests(self) -> dict[str, str]:
        return {
            f"{source.module}:{name}": source.digest_of(name)
            for source in self._sources
            for name, _ in source.functions
        }

    def show(
        self,
        mutants: list[Mutant],
        before: Mapping[str, Found] = MappingProxyType({}),
        finds: Iterable[Found] = (),
    ) -> Iterator[Found]:
        """What came of each: alone to what is cheap, then all that are left, which are yielded again, together to the rest.

        One of `before` that survived is not shown again to the tests that it is known to survive. `finds` tell which
        tests found others.
        """
        self._choice = Choice(self.passes, self._worker.begun["tests"], self._sources)
        for one in finds:
            if one.finder in self._worker.begun["tests"]:
                self._choice.note(one.module, one.name.split(":")[1], one.finder)
        self._marks = {
            name: self._mark(name) for name in self._worker.begun["tests"] if name in self.passes.tests
        }
        left: dict[Mutant, set[str]] = {}
        for mutant in mutants:
            known = set(before[mutant.key].shown) if mutant.key in before else set()
            shown = {name for name, mark in self._marks.items() if mark in known}
            if self._is_imported(mutant):
                yield self._show(mutant, self._budget_s, shown)
                continue
            found = self._show(mutant, min(ALONE_S, self._budget_s), shown)
            yield found
            if found.verdict == "survived" and self._budget_s > ALONE_S:
                left[mutant] = {name for name, mark in self._marks.items() if mark in found.shown}
        for group in grouped(list(left)):
            yield from self._show_together({mutant: left[mutant] for mutant in group})

    def _is_imported(self, mutant: Mutant) -> bool:
        return self._choice.is_imported(mutant) or (mutant.module, mutant.function) in self._unfit

    def _show(self, mutant: Mutant, budget_s: float, shown: AbstractSet[str] = frozenset()) -> Found:
        """Alone, to tests that it was not shown to."""
        tests = [name for name in self._choice.of(mutant, budget_s, shown) if name not in self.unsteady]
        if not tests:
            return self._lived(mutant, shown) if shown else _found(mutant, "uncovered")
        mode = "import" if self._is_imported(mutant) else "swap"
        answer = self._ask(mode, [mutant], tests) if mode == "swap" else self._ask_importing(mutant, tests)
        if answer["verdict"] == "unfit":
            self._unfit.add((mutant.module, mutant.function))
            return self._show(mutant, budget_s, shown)
        finder = answer["finder"]
        if finder and (unsteady := self._unsteady(mode, answer)):
            self.unsteady |= unsteady
            return self._show(mutant, budget_s, shown)
        if finder in tests:
            self._choice.note(mutant.module, mutant.function, finder)
        if answer["verdict"] == "passed":
            return self._lived(mutant, shown | set(tests), answer["cpu_s"])
        return _found(mutant, answer["verdict"], finder, cpu_s=answer["cpu_s"], tests=len(tests))

    def _show_together(self, shown: dict[Mutant, set[str]]) -> Iterator[Found]:
        budget_s = self._budget_s
        group = Group({one: self._choice.of(one, budget_s, known) for one, known in shown.items()})
        spent_s = 0.0
        while group.tests and (tests := [name for name in group.left() if name not in self.unsteady]):
            answer = self._ask("swap", list(group.tests), tests)
            spent_s += answer["cpu_s"]
            finder = answer["finder"]
            if answer["verdict"] == "passed":
                group.passed.update(tests)
            elif finder in tests:
                group.passed.update(tests[: tests.index(finder)])
                mutant = self._suspect(group, finder)
                alone = self._ask("swap", [mutant], [finder])
                spent_s += alone["cpu_s"]
                if alone["verdict"] in {"passed", "unfit"}:
                    group.passed.add(finder)  # it fails with several of them alone, and counts for none
                elif alone["finder"] and (unsteady := self._unsteady("swap", alone)):
                    self.unsteady |= unsteady
                else:
                    self._choice.note(mutant.module, mutant.function, finder)
                    group = group.without(mutant)
                    yield _found(mutant, alone["verdict"], alone["finder"], cpu_s=alone["cpu_s"], tests=1)
            else:
                # One that only an import shows goes on alone, and so do all where no test said how it ended.
                unfit = answer.get("unfit")
                for mutant in [one for one in group.tests if unfit in (None, one.key)]:
                    known = shown[mutant] | group.passed.intersection(group.tests[mutant])
                    group = group.without(mutant)
                    yield self._show(mutant, budget_s, known)
        for mutant, names in group.tests.items():
            yield self._lived(mutant, shown[mutant] | group.passed.intersection(names), spent_s / len(shown))

    def _suspect(self, group: Group, finder: str) -> Mutant:
        """Which of them the test fails with, by halves."""
        suspects = group.passing(finder)
        while len(suspects) > 1:
            half = suspects[: len(suspects) // 2]
            answer = self._ask("swap", half, [finder])
            suspects = suspects[len(half) :] if answer["verdict"] == "passed" else half
        return suspects[0]

    def _lived(self, mutant: Mutant, shown: AbstractSet[str], cpu_s: float = 0.0) -> Found:
        marks = tuple(sorted(self._marks[name] for name in shown))
        return _found(mutant, "survived", cpu_s=cpu_s, tests=len(shown), shown=marks)

    def _mark(self, test: str) -> str:
        """The same while the test's file is the same."""
        file, _, _ = test.partition("::")
        return hashlib.sha256(f"{test}\n{self.passes.files[file]}".encode()).hexdigest()[:8]

    def _ask_importing(self, mutant: Mutant, tests: list[str]) -> dict[str, Any]:
        """The tests of the first file, then of all others: each file costs its own import."""
        first = [name for name in tests if name.split("::")[0] == tests[0].split("::")[0]]
        others = [name for name in tests if name not in first]
        answer = self._ask("import", [mutant], first)
        if answer["verdict"] == "passed" and others:
            spent_s = answer["cpu_s"]
            answer = self._ask("import", [mutant], others)
            answer["cpu_s"] += spent_s
        return answer

    def _unsteady(self, mode: str, answer: Mapping[str, Any]) -> set[str]:
        """Which tests of a job that found something end so on the unchanged code, too; none where the find is proven."""
        asked, finder, at = answer["asked"], answer["finder"], answer["at"]
        if finder in asked:
            return set() if self._is_steady(mode, finder) else {finder}
        if at:  # it died with this one, of what those before it may have left
            again = self._ask(mode, [], asked[: asked.index(at) + 1])
            blamed = again["finder"] if again["finder"] in asked else at
            return set() if again["verdict"] == "passed" else {blamed}
        files = _files(asked)
        if self._is_collected(files):
            return set()
        broken = [file for file in files if not self._is_collected([file])] or files
        return {name for name in asked if _files([name])[0] in broken}

    def _is_steady(self, mode: str, test: str) -> bool:
        """Whether the test passes on the unchanged code in the same kind of process. Asked once of each finder."""
        if (mode, test) not in self._proven:
            if self._ask(mode, [], [test])["verdict"] != "passed":
                return False
            self._proven.add((mode, test))
        return True

    def _is_collected(self, files: list[str]) -> bool:
        """Whether the unchanged code can be imported by these files of tests in a new process. Asked once."""
        if ("import", *files) not in self._proven:
            if self._ask("import", [], [], files)["verdict"] != "passed":
                return False
            self._proven.add(("import", *files))
        return True

    def _ask(
        self, mode: str, mutants: list[Mutant], tests: list[str], files: Sequence[str] = ()
    ) -> dict[str, Any]:
        """What no test said is asked a second time, and only that counts: the machine may have had no memory left."""
        job = {
            "mode": mode,
            "mutants": [asdict(mutant) for mutant in mutants],
            "tests": tests,
            "files": files or _files(tests),
            "seconds": {name: self.passes.tests[name].seconds for name in tests},
        }
        answer = self._worker.ask(job)
        if answer["finder"] and answer["finder"] not in tests:
            spent_s = answer["cpu_s"]
            answer = self._worker.ask(job)
            answer["cpu_s"] += spent_s
            if mode == "swap" and answer["finder"] and not answer["at"]:
                answer |= {"verdict": "unfit", "finder": ""}  # it died before its first test
        return answer | {"asked": tests}


def _files(tests: Iterable[str]) -> list[str]:
    return sorted({name.split("::")[0] for name in tests})


def _found(
    mutant: Mutant,
    verdict: str,
    finder: str = "",
    *,
    cpu_s: float = 0.0,
    tests: int = 0,
    shown: tuple[str, ...] = (),
) -> Found:
    return Found(
        mutant.key, mutant.name, mutant.module, mutant.line, mutant.kind, verdict, finder, cpu_s, tests, shown
    )

"""The runner finds what tests hold and says what they do not; its changes are real, and each is told apart."""

import ast
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.mutation import __main__, report, scope, worker
from tests.mutation.forks import Clock, fork
from tests.mutation.mutants import ROOT, Mutant, Source
from tests.mutation.passes import Passed, Passes
from tests.mutation.run import Found, Run, Worker
from tests.mutation.stopwatch import Stopwatch
from tests.mutation.together import MOST, Group, grouped

FEES = "execution_app/node/fees.py"
SAMPLE = """
import enum
LIMIT = 10

def allowed(wei: int, *, floor: int = 3) -> bool:
    "Words that nobody holds."
    log.info("a line of the log", wei=wei)
    if wei > LIMIT and not floor:
        raise ValueError(f"too many {wei}")
    with lock:
        rows.filter(state="open", wei=-wei).order_by("id").save()
    return any(one < 5 for one in range(wei) if one)
"""


def changes_of(text: str, folder: Path) -> list[tuple[str, str]]:
    path = folder / "sample.py"
    path.write_text(text)
    return [(mutant.old, mutant.new) for mutant in Source("sample.py", root=folder).mutants]


def test_each_kind_of_change_is_made(tmp_path: Path) -> None:
    made = changes_of(SAMPLE, tmp_path)
    for change in (
        ("10", "11"),
        ("3", "4"),
        ("wei > LIMIT", "wei >= LIMIT"),
        ("wei > LIMIT", "wei <= LIMIT"),
        ("wei > LIMIT and (not floor)", "wei > LIMIT or not floor"),
        ("wei > LIMIT and (not floor)", "not floor"),
        ("not floor", "floor"),
        ("raise ValueError(f'too many {wei}')", "pass"),
        ("'open'", "'open~'"),
        ("-wei", "wei"),
        ("rows.filter(state='open', wei=-wei)", "rows.exclude(state='open', wei=-wei)"),
        ("rows.filter(state='open', wei=-wei)", "rows.filter(wei=-wei)"),
        ("rows.filter(state='open', wei=-wei).order_by('id').save()", "pass"),
        ("any((one < 5 for one in range(wei) if one))", "all((one < 5 for one in range(wei) if one))"),
        ("if one", "(no if)"),
        ("one < 5", "one <= 5"),
        ("return any((one < 5 for one in range(wei) if one))", "return None"),
    ):
        assert change in made
    assert len(made) == len(set(made))


def test_words_for_people_types_and_locks_are_left_alone(tmp_path: Path) -> None:
    for old, new in changes_of(SAMPLE, tmp_path):
        assert "line of the log~" not in new
        assert "nobody holds~" not in new
        assert "too many" not in new
        assert "lock" not in old


def test_no_change_is_one_of_the_text_alone(tmp_path: Path) -> None:
    assert changes_of('def one() -> "int":\n    """Two."""\n    assert True, "three"\n', tmp_path) == []


def test_every_mutant_of_a_real_module_compiles_and_has_a_name_of_its_own() -> None:
    source = Source(FEES)
    mutants = source.mutants
    assert len(mutants) > 50
    assert len({mutant.name for mutant in mutants}) == len({mutant.key for mutant in mutants}) == len(mutants)
    for mutant in mutants:
        assert source.mutated(mutant).co_code is not None
        assert ast.unparse(source.tree) == ast.unparse(ast.parse(source.text)), "the tree itself is unchanged"


def test_every_module_belongs_to_one_group() -> None:
    files = scope.files()
    assert len(files) == len(set(files)) > 40
    assert {scope.group_of(file) for file in files} == set(scope.GROUPS) == set(scope.TESTS)
    assert scope.files(["execution_app.node.fees"]) == [FEES]
    with pytest.raises(LookupError):
        scope.files(["no_such_module"])
    for tests in scope.TESTS.values():
        assert all((ROOT / one).exists() for one in tests)


def found(verdict: str, name: str = "a") -> Found:
    return Found(name, name, "execution_app.node.fees", 1, "compare", verdict)


def test_a_report_counts_timeouts_as_not_killed_and_equivalents_apart() -> None:
    many = [found("killed")] * 8 + [found("timeout"), found("survived"), found("uncovered", "same")]
    told = report.summary(many, {"same": ("equivalent", "why")})
    row = told["modules"]["execution_app.node.fees"]
    assert (row.mutants, row.killed, row.timeouts, row.survived, row.equivalent) == (11, 8, 1, 1, 1)
    assert row.percent == 80
    assert report.has_failed(told)
    assert len(told["survivors"]) == 2
    assert json.loads(report.as_json(told))["passed"] is False
    assert not report.has_failed(report.summary([found("killed")], {}))
    refuted = report.summary([found("killed")], {"a": ("accepted", "why")})
    assert report.has_failed(refuted), "a judgement that a test refutes"


def test_a_group_has_one_mutant_of_each_function_and_shows_what_any_of_them_is_to_see() -> None:
    mutants = [
        one for file in (FEES, "signals_app/signatures.py") for one in Source(file).mutants if one.function
    ]
    groups = list(grouped(mutants))
    assert sorted(one.name for group in groups for one in group) == sorted(one.name for one in mutants)
    assert any(len(group) > 1 for group in groups)
    for group in groups:
        assert len({(one.module, one.function) for one in group}) == len(group) <= MOST
    first, second = next(group for group in groups if len(group) > 1)[:2]
    both = Group({first: ["a", "b"], second: ["c", "b", "d"]})
    assert both.left() == ["a", "c", "b", "d"]
    assert both.passing("b") == [first, second]
    both.passed.update({"a", "c"})
    assert both.without(first).left() == ["b", "d"]


def test_seconds_of_waiting_for_a_core_are_no_costs_and_those_of_waiting_for_anything_else_are() -> None:
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        watch = Stopwatch([])
        watch.begin()
        time.sleep(0.5)
        assert watch.costs_s() >= 0.4
        watch = Stopwatch([busy.pid])
        watch.begin()
        begun_s = time.process_time()
        while time.process_time() - begun_s < 0.2:
            pass
        assert watch.costs_s() >= 0.2
    finally:
        busy.kill()
        busy.wait()


def test_what_hangs_is_ended_and_what_waits_for_a_core_has_its_time() -> None:
    def sleep(clock: Clock) -> str:
        clock.give(0.5)
        time.sleep(60)
        return "woken"

    assert fork(sleep).timed_out
    mine = sorted(os.sched_getaffinity(0))
    core = {mine[0]}

    def compute(clock: Clock) -> str:
        os.sched_setaffinity(0, core)
        os.nice(19)
        clock.give(1.0)
        while time.process_time() < 0.6:
            pass
        return "done"

    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(3)]
    try:
        for one in busy:
            os.sched_setaffinity(one.pid, core)
        assert fork(compute).said == "done"
    finally:
        for one in busy:
            one.kill()
            one.wait()


def test_a_process_that_dies_says_with_which_test() -> None:
    def die(clock: Clock) -> None:
        clock.give(60.0, 2)
        os.kill(os.getpid(), signal.SIGKILL)

    def fail(_: Clock) -> None:
        raise MemoryError

    died, failed = fork(die), fork(fail)
    assert (died.said, died.timed_out, died.step) == (None, False, 2)
    assert worker._judged(died, ["a", "b"]) | {"cpu_s": 0} == {
        "verdict": "killed",
        "finder": "death",
        "at": "b",
        "cpu_s": 0,
    }
    assert worker._judged(failed, ["a", "b"])["at"] == ""


HOME, FAR = "tests/signals/test_signatures.py", "tests/signals/test_tokens.py"
NEAR, OTHER = f"{HOME}::test_near", f"{FAR}::test_other"
PASSED: dict[str, Any] = {"verdict": "passed", "finder": "", "at": "", "cpu_s": 0.1}


def killed(finder: str, at: str = "") -> dict[str, Any]:
    return PASSED | {"verdict": "killed", "finder": finder, "at": at}


class Scripted(Worker):
    """Says of each job what it is told to say."""

    def __init__(self, says: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        self._says = says
        self.begun = {"tests": [NEAR, OTHER], "at_import": {}}
        self.jobs: list[dict[str, Any]] = []

    def ask(self, job: dict[str, Any]) -> dict[str, Any]:
        self.jobs.append(job)
        return dict(self._says(job))


def shown_by(
    says: Callable[[dict[str, Any]], dict[str, Any]], mutant: Mutant, folder: Path
) -> tuple[Found, Run, Scripted]:
    lines = {mutant.module: {name: [0] for name, _ in Source("signals_app/signatures.py").functions}}
    passes = Passes(dict.fromkeys((HOME, FAR), ""), {one: Passed(0.1, True, lines) for one in (NEAR, OTHER)})
    passes.write(folder / "passes.json")
    scripted = Scripted(says)
    run = Run(scripted, folder / "passes.json", budget_s=1)
    (one,) = run.show([mutant])
    return one, run, scripted


SWAPPED = next(one for one in Source("signals_app/signatures.py").mutants if one.function == "verify")
IMPORTED = next(one for one in Source("signals_app/signatures.py").mutants if not one.function)


def test_a_death_counts_when_it_comes_again_and_not_without_the_mutant(tmp_path: Path) -> None:
    one, run, asked = shown_by(
        lambda job: killed("death", OTHER) if job["mutants"] else PASSED, SWAPPED, tmp_path
    )
    assert (one.verdict, one.finder, run.unsteady) == ("killed", "death", set())
    assert [(len(job["mutants"]), job["tests"]) for job in asked.jobs] == [
        (1, [NEAR, OTHER]),
        (1, [NEAR, OTHER]),
        (0, [NEAR, OTHER]),
    ], "shown twice, and proven with the tests before it"
    deaths = [killed("death", NEAR)]
    one, run, _ = shown_by(lambda _: deaths.pop() if deaths else PASSED, SWAPPED, tmp_path)
    assert (one.verdict, run.unsteady) == ("survived", set()), "the machine's own"


def test_a_test_with_which_the_unchanged_code_dies_finds_nothing(tmp_path: Path) -> None:
    one, run, asked = shown_by(
        lambda job: killed("death", NEAR) if NEAR in job["tests"] else PASSED, SWAPPED, tmp_path
    )
    assert (one.verdict, run.unsteady) == ("survived", {NEAR})
    assert asked.jobs[-1]["tests"] == [OTHER], "it is shown to the others"
    one, run, _ = shown_by(
        lambda job: (
            (killed("death", OTHER) if job["mutants"] else killed(NEAR)) if NEAR in job["tests"] else PASSED
        ),
        SWAPPED,
        tmp_path,
    )
    assert (one.verdict, run.unsteady) == ("survived", {NEAR}), "what fails instead"


def test_a_death_before_any_test_is_shown_by_an_import(tmp_path: Path) -> None:
    one, _, asked = shown_by(
        lambda job: killed("death") if job["mode"] == "swap" else PASSED, SWAPPED, tmp_path
    )
    assert one.verdict == "survived"
    assert [job["mode"] for job in asked.jobs] == ["swap", "swap", "import", "import"]


@pytest.mark.parametrize("finder", ["import", "collection", "death"])
def test_a_broken_import_counts_only_where_the_unchanged_code_is_imported(
    finder: str, tmp_path: Path
) -> None:
    one, run, asked = shown_by(lambda job: killed(finder) if job["mutants"] else PASSED, IMPORTED, tmp_path)
    assert (one.verdict, one.finder, run.unsteady) == ("killed", finder, set())
    assert [(job["tests"], job["files"]) for job in asked.jobs if not job["mutants"]] == [([], [HOME])]
    one, run, _ = shown_by(
        lambda job: killed(finder) if HOME in job["files"] else (killed(OTHER) if job["mutants"] else PASSED),
        IMPORTED,
        tmp_path,
    )
    assert (one.verdict, one.finder, run.unsteady) == ("killed", OTHER, {NEAR})


def test_a_file_whose_watch_dies_is_told_with_its_tests(tmp_path: Path) -> None:
    run = Run(Scripted(lambda _: {"watched": {}, "cpu_s": 0.1}), tmp_path / "passes.json", budget_s=1)
    assert list(run.measure()) == [HOME, FAR]
    assert run.unwatched == {HOME, FAR}
    assert run.failing() == [NEAR, OTHER]


def test_what_was_judged_is_read() -> None:
    assert all(kind in ("equivalent", "accepted") and why for kind, why in report.judged().values())


def test_what_is_not_there_is_said() -> None:
    assert __main__.main(["--only", "no_such_module"]) == 2


@pytest.mark.parametrize("drawn", ["0", "-1"])
def test_a_run_of_no_mutants_has_not_passed(
    drawn: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--only", "signatures", "--sample", drawn, "--folder", str(tmp_path)]
    assert __main__.main(arguments) == 2
    assert "no mutant" in capsys.readouterr().err
    assert report.has_failed(report.summary([], {}))


@pytest.mark.timeout(300)
def test_mutants_are_found_by_a_test_and_survive_without_one(tmp_path: Path) -> None:
    """Within a function by a swap, outside of functions by a new import; and no test of signatures finds a fee."""
    signatures, fees = Source("signals_app/signatures.py").mutants, Source(FEES).mutants
    chosen = [
        next(one for one in signatures if not one.function and one.old == "65"),
        *[one for one in signatures if one.function == "verify" and one.kind == "unary"],
        next(one for one in fees if one.function == "tip"),
    ]
    tests = "tests/signals/test_signatures.py"
    with Worker(scope.files(), (tests,), tmp_path / "worker.log") as working:
        run = Run(working, tmp_path / "passes.json", budget_s=45)
        assert list(run.measure()) == [tests]
        assert run.failing() == []
        assert list(run.measure()) == [], "what was measured is kept"
        assert run._is_collected([tests])
        assert not run._is_collected(["tests/signals/test_no_such.py"])
        no_job = {"mode": "import", "mutants": [], "tests": [next(iter(run.passes.tests))], "files": [tests]}
        assert working.ask(no_job | {"seconds": None})["finder"] == "death", "an error of ours is no pass"
        shown = list(run.show(chosen))
        together = [one for one in signatures if one.function][:12]
        alone = {one.key: one for one in run.show(together)}
        # To the run they are survivors of a test that is not the one that finds them.
        test = next(iter(run.passes.tests))
        mark = run._mark(test)
        before = {key: replace(one, verdict="survived", shown=(mark,)) for key, one in alone.items()}
        again = {one.key: one for one in run.show(together, before)}
    verdicts = [one.verdict for one in shown]
    assert verdicts == ["killed"] * (len(chosen) - 1) + ["uncovered"], (tmp_path / "worker.log").read_text()
    assert {key for key, one in again.items() if one.verdict == "killed"} == {
        key for key, one in alone.items() if one.verdict == "killed" and one.finder != test
    }
    assert all(mark in one.shown for one in again.values() if one.verdict == "survived")

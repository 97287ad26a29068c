"""One trial: a child walks until it dies at a point, others recover, and the parent looks at what is left."""

import os
import signal
import traceback
from collections.abc import Callable
from dataclasses import dataclass

from django.db import connections

from execution_app.gate import watch
from execution_app.models import TxIntent
from tests import invariants
from tests.crash.bench import Bench
from tests.crash.points import Points, instrument
from tests.crash.scenarios import Scenario

ROUNDS = 6  # of sweeps and blocks, within which every intent ends


@dataclass(frozen=True)
class Trial:
    """What one death brought about; `problem` is blank when nothing was wrong afterwards."""

    number: int
    label: str
    rounds: int
    problem: str = ""


@dataclass(frozen=True)
class Ended:
    signal: int
    code: int
    lines: list[str]


Plant = Callable[[Bench], None]


def run(bench: Bench, scenario: Scenario, number: int, plant: Plant | None = None) -> Trial:
    """Die at this point and recover. A trial that did not die where it should raises."""
    labels, died = _walk(bench, scenario, number, plant)
    assert died, f"point {number} was not reached; there were {len(labels)}"
    assert len(labels) == number, f"died at point {len(labels)}, not at {number}"
    rounds, problem = _recover(bench, scenario)
    return Trial(number, labels[-1], rounds, problem or _judge(bench, scenario))


def run_alive(bench: Bench, scenario: Scenario) -> list[str]:
    """Walk to the end; returns the labels of all points. Raises AssertionError when the end is wrong."""
    labels, died = _walk(bench, scenario, 0, None)
    assert not died
    problem = _judge(bench, scenario)
    assert not problem, f"{scenario.name} without any death: {problem}"
    return labels


def _walk(bench: Bench, scenario: Scenario, number: int, plant: Plant | None) -> tuple[list[str], bool]:
    """Walk from a clean start in a child; the labels it reached, and whether it died by SIGKILL."""
    bench.renew()

    def walk(pipe: int) -> None:
        bench.start_process()
        scenario.before(bench)
        if plant is not None:
            plant(bench)
        instrument(Points(number, pipe), bench.proxy.url)
        scenario.walk(bench)

    ended = in_child(walk)
    died = ended.signal == signal.SIGKILL
    assert died or not (ended.signal or ended.code), "\n".join(ended.lines)
    return [line.removeprefix("point ") for line in ended.lines if line.startswith("point ")], died


def _recover(bench: Bench, scenario: Scenario) -> tuple[int, str]:
    """Fresh processes sweep; returns the rounds it took, and what went wrong."""

    def sweep(pipe: int) -> None:
        bench.start_process()
        for number in range(1, ROUNDS + 1):
            scenario.again(bench)
            bench.age()
            bench.sweep_signals()
            bench.submit()
            bench.track()
            if not bench.is_done():
                bench.live_on()
            if bench.is_done():
                os.write(pipe, f"rounds {number}\n".encode())
                return
        left = list(TxIntent.objects.filter(settled_at=None).values_list("pk", "state", "reason_detail"))
        raise AssertionError(f"after {ROUNDS} rounds there is left {left}")

    ended = in_child(sweep)
    if ended.code or ended.signal:
        return 0, (ended.lines or ["recovery said nothing"])[-1]
    return int(ended.lines[-1].split()[1]), ""


def _judge(bench: Bench, scenario: Scenario) -> str:
    """What is wrong with the end, in one line; blank when nothing is."""
    try:
        invariants.check(bench.proxy)
    except AssertionError as broken:
        return str(broken).splitlines()[0]
    mined = invariants.executions(bench.rig.wallet)
    if len(mined) != scenario.executions:
        return f"{len(mined)} executions: {mined}"
    states = set(TxIntent.objects.values_list("state", flat=True))
    return (
        ""
        if states and states <= scenario.ends
        else f"intents ended {states or 'nowhere: the signal is lost'}"
    )


def in_child(work: Callable[[int], None]) -> Ended:
    """Run it in a forked process that never comes back; its lines come through a pipe."""
    watch.stop()
    connections.close_all()
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.close(reader)
            work(writer)
            code = 0
        except BaseException:  # noqa: BLE001  (a child must not return into the test runner, whatever happened)
            os.write(writer, traceback.format_exc().encode())
        finally:
            os._exit(code)
    os.close(writer)
    with os.fdopen(reader, encoding="utf-8", errors="replace") as pipe:
        lines = pipe.read().splitlines()
    _, status = os.waitpid(pid, 0)
    died = os.WIFSIGNALED(status)
    return Ended(os.WTERMSIG(status) if died else 0, 0 if died else os.WEXITSTATUS(status), lines)


def run_all(bench: Bench, scenario: Scenario, every: int, *, both_sides: bool) -> list[Trial]:
    """Die at every point, or at every n-th.

    Nothing happens between the end of one step and the beginning of the next,
    so one side of that stretch stands for both, unless both are wanted.
    """
    labels = run_alive(bench, scenario)
    numbers = [
        number
        for number, label in enumerate(labels, start=1)
        if both_sides or number == 1 or label.startswith("after ")
    ]
    return [run(bench, scenario, number) for number in numbers[::every]]


def table(scenario: Scenario, trials: list[Trial]) -> str:
    """Every trial in a line: where it died, in how many rounds others finished, what was wrong then."""
    lines = [f"{scenario.name}: {len(trials)} deaths by SIGKILL"]
    lines += [f"{t.number:4} {t.label:48} rounds {t.rounds}  {t.problem or 'ok'}" for t in trials]
    return "\n".join(lines)

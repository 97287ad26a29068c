"""SIGKILL at every commit, every RPC request, every signature and every bell of a road.

The test suite takes every stretch of an open and a close, and every third of
the other roads; `VANTA_CRASH_ALL=1` takes both ends of every stretch of all.
"""

import os

import pytest

from tests.crash.bench import Bench
from tests.crash.scenarios import BUMP, CANCEL, CLOSE, EXPIRE, LOST, OPEN, Scenario
from tests.crash.trial import run_all, table

ALL = os.environ.get("VANTA_CRASH_ALL", "") == "1"


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("scenario", "every"),
    [(OPEN, 1), (CLOSE, 1), (BUMP, 3), (CANCEL, 3), (EXPIRE, 3), (LOST, 3)],
    ids=lambda value: value.name if isinstance(value, Scenario) else None,
)
def test_a_road_is_finished_wherever_it_was_left(bench: Bench, scenario: Scenario, every: int) -> None:
    trials = run_all(bench, scenario, 1 if ALL else every, both_sides=ALL)
    print(table(scenario, trials))  # noqa: T201  (the table of points, shown by -s)
    assert len(trials) >= 10
    wrong = [trial for trial in trials if trial.problem]
    assert not wrong, table(scenario, wrong)

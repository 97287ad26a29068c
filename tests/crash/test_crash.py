"""A slice of `make crashtest` in the test suite: some deaths on every kind of road, and bugs that have to be found."""

from pathlib import Path

import pytest

from tests.crash import plan, plants
from tests.crash.pool import Pool
from tests.crash.report import describe
from tests.crash.sites import ROOT

ROADS = {
    "open": ["lost"],
    "close": ["reset"],
    "bump": [],
    "cancel in slot": [],
    "stop, then resume": [],
    "reorg of the fill": [],
}
TRIALS = 60


@pytest.mark.timeout(600)
def test_roads_are_finished_wherever_they_were_left(tmp_path: Path) -> None:
    with Pool(1, ROOT, tmp_path) as pool:
        explored = list(pool.run(plan.explorations(ROADS)))
        tried = list(pool.run(plan.jobs(plan.draw(explored, TRIALS, "", seed=1))))
    wrong = [describe(one) for one in (*explored, *tried) if one["problem"]]
    assert not wrong, "\n".join(wrong)
    counted = [one for one in tried if one["reached"]]
    assert len(counted) > 0.9 * TRIALS
    assert len({one["label"] for one in counted}) >= 40


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "name", ["broadcast-before-persist", "another-nonce-on-silence", "stop-asked-too-early"]
)
def test_a_planted_bug_is_found(name: str, tmp_path: Path) -> None:
    (patch,) = plants.patches(name)
    found = plants.hunt(patch, jobs=1, logs=tmp_path, seed=1)
    assert found["caught"], found


def test_every_patch_applies() -> None:
    for patch in plants.patches():
        with plants.planted(patch) as copy:
            assert (copy / "execution_app").is_dir()

"""A slice of `make crashtest` in the test suite: every place passed once, and some deaths on every kind of road."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash import plan, sites
from tests.crash.pool import Pool
from tests.crash.report import Report, describe

ROADS = {
    "open": ["lost"],
    "close": ["reset"],
    "bump": [],
    "cancel in slot": [],
    "stop, then resume": [],
    "reorg of the fill": [],
}
# Roads that together pass every place. What is missing here costs time only: then all roads are walked.
PASSING = [
    "keeper refunds",
    "cancel unsent",
    "paper desk",
    "reorg of both",
    "a node that says reverted",
    "foreign transaction",
    "first boot",
    "DRY turns LIVE",
    "cap tightened",
    "sped up",
    "a level that the venue missed",
    "closed elsewhere",
    "held and rejected",
    "chain disagrees",
    "cap set and lifted",
    "stop stays",
    "desk",
    "dry",
    "dry, when the keeper comes",
    "a level fires, then a stop",
    "stop after broadcast",
    "an open with levels",
    "reorg of the fill",
    "word in Redis",
    "tap in Telegram",
    "older copy of the database",
]
TRIALS = 20
COUNTED = 17  # on a machine under load a road may go another way


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    folder: Path = tmp_path_factory.mktemp("crash")
    with Pool(1, sites.ROOT, folder) as pool:
        pool.await_ready()
        yield pool


@pytest.mark.timeout(1800)
def test_every_place_of_the_code_is_on_a_road(pool: Pool) -> None:
    """Those roads that pass all places; the rest only where something new is on none of them."""
    assert pool.roads.keys() >= set(PASSING)
    report = Report()
    for names in (PASSING, [name for name in pool.roads if name not in PASSING]):
        walks = [{"scenario": name, "faults": [""], "walk_only": True} for name in names]
        report.explored += pool.run(walks)
        report.inspect()
        if not report.missed:
            break
    assert not report.wrong, [describe(one) for one in report.wrong]
    assert (report.missed, report.gone) == ([], [])


@pytest.mark.timeout(1800)
def test_roads_are_finished_wherever_they_were_left(pool: Pool) -> None:
    explored = list(pool.run(plan.explorations(ROADS)))
    tried = list(pool.run(plan.jobs(plan.draw(explored, TRIALS, "", seed=1))))
    wrong = [describe(one) for one in (*explored, *tried) if one["problem"]]
    assert not wrong, "\n".join(wrong)
    counted = [one for one in tried if one["reached"]]
    assert len(counted) >= COUNTED
    assert len({one["label"] for one in counted}) >= COUNTED // 2

"""Which deaths are drawn."""

from collections import Counter
from typing import Any

import pytest

from tests.crash import plan


def walked(name: str, *, fault: str = "", deaths: int = 0) -> dict[str, Any]:
    return {"scenario": name, "fault": fault, "labels": [f"p{n}" for n in range(10)] * 2, "deaths": deaths}


def test_a_road_that_wants_few_deaths_leaves_the_others_their_faults() -> None:
    explored = [walked("few", deaths=3), walked("all"), walked("all", fault="lost")]
    assert plan.distinct(explored) == 13
    drawn = plan.draw(explored, 23, "", seed=1)
    assert sum(key[0] == "few" for key in drawn) == 3
    assert len({key[2] for key in drawn if key[:2] == ("all", "lost")}) == 10


def test_what_few_leave_out_is_drawn_where_nothing_else_is_left() -> None:
    drawn = plan.draw([walked("few", deaths=3)], 100, "", seed=1)
    assert len(drawn) == len(set(drawn)) == 20


@pytest.mark.parametrize("wanted", [20, 25])
def test_no_point_is_left_out_where_there_are_trials_for_all(wanted: int) -> None:
    """Those of a road that wants few deaths may lie on no other."""
    few = walked("few", deaths=3) | {"labels": [f"q{n}" for n in range(10)]}
    drawn = plan.draw([few, walked("all"), walked("all", fault="lost")], wanted, "", seed=1)
    assert len(drawn) == len(set(drawn)) == wanted
    assert {key[2] for key in drawn} == {f"{kind}{n}" for kind in "pq" for n in range(10)}


def test_a_few_trials_are_those_of_most_worth() -> None:
    few = walked("few", deaths=3) | {"labels": [f"q{n}" for n in range(10)]}
    drawn = plan.draw([few, walked("all")], 13, "", seed=1)
    assert sum(key[0] == "few" for key in drawn) == 3


def test_a_scenario_is_one_job_unless_that_would_leave_shards_idle() -> None:
    """To set its stage costs as much as a few trials."""
    drawn = [(name, fault, f"p{n}", 1) for name in "ab" for fault in ("", "lost") for n in range(40)]
    many = drawn + [(f"c{n}", "", "p", 1) for n in range(40 * plan.MOST)]
    for keys, jobs_of_a in ((drawn, 7), (many, 1)):
        jobs = list(plan.jobs(keys))
        assert sum(job["scenario"] == "a" for job in jobs) == jobs_of_a
        assert Counter(
            key for job in jobs for key in [(job["scenario"], *one) for one in job["places"]]
        ) == Counter(keys)
        assert [len(job["places"]) for job in jobs if job["scenario"] > "b"] == [1] * (len(keys) - len(drawn))

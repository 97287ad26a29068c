"""A drill's report: what decides its verdict, how it is told, and that no run overwrites another's."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ops.rollout.drills import logs
from ops.rollout.drills.emergency_stop import EACH, pairs
from ops.rollout.drills.report import EXIT_CODES, CannotRun, Report, Verdict
from ops.rollout.drills.stage import permit_chain

BEGAN_AT = datetime(2026, 11, 25, 1, 2, 3, tzinfo=UTC)
DRY = {"mode": "DRY", "requested": "DRY"}


def report() -> tuple[Report, list[str]]:
    said: list[str] = []
    ticks = iter(BEGAN_AT + timedelta(milliseconds=250 * n) for n in range(1_000))
    return Report("redis-outage", {"seconds": 5}, said.append, clock=lambda: next(ticks)), said


def test_it_passes_when_every_check_did_and_fails_by_a_single_one() -> None:
    one, said = report()
    one.step("Redis is away")
    assert one.verdict.name == "FAILED", "nothing was checked yet"
    one.check("health says DRY", True, "41 answers")
    one.figure("until DRY", 0.4567, "s")
    one.left_out("anything that only LIVE shows")
    assert one.verdict.name == "PASSED"
    one.check("nothing was sent", False, "0xabc | two")
    one.check("nothing was lost", True)
    assert one.verdict.name == "FAILED"
    assert [line.split(" s ", 1)[1] for line in said] == [
        "  >  Redis is away",
        "ok   health says DRY: 41 answers",
        "  =  until DRY: 0.457 s",
        "  -  not exercised: anything that only LIVE shows",
        "FAIL nothing was sent: 0xabc | two",
        "ok   nothing was lost",
    ]


def test_what_could_not_run_has_neither_passed_nor_failed() -> None:
    one, said = report()
    one.check("signals flow", True)
    one.refuse("no running stack")
    assert one.verdict.name == "COULD_NOT_RUN"
    assert said[-1] == "could not run: no running stack"
    assert EXIT_CODES == {Verdict.PASSED: 0, Verdict.FAILED: 1, Verdict.COULD_NOT_RUN: 2}


def test_both_files_tell_the_same_and_the_next_run_has_files_of_its_own(tmp_path: Path) -> None:
    names = []
    for _ in range(2):
        one, _ = report()
        one.check("nothing was sent", False, "0xabc | two")
        one.figure("until DRY", 0.5, "s")
        markdown, machine = one.write(tmp_path / "drills")
        names += [markdown.name, machine.name]
        text, told = markdown.read_text(), json.loads(machine.read_text())
        assert text.startswith("# Drill redis-outage: failed\n")
        assert "| nothing was sent | **FAILED** | 0xabc \\| two |" in text
        assert "- nothing was sent: 0xabc | two" in text
        assert told["verdict"] == "failed"
        assert told["failures"] == ["nothing was sent"]
        assert told["figures"] == {"until DRY": {"value": 0.5, "unit": "s"}}
        assert told["began_at"] == "2026-11-25T01:02:03.000Z"
    assert names == [
        "20261125T010203Z-redis-outage.md",
        "20261125T010203Z-redis-outage.json",
        "20261125T010203Z-redis-outage-2.md",
        "20261125T010203Z-redis-outage-2.json",
    ]


def test_drills_keep_off_real_chains() -> None:
    permit_chain(31337, 31337, None, {"mode": "LIVE", "requested": "LIVE"})
    permit_chain(8453, 8453, 8453, DRY)
    for configured, real, confirmed, mode in (
        (31337, 8453, 31337, DRY),  # the node is on another chain than it should be
        (8453, 8453, None, DRY),
        (8453, 8453, 1, DRY),
        (8453, 8453, 8453, {"mode": "DRY", "requested": "LIVE"}),
        (8453, 8453, 8453, {"mode": "LIVE", "requested": "LIVE"}),
    ):
        with pytest.raises(CannotRun):
            permit_chain(configured, real, confirmed, mode)


def test_every_surface_meets_every_fault_or_each_another_one() -> None:
    assert pairs(["http", "redis"], ["none", "flush"]) == [
        ("http", "none"),
        ("redis", "none"),
        ("http", "flush"),
        ("redis", "flush"),
    ]
    each = pairs(["redis", "http", "admin", "command", "file", "more"], [EACH])
    assert [fault for _, fault in each] == ["none", "pause", "stop", "flush", "old-dump", "none"]


def test_processes_are_told_apart_in_both_forms_of_logs() -> None:
    text = 'timestamp=2026-11-25T01:24:18.267928Z level=error event="FAILING SAFE TO DRY MODE" pid=7\n{"event": "FAILING SAFE TO DRY MODE", "timestamp": "2026-11-25T01:24:19Z", "pid": 8}\ntimestamp=2026-11-25T01:24:20.2Z event="health streak 1/3" component=worker pid=7\ntimestamp=2026-11-25T01:24:20.4Z event="health streak 2/3" component=worker pid=7\n{"event": "health streak 1/3", "timestamp": "2026-11-25T01:24:19Z", "pid": 8}\na line of somebody else\'s: health streak 3/3'
    assert logs.by_process(text, logs.FALL) == {7: 1, 8: 1}
    assert logs.streaks(text) == {7: [1, 2], 8: [1]}
    assert logs.needed(text) == 3

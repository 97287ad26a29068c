"""The mode's rules table by table, each table one test: without a database, in milliseconds."""

import hashlib
import itertools
import json
from dataclasses import replace

import pytest

from execution_app.gate import modes
from execution_app.gate.modes import Facts, Kinds, Limits, Reading, Ruling, Snapshot
from execution_app.states import Mode, RestrictionKind

STOP, DRY, REDUCE = RestrictionKind.STOP, RestrictionKind.DRY, RestrictionKind.REDUCE_ONLY
NONE = modes.NONE
EPOCH = 7
OLD_VALUE = Reading(False, "key exec_mode is of another epoch", rewrite=True)
GARBLED = Reading(False, "key exec_mode is unreadable", garbled=True)


def kinds(*found: RestrictionKind) -> Kinds:
    return frozenset(found)


ALL = [kinds(*some) for size in range(4) for some in itertools.combinations(RestrictionKind, size)]


def read(value: object, raw_epoch: str | None = str(EPOCH)) -> Reading:
    raw = value if isinstance(value, str) or value is None else json.dumps(value)
    return modes.read(raw, raw_epoch, EPOCH)


def test_what_the_stack_writes_is_the_same_in_every_version_of_it() -> None:
    """Processes of two versions stand beside one another while one replaces the other, and read what both write."""
    words = '"emergency_stop": true, "epoch": 7, "mode": "LIVE", "reduce_only": false, "updated_at": 123'
    seal = hashlib.sha256(f"{{{words}}}".encode()).hexdigest()[:16]
    assert modes.own_value(kinds(STOP), 7, 123) == (
        '{"mode": "LIVE", "emergency_stop": true, "reduce_only": false, "updated_at": 123, "epoch": 7, '
        f'"seal": "{seal}"}}'
    )
    for active in ALL:
        raw = modes.own_value(active, 8, 9)
        value = json.loads(raw)
        assert (value["mode"], value["emergency_stop"], value["reduce_only"]) == (
            "DRY" if DRY in active else "LIVE",
            STOP in active,
            REDUCE in active,
        )
        assert (value["updated_at"], value["epoch"]) == (9, 8)
        assert [modes.tells(raw, others) for others in ALL] == [others == active for others in ALL]


def test_what_one_look_at_the_stacks_own_value_says() -> None:
    for active in ALL:
        own = modes.own_value(active, EPOCH, 5)
        for beside in ("7", " 7\n"):
            assert read(own, beside) == Reading(healthy=True)
        assert read(json.dumps(json.loads(own), sort_keys=True, indent=2)) == Reading(healthy=True)
        for in_value, beside_it in ((7, "6"), (7, None), (7, ""), (6, "7"), (6, "6"), (8, "8")):
            assert read(modes.own_value(active, in_value, 5), beside_it) == OLD_VALUE
        # By hand, or under a seal of something else: somebody's word.
        value = json.loads(own)
        for forged in (value | {"emergency_stop": True, "seal": "x"}, {**value, "updated_at": 6}):
            found = read(forged)
            assert found.healthy
            assert found.imposes | found.lifts == kinds(STOP, DRY, REDUCE)


def test_what_one_look_at_an_operators_word_says() -> None:
    """Beside a wrong epoch a restriction counts, and a lifting does not."""
    assert read(None) == Reading(False, "key exec_mode is absent", rewrite=True)
    assert modes.garbled() == GARBLED
    assert modes.unreachable("away") == Reading(False, "away")
    words: list[tuple[dict[str, object], RestrictionKind]] = [
        ({"mode": "DRY"}, DRY), ({"emergency_stop": True}, STOP), ({"reduce_only": True}, REDUCE),
        ({"mode": "LIVE"}, DRY), ({"emergency_stop": False}, STOP), ({"reduce_only": False}, REDUCE),
    ]  # fmt: skip
    for size in range(4):
        for chosen in itertools.combinations(words, size):
            value: dict[str, object] = {"comment": "by hand"}
            imposes: set[RestrictionKind] = set()
            lifts: set[RestrictionKind] = set()
            for word, kind in chosen:
                if set(word) & set(value):
                    break
                value |= word
                (imposes if (word, kind) in words[:3] else lifts).add(kind)
            else:
                expected = Reading(healthy=True, imposes=frozenset(imposes), lifts=frozenset(lifts))
                assert read(value) == read(value, " 7\n") == expected
                for wrong in (None, "", "6", "77", "seven"):
                    found = read(value, wrong)
                    assert found.problem
                    assert replace(found, problem="") == Reading(
                        False, imposes=frozenset(imposes), rewrite=True
                    )


def test_what_nobody_understands_is_left_for_its_author() -> None:
    wrong: list[object] = ["", "{", "null", "[]", "7", '"DRY"', "[" * 100_000, {"mode": "dry"}]
    wrong += [{"mode": None}, {"mode": ["LIVE"]}, {"emergency_stop": 1}, {"reduce_only": 0}]
    wrong += [{"emergency_stop": None}, {"reduce_only": "no"}]
    wrong += [{"emergency_stop": True, "reduce_only": "no"}, {"emergency_stop": "no", "reduce_only": True}]
    for value in wrong:
        for beside in ("7", "6", None):
            assert read(value, beside) == GARBLED
        assert not modes.tells(value if isinstance(value, str) else json.dumps(value), NONE)


def test_one_more_reading_adds_to_the_streak_or_ends_it() -> None:
    before = [
        Snapshot(1.0, streak, problem, imposes, garbled)
        for streak, problem in ((0, "away"), (1, ""), (5, ""))
        for imposes in (NONE, kinds(STOP))
        for garbled in (False, True)
    ]
    for one in before:
        for imposes in (NONE, kinds(DRY)):
            healthy = Reading(healthy=True, imposes=imposes, lifts=kinds(REDUCE))
            assert modes.advance(one, healthy, 2.0) == Snapshot(2.0, one.streak + 1, "", imposes, False)
            for rewrite, garbled in itertools.product((False, True), repeat=2):
                ill = Reading(False, "gone", imposes, rewrite=rewrite, garbled=garbled)
                unclear = garbled or (one.garbled and not rewrite)
                assert modes.advance(one, ill, 2.0) == Snapshot(
                    2.0, 0, "gone", one.imposes | imposes, unclear
                )


def expected_reason(limits: Limits, facts: Facts, active: Kinds, age_s: float) -> tuple[str, int]:
    """The first of these that holds is what a person is told, since it has to go first."""
    snapshot = facts.snapshot
    streak = snapshot.streak if snapshot else 0
    old = snapshot is not None and age_s > limits.snapshot_age_s
    problem = snapshot.problem if snapshot else ""
    speaks = [
        (bool(facts.database_problem), facts.database_problem),
        (limits.bound is Mode.DRY, limits.why),
        (DRY in active, "DRY was set by an operator; Restrictions on the admin site says where"),
        (snapshot is None, "this process does not watch the mode"),
        (old, "the last look at Redis is too old"),
        (bool(problem), f"redis: {problem}"),
        (streak < limits.streak_needed, f"health streak {streak}/{limits.streak_needed}"),
        (bool(facts.chain_problem), facts.chain_problem),
    ]
    reason = next((words for holds, words in speaks if holds), "")
    return reason, 0 if reason == "the last look at Redis is too old" else streak


SNAPSHOTS = [
    None,
    *(Snapshot(100.0, streak, "") for streak in (2, 3, 4, 9)),
    *(Snapshot(100.0, 3, "", kinds(kind)) for kind in RestrictionKind),
    Snapshot(100.0, 0, "away"),
    Snapshot(100.0, 0, "away", garbled=True),
    Snapshot(100.0, 0, "away", kinds(STOP)),
]


def test_every_ruling_and_its_reason() -> None:
    """LIVE where nothing speaks against it. A person may let a close pass where Redis' health, and nothing else, does."""
    everything = itertools.product(
        (Limits(Mode.LIVE), Limits(Mode.LIVE, 4, 2.0), Limits(Mode.DRY, why="FORCE_DRY is set")),
        SNAPSHOTS,
        ALL,
        ("", "another genesis"),
        ("", "database: gone"),
        (0.0, 1.0, 1.5, 2.0, 60.0),
    )
    for limits, snapshot, set_here, chain, database, age_s in everything:
        facts = Facts(set_here, snapshot, chain, database)
        active = set_here | (snapshot.imposes if snapshot else NONE)
        reason, streak = expected_reason(limits, facts, active, age_s)
        wanted = limits.bound is Mode.LIVE and DRY not in active
        only_redis = wanted and bool(reason) and STOP not in active and not chain and not database
        only_redis = only_redis and snapshot is not None and not snapshot.garbled
        mode = Mode.DRY if reason else Mode.LIVE
        if STOP in active:
            reason = f"emergency stop; {reason}" if reason else "emergency stop"
        ruling = modes.rule(limits, facts, 100.0 + age_s)
        assert ruling == Ruling(
            Mode.LIVE if wanted else Mode.DRY,
            mode,
            STOP in active,
            REDUCE in active,
            reason,
            streak,
            only_redis and age_s <= limits.snapshot_age_s,
        )
        assert ruling.degraded is (wanted and mode is Mode.DRY)
        assert isinstance(ruling.only_redis, bool)


@pytest.mark.parametrize("requested", Mode)
@pytest.mark.parametrize("mode", Mode)
def test_degraded_is_what_is_wanted_live_and_is_not(requested: Mode, mode: Mode) -> None:
    ruling = Ruling(requested, mode, emergency_stop=False, reduce_only=False, reason="")
    assert ruling.degraded is (requested is Mode.LIVE and mode is Mode.DRY)

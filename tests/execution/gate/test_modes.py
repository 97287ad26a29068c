"""The rules of the mode as a truth table, and every short history of Redis against a model of the contract."""

import json

import pytest

from execution_app.gate import modes
from execution_app.gate.modes import Facts, Kinds, Limits, Reading, Snapshot
from execution_app.states import Mode, RestrictionKind

STOP, DRY, REDUCE = RestrictionKind.STOP, RestrictionKind.DRY, RestrictionKind.REDUCE_ONLY
LIVE = Limits(Mode.LIVE)
EPOCH = 7
HEALTHY = Snapshot(100.0, 3, "")


def kinds(*found: RestrictionKind) -> Kinds:
    return frozenset(found)


def read(value: object, raw_epoch: str | None = str(EPOCH)) -> Reading:
    raw = value if isinstance(value, str) or value is None else json.dumps(value)
    return modes.read(raw, raw_epoch, EPOCH)


# One look at Redis, and whether it counts as healthy.
LOOKS: dict[str, tuple[Reading, bool]] = {
    "healthy": (read(modes.own_value(modes.NONE, EPOCH, 0)), True),
    "unreachable": (modes.unreachable("ConnectionError"), False),
    "unreadable": (read("not json"), False),
    "other epoch": (read(modes.own_value(modes.NONE, EPOCH - 1, 0), str(EPOCH - 1)), False),
    "absent": (read(None), False),
}


LONGEST = 8


def test_every_history_of_redis() -> None:
    """LIVE exactly after three healthy looks in a row; anything else is DRY at once, with a streak of 0.

    All histories of up to eight looks, each judged once: a longer one goes on where a shorter one ended.
    """
    judged = 0
    grown: list[tuple[tuple[str, ...], Snapshot, int]] = [((), Snapshot(100.0), 0)]
    for _ in range(LONGEST):
        shorter, grown = grown, []
        for history, before, streak in shorter:
            for name, (reading, healthy) in LOOKS.items():
                snapshot, expected_streak = (
                    modes.advance(before, reading, 100.0),
                    streak + 1 if healthy else 0,
                )
                ruling = modes.rule(LIVE, Facts(snapshot=snapshot), 100.0)
                judged += 1
                assert ruling.streak == expected_streak, (*history, name)
                assert ruling.mode is (Mode.LIVE if expected_streak >= 3 else Mode.DRY), (*history, name)
                assert ruling.degraded is bool(ruling.reason) is (expected_streak < 3), (*history, name)
                if len(history) + 1 < LONGEST:
                    grown.append(((*history, name), snapshot, expected_streak))
    assert judged == sum(len(LOOKS) ** length for length in range(1, LONGEST + 1))


@pytest.mark.parametrize("needed", [3, 4, 5])
def test_a_longer_streak_may_be_asked_for(needed: int) -> None:
    for streak in range(7):
        ruling = modes.rule(Limits(Mode.LIVE, needed), Facts(snapshot=Snapshot(100.0, streak, "")), 100.0)
        assert ruling.mode is (Mode.LIVE if streak >= needed else Mode.DRY)


SNAPSHOTS = {
    "no watch": None,
    "sound": HEALTHY,
    "old": Snapshot(98.9, 3, ""),
    "failing": Snapshot(100.0, 0, "ConnectionError"),
    "young streak": Snapshot(100.0, 2, ""),
    "stop in Redis": Snapshot(100.0, 3, "", kinds(STOP)),
    "DRY in Redis": Snapshot(100.0, 3, "", kinds(DRY)),
    "garbled": Snapshot(100.0, 0, "key exec_mode is unreadable", garbled=True),
}
RESTRICTIONS = [kinds(), kinds(STOP), kinds(DRY), kinds(REDUCE), kinds(STOP, DRY, REDUCE)]


@pytest.mark.parametrize("bound", Mode)
@pytest.mark.parametrize("name", SNAPSHOTS)
@pytest.mark.parametrize("active", RESTRICTIONS, ids=sorted)
@pytest.mark.parametrize("chain", ["", "chain and database disagree"])
@pytest.mark.parametrize("database", ["", "database: OperationalError"])
def test_truth_table(bound: Mode, name: str, active: Kinds, chain: str, database: str) -> None:
    ruling = modes.rule(Limits(bound), Facts(active, SNAPSHOTS[name], chain, database), 100.0)
    dry_wanted = bound is Mode.DRY or DRY in active or name == "DRY in Redis"
    sound = name in {"sound", "stop in Redis"} and not chain and not database
    assert ruling.requested is (Mode.DRY if dry_wanted else Mode.LIVE)
    assert ruling.mode is (Mode.LIVE if sound and not dry_wanted else Mode.DRY)
    assert ruling.emergency_stop is (STOP in active or name == "stop in Redis")
    assert ruling.reduce_only is (REDUCE in active)
    assert ruling.degraded is (ruling.requested is Mode.LIVE and ruling.mode is Mode.DRY)
    assert bool(ruling.reason) is (ruling.mode is Mode.DRY or ruling.emergency_stop)
    # What a person may let one close pass: Redis, and nothing else.
    redis_alone = name in {"failing", "young streak"} and not chain and not database
    assert ruling.only_redis is (redis_alone and not dry_wanted and STOP not in active)


@pytest.mark.parametrize(
    ("age_s", "mode"), [(0.0, Mode.LIVE), (1.0, Mode.LIVE), (1.01, Mode.DRY), (60.0, Mode.DRY)]
)
def test_a_look_older_than_a_second_is_dry_with_no_streak(age_s: float, mode: Mode) -> None:
    ruling = modes.rule(LIVE, Facts(snapshot=HEALTHY), HEALTHY.taken_at_s + age_s)
    assert ruling.mode is mode
    assert ruling.streak == (3 if mode is Mode.LIVE else 0)


@pytest.mark.parametrize("active", RESTRICTIONS, ids=sorted)
def test_a_value_tells_its_restrictions_and_no_others(active: Kinds) -> None:
    value = modes.own_value(active, EPOCH, 0)
    assert [modes.tells(value, others) for others in RESTRICTIONS] == [
        others == active for others in RESTRICTIONS
    ]
    assert not modes.tells("not json", active)


# What an operator writes by hand, beside the right epoch: imposed, lifted.
WORDS: list[tuple[dict[str, object], Kinds, Kinds]] = [
    ({}, kinds(), kinds()),
    ({"updated_at": 0}, kinds(), kinds()),
    ({"mode": "DRY"}, kinds(DRY), kinds()),
    ({"mode": "LIVE"}, kinds(), kinds(DRY)),
    ({"emergency_stop": True}, kinds(STOP), kinds()),
    ({"emergency_stop": False}, kinds(), kinds(STOP)),
    ({"reduce_only": True}, kinds(REDUCE), kinds()),
    ({"reduce_only": False}, kinds(), kinds(REDUCE)),
    ({"mode": "DRY", "emergency_stop": True}, kinds(DRY, STOP), kinds()),
    ({"mode": "LIVE", "emergency_stop": True}, kinds(STOP), kinds(DRY)),
    ({"mode": "LIVE", "emergency_stop": False, "reduce_only": False}, kinds(), kinds(DRY, STOP, REDUCE)),
    ({"mode": "DRY", "comment": "by hand", "updated_at": "yesterday"}, kinds(DRY), kinds()),
]


@pytest.mark.parametrize(("value", "imposes", "lifts"), WORDS)
def test_an_operators_words(value: dict[str, object], imposes: Kinds, lifts: Kinds) -> None:
    reading = read(value)
    assert (reading.healthy, reading.imposes, reading.lifts) == (True, imposes, lifts)


@pytest.mark.parametrize("epoch", [None, "", "6", "8", "seven", "7.0"])
@pytest.mark.parametrize(("value", "imposes", "lifts"), WORDS)
def test_beside_a_wrong_epoch_restrictions_count_and_liftings_do_not(
    epoch: str | None, value: dict[str, object], imposes: Kinds, lifts: Kinds
) -> None:
    reading = read(value, epoch)
    assert (reading.healthy, reading.imposes, reading.lifts) == (False, imposes, modes.NONE)
    assert reading.rewrite


@pytest.mark.parametrize("active", RESTRICTIONS, ids=sorted)
def test_the_stacks_own_value_says_nothing_new(active: Kinds) -> None:
    reading = read(modes.own_value(active, EPOCH, 0))
    assert reading == Reading(healthy=True)
    assert modes.tells(modes.own_value(active, EPOCH, 0), active)


@pytest.mark.parametrize("active", RESTRICTIONS, ids=sorted)
@pytest.mark.parametrize(("in_value", "beside"), [(6, "6"), (6, "7"), (7, "6"), (7, None), (8, "8")])
def test_an_old_own_value_neither_imposes_nor_lifts(active: Kinds, in_value: int, beside: str | None) -> None:
    reading = read(modes.own_value(active, in_value, 0), beside)
    assert (reading.healthy, reading.imposes, reading.lifts) == (False, modes.NONE, modes.NONE)
    assert reading.rewrite


def test_an_own_value_edited_by_hand_is_the_editors_word() -> None:
    """Whoever reads the key, changes one word and writes it back has set a stop, or lifted one."""
    running = json.loads(modes.own_value(modes.NONE, EPOCH, 0))
    stopped = json.loads(modes.own_value(kinds(STOP), EPOCH, 0))
    assert STOP in read(running | {"emergency_stop": True}).imposes
    assert STOP in read(running | {"emergency_stop": True}, "1").imposes
    assert STOP in read(stopped | {"emergency_stop": False}).lifts
    assert not read(stopped | {"emergency_stop": False}, "1").lifts
    assert read(json.dumps(running, indent=4)) == Reading(healthy=True)


UNREADABLE: list[str] = [
    "",
    "null",
    "[]",
    "7",
    '"DRY"',
    "{",
    "DRY",
    '{"mode":"dry"}',
    '{"mode":"Live"}',
    '{"mode":null}',
    '{"mode":["LIVE"]}',
    '{"mode":{"x":1}}',
    '{"emergency_stop":"true"}',
    '{"emergency_stop":1}',
    '{"emergency_stop":null}',
    '{"reduce_only":0}',
    '{"mode":"LIVE","emergency_stop":"no"}',
    "[" * 100_000,
    '{"a":' * 100_000,
]


@pytest.mark.parametrize("raw", UNREADABLE, ids=lambda raw: raw[:40] or "empty")
def test_the_unreadable_is_unhealthy_and_left_for_its_author(raw: str) -> None:
    reading = read(raw)
    assert (reading.healthy, reading.imposes, reading.lifts) == (False, modes.NONE, modes.NONE)
    assert not reading.rewrite
    assert reading.garbled
    assert not modes.tells(raw, modes.NONE)


def test_a_restriction_that_was_read_stays_while_redis_is_away() -> None:
    snapshot = modes.advance(Snapshot(0.0), read({"emergency_stop": True}), 0.0)
    for _ in range(5):
        snapshot = modes.advance(snapshot, modes.unreachable("gone"), 0.0)
        assert modes.rule(LIVE, Facts(snapshot=snapshot), 0.0).emergency_stop
    # Once it is recorded the stack's own value stands there, and the database says it.
    assert not modes.advance(snapshot, LOOKS["healthy"][0], 0.0).imposes


def test_a_word_that_nobody_understood_stands_until_another_is_read() -> None:
    """It may have been a stop, misspelt; that Redis then goes away makes it no clearer."""
    away = modes.unreachable("gone")
    snapshot = modes.advance(Snapshot(0.0), read("{emergency_stop}"), 0.0)
    assert modes.advance(modes.advance(snapshot, away, 0.0), away, 0.0).garbled
    for reading in (LOOKS["healthy"][0], LOOKS["absent"][0], read({"mode": "LIVE"}), LOOKS["other epoch"][0]):
        after = modes.advance(modes.advance(snapshot, reading, 0.0), away, 0.0)
        assert not after.garbled
        assert modes.rule(LIVE, Facts(snapshot=after), 0.0).only_redis


@pytest.mark.parametrize("bound", Mode)
def test_the_streak_counts_whatever_mode_is_requested(bound: Mode) -> None:
    ruling = modes.rule(Limits(bound), Facts(kinds(DRY), Snapshot(0.0, 2, "")), 0.0)
    assert ruling.streak == 2


def test_what_the_stack_writes_for_who_reads_it_by_hand() -> None:
    value = json.loads(modes.own_value(kinds(STOP, REDUCE), EPOCH, 123))
    assert len(value.pop("seal")) > 8
    told = {"mode": "LIVE", "emergency_stop": True, "reduce_only": True}
    assert value == told | {"updated_at": 123, "epoch": EPOCH}
    assert json.loads(modes.own_value(kinds(DRY), EPOCH, 0))["mode"] == "DRY"


def test_an_own_value_is_one_however_it_is_laid_out() -> None:
    """A copy of Redis, or a tool that shows it, may sort the names; a shell adds the end of a line to the epoch."""
    value = json.loads(modes.own_value(kinds(STOP), EPOCH, 5))
    assert read(json.dumps(value, sort_keys=True)) == Reading(healthy=True)
    assert read(json.dumps(dict(reversed(value.items())))) == Reading(healthy=True)
    assert read(value, f" {EPOCH}\n") == Reading(healthy=True)
    for name in ("mode", "emergency_stop", "updated_at", "epoch"):
        assert read(value | {name: "x"}) != Reading(healthy=True)


def test_a_ruling_without_more_words_permits_no_exception() -> None:
    ruling = modes.Ruling(Mode.LIVE, Mode.DRY, emergency_stop=False, reduce_only=False, reason="because")
    assert (ruling.streak, ruling.only_redis) == (0, False)
    assert Snapshot(0.0).problem
    assert (Snapshot(0.0).streak, Snapshot(0.0).garbled) == (0, False)
    assert (Limits(Mode.LIVE).streak_needed, Limits(Mode.LIVE).snapshot_age_s) == (3, 1)
    reading = Reading(healthy=False)
    assert (reading.rewrite, reading.garbled) == (False, False)


def test_why_it_is_dry_is_never_another_reason() -> None:
    """Each has its own remedy, so that a person is told the one that has to go first."""
    sound = Facts(snapshot=HEALTHY)
    told = [
        modes.rule(limits, facts, now_s).reason
        for limits, facts, now_s in (
            (LIVE, Facts(snapshot=HEALTHY, database_problem="database: gone"), 100.0),
            (Limits(Mode.DRY, why="FORCE_DRY is set"), sound, 100.0),
            (LIVE, Facts(kinds(DRY), HEALTHY), 100.0),
            (LIVE, Facts(), 100.0),
            (LIVE, sound, 102.0),
            (LIVE, Facts(snapshot=Snapshot(100.0, 0, "away")), 100.0),
            (LIVE, Facts(snapshot=Snapshot(100.0, 2, "")), 100.0),
            (LIVE, Facts(snapshot=HEALTHY, chain_problem="another genesis"), 100.0),
            (LIVE, Facts(kinds(STOP), HEALTHY), 100.0),
            (LIVE, Facts(kinds(STOP), HEALTHY, "another genesis"), 100.0),
        )
    ]
    assert told == [
        "database: gone",
        "FORCE_DRY is set",
        "DRY was set by an operator; Restrictions on the admin site says where",
        "this process does not watch the mode",
        "the last look at Redis is too old",
        "redis: away",
        "health streak 2/3",
        "another genesis",
        "emergency stop",
        "emergency stop; another genesis",
    ]

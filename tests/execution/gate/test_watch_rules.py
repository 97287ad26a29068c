"""One look of the watch and what follows from it, call by call: Redis, the database and the voices are the test's own."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
import redis
from django.db import OperationalError

from execution_app.gate import control, modes, watch
from execution_app.gate.look import Seen
from execution_app.gate.modes import Facts, Kinds, Limits, Reading, Ruling, Snapshot
from execution_app.gate.watch import EPOCH_KEY, KEY, ModeWatch
from execution_app.states import Mode, Origin, RestrictionKind

STOP, DRY, REDUCE = RestrictionKind.STOP, RestrictionKind.DRY, RestrictionKind.REDUCE_ONLY
AT = datetime(2026, 1, 1, tzinfo=UTC)
NOW_S = 1_000.0


class Stage:
    """Everything that a look asks or tells, in order; what it raises, where it is to."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.epoch = 7
        self.restrictions: set[tuple[RestrictionKind, Origin]] = set()
        self.values: list[Any] = [modes.own_value(modes.NONE, 7, 0), b"7"]
        self.fails: dict[str, Exception] = {}
        self.changes = True
        self.now_s = NOW_S
        self.now = AT

    def told(self, name: str, *words: Any) -> None:
        self.calls.append((name, *words))
        if name in self.fails:
            raise self.fails[name]

    def look(self) -> Seen:
        self.told("look")
        return Seen(self.epoch, frozenset(self.restrictions), "", self.now, self.now)

    def mget(self, *keys: str) -> list[Any]:
        self.told("mget", *keys)
        return self.values

    def eval(self, *words: Any) -> None:
        self.told("eval", *words[1:])

    def impose(
        self, kind: RestrictionKind, origin: Origin, *, by: str, reason: str, beside: str | None
    ) -> control.Imposed:
        self.told("impose", kind, origin, by, reason, beside)
        self.restrictions.add((kind, origin))
        self.epoch += self.changes
        return control.Imposed(self.changes, [], turned=self.changes)

    def lift(self, kind: RestrictionKind, origin: Origin, *, by: str, reason: str, epoch: int) -> bool:
        self.told("lift", kind, origin, by, reason, epoch)
        self.restrictions.discard((kind, origin))
        return True

    def read_epoch(self) -> int:
        self.told("epoch")
        return self.epoch

    def named(self, *names: str) -> list[tuple[Any, ...]]:
        return [call for call in self.calls if call[0] in names]


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Stage:
    made = Stage()
    monkeypatch.setattr(watch, "look", made.look)
    monkeypatch.setattr(control, "impose", made.impose)
    monkeypatch.setattr(control, "lift", made.lift)
    monkeypatch.setattr(control, "epoch", made.read_epoch)
    monkeypatch.setattr(watch, "limits", lambda: Limits(Mode.LIVE))
    monkeypatch.setattr(watch, "time", SimpleNamespace(monotonic=lambda: made.now_s, time=lambda: 55.9))
    closes = SimpleNamespace(
        close=lambda: made.told("close"), close_if_unusable_or_obsolete=lambda: made.told("usable")
    )
    monkeypatch.setattr(watch, "connection", closes)
    return made


@pytest.fixture
def watcher(stage: Stage) -> ModeWatch:
    made: Any = ModeWatch("test")
    made._redis = SimpleNamespace(mget=stage.mget, eval=stage.eval)
    made._pulse = SimpleNamespace(beat=lambda: stage.told("beat"))
    made._voice = SimpleNamespace(tell=lambda ruling: stage.told("tell", ruling))
    return made  # type: ignore[no-any-return]


def events(caplog: pytest.LogCaptureFixture) -> list[str]:
    told = [record.msg for record in caplog.records if record.name == "execution_app.gate.watch"]
    caplog.clear()
    return [str(one["event"]) for one in told if isinstance(one, dict)]


def ruling(watcher: ModeWatch) -> Ruling:
    return modes.rule(Limits(Mode.LIVE), watcher.facts(), NOW_S)


def test_a_look_that_finds_nothing_new_asks_once_and_tells_once(watcher: ModeWatch, stage: Stage) -> None:
    assert watcher.facts() == Facts(modes.NONE, None, "chain and database have not been compared yet", "")
    assert (watcher.set_in_redis, watcher._failing, watcher.started_at) == (frozenset(), False, None)
    watcher.look()
    assert stage.calls == [
        ("usable",), ("look",), ("beat",), ("mget", "exec_mode", "exec_mode_epoch"), ("tell", ruling(watcher)),
    ]  # fmt: skip
    assert watcher.facts() == Facts(modes.NONE, Snapshot(NOW_S, 1, ""), "", "")
    assert watcher.started_at == AT
    stage.now_s += 1
    watcher.look()
    assert watcher.snapshot == Snapshot(NOW_S + 1, 2, "")


def test_a_look_takes_its_time_at_its_beginning(
    watcher: ModeWatch, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was asked before a long wait is as old as the asking."""

    def slow(*keys: str) -> list[Any]:
        stage.now_s += 5
        return stage.values

    monkeypatch.setattr(watcher, "_redis", SimpleNamespace(mget=slow, eval=stage.eval))
    watcher.look()
    assert watcher.snapshot is not None
    assert watcher.snapshot.taken_at_s == NOW_S


def test_what_the_database_says_is_known_by_its_origin(watcher: ModeWatch, stage: Stage) -> None:
    stage.restrictions = {
        (STOP, Origin.HTTP),
        (DRY, Origin.REDIS),
        (DRY, Origin.COMMAND),
        (REDUCE, Origin.ADMIN),
    }
    stage.values[0] = modes.own_value(frozenset({STOP, DRY, REDUCE}), 7, 0)
    watcher.look()
    assert (watcher.active, watcher.set_in_redis) == (frozenset({STOP, DRY, REDUCE}), frozenset({DRY}))
    assert stage.named("impose", "lift", "eval") == []


@pytest.mark.parametrize("broken", ["look", "beat"])
def test_without_the_database_redis_is_not_asked_and_nothing_is_told(
    watcher: ModeWatch, stage: Stage, broken: str
) -> None:
    watcher.look()
    stage.calls.clear()
    stage.fails[broken] = OperationalError("gone")
    stage.now_s += 1
    watcher.look()
    assert stage.named("close", "mget", "eval", "tell") == [("close",)]
    assert watcher.database_problem == "database: OperationalError"
    assert watcher.snapshot == Snapshot(NOW_S + 1, 0, "the database's epoch is unknown")
    stage.fails.clear()
    watcher.look()
    assert watcher.database_problem == ""


@pytest.mark.parametrize(
    ("values", "reading"),
    [
        ([None, None], Reading(False, modes.ABSENT, rewrite=True)),
        ([b"{", b"7"], modes.garbled()),
        ([b"\xff", b"7"], modes.garbled()),
        (["{}", "7"], Reading(True)),
        ([b'{"mode": "DRY"}', b" 7"], Reading(True, imposes=frozenset({DRY}))),
    ],
)
def test_what_one_look_at_redis_says(
    watcher: ModeWatch, stage: Stage, values: list[Any], reading: Reading
) -> None:
    stage.values = values
    raw, found = watcher._look_at_redis(7)
    assert found == reading
    assert raw is None or raw == (values[0] if isinstance(values[0], str) else values[0].decode())
    assert (raw is None) == (values[0] in (None, b"\xff"))


@pytest.mark.parametrize(
    "error", [redis.ConnectionError("gone"), redis.TimeoutError("slow"), OSError("no route")]
)
def test_a_redis_that_does_not_answer_is_named_by_its_fault(
    watcher: ModeWatch, stage: Stage, error: Exception
) -> None:
    stage.fails["mget"] = error
    assert watcher._look_at_redis(7) == (None, Reading(False, type(error).__name__))
    watcher.look()
    assert watcher.ruling().reason == f"redis: {type(error).__name__}"
    assert stage.named("eval") == [], "nothing is written where nothing was read"


# What is recorded


def recorded(
    watcher: ModeWatch, stage: Stage, reading: Reading, raw: str | None = "{}"
) -> list[tuple[Any, ...]]:
    stage.calls.clear()
    watcher._record(stage.epoch, raw, reading)
    return stage.calls


def own(active: Kinds, epoch: int) -> str:
    return modes.own_value(active, epoch, 55)


def test_a_word_from_redis_is_recorded_and_the_stacks_own_value_takes_its_place(
    watcher: ModeWatch, stage: Stage
) -> None:
    watcher._beside = "7"
    calls = recorded(watcher, stage, Reading(True, imposes=frozenset({STOP})))
    assert calls == [
        ("impose", STOP, Origin.REDIS, "redis", "set in Redis key exec_mode", "7"),
        ("look",),
        ("epoch",),
        ("eval", 2, KEY, EPOCH_KEY, "1", "{}", own(frozenset({STOP}), 8), "8", "7"),
    ]
    assert (watcher.active, watcher.set_in_redis) == (frozenset({STOP}), frozenset({STOP}))
    # Said again it is told again, since what was seen may have been lifted meanwhile; lifted, by whom and since when.
    stage.changes, watcher._beside = False, "8"
    calls = recorded(watcher, stage, Reading(True, imposes=frozenset({STOP})))
    assert calls == [
        ("impose", STOP, Origin.REDIS, "redis", "set in Redis key exec_mode", "8"),
        ("look",),
        ("epoch",),
        ("eval", 2, KEY, EPOCH_KEY, "1", "{}", own(frozenset({STOP}), 8), "8", "8"),
    ]
    calls = recorded(watcher, stage, Reading(True, lifts=frozenset({STOP, DRY})), "x")
    assert calls == [
        ("lift", STOP, Origin.REDIS, "redis", "lifted in Redis key exec_mode", 8),
        ("look",),
        ("epoch",),
        ("eval", 2, KEY, EPOCH_KEY, "1", "x", own(modes.NONE, 8), "8", "8"),
    ]
    assert recorded(watcher, stage, Reading(True, lifts=frozenset({DRY})), "x")[0] == ("look",)


@pytest.mark.parametrize(
    ("epoch", "beside"), [(b"7", "7"), (b" 8\n", "8"), ("x", "x"), (b"", ""), (None, None)]
)
def test_a_word_is_recorded_beside_the_epoch_that_was_read_with_it(
    watcher: ModeWatch, stage: Stage, epoch: Any, beside: str | None
) -> None:
    stage.values = [b'{"emergency_stop": true}', epoch]
    watcher.look()
    assert stage.named("impose") == [
        ("impose", STOP, Origin.REDIS, "redis", "set in Redis key exec_mode", beside)
    ]


@pytest.mark.parametrize("changes", [True, False])
def test_a_lifting_beside_a_stop_is_of_the_epoch_that_the_stop_made(
    watcher: ModeWatch, stage: Stage, changes: bool
) -> None:
    """Where another process was first, the epoch is still the one that was read."""
    watcher.set_in_redis = frozenset({REDUCE})
    stage.changes = changes
    reading = Reading(True, imposes=frozenset({STOP}), lifts=frozenset({REDUCE}))
    calls = [call for call in recorded(watcher, stage, reading) if call[0] in ("impose", "lift")]
    assert [call[:2] for call in calls] == [("impose", STOP), ("lift", REDUCE)]
    assert calls[1][-1] == 7 + changes


def test_the_key_is_rewritten_where_it_is_wrong_and_nowhere_else(watcher: ModeWatch, stage: Stage) -> None:
    watcher.active = frozenset({DRY})
    right, wrong = own(frozenset({DRY}), 7), own(modes.NONE, 7)
    table: list[tuple[Reading, str | None, bool]] = [
        (Reading(True), right, False),
        (Reading(True), wrong, True),
        (Reading(True), None, False),
        (Reading(False, "away"), None, False),
        (Reading(False, "away"), wrong, False),
        (modes.garbled(), "{", False),
        (Reading(False, modes.ABSENT, rewrite=True), None, True),
        (Reading(False, "old", rewrite=True), right, True),
    ]
    for reading, raw, rewritten in table:
        calls = recorded(watcher, stage, reading, raw)
        flag = "0" if raw is None else "1"
        write = [("epoch",), ("eval", 2, KEY, EPOCH_KEY, flag, raw or "", right, "7", "")]
        assert calls == (write if rewritten else []), (reading, raw)


@pytest.mark.parametrize("error", [redis.ConnectionError("gone"), OSError("no route")])
def test_a_key_that_cannot_be_rewritten_is_said(
    watcher: ModeWatch, stage: Stage, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    stage.fails["eval"] = error
    recorded(watcher, stage, Reading(False, modes.ABSENT, rewrite=True), None)
    assert (events(caplog), watcher.database_problem) == (["exec_mode was not rewritten"], "")


@pytest.mark.parametrize("broken", ["impose", "look", "epoch"])
def test_what_cannot_be_recorded_is_dry(watcher: ModeWatch, stage: Stage, broken: str) -> None:
    stage.fails[broken] = OperationalError("gone")
    calls = recorded(watcher, stage, Reading(True, imposes=frozenset({STOP})))
    assert calls[-1] == ("close",)
    assert watcher.database_problem == "database: OperationalError"
    assert stage.named("eval") == []


def test_what_cannot_be_told_is_said_and_restricts_nobody(
    watcher: ModeWatch, stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    stage.fails["tell"] = OperationalError("gone")
    watcher.look()
    assert stage.calls[-1] == ("close",)
    assert events(caplog) == ["health streak 1/3", "the mode was not told"]
    assert watcher.database_problem == ""


# What is said


def test_each_change_is_said_once(watcher: ModeWatch, stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    sound, failing = list(stage.values), "FAILING SAFE TO DRY MODE"
    said = []
    for values in (
        [None, None],
        sound,
        sound,
        sound,
        sound,
        ["{", "7"],
        ["{", "7"],
        sound,
        [None, None],
        sound,
    ):
        stage.values = values
        watcher.look()
        said.append(events(caplog))
    first, second, third = (f"health streak {streak}/3" for streak in (1, 2, 3))
    changed = "mode changed"
    assert said == [
        [], [first], [second], [third, changed], [], [failing, changed], [], [first], [failing], [first],
    ]  # fmt: skip


def test_a_beginning_without_its_key_is_none_that_fails_and_any_other_is(
    watcher: ModeWatch, stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    stage.fails["mget"] = redis.ConnectionError("gone")
    watcher.look()
    assert events(caplog) == ["FAILING SAFE TO DRY MODE"]
    watcher.look()
    assert events(caplog) == []


def test_a_process_is_as_old_as_its_first_look_or_the_clock_that_was_set_back(watcher: ModeWatch) -> None:
    def born(at: datetime) -> datetime:
        return watcher._born(Seen(1, frozenset(), "", None, at))

    back = AT - timedelta(hours=1)
    found = [born(at) for at in (AT, AT + timedelta(hours=1), AT, back, AT)]
    assert found == [AT, AT, AT, back, back]

"""The watch bit by bit: who owns it, what it tells where there is none, and what breaks under it in the middle of a look."""

import json
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis as redis_py
from django.db import OperationalError, connection
from pytest_django.fixtures import Settings

from execution_app import patience
from execution_app.gate import control, modes, watch
from execution_app.gate.hearing import Hearing
from execution_app.gate.look import Seen
from execution_app.gate.modes import Facts, Limits, Reading, Snapshot
from execution_app.gate.watch import EPOCH_KEY, KEY, ModeView, ModeWatch
from execution_app.models import AuditEntry, Restriction
from execution_app.states import Mode, Origin, RestrictionKind
from tests.execution.gate.test_watch import compared, events, live, look_until_live, say, watcher
from tests.redis_outages import dead_redis, eventually

__all__ = ["compared", "live", "watcher"]  # fixtures

STOP, DRY, REDUCE = RestrictionKind.STOP, RestrictionKind.DRY, RestrictionKind.REDUCE_ONLY
UNWATCHED = "this process does not watch the mode"
AT = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def nobody() -> Iterator[None]:
    """No thread watches, before the test and after it."""
    watch.stop()
    yield
    watch.stop()


def test_a_process_has_one_watch_and_ends_it(compared: None, nobody: None, valkey: redis_py.Redis) -> None:
    first = watch.start("test")
    thread = first._thread
    assert (thread.is_alive(), thread.daemon) == (True, True)
    assert watch.start("another") is first
    assert first.component == "test"
    eventually(lambda: watch.view().mode == "LIVE")
    assert watch.effective_mode() == "LIVE"
    assert watch.snapshot() is not None
    assert watch.process_facts().snapshot is not None
    assert patience.Bounded.of_process_s == patience.ANSWER_S, "no statement of a service waits for ever"
    watch.stop()
    eventually(lambda: not thread.is_alive())
    assert (watch.snapshot(), watch.process_facts(), watch.chain_problem()) == (None, Facts(), UNWATCHED)
    assert watch.start("test") is not first


def test_a_child_that_was_forked_has_none_until_it_begins_its_own(
    compared: None, nobody: None, valkey: redis_py.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    parents = watch.start("parent")
    eventually(lambda: watch.view().mode == "LIVE")
    with monkeypatch.context() as child:
        child.setattr(watch, "_owner_pid", os.getpid() + 1)
        assert (watch.snapshot(), watch.process_facts(), watch.chain_problem()) == (None, Facts(), UNWATCHED)
        assert watch.effective_mode() == "DRY"
        own = watch.start("child")
        assert own is not parents
        assert own.component == "child"
        watch.stop()
        assert parents._thread.is_alive(), "a child does not end its parent's"
    parents.stop()
    eventually(lambda: not parents._thread.is_alive())


def test_a_child_forgets_its_parents_watch_and_leaves_it_running(
    compared: None, nobody: None, valkey: redis_py.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    parents = watch.start("parent")
    with monkeypatch.context() as child:
        child.setattr(watch, "_owner_pid", os.getpid() + 1)
        watch.stop()
    assert parents._thread.is_alive()
    assert watch.snapshot() is None
    parents.stop()


def test_a_watch_that_has_not_looked_yet_permits_nothing(watcher: ModeWatch, nobody: None) -> None:
    assert watcher.facts() == Facts(modes.NONE, None, "chain and database have not been compared yet", "")
    assert watcher.ruling().mode is Mode.DRY
    watch._watch, watch._owner_pid = watcher, os.getpid()
    assert watch.chain_problem() == UNWATCHED
    watcher.started_at = AT
    sound = Seen(1, frozenset(), "", AT, AT)
    assert watch.chain_problem(sound) == ""
    assert "since this process started" in watch.chain_problem(replace(sound, reconciled_at=None))
    watcher.started_at = datetime(2100, 1, 1, tzinfo=UTC)
    assert "since this process started" in watch.chain_problem(), "asked afresh"
    watch._watch = None


def test_a_process_was_born_when_it_first_looked_unless_the_clock_went_back(watcher: ModeWatch) -> None:
    """What was compared after a clock was set back would else be of before the process for hours."""

    def born(at: datetime) -> datetime:
        return watcher._born(Seen(1, frozenset(), "", None, at))

    assert [born(AT), born(AT + timedelta(hours=1))] == [AT, AT]
    back = AT - timedelta(hours=1)
    assert [born(back), born(AT)] == [back, back]


def test_what_pages_and_answers_show(live: ModeWatch, nobody: None) -> None:
    watch._watch, watch._owner_pid = live, os.getpid()
    control.impose(REDUCE, Origin.HTTP, by="test", reason="")
    live.look()
    streak = live.ruling().streak
    assert watch.view() == ModeView("LIVE", "LIVE", False, True, streak, "")
    control.impose(STOP, Origin.HTTP, by="test", reason="")
    control.impose(DRY, Origin.HTTP, by="test", reason="")
    live.look()
    shown = watch.view()
    assert (shown.mode, shown.requested, shown.emergency_stop, shown.reduce_only) == (
        "DRY",
        "DRY",
        True,
        True,
    )
    assert shown.redis_health_streak == streak + 1
    assert shown.reason.startswith("emergency stop; DRY was set by an operator")
    watch._watch = None


@pytest.mark.parametrize(
    ("fields", "bound", "why"),
    [
        ({}, Mode.LIVE, "EXEC_MODE is DRY"),
        ({"exec_mode": "DRY"}, Mode.DRY, "EXEC_MODE is DRY"),
        ({"force_dry": True}, Mode.DRY, "FORCE_DRY is set"),
        ({"force_dry": True, "allow_live_after_streak": 5}, Mode.DRY, "FORCE_DRY is set"),
        ({"allow_live_after_streak": 5}, Mode.LIVE, "EXEC_MODE is DRY"),
    ],
)
def test_what_a_process_was_started_with(
    settings: Settings, tmp_path: Path, fields: dict[str, Any], bound: Mode, why: str
) -> None:
    sound = {"exec_mode": "LIVE", "force_dry": False, "force_dry_path": tmp_path / "FORCE_DRY"}
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(update={**sound, **fields})
    assert watch.limits() == Limits(bound, fields.get("allow_live_after_streak", 3), why=why)
    (tmp_path / "FORCE_DRY").touch()
    forced = watch.limits()
    assert forced.bound is Mode.DRY
    assert forced.why == (why if "force_dry" in fields else f"the file {tmp_path / 'FORCE_DRY'} is there")


def test_only_a_child_of_a_pool_listens_for_its_parent(
    compared: None, valkey: redis_py.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And it judges by whether Redis was well at the last look."""
    heard: list[bool] = []
    monkeypatch.setattr(Hearing, "check", lambda _, *, redis_is_healthy: heard.append(redis_is_healthy))
    ModeWatch("test").look()
    assert heard == []
    child = ModeWatch("test", pool_child=True)
    look_until_live(child)
    assert heard[0] is False
    assert heard[-1] is True
    child.snapshot = Snapshot(time.monotonic(), 0, "away")
    child.look()
    assert heard[-1] is False


@pytest.mark.usefixtures("own_limits")
def test_a_redis_that_goes_away_in_the_middle_of_a_look_restricts_all_the_same(
    live: ModeWatch, valkey: redis_py.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    with dead_redis():
        live._record(control.epoch(), "{}", Reading(healthy=True, imposes=frozenset({STOP})))
        assert "exec_mode was not rewritten" in events(caplog)
        assert control.active_kinds() == live.active == {STOP}
    assert live.database_problem == ""


@pytest.mark.parametrize("broken", ["impose", "lift", "epoch"])
def test_a_database_that_goes_away_in_the_middle_of_a_look_is_dry(
    live: ModeWatch, valkey: redis_py.Redis, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    control.impose(REDUCE, Origin.REDIS, by="test", reason="")
    live.look()
    say(valkey, {"emergency_stop": True, "reduce_only": False})
    valkey.set(EPOCH_KEY, str(control.epoch()))

    def lose(*_: object, **__: object) -> None:
        raise OperationalError("the server closed the connection")

    with monkeypatch.context() as away:
        away.setattr(control, broken, lose)
        connection.ensure_connection()
        live.look()
        assert connection.connection is None, "what may be broken is not used again"
    assert live.ruling().reason == "emergency stop; database: OperationalError"
    live.look()
    assert live.database_problem == ""
    # The stop has turned the epoch, so that a lifting that was not carried out beside it has to be said again.
    kept = {STOP, REDUCE} if broken == "lift" else {STOP}
    assert control.active_kinds() == kept
    assert json.loads(str(valkey.get(KEY)))["reduce_only"] is (REDUCE in kept)


def test_a_look_that_the_database_did_not_answer_is_dry(
    live: ModeWatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose() -> Seen:
        raise OperationalError("the server closed the connection")

    with monkeypatch.context() as away:
        away.setattr(watch, "look", lose)
        connection.ensure_connection()
        live.look()
        assert connection.connection is None
    assert live.snapshot is not None
    assert live.snapshot.problem == "the database's epoch is unknown"
    assert live.ruling().reason == "database: OperationalError"
    live.look()
    assert (live.database_problem, live.ruling().streak) == ("", 1)


def test_what_redis_said_is_told_by_its_name(live: ModeWatch, valkey: redis_py.Redis) -> None:
    """In the rows and in the audit log: that is where a person looks for who has stopped the stack."""
    say(valkey, {"reduce_only": True})
    live.look()
    say(valkey, {"reduce_only": False})
    live.look()
    row = Restriction.objects.get()
    assert (row.origin, row.set_by, row.lifted_by) == ("redis", "redis", "redis")
    assert row.reason == f"set in Redis key {KEY}"
    told = AuditEntry.objects.order_by("seq").values_list("action", "actor", "reason")
    assert list(told) == [
        ("restriction_imposed", "redis", f"set in Redis key {KEY}"),
        ("restriction_lifted", "redis", f"lifted in Redis key {KEY}"),
    ]


def test_a_word_to_lift_beside_a_word_to_stop_counts_at_once(live: ModeWatch, valkey: redis_py.Redis) -> None:
    """The stop turns the epoch; the lifting that was read beside it is not older for that."""
    say(valkey, {"reduce_only": True})
    live.look()
    say(valkey, {"emergency_stop": True, "reduce_only": False})
    live.look()
    assert control.active_kinds() == live.active == {STOP}
    assert live.set_in_redis == {STOP}


def test_a_value_that_already_tells_the_truth_is_left_alone(live: ModeWatch, valkey: redis_py.Redis) -> None:
    before = valkey.get(KEY)
    time.sleep(1.1)  # the value tells its second
    live.look()
    assert valkey.get(KEY) == before
    control.impose(STOP, Origin.HTTP, by="test", reason="")
    live.look()
    assert json.loads(str(valkey.get(KEY)))["emergency_stop"] is True

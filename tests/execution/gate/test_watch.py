"""The watch on a real Redis: flushed, stopped, killed, restored, and spoken to by hand."""

import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis as redis_py
from django.db import connection, transaction
from pytest_django.fixtures import Settings

from execution_app.gate import admission, control, modes, watch
from execution_app.gate.modes import Facts
from execution_app.gate.watch import EPOCH_KEY, KEY, ModeWatch
from execution_app.models import Chain, Heartbeat, Restriction
from execution_app.states import Mode, Origin, RestrictionKind
from tests.execution import rows
from tests.guards import without_guards
from tests.patience import LOOK_GOOD_FOR_S
from tests.redis_outages import dead_redis, eventually, frozen_redis

STOP, DRY, REDUCE = RestrictionKind.STOP, RestrictionKind.DRY, RestrictionKind.REDUCE_ONLY
GENEROUS_S = 15.0
FAILING = "FAILING SAFE TO DRY MODE"
WORDS = {
    STOP: ({"emergency_stop": True}, {"emergency_stop": False}),
    DRY: ({"mode": "DRY"}, {"mode": "LIVE"}),
    REDUCE: ({"reduce_only": True}, {"reduce_only": False}),
}


@pytest.fixture
def compared(database: None, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chain and database have been compared, and stay so for the test, in which a look grows old when it says so."""
    limits = watch.limits
    monkeypatch.setattr(watch, "limits", lambda: replace(limits(), snapshot_age_s=LOOK_GOOD_FOR_S))
    if "own_limits" not in request.fixturenames:
        monkeypatch.setattr(watch, "REDIS_TIMEOUT_S", 10.0)
    rows.insert(
        "chains",
        {
            "chain_id": 31337,
            "genesis_hash": "0x0",
            "trading_address": "0x0",
            "head_number": 0,
            "head_hash": "",
            "finalized_number": 0,
            "halted_reason": "",
        },
    )
    rows.execute("UPDATE chains SET reconciled_at = clock_timestamp() + interval '1 hour'")


@pytest.fixture
def watcher(compared: None, valkey: redis_py.Redis) -> ModeWatch:
    """A watch whose looks the test takes itself."""
    return ModeWatch("test")


@pytest.fixture
def live(watcher: ModeWatch) -> ModeWatch:
    look_until_live(watcher)
    return watcher


@pytest.fixture
def running(compared: None, valkey: redis_py.Redis) -> Iterator[None]:
    """The watching thread of this process, LIVE."""
    watch.stop()
    watch.start("test")
    eventually(lambda: watch.view().mode == "LIVE")
    yield
    watch.stop()


def look_until_live(watcher: ModeWatch, at_most: int = 5) -> None:
    """Where this machine stands still for a moment Redis did not answer in time, which begins the streak anew."""
    looks, deadline_s = 0, time.monotonic() + 60
    while looks < at_most and time.monotonic() < deadline_s:
        watcher.look()
        if watcher.ruling().mode is Mode.LIVE:
            return
        looks += not watcher.ruling().reason.startswith("redis: ")
    raise AssertionError(watcher.ruling().reason)


def say(valkey: redis_py.Redis, value: object) -> None:
    valkey.set(KEY, json.dumps(value))


def events(caplog: pytest.LogCaptureFixture) -> list[str]:
    messages = [record.msg for record in caplog.records if record.name == "execution_app.gate.watch"]
    return [str(message["event"]) for message in messages if isinstance(message, dict)]


def test_a_fresh_redis_gets_its_key_and_three_looks_later_it_is_live(
    watcher: ModeWatch, valkey: redis_py.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    watcher.look()
    assert json.loads(str(valkey.get(KEY)))["mode"] == "LIVE"
    assert valkey.get(EPOCH_KEY) == str(control.epoch())
    found = []
    for _ in range(4):
        watcher.look()
        found.append(watcher.ruling().mode)
    assert found == [Mode.DRY, Mode.DRY, Mode.LIVE, Mode.LIVE]
    assert events(caplog)[:3] == ["health streak 1/3", "health streak 2/3", "health streak 3/3"]
    assert FAILING not in events(caplog)
    assert len([event for event in events(caplog) if event.startswith("health streak")]) == 3


@pytest.mark.usefixtures("own_limits")
@pytest.mark.parametrize("outage", [frozen_redis, dead_redis])
def test_an_outage_is_dry_at_once_said_once_and_left_by_three_looks(
    live: ModeWatch, outage: Callable[[], Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.clear()
    with outage():
        for _ in range(3):
            began_s = time.monotonic()
            live.look()
            assert time.monotonic() - began_s < GENEROUS_S
            ruling = live.ruling()
            assert (ruling.mode, ruling.requested, ruling.streak) == (Mode.DRY, Mode.LIVE, 0)
            assert ruling.reason.startswith("redis: ")
    assert events(caplog).count(FAILING) == 1
    streaks: list[int] = []
    while live.ruling().mode is Mode.DRY and len(streaks) < 8:
        live.look()
        streaks.append(live.ruling().streak)
    assert streaks[-3:] == [1, 2, 3]
    assert events(caplog).count(FAILING) == 1
    assert [event for event in events(caplog) if event.startswith("health")] == [
        "health streak 1/3",
        "health streak 2/3",
        "health streak 3/3",
    ]


@pytest.mark.usefixtures("own_limits")
def test_the_second_outage_is_said_again(live: ModeWatch, caplog: pytest.LogCaptureFixture) -> None:
    caplog.clear()
    for number in (1, 2):
        with frozen_redis():
            live.look()
            live.look()
        look_until_live(live)
        assert events(caplog).count(FAILING) == number


def test_a_process_needs_less_than_a_second_to_follow() -> None:
    """Between two looks, and in one at a Redis that is frozen in the middle of it."""
    assert watch.INTERVAL_S + 2 * watch.REDIS_TIMEOUT_S < 1
    assert watch.limits().snapshot_age_s <= 1, "and what hangs in a look is DRY by then"


@pytest.mark.usefixtures("own_limits")
def test_a_running_process_follows_redis(running: None) -> None:
    with frozen_redis():
        eventually(lambda: watch.view().mode == "DRY")
        assert watch.view().redis_health_streak == 0
        assert watch.view().requested == "LIVE"
    eventually(lambda: watch.view().mode == "LIVE")


def test_a_running_process_follows_a_hand_set_stop(running: None, valkey: redis_py.Redis) -> None:
    valkey.set(KEY, '{"mode":"DRY","emergency_stop":true}')
    eventually(lambda: watch.view().emergency_stop)
    eventually(lambda: control.active_kinds() == {STOP, DRY})
    with transaction.atomic():
        assert admission.ruling_now().emergency_stop


def test_no_content_of_the_key_ends_the_watch(running: None, valkey: redis_py.Redis) -> None:
    for content in ('{"mode":["DRY"]}', b"\xff\xfe", "[" * 50_000):
        valkey.set(KEY, content)
        eventually(lambda: watch.view().mode == "DRY")
        valkey.set(KEY, '{"mode":"LIVE"}')
        eventually(lambda: watch.view().mode == "LIVE")
    valkey.delete(KEY)
    valkey.lpush(KEY, "a list")
    eventually(lambda: watch.view().mode == "DRY")
    valkey.delete(KEY)
    eventually(lambda: watch.view().mode == "LIVE")


@pytest.mark.parametrize("kind", RestrictionKind)
def test_a_restriction_from_redis_survives_a_flush_and_only_its_opposite_lifts_it(
    live: ModeWatch, valkey: redis_py.Redis, kind: RestrictionKind
) -> None:
    sets, lifts = WORDS[kind]
    say(valkey, sets)
    live.look()
    row = Restriction.objects.get()
    assert (row.kind, row.origin, row.set_by, row.lifted_at) == (kind, Origin.REDIS, "redis", None)
    others = [word for other, words in WORDS.items() if other is not kind for word in words]
    for payload in [None, {}, {"updated_at": 1}, *others]:
        valkey.flushall()
        if payload is not None:
            live.look()
            say(valkey, payload)
        live.look()
        live.look()
        assert kind in control.active_kinds(), payload
    say(valkey, lifts)
    live.look()
    assert kind not in control.active_kinds()
    assert kind not in live.active


def test_a_stop_is_told_by_the_key_after_it_was_recorded(live: ModeWatch, valkey: redis_py.Redis) -> None:
    epoch = control.epoch()
    say(valkey, {"mode": "DRY", "emergency_stop": True})
    live.look()
    told = json.loads(str(valkey.get(KEY)))
    assert (told["mode"], told["emergency_stop"], told["reduce_only"]) == ("DRY", True, False)
    assert control.epoch() > epoch
    assert told["epoch"] == control.epoch()
    assert valkey.get(EPOCH_KEY) == str(control.epoch())


def test_an_old_copy_of_redis_lifts_nothing(live: ModeWatch, valkey: redis_py.Redis) -> None:
    old = {KEY: str(valkey.get(KEY)), EPOCH_KEY: str(valkey.get(EPOCH_KEY))}
    by_hand = [{"mode": "LIVE", "emergency_stop": False}, {"emergency_stop": False, "reduce_only": False}]
    say(valkey, {"mode": "DRY", "emergency_stop": True})
    live.look()
    for content in [old[KEY], *[json.dumps(word) for word in by_hand]]:
        valkey.mset(old | {KEY: content})
        live.look()
        assert live.ruling().streak == 0
        assert control.active_kinds() == {STOP, DRY}
        assert json.loads(str(valkey.get(KEY)))["emergency_stop"] is True
        assert valkey.get(EPOCH_KEY) == str(control.epoch())


def test_a_stop_set_beside_an_old_epoch_still_counts(live: ModeWatch, valkey: redis_py.Redis) -> None:
    valkey.set(EPOCH_KEY, "0")
    say(valkey, {"emergency_stop": True})
    live.look()
    assert live.ruling().emergency_stop
    assert control.active_kinds() == {STOP}


def test_an_own_value_edited_into_a_stop_stops(live: ModeWatch, valkey: redis_py.Redis) -> None:
    say(valkey, json.loads(str(valkey.get(KEY))) | {"emergency_stop": True})
    live.look()
    assert control.active_kinds() == {STOP}
    say(valkey, json.loads(str(valkey.get(KEY))) | {"emergency_stop": False})
    live.look()
    assert control.active_kinds() == frozenset()


@pytest.mark.parametrize("origin", sorted(set(Origin) - {Origin.REDIS}))
def test_redis_does_not_lift_what_was_set_elsewhere(
    live: ModeWatch, valkey: redis_py.Redis, origin: Origin
) -> None:
    control.impose(STOP, origin, by="test", reason="")
    live.look()
    assert json.loads(str(valkey.get(KEY)))["emergency_stop"] is True, "who reads it by hand sees the truth"
    for _ in range(2):
        say(valkey, {"mode": "LIVE", "emergency_stop": False})
        live.look()
        assert live.ruling().emergency_stop
    live.look()
    assert control.active_kinds() == {STOP}
    assert json.loads(str(valkey.get(KEY)))["emergency_stop"] is True


def test_several_processes_record_one_restriction(live: ModeWatch, valkey: redis_py.Redis) -> None:
    others = [ModeWatch(f"other-{number}") for number in range(3)]
    for other in others:
        look_until_live(other)
    say(valkey, {"emergency_stop": True})
    for process in [*others, live, *others, live]:
        process.look()
        assert process.ruling().emergency_stop
    assert Restriction.objects.count() == 1
    say(valkey, {"emergency_stop": False})
    for process in [*others, live, *others, live]:
        process.look()
    for process in [*others, live]:
        process.look()
        assert not process.ruling().emergency_stop
    assert Restriction.objects.filter(lifted_at=None).count() == 0


def test_an_operators_word_between_look_and_rewriting_is_not_lost(
    live: ModeWatch, valkey: redis_py.Redis
) -> None:
    seen = str(valkey.get(KEY))
    say(valkey, {"emergency_stop": True})
    live._rewrite(seen, control.epoch())
    live._rewrite(None, control.epoch())
    assert json.loads(str(valkey.get(KEY))) == {"emergency_stop": True}


def test_a_look_that_is_too_old_is_dry(live: ModeWatch) -> None:
    assert live.snapshot is not None
    live.snapshot = replace(live.snapshot, taken_at_s=time.monotonic() - LOOK_GOOD_FOR_S - 0.1)
    ruling = live.ruling()
    assert (ruling.mode, ruling.streak, ruling.degraded) == (Mode.DRY, 0, True)


def test_a_process_without_a_watch_is_dry(running: None, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(watch, "_owner_pid", os.getpid() + 1)  # as in a child after a fork
        assert watch.view().mode == "DRY"
    eventually(lambda: watch.view().mode == "LIVE")
    watch.stop()
    with transaction.atomic():
        ruling = admission.ruling_now()
    assert (ruling.mode, ruling.degraded) == (Mode.DRY, True)
    assert "does not watch" in ruling.reason


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("halted_reason = 'another genesis'", "another genesis"),
        ("reconciled_at = NULL", "since this process started"),
        ("reconciled_at = clock_timestamp() - interval '1 hour'", "since this process started"),
    ],
)
def test_chain_and_database_must_agree(live: ModeWatch, change: str, reason: str) -> None:
    rows.execute(f"UPDATE chains SET {change}")
    live.look()
    assert live.ruling().mode is Mode.DRY
    assert reason in live.ruling().reason


def test_a_comparison_grows_old(live: ModeWatch) -> None:
    assert live.started_at is not None
    rows.execute("UPDATE chains SET reconciled_at = clock_timestamp() - interval '21 seconds'")
    live.started_at = live.started_at.replace(year=2020)
    live.look()
    assert "too long ago" in live.ruling().reason
    with without_guards():
        Chain.objects.all().delete()
    live.look()
    assert "not been compared" in live.ruling().reason


@pytest.mark.parametrize("fields", [{"exec_mode": "DRY"}, {"force_dry": True}])
def test_the_environment_is_an_upper_bound(live: ModeWatch, settings: Any, fields: dict[str, Any]) -> None:
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(update=fields)
    ruling = live.ruling()
    assert (ruling.requested, ruling.mode, ruling.degraded) == (Mode.DRY, Mode.DRY, False)
    assert ruling.streak == 3


def test_a_lost_database_is_dry_and_said(live: ModeWatch, caplog: pytest.LogCaptureFixture) -> None:
    caplog.clear()
    port = connection.settings_dict["PORT"]
    connection.close()
    connection.settings_dict["PORT"] = "1"
    try:
        live.look()
        assert live.ruling().mode is Mode.DRY
        assert live.ruling().reason.startswith("database")
    finally:
        connection.close()
        connection.settings_dict["PORT"] = port
    assert events(caplog).count(FAILING) == 1
    look_until_live(live)


def test_a_watch_says_that_it_lives(live: ModeWatch) -> None:
    beat = Heartbeat.objects.get(component="test")
    assert beat.pid == os.getpid()
    live.look()
    assert Heartbeat.objects.count() == 1


def test_the_force_dry_file_is_the_switch_for_the_worst_day(settings: Settings, tmp_path: Path) -> None:
    """Neither database nor Redis is asked; every process finds it at its next look."""
    path = tmp_path / "FORCE_DRY"
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(
        update={"exec_mode": "LIVE", "force_dry": False, "force_dry_path": path}
    )
    assert watch.limits().bound is Mode.LIVE
    path.touch()
    assert watch.limits().bound is Mode.DRY
    assert str(path) in modes.rule(watch.limits(), Facts(), 0.0).reason
    path.unlink()
    assert watch.limits().bound is Mode.LIVE
    # A place that cannot be looked at says nothing, and so it says DRY.
    (tmp_path / "file").touch()
    unreadable = tmp_path / "file" / "FORCE_DRY"
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(update={"force_dry_path": unreadable})
    assert watch.limits().bound is Mode.DRY

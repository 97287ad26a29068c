"""The watching thread, whose it is, and what a process shows of it; no thread runs here."""

import os
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.conf import settings as django_settings
from pytest_django.fixtures import Settings

from execution_app import patience
from execution_app.gate import watch
from execution_app.gate.look import Seen
from execution_app.gate.modes import Facts, Limits, Snapshot
from execution_app.gate.watch import ModeWatch
from execution_app.states import Mode, RestrictionKind
from tests.execution.gate.test_watch_rules import AT, NOW_S, Stage, stage, watcher

__all__ = ["stage", "watcher"]  # fixtures
STOP, DRY, REDUCE = RestrictionKind.STOP, RestrictionKind.DRY, RestrictionKind.REDUCE_ONLY


def test_the_thread_looks_until_it_is_stopped(
    watcher: ModeWatch, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (watcher._thread.name, watcher._thread.daemon) == ("mode-watch", True)
    monkeypatch.setattr(patience, "answer_within", lambda seconds: stage.told("answer within", seconds))

    def look() -> None:
        stage.told("look")
        assert len(stage.calls) < 20, "it waits for nothing"

    monkeypatch.setattr(watcher, "look", look)
    waited: list[float] = []

    def wait(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == 3:
            watcher._stopping.set()

    monkeypatch.setattr(watcher._stopping, "wait", wait)
    watcher._run()
    assert waited == [0.25] * 3
    assert stage.calls == [("answer within", 8.0), *[("look",)] * 3, ("close",)]


def test_who_stops_it_waits_for_its_last_look_and_not_for_ever(
    watcher: ModeWatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    joined: list[float] = []

    def join(timeout: float) -> None:
        joined.append(timeout)

    fake: Any = SimpleNamespace(join=join, start=lambda: joined.append(0))
    monkeypatch.setattr(watcher, "_thread", fake)
    watcher.start()
    assert not watcher._stopping.is_set()
    watcher.stop()
    assert watcher._stopping.is_set()
    assert joined == [0, 5]


@pytest.mark.parametrize("pool_child", [False, True])
def test_a_pools_child_listens_for_its_parent(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, pool_child: bool
) -> None:
    made: Any = ModeWatch("worker", pool_child=pool_child)
    assert (made.component, made._pulse._component, made._voice._component) == ("worker",) * 3
    assert (made._pulse._pool_child, made._hearing is not None) == (pool_child, pool_child)
    if not pool_child:
        return
    heard: list[bool] = []
    monkeypatch.setattr(made._hearing, "check", lambda *, redis_is_healthy: heard.append(redis_is_healthy))
    monkeypatch.setattr(made._pulse, "beat", lambda: None)
    for made.snapshot in (None, Snapshot(1.0, 0, "away"), Snapshot(1.0, 1, "")):
        assert made._look_at_database() == 7
    assert heard == [False, False, True]


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is started and stopped, in place of threads."""
    found: list[str] = []

    class Fake:
        snapshot = Snapshot(1.0)
        started_at: datetime | None = None

        def __init__(self, component: str, *, pool_child: bool = False) -> None:
            self.name = f"{component}{' child' * pool_child}"

        def start(self) -> None:
            found.append(f"{self.name} starts")

        def stop(self) -> None:
            found.append(f"{self.name} stops")

        def facts(self) -> Facts:
            return Facts(chain_problem="its own")

    monkeypatch.setattr(watch, "ModeWatch", Fake)
    monkeypatch.setattr(watch, "_watch", None)
    monkeypatch.setattr(watch, "_owner_pid", 0)
    monkeypatch.setattr(patience, "guard", lambda: found.append("guarded"))
    return found


UNWATCHED = "this process does not watch the mode"


def test_one_process_has_one_watch(begun: list[str]) -> None:
    assert (watch.snapshot(), watch.process_facts(), watch.chain_problem()) == (None, Facts(), UNWATCHED)
    first: Any = watch.start("one", pool_child=True)
    assert watch.start("two") is first
    assert (watch.snapshot(), watch.process_facts().chain_problem) == (Snapshot(1.0), "its own")
    assert watch.chain_problem() == UNWATCHED, "it has not looked yet"
    watch.stop()
    watch.stop()
    assert begun == ["guarded", "one child starts", "guarded", "one child stops"]
    assert watch.start("three") is not first


def test_a_fork_has_none(begun: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    first: Any = watch.start("one")
    first.started_at = AT
    monkeypatch.setattr(watch, "_owner_pid", os.getpid() + 1)
    assert (watch.snapshot(), watch.process_facts(), watch.chain_problem()) == (None, Facts(), UNWATCHED)
    assert watch.start("two") is not first
    assert watch._owner_pid == os.getpid()
    monkeypatch.setattr(watch, "_owner_pid", os.getpid() + 1)
    watch.stop()
    assert watch._watch is None
    assert begun == ["guarded", "one starts", "guarded", "two starts"], "nothing of the parent's is stopped"


def test_what_speaks_against_trading_is_seen_afresh_or_as_given(
    begun: list[str], stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: Any = watch.start("one")
    made.started_at = AT
    assert (watch.chain_problem(), stage.calls) == ("", [("look",)])
    given = Seen(7, frozenset(), "another genesis", AT, AT)
    assert (watch.chain_problem(given), len(stage.calls)) == ("another genesis", 1)


def test_what_is_shown_is_the_ruling_of_now(
    begun: list[str], stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert watch.view() == watch.ModeView("DRY", "LIVE", False, False, 0, UNWATCHED)
    assert watch.effective_mode() == "DRY"
    made: Any = watch.start("one")
    facts = Facts(frozenset({STOP}), Snapshot(NOW_S - 0.5, 4, ""))
    monkeypatch.setattr(made, "facts", lambda: facts)
    assert watch.view() == watch.ModeView("LIVE", "LIVE", True, False, 4, "emergency stop")
    assert watch.effective_mode() == "LIVE"
    facts = Facts(frozenset({REDUCE}), Snapshot(NOW_S - 1.5, 4, ""))
    assert watch.view() == watch.ModeView("DRY", "LIVE", False, True, 0, "the last look at Redis is too old")
    facts = Facts(frozenset({DRY}), Snapshot(NOW_S, 4, ""))
    assert watch.view().requested == "DRY"


def test_redis_is_waited_for_a_moment_and_asked_once() -> None:
    """A look that it does not answer is DRY; the next one asks again."""
    made: Any = ModeWatch("test")
    asked = made._redis.connection_pool.connection_kwargs
    assert (asked["socket_timeout"], asked["socket_connect_timeout"], asked["retry"]) == (0.3, 0.3, None)


def test_text_is_read_from_bytes_and_from_text() -> None:
    assert [watch._text(raw) for raw in (b"a", "b", None)] == ["a", "b", None]


def test_what_a_process_was_started_with_is_an_upper_bound(settings: Settings, tmp_path: Path) -> None:
    file = tmp_path / "FORCE_DRY"
    table: list[tuple[dict[str, Any], bool, Mode, str]] = [
        ({"exec_mode": "LIVE"}, False, Mode.LIVE, "EXEC_MODE is DRY"),
        ({"exec_mode": "DRY"}, False, Mode.DRY, "EXEC_MODE is DRY"),
        ({"exec_mode": "LIVE", "force_dry": True}, True, Mode.DRY, "FORCE_DRY is set"),
        ({"exec_mode": "LIVE"}, True, Mode.DRY, f"the file {file} is there"),
    ]
    sound = {"force_dry": False, "force_dry_path": file, "allow_live_after_streak": 5}
    for fields, there, bound, why in table:
        settings.ENVIRONMENT = django_settings.ENVIRONMENT.model_copy(update=sound | fields)
        file.unlink(missing_ok=True)
        if there:
            file.touch()
        assert watch.limits() == Limits(bound, 5, why=why)


@pytest.mark.parametrize(
    ("error", "there"),
    [(None, True), (FileNotFoundError(), False), (PermissionError(), True), (OSError(), True)],
)
def test_a_switch_that_cannot_be_looked_at_is_there(
    settings: Settings, error: OSError | None, there: bool
) -> None:
    def stat() -> None:
        if error is not None:
            raise error

    environment: Any = SimpleNamespace(force_dry_path=SimpleNamespace(stat=stat))
    settings.ENVIRONMENT = environment
    assert watch._force_dry_file() is there

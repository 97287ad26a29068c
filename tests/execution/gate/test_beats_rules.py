"""A component's row, whose it is and when it is said again; and what names a process. No process is started."""

import multiprocessing
import os
import socket
import time
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from django.db.models import F

from execution_app.gate import beats
from execution_app.gate.beats import Pulse
from execution_app.models import Heartbeat, PoolBeat

MINUTE = timedelta(minutes=1)


def stat(comm: str, ticks: int) -> str:
    """As proc(5) tells it: what is counted follows the last bracket, and each number here is another."""
    behind = [
        "S",
        *(str(number) for number in range(100, 118)),
        str(ticks),
        *(str(n) for n in range(200, 230)),
    ]
    return f"7 ({comm}) {' '.join(behind)}\n"


@pytest.fixture
def proc(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A /proc of the test's own, 1000 s after boot, when this process's clock reads 500."""
    files: dict[str, str] = {}

    def read_text(path: str) -> str:
        if path not in files:
            raise FileNotFoundError(path)
        return files[path]

    monkeypatch.setattr(beats, "Path", lambda path: SimpleNamespace(read_text=lambda **_: read_text(path)))
    clock = SimpleNamespace(
        CLOCK_BOOTTIME=7, clock_gettime=lambda which: {7: 1000.0}[which], monotonic=lambda: 500.0
    )
    monkeypatch.setattr(beats, "time", clock)
    monkeypatch.setattr(os, "sysconf", lambda name: {"SC_CLK_TCK": 50}[name])
    monkeypatch.setattr(socket, "gethostname", lambda: "host")
    return files


@pytest.mark.parametrize("comm", ["python", "a b", ") (S) 1 2", "a)"])
def test_a_process_is_named_by_its_ticks_whatever_it_calls_itself(proc: dict[str, str], comm: str) -> None:
    proc["/proc/12/stat"] = stat(comm, 5_000)
    assert beats.identify(12) == ("host/12/5000", 500.0 - (1000.0 - 100.0))
    assert beats.identify(13) == ("host/13", beats._imported_at_s)


def beat(process: str, born_at_s: float, now_s: float = 1_000.0, component: str = "worker") -> None:
    one = Pulse(component)
    one._process, one._born_at_s, one._pid = process, born_at_s, int(born_at_s)
    one._beat_for_component(now_s)


def row(component: str = "worker") -> Heartbeat:
    return Heartbeat.objects.get(component=component)


def lived_s(found: Heartbeat) -> float:
    return (found.at - found.started_at).total_seconds()


def age(component: str = "worker") -> None:
    """The row lies a minute back, and its process began a minute earlier."""
    Heartbeat.objects.filter(component=component).update(
        at=F("at") - MINUTE, started_at=F("started_at") - MINUTE
    )


def test_a_components_row_is_of_whoever_began_last_and_all_say_that_they_live(database: None) -> None:
    beat("other", 500.0, component="beat")
    beat("a", 900.0)
    first = row()
    assert (first.process, first.pid) == ("a", 900)
    assert 100 <= lived_s(first) < 130
    # Its owner says that it lives, and nothing else.
    age()
    aged = row()
    beat("a", 950.0)
    again = row()
    assert (again.process, again.pid, again.started_at) == ("a", 900, aged.started_at)
    assert again.at > aged.at + MINUTE / 2
    # Who began later takes it over.
    beat("b", 990.0)
    taken = row()
    assert (taken.process, taken.pid, lived_s(taken)) == ("b", 990, 10), "by one clock"
    # Who began before says that it lives.
    Heartbeat.objects.filter(component="worker").update(at=F("at") - MINUTE)
    beat("a", 900.0)
    kept = row()
    assert (kept.process, kept.pid, kept.started_at) == ("b", 990, taken.started_at)
    assert kept.at > taken.at - MINUTE / 2
    assert Heartbeat.objects.count() == 2


def test_no_other_components_row_is_touched(database: None) -> None:
    """Though it is the same process's, or one that began before."""
    beat("a", 500.0, component="beat")
    age("beat")
    before = row("beat")
    for process in ("a", "b", "a", "b"):
        beat(process, 900.0 if process == "a" else 990.0)
    after = row("beat")
    assert (after.process, after.pid, after.started_at, after.at) == (
        *("a", 500, before.started_at, before.at),
    )  # fmt: skip


def test_a_heart_beats_first_at_once_and_then_every_two_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[float] = []
    one = Pulse("webhook")
    monkeypatch.setattr(one, "_beat_for_component", told.append)
    monkeypatch.setattr(one, "_beat_in_pool", lambda _: pytest.fail("it has no pool"))
    for now_s in (0.0, 1.0, 1.875, 2.25, 4.0, 4.5):
        monkeypatch.setattr(beats, "time", SimpleNamespace(monotonic=lambda now_s=now_s: now_s))
        one.beat()
    assert told == [0.0, 2.25, 4.5]


@pytest.mark.parametrize("orphan", [False, True])
def test_a_pools_child_speaks_for_its_parent_unless_it_has_lost_it(
    monkeypatch: pytest.MonkeyPatch, orphan: bool
) -> None:
    told: list[str] = []
    one = Pulse("worker", pool_child=True)
    assert (one._pid, one._process) == (os.getppid(), beats.identify(os.getppid())[0])
    one._pid += orphan
    monkeypatch.setattr(one, "_beat_for_component", lambda _: told.append("component"))
    monkeypatch.setattr(one, "_beat_in_pool", lambda _: told.append("pool"))
    one.beat()
    one.beat()
    assert told == ["pool"] if orphan else ["pool", "component"]


def test_a_web_servers_worker_speaks_for_the_server_and_others_for_themselves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Celery's pool is of another library, and says so; its children have no parent that could be asked."""
    assert (Pulse("webhook")._pid, Pulse("webhook")._process) == (os.getpid(), beats.identify(os.getpid())[0])
    monkeypatch.setattr(multiprocessing, "parent_process", lambda: SimpleNamespace(pid=os.getppid()))
    worker = Pulse("webhook")
    assert (worker._pid, worker._process) == (os.getppid(), beats.identify(os.getppid())[0])
    assert worker._own_process == beats.identify(os.getpid())[0]
    assert worker._born_at_s == pytest.approx(beats.identify(os.getppid())[1], abs=30)


def in_pool(**fields: Any) -> PoolBeat:
    """The child's row after one more beat at 1000 s."""
    one = Pulse("tpsl", pool_child=True)
    for name, value in fields.items():
        setattr(one, name, value)
    one._beat_in_pool(1_000.0)
    return PoolBeat.objects.get(process=one._own_process)


def test_a_childs_row_says_since_when_it_is_busy(database: None, monkeypatch: pytest.MonkeyPatch) -> None:
    first = in_pool()
    assert (first.component, first.pid, first.busy_since) == ("tpsl", os.getpid(), None)
    assert first.process == beats.identify(os.getpid())[0]
    monkeypatch.setattr(beats, "_working_since_s", 970.0)
    PoolBeat.objects.update(at=F("at") - MINUTE)
    busy = in_pool()
    assert busy.busy_since is not None
    assert (busy.pk, busy.at - busy.busy_since) == (first.pk, timedelta(seconds=30))
    assert busy.at > first.at - MINUTE / 2
    other = in_pool(_own_process="other")
    assert other.busy_since is not None
    assert (other.component, other.at - other.busy_since) == ("tpsl", timedelta(seconds=30))
    monkeypatch.setattr(beats, "_working_since_s", None)
    assert in_pool().busy_since is None
    other.refresh_from_db()
    assert other.busy_since is not None, "another child's"


def test_a_new_child_forgets_who_was_silent_for_an_hour(database: None) -> None:
    in_pool()
    for minutes in (59, 61):
        in_pool(_own_process=f"silent for {minutes}")
        PoolBeat.objects.filter(process=f"silent for {minutes}").update(
            at=F("at") - timedelta(minutes=minutes)
        )
    in_pool()
    assert PoolBeat.objects.count() == 3, "not at each beat"
    in_pool(_own_process="new")
    assert set(PoolBeat.objects.exclude(pid=0).values_list("process", flat=True)) == {
        *(Pulse("tpsl")._own_process, "silent for 59", "new"),
    }  # fmt: skip


def working_since_s() -> float | None:
    return beats._working_since_s


def test_who_is_at_a_task_is_not_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    now = SimpleNamespace(s=100.0)
    monkeypatch.setattr(beats, "time", SimpleNamespace(monotonic=lambda: now.s))
    beats.begin_work()
    try:
        assert working_since_s() == 100.0
        now.s = 130.0
        assert beats.idle_s() == 0.0
    finally:
        beats.end_work()
    assert working_since_s() is None
    now.s = 137.0
    assert beats.idle_s() == 7.0
    beats._HEARD.pack_into(beats._heard, 0, time.monotonic())

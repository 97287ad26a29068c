"""When a worker that hears nothing is asked to end, and when it is ended; nobody is killed here."""

import os
import signal
from datetime import timedelta
from types import SimpleNamespace

import pytest
from django.db.models.functions import Now

from execution_app.gate import beats, hearing
from execution_app.gate.hearing import Hearing
from execution_app.models import Heartbeat

TERM, KILL = signal.SIGTERM, signal.SIGKILL


class Worker:
    """A child's judgement at moments that the test names, and the signals that it sends."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 0.0
        self.idle_s = 1_000.0
        self.rings = True
        self.parent = 77
        self.sent: list[tuple[int, signal.Signals]] = []
        monkeypatch.setattr(hearing, "time", SimpleNamespace(monotonic=lambda: self.now_s))
        monkeypatch.setattr(beats, "idle_s", lambda: self.idle_s)
        monkeypatch.setattr(hearing, "_beat_rings", lambda: self.rings)
        monkeypatch.setattr(os, "getppid", lambda: self.parent)
        monkeypatch.setattr(os, "kill", lambda pid, sent: self.sent.append((pid, sent)))
        self.hearing = Hearing()

    def at(self, now_s: float, healthy: bool = True) -> list[signal.Signals]:
        """What is sent to its main process at that moment."""
        self.now_s = now_s
        before = len(self.sent)
        self.hearing.check(redis_is_healthy=healthy)
        assert {pid for pid, _ in self.sent} <= {77}
        return [sent for _, sent in self.sent[before:]]


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Worker:
    return Worker(monkeypatch)


def test_it_is_asked_once_and_ended_by_force_after_a_while(worker: Worker) -> None:
    assert [worker.at(s) for s in (100, 110, 119.5)] == [[], [], []], (
        "Redis has been there for too short a time"
    )
    assert worker.at(120.5) == [TERM]
    assert [worker.at(s) for s in (121, 122, 123)] == [[], [], []]
    assert worker.at(124) == [KILL]


def test_what_was_heard_lately_keeps_it_alive(worker: Worker) -> None:
    worker.at(0)
    worker.idle_s = 19.5
    assert worker.at(100) == []
    worker.idle_s = 20.5
    assert worker.at(101) == [TERM]
    worker.idle_s = 1.0
    assert worker.at(102) == []
    worker.idle_s = 50.0
    assert worker.at(110) == [TERM], "asked anew, since it had heard something in between"
    assert worker.at(114) == [KILL]


def test_an_outage_of_redis_begins_the_count_anew(worker: Worker) -> None:
    worker.at(0)
    assert worker.at(30, healthy=False) == []
    assert worker.at(30) == worker.at(49.5) == []
    assert worker.at(50.5) == [TERM]


def test_an_orphan_ends_nobody(worker: Worker) -> None:
    worker.at(0)
    worker.parent = 1
    assert worker.at(100) == []
    worker.parent = 77
    assert worker.at(101) == [TERM]
    worker.parent = 1
    assert worker.at(200) == []


def test_where_nobody_rings_nobody_is_deaf(worker: Worker) -> None:
    worker.at(0)
    worker.rings = False
    assert [worker.at(s) for s in (100, 200)] == [[], []]
    worker.rings = True
    assert worker.at(201) == [TERM]
    worker.rings = False
    assert worker.at(205) == [KILL], "it was asked already"


@pytest.mark.parametrize(
    ("component", "at_s", "started_s", "rings"),
    [
        ("beat", 1, 60, True),
        ("worker", 1, 60, False),
        ("beat", 60, 600, False),
        ("beat", 1, 5, False),
    ],
    ids=["a beat", "another", "one that is gone", "a young one"],
)
def test_who_is_to_be_heard(database: None, component: str, at_s: int, started_s: int, rings: bool) -> None:
    """Somebody who is there, and has been for as long as nothing was heard."""
    assert hearing._beat_rings() is False
    moments = {"at": Now() - timedelta(seconds=at_s), "started_at": Now() - timedelta(seconds=started_s)}
    Heartbeat.objects.create(component=component, process="a/1/1", pid=1, **moments)
    assert hearing._beat_rings() is rings

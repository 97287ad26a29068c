"""A look that hangs delays nobody, is not begun twice, and can be waited for."""

import threading
import time
from types import SimpleNamespace

import pytest

from ops.watch import probe
from ops.watch.probe import Probe


class Part:
    """Something to look at that answers when told to."""

    def __init__(self) -> None:
        self.answers = threading.Event()
        self.looks = 0

    def look(self) -> int:
        self.looks += 1
        assert self.answers.wait(10)
        return self.looks


def test_a_part_that_hangs_costs_its_patience_and_one_thread() -> None:
    part = Part()
    looking = Probe("part", part.look, patience_s=0.05, fresh_s=60)
    for _ in range(3):
        looking.begin()
        assert looking.answer() is None
    assert part.looks == 1
    part.answers.set()
    looking.forget()


def test_an_answer_is_kept_while_it_is_fresh_and_forgotten_when_told() -> None:
    part = Part()
    part.answers.set()
    looking = Probe("part", part.look, patience_s=5, fresh_s=60)
    for expected in (1, 1):
        looking.begin()
        assert looking.answer() == expected
    looking.forget()
    looking.begin()
    assert looking.answer() == 2


def test_who_loses_time_between_asking_and_reading_was_answered_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A machine that stands still for a second, and an answer that came before it did, or was fresh until then."""
    lost_s = 0.0
    monkeypatch.setattr(probe, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + lost_s))
    part = Part()
    part.answers.set()
    looking = Probe("part", part.look, patience_s=10, fresh_s=60)
    for expected in (1, 1, 2):
        looking.begin()
        looking._done.wait(10)
        lost_s += 50
        assert looking.answer() == expected
    part.answers.clear()
    lost_s += 50
    looking.begin()
    lost_s += 50
    assert looking.answer() is None, "what hangs is not answered by what was known before"
    part.answers.set()
    looking.forget()


def test_forgetting_waits_until_nobody_looks_any_more() -> None:
    part = Part()
    looking = Probe("part", part.look, patience_s=0.01, fresh_s=60)
    looking.begin()
    began_s = time.monotonic()
    threading.Timer(0.2, part.answers.set).start()
    looking.forget()
    assert time.monotonic() - began_s > 0.1
    assert "probe-part" not in [thread.name for thread in threading.enumerate()]
    assert looking.answer() is None, "what the old look found counts no more"


def test_a_look_that_never_ends_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "REST_S", 0.01)
    part = Part()
    looking = Probe("part", part.look, patience_s=0.01, fresh_s=60)
    looking.begin()
    with pytest.raises(TimeoutError, match="the look at part does not end"):
        looking.forget()
    part.answers.set()
    monkeypatch.undo()
    looking.forget()

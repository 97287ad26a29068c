"""What is walked ahead in the parent leaves nothing that a child would not have found without it."""

import os

import pytest

from execution_app import bells
from execution_app.gate import watch
from execution_app.node import rpc
from execution_app.tasks import submit
from tests.crash import forerun


def test_nothing_of_ours_remembers_the_walk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "_watch", None)
    monkeypatch.setattr(watch, "_owner_pid", 0)
    pending, ringer = bells._pending, bells._ringer
    rpc.endpoints.cache_clear()
    with forerun._without_a_trace():
        watch._watch, watch._owner_pid = watch.ModeWatch("worker"), os.getpid()
        rpc.endpoints()
        bells.ring(submit, 1)
        assert bells._pending.qsize() == 1
    assert watch.snapshot() is None
    assert watch._owner_pid == 0
    assert rpc.endpoints.cache_info().currsize == 0
    assert (bells._pending, bells._ringer) == (pending, ringer)


def test_what_a_process_knew_before_it_still_knows() -> None:
    known = rpc.endpoints()
    with forerun._without_a_trace():
        rpc.endpoints()
    assert rpc.endpoints() is known
    rpc.endpoints.cache_clear()


def test_memory_is_gathered_and_stays_what_it_was() -> None:
    kept = [bytes([number % 256]) * 400 for number in range(20_000)]
    forerun.gather_memory()
    assert all(one == bytes([number % 256]) * 400 for number, one in enumerate(kept))

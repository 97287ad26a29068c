"""A pool's child ends its main process once nothing is handed out any more, and never for another reason."""

import multiprocessing
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.connection import Connection
from types import SimpleNamespace

import pytest
from django.db import connection
from django.db.models.functions import Now

from execution_app.gate import beats
from execution_app.gate import hearing as hearing_room
from execution_app.gate.hearing import Hearing
from execution_app.models import Heartbeat

FORK = multiprocessing.get_context("fork")
WAIT_S = 60
ASKED = FORK.Semaphore(0)  # the main process has said that it was asked to end


@dataclass(frozen=True)
class Silence:
    """Seconds ago: the last task of the pool, Redis' return, beat's last word and its start.

    The first two by the process's clock, which stands still; the others by the database's, which does not.
    """

    heard: float = 20.1
    redis_back: float = 20.1
    beat: float = 1
    beat_began: float = 60
    redis_is_healthy: bool = True
    at_work: bool = False


DEAF = Silence()
HEARING = {
    "something was handed out": Silence(heard=19.9),
    "Redis was away meanwhile": Silence(redis_back=19.9),
    "Redis is away": Silence(redis_is_healthy=False),
    "beat is silent": Silence(beat=10.5),
    "beat has begun meanwhile": Silence(beat_began=10),
    "a task is under way": Silence(at_work=True),
}


def _prepare(silence: Silence) -> Hearing:
    now_s = time.monotonic()
    # In a process of its own, whose watch stands still: how long it takes to get there decides nothing.
    hearing_room.time = beats.time = SimpleNamespace(monotonic=lambda: now_s)  # type: ignore[assignment, attr-defined]
    hearing = Hearing()
    hearing._there_since_s = now_s - silence.redis_back
    beats._HEARD.pack_into(beats._heard, 0, now_s - silence.heard)
    beats._working_since_s = now_s - 100 if silence.at_work else None
    return hearing


def _main(work: Callable[[Connection], None], said: Connection) -> None:
    """A main process, which says when it is asked to end, and a child of it that does the work."""

    def told(*_: object) -> None:
        said.send("asked to end")
        ASKED.release()

    signal.signal(signal.SIGTERM, told)
    child = FORK.Process(target=work, args=(said,))
    child.start()
    child.join(WAIT_S)
    said.send("stays")


def run(work: Callable[[Connection], None]) -> tuple[list[object], int | None]:
    """What was said, and how the main process ended."""
    connection.close()  # a forked process must not speak on ours
    mine, theirs = FORK.Pipe(duplex=False)
    main = FORK.Process(target=_main, args=(work, theirs))
    main.start()
    theirs.close()
    main.join(WAIT_S)
    heard: list[object] = []
    while mine.poll():
        try:
            heard.append(mine.recv())
        except EOFError:
            break
    return heard, main.exitcode


def beat_row(silence: Silence) -> None:
    Heartbeat.objects.create(
        component="beat",
        process="beat/1/1",
        pid=1,
        started_at=Now() - timedelta(seconds=silence.beat_began),
        at=Now() - timedelta(seconds=silence.beat),
    )


@pytest.fixture
def quiet(database: None) -> None:
    """Other components speak, which says nothing about beat."""
    Heartbeat.objects.create(
        component="webhook", process="w/1/1", pid=1, started_at=Now() - timedelta(hours=1), at=Now()
    )


def test_a_deaf_worker_is_asked_once_and_then_ended_by_force(quiet: None) -> None:
    beat_row(DEAF)

    def work(said: Connection) -> None:
        hearing = _prepare(DEAF)
        hearing.check(redis_is_healthy=True)
        hearing.check(redis_is_healthy=True)
        assert ASKED.acquire(timeout=WAIT_S)  # the main process gets to say it before it is killed
        said.send("has asked")
        assert hearing._asked_at_s is not None
        hearing._asked_at_s -= 2.9
        hearing.check(redis_is_healthy=True)
        said.send("has waited")
        hearing._asked_at_s -= 0.2
        hearing.check(redis_is_healthy=True)

    heard, code = run(work)
    assert heard == ["asked to end", "has asked", "has waited"]
    assert code == -signal.SIGKILL


@pytest.mark.parametrize("name", HEARING)
def test_nobody_is_ended_while(name: str, quiet: None) -> None:
    silence = HEARING[name]
    beat_row(silence)

    def work(said: Connection) -> None:
        hearing = _prepare(silence)
        hearing.check(redis_is_healthy=silence.redis_is_healthy)
        said.send(hearing._asked_at_s)

    assert run(work) == ([None, "stays"], 0)


def test_nobody_is_ended_where_nobody_rings(quiet: None) -> None:
    def work(said: Connection) -> None:
        hearing = _prepare(DEAF)
        hearing.check(redis_is_healthy=True)
        said.send(hearing._asked_at_s)

    assert run(work) == ([None, "stays"], 0)


def test_an_orphan_ends_nobody(quiet: None) -> None:
    beat_row(DEAF)

    def work(said: Connection) -> None:
        hearing = _prepare(DEAF)
        hearing._main_pid += 1
        hearing.check(redis_is_healthy=True)
        said.send(hearing._asked_at_s)

    assert run(work) == ([None, "stays"], 0)


def test_whoever_hears_again_in_time_is_left_alone_and_asked_anew_later(quiet: None) -> None:
    beat_row(DEAF)

    def work(said: Connection) -> None:
        hearing = _prepare(DEAF)
        hearing.check(redis_is_healthy=True)
        beats.end_work()
        hearing.check(redis_is_healthy=True)
        said.send(hearing._asked_at_s)
        assert ASKED.acquire(timeout=WAIT_S)
        beats._HEARD.pack_into(beats._heard, 0, time.monotonic() - 100)
        hearing.check(redis_is_healthy=True)
        assert ASKED.acquire(timeout=WAIT_S)
        said.send(hearing._asked_at_s is not None)

    heard, code = run(work)
    assert sorted(map(str, heard)) == ["None", "True", "asked to end", "asked to end", "stays"]
    assert code == 0


def test_an_outage_of_redis_begins_the_count_anew(quiet: None) -> None:
    beat_row(DEAF)

    def work(said: Connection) -> None:
        hearing = _prepare(DEAF)
        hearing.check(redis_is_healthy=False)
        hearing.check(redis_is_healthy=True)
        said.send(hearing._asked_at_s)
        assert hearing._there_since_s is not None
        said.send(beats.time.monotonic() - hearing._there_since_s)  # type: ignore[attr-defined]

    assert run(work) == ([None, 0.0, "stays"], 0)

"""A restriction that is said again in Redis while a lifting of before is still carried out: the later word holds."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
import redis as redis_py
from django.conf import settings
from django.db import connection

from execution_app.gate import control, modes
from execution_app.gate.watch import EPOCH_KEY, KEY, ModeWatch
from execution_app.models import Restriction
from execution_app.states import Origin, RestrictionKind
from tests.execution.gate.test_watch import WORDS, compared, live, look_until_live, say, watcher
from tests.redis_outages import eventually

__all__ = ["compared", "live", "watcher"]  # fixtures

STOP, REDUCE = RestrictionKind.STOP, RestrictionKind.REDUCE_ONLY
Start = Callable[[ModeWatch], Future[None]]


@contextmanager
def held_up(statement: str, *values: Any) -> Iterator[Start]:
    """Another session holds what the statement takes until the block ends; looks are begun behind it."""
    with (
        ThreadPoolExecutor(2) as pool,
        psycopg.connect(settings.ENVIRONMENT.database_url.get_secret_value()) as holder,
    ):
        holder.execute(statement, values)
        begun: list[Future[None]] = []

        def behind() -> int:
            waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY(pg_blocking_pids(pid))"
            return int(holder.execute(waiting).fetchone()[0])  # type: ignore[index]

        def look(process: ModeWatch) -> None:
            try:
                process.look()
            finally:
                connection.close()

        def start(process: ModeWatch) -> Future[None]:
            """Returns once the look waits, or has ended without."""
            begun.append(pool.submit(look, process))
            eventually(lambda: behind() == sum(not one.done() for one in begun))
            return begun[-1]

        yield start
        holder.rollback()
        for one in begun:
            one.result(timeout=60)


def stands(kind: RestrictionKind, valkey: redis_py.Redis, *processes: ModeWatch) -> None:
    """It holds in the database, is told by the key, and every process takes the stack's own value for it."""
    assert control.active_kinds() == {kind}
    told = str(valkey.get(KEY))
    assert modes.tells(told, frozenset({kind}))
    assert json.loads(told)["epoch"] == control.epoch() == int(str(valkey.get(EPOCH_KEY)))
    for process in processes:
        process.look()
        assert process.active == {kind}
        assert process.snapshot is not None
        assert process.snapshot.problem == ""
    assert valkey.get(KEY) == told


@pytest.mark.parametrize("kind", RestrictionKind)
def test_a_process_that_saw_it_before_the_lifting_records_it_anew(
    live: ModeWatch, valkey: redis_py.Redis, kind: RestrictionKind
) -> None:
    """Between what it read in the database and what it reads in Redis it waits for its heartbeat."""
    sets, lifts = WORDS[kind]
    say(valkey, sets)
    live.look()
    ModeWatch("late").look()  # the row that is beaten
    late = ModeWatch("late")
    with held_up("SELECT FROM heartbeats WHERE component = 'late' FOR UPDATE") as start:
        start(late)
        assert late.set_in_redis == {kind}
        say(valkey, lifts)
        live.look()
        assert control.active_kinds() == frozenset()
        say(valkey, sets)
    stands(kind, valkey, live, late)
    assert Restriction.objects.count() == 2


@pytest.mark.parametrize("kind", RestrictionKind)
def test_a_lifting_that_waits_for_its_turn_does_not_take_what_is_said_after_it(
    live: ModeWatch, valkey: redis_py.Redis, kind: RestrictionKind
) -> None:
    sets, lifts = WORDS[kind]
    other = ModeWatch("other")
    say(valkey, sets)
    live.look()
    other.look()
    with held_up("SELECT pg_advisory_xact_lock_shared(%s)", control.LINE_LOCK) as start:
        say(valkey, lifts)
        start(live)
        say(valkey, sets)
        start(other)
    other.look()
    stands(kind, valkey, live, other)


@pytest.mark.parametrize("kind", RestrictionKind)
def test_a_lifting_that_comes_after_what_was_said_after_it_is_too_old(
    live: ModeWatch, valkey: redis_py.Redis, monkeypatch: pytest.MonkeyPatch, kind: RestrictionKind
) -> None:
    """The process that read it sleeps before it stands in line."""
    sets, lifts = WORDS[kind]
    other = ModeWatch("other")
    say(valkey, sets)
    live.look()
    other.look()
    lift = control.lift

    def sleep_and_lift(*words: Any, **more: Any) -> bool:
        say(valkey, sets)
        other.look()
        return lift(*words, **more)

    say(valkey, lifts)
    monkeypatch.setattr(control, "lift", sleep_and_lift)
    live.look()
    stands(kind, valkey, live, other)
    assert Restriction.objects.count() == 1


def test_a_word_beside_an_epoch_that_is_newer_than_what_was_seen_turns_it(
    live: ModeWatch, valkey: redis_py.Redis
) -> None:
    """The process saw the database before another word turned the epoch: a lifting of that one may be on its way."""
    say(valkey, {"emergency_stop": True})
    live.look()
    ModeWatch("late").look()
    late = ModeWatch("late")
    with held_up("SELECT FROM heartbeats WHERE component = 'late' FOR UPDATE") as start:
        start(late)
        say(valkey, {"reduce_only": True})
        live.look()
        before = control.epoch()
        say(valkey, {"emergency_stop": True})
    assert control.epoch() == before + 1
    assert not control.lift(STOP, Origin.REDIS, by="test", epoch=before)
    assert control.active_kinds() == {STOP, REDUCE}


def test_a_word_that_cannot_be_taken_back_turns_the_epoch_once(
    live: ModeWatch, valkey: redis_py.Redis
) -> None:
    """However many processes read it how often, while Redis takes no writes. Afterwards all take the stack's value."""
    others = [ModeWatch(f"other-{number}") for number in range(3)]
    for other in others:
        look_until_live(other)
    for changed in (True, False):
        before, held = control.epoch(), Restriction.objects.count()
        say(valkey, {"reduce_only": True})
        valkey.config_set("min-replicas-to-write", 1)
        try:
            for process in [*others, live] * 3:
                process.look()
                assert process.ruling().reduce_only
        finally:
            valkey.config_set("min-replicas-to-write", 0)
        assert (control.epoch(), Restriction.objects.count()) == (before + 1, held + changed)
        live.look()
        stands(REDUCE, valkey, *others, live)


@pytest.mark.parametrize("kind", RestrictionKind)
def test_a_value_that_is_written_late_does_not_take_the_place_of_the_same_words_said_again(
    live: ModeWatch, valkey: redis_py.Redis, monkeypatch: pytest.MonkeyPatch, kind: RestrictionKind
) -> None:
    """The process has recorded the first word, and its answer to it is on the way to Redis for long."""
    sets, lifts = WORDS[kind]
    late = ModeWatch("late")
    look_until_live(late)
    rewrite = late._rewrite

    def sleep_and_rewrite(*words: Any) -> None:
        live.look()
        say(valkey, lifts)
        live.look()
        assert control.active_kinds() == frozenset()
        say(valkey, sets)
        rewrite(*words)

    monkeypatch.setattr(late, "_rewrite", sleep_and_rewrite)
    say(valkey, sets)
    late.look()
    monkeypatch.setattr(late, "_rewrite", rewrite)
    assert valkey.get(KEY) == json.dumps(sets), "nobody has heard it yet"
    live.look()
    stands(kind, valkey, live, late)
    assert Restriction.objects.count() == 2


@pytest.mark.parametrize("epoch", [" 1\n", "x", ""])
def test_an_epoch_that_is_spelt_otherwise_keeps_nobody_from_writing(
    live: ModeWatch, valkey: redis_py.Redis, epoch: str
) -> None:
    valkey.set(EPOCH_KEY, epoch.replace("1", str(control.epoch())))
    say(valkey, {"emergency_stop": True})
    live.look()
    stands(STOP, valkey, live)


def test_an_epoch_that_is_no_word_is_replaced(live: ModeWatch, valkey: redis_py.Redis) -> None:
    valkey.delete(EPOCH_KEY)
    valkey.rpush(EPOCH_KEY, "1")
    say(valkey, {"emergency_stop": True})
    live.look()
    stands(STOP, valkey, live)

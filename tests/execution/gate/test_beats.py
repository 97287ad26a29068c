"""A component's start changes when its main process does, and its pool has beats of its own."""

import multiprocessing
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from multiprocessing.connection import Connection
from types import SimpleNamespace

import pytest
from django.db import connection
from django.db.models import F
from django.db.models.functions import Now

from execution_app.gate import beats
from execution_app.gate.beats import Pulse
from execution_app.models import Heartbeat, PoolBeat


def pulse(process: str, age_s: float) -> Pulse:
    """A main process of the component `worker` that began so long ago."""
    made = Pulse("worker")
    made._process, made._born_at_s = process, time.monotonic() - age_s
    return made


def beat(one: Pulse) -> None:
    one._beat_at_s = float("-inf")
    one.beat()


def started() -> datetime:
    moment: datetime = Heartbeat.objects.get(component="worker").started_at
    return moment


def test_a_process_is_named_by_its_begin_and_never_by_its_pid_alone() -> None:
    name, born_at_s = beats.identify(os.getpid())
    assert name == beats.identify(os.getpid())[0]
    host, pid, ticks = name.rsplit("/", 2)
    assert (pid, host != "", int(ticks) > 0) == (str(os.getpid()), True, True)
    assert born_at_s < time.monotonic()
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        other, child_born_at_s = beats.identify(child.pid)
        assert other != name
        assert born_at_s < child_born_at_s
        assert abs(time.monotonic() - child_born_at_s) < 60
    finally:
        child.communicate(b"\n", timeout=20)


def test_without_proc_the_pid_has_to_do() -> None:
    name, born_at_s = beats.identify(2**30)
    assert name.endswith(f"/{2**30}")
    assert born_at_s <= time.monotonic()


def test_the_start_is_the_processs_own_and_stays(database: None) -> None:
    one = pulse("a/1/1", age_s=100)
    for _ in range(3):
        beat(one)
    (row,) = Heartbeat.objects.all()
    assert (row.process, row.pid) == ("a/1/1", os.getpid())
    assert timedelta(seconds=99) < row.at - row.started_at < timedelta(seconds=150)
    first = row.started_at
    beat(one)
    assert started() == first


def test_a_restart_changes_the_start_and_an_older_replica_does_not(database: None) -> None:
    old, new = pulse("a/1/1", age_s=100), pulse("b/1/2", age_s=10)
    beat(old)
    before = started()
    beat(new)
    after = started()
    assert after > before
    Heartbeat.objects.update(at=F("at") - timedelta(minutes=1))
    beat(old)
    assert started() == after, "it lives, and that is all that it says"
    assert datetime.now(after.tzinfo) - Heartbeat.objects.get().at < timedelta(seconds=50)


def test_two_processes_that_speak_for_one_parent_agree(database: None) -> None:
    """Their clocks are read at different moments; the first word stands."""
    beat(pulse("a/1/1", age_s=100.0))
    before = started()
    beat(pulse("a/1/1", age_s=99.9))
    assert started() == before


def test_many_at_once_make_one_row(database: None) -> None:
    # Minutes apart: what is lost between two clocks of one beat decides nothing.
    replicas = [pulse(f"a/{number}/1", age_s=10 + 60 * number) for number in range(8)]

    def beat_elsewhere(one: Pulse) -> None:
        beat(one)
        connection.close()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(beat_elsewhere, replicas))
        assert Heartbeat.objects.count() == 1
        list(pool.map(beat_elsewhere, replicas))
    assert Heartbeat.objects.get().process == "a/0/1", "the one that began last"


def _process_of(answer: Connection) -> None:
    answer.send(Pulse("webhook")._process)


def test_a_web_servers_worker_speaks_for_its_parent() -> None:
    mine, theirs = multiprocessing.Pipe()
    worker = multiprocessing.get_context("fork").Process(target=_process_of, args=(theirs,))
    worker.start()
    assert mine.poll(60)
    assert mine.recv() == beats.identify(os.getpid())[0]
    worker.join(20)


def test_a_pool_child_has_a_row_of_its_own_and_says_since_when_it_is_busy(database: None) -> None:
    child = Pulse("worker", pool_child=True)
    beat(child)
    row = PoolBeat.objects.get()
    assert (row.component, row.pid, row.busy_since) == ("worker", os.getpid(), None)
    assert row.process == beats.identify(os.getpid())[0]
    beats.begin_work()
    try:
        beat(child)
        row = PoolBeat.objects.get()
        assert row.busy_since is not None
        assert row.busy_since <= row.at
    finally:
        beats.end_work()
    beat(child)
    assert PoolBeat.objects.get().busy_since is None
    main = Heartbeat.objects.get()
    assert (main.component, main.pid, main.process) == (
        "worker",
        os.getppid(),
        beats.identify(os.getppid())[0],
    )


def test_children_of_long_ago_are_forgotten(database: None) -> None:
    for number, age in enumerate((timedelta(minutes=59), timedelta(minutes=61))):
        PoolBeat.objects.create(process=f"old/{number}", component="worker", pid=number)
        PoolBeat.objects.filter(pid=number).update(at=F("at") - age)
    beat(Pulse("tpsl", pool_child=True))
    assert set(PoolBeat.objects.values_list("pid", flat=True)) == {0, os.getpid()}


def test_a_main_process_has_no_row_in_its_pool(database: None) -> None:
    beat(Pulse("webhook"))
    assert not PoolBeat.objects.exists()
    row = Heartbeat.objects.get()
    assert (row.component, row.pid, row.process) == ("webhook", os.getpid(), beats.identify(os.getpid())[0])


def test_who_owns_the_row_says_again_and_again_that_it_lives(database: None) -> None:
    one = pulse("a/1/1", age_s=100)
    beat(one)
    Heartbeat.objects.update(
        at=F("at") - timedelta(minutes=1), started_at=F("started_at") - timedelta(minutes=1)
    )
    before = started()
    beat(one)
    row = Heartbeat.objects.get()
    assert row.started_at == before
    assert row.at - before > timedelta(seconds=150)


def test_a_child_that_is_busy_since_before_its_first_beat_says_so(database: None) -> None:
    beats.begin_work()
    try:
        assert beats._working_since_s is not None
        beats._working_since_s -= 30
        beat(Pulse("worker", pool_child=True))
    finally:
        beats.end_work()
    row = PoolBeat.objects.get()
    assert row.busy_since is not None
    assert timedelta(seconds=29) < row.at - row.busy_since < timedelta(seconds=90)


def test_each_component_has_a_row_of_its_own(database: None) -> None:
    long_ago = Now() - timedelta(hours=1)
    Heartbeat.objects.create(component="beat", process="b/1/1", pid=1, started_at=long_ago, at=long_ago)
    for _ in range(2):
        beat(Pulse("webhook"))
    other = Heartbeat.objects.get(component="beat")
    assert (other.process, other.pid, other.at) == ("b/1/1", 1, other.started_at)
    assert Heartbeat.objects.get(component="webhook").pid == os.getpid()


def test_an_orphan_of_a_pool_speaks_for_itself_alone(database: None) -> None:
    orphan = Pulse("worker", pool_child=True)
    orphan._pid += 1
    beat(orphan)
    assert PoolBeat.objects.count() == 1
    assert not Heartbeat.objects.exists()


def test_a_heart_beats_every_two_seconds_and_not_at_each_look(
    database: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, now_s = Pulse("webhook"), time.monotonic()
    monkeypatch.setattr(beats, "time", SimpleNamespace(monotonic=lambda: now_s))  # only `one` grows older
    one.beat()
    Heartbeat.objects.all().delete()
    one.beat()
    one._beat_at_s -= 1
    one.beat()
    assert not Heartbeat.objects.exists()
    one._beat_at_s -= 1.5
    one.beat()
    assert Heartbeat.objects.exists()


def silent_for(seconds: float) -> None:
    beats._HEARD.pack_into(beats._heard, 0, time.monotonic() - seconds)


def test_what_any_child_of_a_pool_begins_or_ends_is_heard_by_all() -> None:
    silent_for(100)
    assert 100 <= beats.idle_s() < 160

    def begin_elsewhere() -> None:
        beats.begin_work()

    def end_elsewhere() -> None:
        beats.end_work()

    for work in (begin_elsewhere, end_elsewhere):
        silent_for(100)
        child = multiprocessing.get_context("fork").Process(target=work)
        child.start()
        child.join(60)
        assert beats.idle_s() < 60


def test_who_is_at_a_task_is_not_idle_however_long_it_takes() -> None:
    beats.begin_work()
    try:
        silent_for(100)
        assert beats.idle_s() == 0
    finally:
        beats.end_work()
    assert beats.idle_s() < 60

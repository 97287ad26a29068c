"""What beat rings for, as rows that code puts right at each start."""

import json
from datetime import UTC, datetime, timedelta

import redis as redis_py
from django_celery_beat.models import PeriodicTask
from django_celery_beat.schedulers import ModelEntry

from tests.redis_outages import dead_redis
from vanta import beat, schedule
from vanta.celery import app


def due() -> set[str]:
    return {row.name for row in PeriodicTask.objects.all() if ModelEntry(row, app=app).is_due().is_due}


def test_a_new_bell_rings_at_once_and_a_known_one_in_its_time(database: None) -> None:
    schedule.install()
    assert due() == set(schedule.BELLS), "health waits for what they bring"
    now = datetime.now(UTC)
    PeriodicTask.objects.update(last_run_at=now)
    schedule.install()
    assert set(PeriodicTask.objects.values_list("last_run_at", flat=True)) == {now}
    assert "compare positions" not in due()


def waiting(valkey: redis_py.Redis, queue: str) -> list[str]:
    """The tasks of the messages in a queue, the oldest first; none of them ends by anybody's clock."""
    headers = [json.loads(raw)["headers"] for raw in valkey.lrange(queue, 0, -1)[::-1]]
    assert {header["expires"] for header in headers} <= {None}
    return [header["task"].rpartition(".")[2] for header in headers]


def test_no_bell_is_rung_while_two_like_it_wait(database: None, valkey: redis_py.Redis) -> None:
    schedule.install()
    scheduler = beat.Scheduler(app=app)

    def ring(name: str, times: int) -> None:
        for _ in range(times):
            scheduler.apply_entry(scheduler.schedule[name], producer=scheduler.producer)

    ring("sweep intents", 5)
    ring("sweep signals", 1)
    ring("follow the chain", 3)
    assert waiting(valkey, "ops") == ["sweep", "sweep", "sweep_signals"]
    assert waiting(valkey, "track") == ["track", "track"]
    valkey.rpop("ops")  # somebody heard one
    ring("sweep intents", 2)
    assert waiting(valkey, "ops") == ["sweep", "sweep_signals", "sweep"]
    valkey.lpush("ops", "no message of ours", "[]")
    valkey.rpop("ops")
    ring("sweep intents", 1)
    assert len(valkey.lrange("ops", 0, -1)) == 5
    with dead_redis():
        ring("sweep intents", 1)  # said, and beat goes on
    scheduler.close()


def ring_all(scheduler: beat.Scheduler) -> None:
    """As beat's loop does, as long as it would not wait."""
    while not scheduler.tick():
        pass


def test_a_clock_that_was_set_back_silences_no_bell(database: None, valkey: redis_py.Redis) -> None:
    """Nor would anybody follow the chain or watch a level until it has caught up, and beat's own heartbeat goes on."""
    schedule.install()
    scheduler = beat.Scheduler(app=app)
    ring_all(scheduler)
    assert set(waiting(valkey, "track")) == {"track"}
    hour = timedelta(hours=1)
    for entry in scheduler.schedule.values():  # what was noted lies ahead now
        entry.last_run_at += hour
    scheduler._heap = [event._replace(time=event.time + hour.total_seconds()) for event in scheduler._heap]
    scheduler._ticked_at_s += hour.total_seconds()
    valkey.delete("track", "tpsl", "ops")
    ring_all(scheduler)
    assert waiting(valkey, "track") == ["track"]
    assert set(waiting(valkey, "tpsl")) == {"watch_levels", "compare_positions"}
    scheduler.close()


def test_a_beat_that_begins_behind_the_last_rings_rings(database: None, valkey: redis_py.Redis) -> None:
    schedule.install()
    PeriodicTask.objects.update(last_run_at=datetime.now(UTC) + timedelta(hours=1))
    schedule.install()
    scheduler = beat.Scheduler(app=app)
    ring_all(scheduler)
    assert waiting(valkey, "track") == ["track"]
    scheduler.close()
    ahead = PeriodicTask.objects.filter(name__in=schedule.BELLS, last_run_at__gt=datetime.now(UTC))
    assert not ahead.exists(), "nor does the next one find them ahead"

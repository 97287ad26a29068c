"""What beat rings for, as rows that code puts right at each start."""

import json
from datetime import UTC, datetime

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

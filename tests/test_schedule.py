"""What beat rings for, as rows that code puts right at each start."""

from datetime import UTC, datetime

from django_celery_beat.models import PeriodicTask
from django_celery_beat.schedulers import ModelEntry

from vanta import schedule
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

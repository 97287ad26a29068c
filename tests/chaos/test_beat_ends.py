"""Beat ends when it is told to, whatever it is doing just then."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from django_celery_beat.models import PeriodicTask

from ops.rehearsal import stack_commands
from ops.rehearsal.parts.process import Child
from tests import real_parts
from vanta.celery import BEAT_ENDS_WITHIN_S

RINGS_WITHIN_S = 150
WAITS = (
    "SELECT count(*) FROM pg_stat_activity"
    " WHERE wait_event_type = 'Lock' AND query ILIKE '%django_celery_beat_periodictasks%'"
)


@pytest.fixture
def beat(database: None, valkey: object, tmp_path: Path) -> Iterator[Child]:
    """A beat that has rung."""
    child = Child(stack_commands.service("beat", dict(os.environ)).command(), tmp_path / "beat.log")
    deadline_s = time.monotonic() + RINGS_WITHIN_S
    while not PeriodicTask.objects.filter(total_run_count__gt=0).exists() and not rung(tmp_path / "beat.log"):
        assert child.is_alive, (tmp_path / "beat.log").read_text()[-2000:]
        assert time.monotonic() < deadline_s, (tmp_path / "beat.log").read_text()[-2000:]
        time.sleep(0.05)
    yield child
    child.stop(5)


def rung(log: Path) -> bool:
    return "Sending due task" in log.read_text()


def test_a_beat_at_rest_ends_in_order(beat: Child) -> None:
    assert beat.stop(BEAT_ENDS_WITHIN_S + 2)
    assert beat.exit_code == 0


def test_a_beat_in_the_middle_of_a_query_ends_too(beat: Child) -> None:
    """Celery's own handler waits there for the lock that the interrupted query holds."""
    with psycopg.connect(real_parts.postgres.url) as other:
        other.execute("LOCK TABLE django_celery_beat_periodictasks IN ACCESS EXCLUSIVE MODE")
        deadline_s = time.monotonic() + 60
        while other.execute(WAITS).fetchone() == (0,):
            assert time.monotonic() < deadline_s, "beat asks nothing"
            time.sleep(0.05)
        assert beat.stop(BEAT_ENDS_WITHIN_S + 2)

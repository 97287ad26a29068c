"""The health check of containers without a port: a fresh heartbeat, or why not."""

import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

from django.db.models.functions import Now

from execution_app.models import Heartbeat, PoolBeat
from ops.rollout import heartbeat
from tests import ages, real_parts


def test_only_a_fresh_heartbeat_of_that_component_counts(database: None) -> None:
    url = real_parts.postgres.url
    Heartbeat.objects.create(component="worker", pid=1, started_at=Now())
    assert heartbeat.problem(url, "worker") == ""
    assert heartbeat.problem(url, "beat") == "beat was never seen"
    since_s = time.monotonic()
    Heartbeat.objects.update(at=Now() - timedelta(seconds=heartbeat.WITHIN_S + 5))
    said = heartbeat.problem(url, "worker")
    assert said in ages.told("worker was last seen {} s ago", 20, since_s)


def test_a_pool_that_hangs_is_no_life(database: None) -> None:
    url, minute, since_s = real_parts.postgres.url, timedelta(minutes=1), time.monotonic()
    Heartbeat.objects.create(component="tpsl", pid=1, started_at=Now() - minute)
    Heartbeat.objects.create(component="beat", pid=1, started_at=Now() - minute)
    PoolBeat.objects.create(process="a", component="tpsl", pid=2, busy_since=Now() - minute)
    assert heartbeat.problem(url, "tpsl") in ages.told("tpsl was last seen working {} s ago", 60, since_s)
    assert heartbeat.problem(url, "beat") == "", "it has no pool"
    PoolBeat.objects.create(process="b", component="tpsl", pid=3)
    assert heartbeat.problem(url, "tpsl") == ""


def test_it_is_asked_without_django() -> None:
    """It runs every half minute in every container without a port."""
    program = "import sys, ops.rollout.heartbeat; sys.exit('django' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], cwd=real_parts.ROOT, check=True, timeout=20)


def test_a_database_that_is_away_is_no_heartbeat() -> None:
    assert heartbeat.problem("postgresql://vanta@127.0.0.1:1/vanta", "worker") == "database: OperationalError"


def test_the_url_may_stand_in_a_file(database: None, tmp_path: Path) -> None:
    Heartbeat.objects.create(component="beat", pid=1, started_at=Now())
    (tmp_path / "url").write_text(real_parts.postgres.url + "\n")

    def code(component: str) -> int:
        return subprocess.run(
            [sys.executable, "-m", "ops.rollout.heartbeat", component],
            cwd=real_parts.ROOT,
            env={"DATABASE_URL_FILE": str(tmp_path / "url")},
            capture_output=True,
            timeout=20,
            check=False,
        ).returncode

    assert (code("beat"), code("tpsl")) == (0, 1)

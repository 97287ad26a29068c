"""A stop must not hang on a database that hangs: it answers, says what is not known, and names another way."""

import threading
import time
from typing import Any

import psycopg
import pytest
from django.conf import settings
from django.db import connection
from django.db.backends.base.base import BaseDatabaseWrapper
from django.test import Client

from execution_app.gate import control
from execution_app.models import Restriction
from ops.panel import views
from ops.panel.views import DEADLINE_S, STOP_BY_REDIS
from signals_app.deadline import TOTAL_S
from tests.database_outages import frozen_postgres
from tests.lost_time import meter
from tests.ops.panel.test_emergency_stop import call

GENEROUS_S = 12.0
SOON_S = 1.5  # where a test waits for the deadline itself
TOO_SLOW = "database too slow"


@pytest.fixture
def connects(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """When the database was connected to: each time at a frozen server takes 2 s."""
    usual, begun_s = BaseDatabaseWrapper.connect, list[float]()

    def connect(self: BaseDatabaseWrapper) -> None:
        begun_s.append(time.monotonic())
        usual(self)

    monkeypatch.setattr(BaseDatabaseWrapper, "connect", connect)
    return begun_s


def timed(client: Client, method: str) -> tuple[Any, float]:
    """The answer, and how long it took without what this machine lost meanwhile."""
    lost, began_s = meter(), time.monotonic()
    answer = call(client, method)
    return answer, time.monotonic() - began_s - lost.since(began_s)


def events(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [str(record.msg["event"]) for record in caplog.records if isinstance(record.msg, dict)]


def test_the_deadline_leaves_room_for_what_a_stop_waits_for_by_design() -> None:
    assert 5 >= DEADLINE_S > control.WAIT_S + TOTAL_S


def test_a_frozen_server_is_told_in_time_and_the_stop_can_be_repeated(
    client: Client, database: None, connects: list[float]
) -> None:
    assert call(client, "DELETE").status_code == 200, "over an open connection"
    with frozen_postgres():
        for method in ("POST", "DELETE"):  # once over the open connection, once while connecting
            connects.clear()
            answer, took_s = timed(client, method)
            assert len(connects) <= 1, "it is not tried again and again"
            assert took_s < GENEROUS_S
            assert answer.status_code == 503
            assert int(answer["Retry-After"]) > 0
            body = answer.json()
            assert (body["status"], body["mode"]) == ("error", "DRY")
            assert "not known" in body["error"]
            assert body.get("hint") == (STOP_BY_REDIS if method == "POST" else None)
    again = call(client, "POST")
    assert (again.status_code, again.json()["emergency_stop"]) == (200, True)
    assert Restriction.objects.filter(lifted_at=None).count() == 1


def test_a_stop_that_has_to_stand_in_line_is_still_a_stop(
    client: Client, database: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Longer than a signal may wait: whoever asks for a stop should get it, if there is any way."""
    monkeypatch.setattr(views, "DEADLINE_S", 60.0)
    with connection.cursor() as cursor:
        cursor.execute("SET lock_timeout = '60s'")
    holder = psycopg.connect(settings.ENVIRONMENT.database_url.get_secret_value())
    holder.execute("SELECT pg_advisory_xact_lock(%s)", [control.LINE_LOCK])
    is_free = threading.Event()

    def let_go() -> None:
        is_free.set()
        holder.rollback()

    release = threading.Timer(TOTAL_S + 0.2, let_go)
    release.start()
    try:
        answer = call(client, "POST")
        waited = is_free.is_set()
    finally:
        release.join()
        holder.close()
    assert (answer.status_code, answer.json()["emergency_stop"]) == (200, True)
    assert waited, "it had its answer before the line was free"


def test_a_line_that_does_not_move_is_told_in_time(
    client: Client, database: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET lock_timeout = '60s'")  # so that the server does not end it first
    usual_s = views.DEADLINE_S
    monkeypatch.setattr(views, "DEADLINE_S", SOON_S)
    with psycopg.connect(settings.ENVIRONMENT.database_url.get_secret_value()) as holder:
        holder.execute("SELECT pg_advisory_xact_lock(%s)", [control.LINE_LOCK])
        answer, took_s = timed(client, "POST")
        holder.rollback()
    assert answer.status_code == 503
    assert took_s < GENEROUS_S
    assert TOO_SLOW in events(caplog), "the deadline has ended it, and not the server"
    monkeypatch.setattr(views, "DEADLINE_S", usual_s)
    assert call(client, "POST").status_code == 200

"""The Stop and Resume pages do not hang on a database that hangs: they say what is not known, and what to do instead."""

import time
from typing import Any

import psycopg
import pytest
from django.conf import settings
from django.db import connection
from django.test import Client
from django.utils.html import escape

from execution_app.gate import control
from execution_app.models import Restriction
from execution_app.states import RestrictionKind
from ops.panel import switch
from ops.panel.views import DEADLINE_S, STOP_BY_REDIS
from tests.database_outages import frozen_postgres
from tests.lost_time import meter
from tests.ops.panel.test_stop_deadline import GENEROUS_S, SOON_S, TOO_SLOW, connects, events  # noqa: F401
from tests.ops.panel.test_switch import RESUME, STOP, stops

REASON = {"reason": "checked by two"}
DRY = "/admin/do/dry/"


def timed(client: Client, method: str, path: str) -> tuple[Any, float]:
    lost, began_s = meter(), time.monotonic()
    answer = getattr(client, method)(path, REASON if method == "post" else None)
    return answer, time.monotonic() - began_s - lost.since(began_s)


def told(answer: Any, took_s: float) -> str:
    assert took_s < GENEROUS_S
    assert answer.status_code == 503
    assert int(answer["Retry-After"]) > 0
    text = str(answer.content.decode())
    assert escape(STOP_BY_REDIS) in text
    assert "FORCE_DRY_PATH" in text
    return text


def test_a_frozen_server_is_told_in_time(
    admin: Client,
    connects: list[float],  # noqa: F811
) -> None:
    """Already the login is asked of the database: over the open connection once, then while connecting."""
    assert admin.get(STOP).status_code == 200
    with frozen_postgres():
        for method, path, said in (
            ("post", STOP, "Whether the stop was recorded is not known"),
            ("post", RESUME, "Whether anything was lifted is not known"),
            ("post", DRY, "Whether that was done is not known"),
            ("get", STOP, "Nothing was changed"),
            ("get", DRY, "Nothing was changed"),
        ):
            connects.clear()
            assert said in told(*timed(admin, method, path))
            assert len(connects) <= 2, "it is not tried again and again"
    assert admin.post(STOP, REASON, follow=True).status_code == 200, "and the login is as it was"
    assert stops() == {"admin"}


@pytest.mark.parametrize("path", [STOP, RESUME])
def test_a_line_that_does_not_move_is_told_in_time(
    admin: Client, path: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    if path == RESUME:
        admin.post(STOP, {})
    before = stops()
    with connection.cursor() as cursor:
        cursor.execute("SET lock_timeout = '60s'")  # so that the server does not end it first
    usual_s = DEADLINE_S
    monkeypatch.setattr(switch, "DEADLINE_S", SOON_S)
    with psycopg.connect(settings.ENVIRONMENT.database_url.get_secret_value()) as holder:
        holder.execute("SELECT pg_advisory_xact_lock(%s)", [control.LINE_LOCK])
        told(*timed(admin, "post", path))
        assert TOO_SLOW in events(caplog), "the deadline has ended it, and not the server"
        holder.rollback()
    monkeypatch.setattr(switch, "DEADLINE_S", usual_s)
    assert stops() == before
    admin.post(path, REASON)
    assert stops() != before
    assert Restriction.objects.filter(kind=RestrictionKind.STOP).count() == 1

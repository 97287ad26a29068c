"""The database fails just behind a stop: each answer says that the stop holds, and what is not known."""

import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client

from execution_app.gate import control
from execution_app.states import RestrictionKind
from ops.bot import operating
from ops.bot.models import Role, TelegramUser
from ops.panel.views import UNAWAITED, UNSHOWN
from tests.ops.panel.test_emergency_stop import call, under_way
from tests.ops.panel.test_switch import STOP, stops

LONG_S = 20.0
FLATTEN = "/admin/do/flatten/"
AUDIT_LOCK = 1635083380  # as execution_app/migrations/0011 has it


@contextmanager
def nobody_reads(table: str) -> Iterator[None]:
    """Whoever asks this table waits for a lock, and gives up."""
    with psycopg.connect(settings.ENVIRONMENT.database_url.get_secret_value()) as holder:
        holder.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
        with impatient():
            yield
            holder.rollback()


@contextmanager
def impatient() -> Iterator[None]:
    connection.ensure_connection()
    with connection.cursor() as cursor:
        cursor.execute("SET lock_timeout = '200ms'")
    yield
    with connection.cursor() as cursor:
        cursor.execute("SET lock_timeout = DEFAULT")


@pytest.fixture
def nobody_lists(database: None) -> Iterator[None]:
    """A stop asks nothing of the traders; whoever lists orders does."""
    with nobody_reads("traders"):
        yield


@pytest.fixture
def nobody_awaits(database: None) -> Iterator[None]:
    """A stop is recorded without a look at what is sent; then it waits for broadcasts that had begun."""
    with nobody_reads("tx_sends"):
        yield


def test_on_the_site(admin: Client, nobody_lists: None) -> None:
    answer = admin.post(STOP, {"reason": "fills look wrong"})
    assert answer.status_code == 200
    assert "The stop holds: it is recorded" in answer.content.decode()
    assert "Nothing was changed" not in answer.content.decode()
    assert stops() == {"admin"}


def test_of_a_deed_nobody_says_that_nothing_was_changed(admin: Client, database: None) -> None:
    """Reduce-only is committed even where the audit log is not free; flattening gives up behind that."""
    once = re.search(r'name="once" value="([^"]+)"', admin.get(FLATTEN).content.decode())
    assert once
    told = {"once": once[1], "reason": "fills look wrong", "confirm": "FLATTEN 0"}
    with psycopg.connect(settings.ENVIRONMENT.database_url.get_secret_value()) as holder:
        holder.execute("SELECT pg_advisory_xact_lock(%s)", [AUDIT_LOCK])
        with impatient():
            answer = admin.post(FLATTEN, told)
        holder.rollback()
    said = answer.content.decode()
    assert answer.status_code == 503
    assert [row.kind for row in control.active()] == [RestrictionKind.REDUCE_ONLY]
    assert "Nothing was changed" not in said
    assert "Whether that was done is not known" in said


def test_in_telegram(database: None, nobody_lists: None) -> None:
    person = TelegramUser(tg_user_id=501, account="ann", role=Role.OPERATOR)
    said = operating.stop(person, [])
    assert "Stopped." in said
    assert "the database did not say" in said
    assert stops() == {"telegram"}


def test_in_a_shell(nobody_lists: None, capsys: pytest.CaptureFixture[str]) -> None:
    call_command("stop", "--by", "test")
    said = capsys.readouterr().out
    assert said.startswith("stopped\n")
    assert "does not say what rests at the venue; the stop holds" in said
    assert stops() == {"command"}


def test_over_http_while_broadcasts_are_waited_for(client: Client, nobody_awaits: None) -> None:
    """Not 200, which promises that nothing leaves but what it names."""
    answer = call(client, "POST", {"reason": "fills look wrong"})
    assert (answer.status_code, int(answer["Retry-After"]) > 0) == (503, True)
    body = answer.json()
    assert (body["status"], body["error"], body["emergency_stop"]) == ("error", UNAWAITED, True)
    assert "hint" not in body
    assert stops() == {"http"}


def test_on_the_site_while_broadcasts_are_waited_for(admin: Client, nobody_awaits: None) -> None:
    answer = admin.post(STOP, {"reason": "fills look wrong"})
    said = answer.content.decode()
    assert "The stop holds: it is recorded, and nothing new is begun" in said
    assert "which broadcasts had begun and may still leave" in said
    assert "Press Stop again" in said
    assert stops() == {"admin"}


def test_in_a_shell_while_broadcasts_are_waited_for(nobody_awaits: None) -> None:
    with pytest.raises(CommandError, match="the stop holds; what may still leave is not known"):
        call_command("stop", "--by", "test")
    assert stops() == {"command"}


def test_in_telegram_while_broadcasts_are_waited_for(nobody_awaits: None) -> None:
    """It is tried again, and is said to hold meanwhile."""
    with pytest.raises(control.UnawaitedError):
        operating.stop(TelegramUser(tg_user_id=501, account="ann", role=Role.OPERATOR), [])
    assert stops() == {"telegram"}


def test_over_http_while_what_holds_is_shown(client: Client, database: None) -> None:
    """Behind the wait for a broadcast nobody reads the restrictions any more."""
    leaving, over = under_way(), threading.Event()

    def lock() -> None:
        with psycopg.connect(settings.ENVIRONMENT.database_url.get_secret_value()) as holder:
            begun_s = time.monotonic()
            while time.monotonic() - begun_s < LONG_S:
                holder.rollback()
                if holder.execute("SELECT 1 FROM mode_changes WHERE lifted_at IS NULL").fetchone():
                    break
                over.wait(0.01)
            holder.execute("LOCK TABLE mode_changes IN ACCESS EXCLUSIVE MODE")
            over.wait(LONG_S)
            holder.rollback()

    locker = threading.Thread(target=lock)
    locker.start()
    try:
        with impatient():
            answer = call(client, "POST", {"reason": "fills look wrong"})
    finally:
        over.set()
        locker.join()
    assert answer.status_code == 200
    body = answer.json()
    assert (body["status"], body["emergency_stop"], body["changed"]) == ("ok", True, True)
    assert (body["in_flight"], body["warning"]) == ([leaving], UNSHOWN)
    assert [held["origin"] for held in body["held_by"]] == ["http"]
    assert body["execution_mode"]["emergency_stop"] is True
    assert stops() == {"http"}

"""The database fails just behind a stop, while what rests at the venue is listed: the answer says that the stop holds."""

from collections.abc import Iterator

import psycopg
import pytest
from django.conf import settings
from django.core.management import call_command
from django.db import connection
from django.test import Client

from ops.bot import operating
from ops.bot.models import Role, TelegramUser
from tests.ops.panel.test_switch import STOP, stops


@pytest.fixture
def nobody_lists(database: None) -> Iterator[None]:
    """A stop asks nothing of the traders; whoever lists orders does, and gives up."""
    with psycopg.connect(settings.ENVIRONMENT.database_url.get_secret_value()) as holder:
        holder.execute("LOCK TABLE traders IN ACCESS EXCLUSIVE MODE")
        connection.ensure_connection()
        with connection.cursor() as cursor:
            cursor.execute("SET lock_timeout = '200ms'")
        yield
        holder.rollback()
    with connection.cursor() as cursor:
        cursor.execute("SET lock_timeout = DEFAULT")


def test_on_the_site(admin: Client, nobody_lists: None) -> None:
    answer = admin.post(STOP, {"reason": "fills look wrong"})
    assert answer.status_code == 200
    assert "The stop holds: it is recorded" in answer.content.decode()
    assert "Nothing was changed" not in answer.content.decode()
    assert stops() == {"admin"}


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

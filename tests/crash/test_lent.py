"""The session that processes hand on is, for each of them, like a new one."""

import os
import signal
from collections.abc import Callable, Iterator

import pytest
from django.db import connection, transaction

from signals_app.models import SourceGrant
from tests.crash.lent import lent
from tests.crash.trial import Ended, in_child

pytestmark = pytest.mark.usefixtures("database")
LOCK = 7_401


@pytest.fixture(autouse=True)
def _ended() -> Iterator[None]:
    yield
    lent.end()


def _ask(sql: str) -> str:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return str(cursor.fetchone()[0])


def _tell(said: int) -> None:
    """Which session it is, and what is left in it."""
    left = ["SELECT pg_backend_pid()", "SHOW session_replication_role", "SELECT count(*) FROM source_grants"]
    left += [f"SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = {LOCK}"]
    os.write(said, " ".join(map(_ask, left)).encode())


def _die_half_way(_: int) -> None:
    _ask(f"SELECT pg_advisory_lock({LOCK})")
    with connection.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica")
    with transaction.atomic():
        SourceGrant.objects.create(source="gone", tg_user_id=1)
        os.kill(os.getpid(), signal.SIGKILL)


def _close(_: int) -> None:
    connection.close()


def _fail(_: int) -> None:
    _ask("SELECT 1 / 0")


def _told() -> list[str]:
    ended = in_child(_tell)
    assert (ended.signal, ended.code) == (0, 0), ended.lines
    return ended.lines[0].split()


def test_nothing_of_a_process_that_was_killed_is_left() -> None:
    before = _told()
    assert in_child(_die_half_way) == Ended(signal.SIGKILL, 0, [])
    assert _told() == before
    assert before[1:] == ["origin", "0", "0"]
    assert not SourceGrant.objects.exists()


@pytest.mark.parametrize("work", [_close, _fail])
def test_a_session_that_was_closed_or_broken_is_not_handed_on(work: Callable[[int], None]) -> None:
    before = _told()
    in_child(work)
    after = _told()
    assert after[0] != before[0]
    assert after[1:] == before[1:]

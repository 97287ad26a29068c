"""A database that is there and says nothing: statements and commits end, and the next ones go by a new connection."""

import threading
from collections.abc import Callable, Iterator

import pytest
from django.db import DatabaseError, connection, transaction
from django.db.backends.postgresql.base import DatabaseWrapper

from execution_app import patience
from tests.tcp_proxy import Fault, TcpProxy

LIMIT_S = 0.6
GENEROUS_S = 15.0  # where there is an answer


@pytest.fixture
def way(database: None) -> Iterator[tuple[DatabaseWrapper, TcpProxy]]:
    """A connection of Django's through a port that can fail."""
    patience.guard()
    with TcpProxy(int(connection.settings_dict["PORT"])) as proxy:
        wrapper = DatabaseWrapper({**connection.settings_dict, "PORT": str(proxy.port)}, alias="way")
        wrapper.inc_thread_sharing()
        yield wrapper, proxy
        wrapper.close()


def patiently(ask: Callable[[], object], limit_s: float = LIMIT_S) -> list[object]:
    """What a thread of small patience got, or the error that it met."""
    got: list[object] = []

    def run() -> None:
        patience.answer_within(limit_s)
        try:
            got.append(ask())
        except DatabaseError as error:
            got.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(20)
    assert got, "it waits for ever"
    return got


def one(wrapper: DatabaseWrapper) -> object:
    with wrapper.cursor() as cursor:
        cursor.execute("SELECT 1")
        return cursor.fetchone()[0]


@pytest.mark.parametrize("fault", [Fault.HALF_OPEN, Fault.BLACK_HOLE])
def test_a_statement_that_nobody_answers_fails_and_the_next_one_does_not(
    way: tuple[DatabaseWrapper, TcpProxy], fault: Fault
) -> None:
    wrapper, proxy = way
    assert patiently(lambda: one(wrapper), GENEROUS_S) == [1]
    with proxy.failing(fault):
        (error,) = patiently(lambda: one(wrapper))
    assert "did not answer within" in str(error)
    wrapper.close_if_unusable_or_obsolete()
    assert patiently(lambda: one(wrapper), GENEROUS_S) == [1]


def test_a_commit_that_nobody_answers_fails(way: tuple[DatabaseWrapper, TcpProxy]) -> None:
    wrapper, proxy = way

    def commit() -> None:
        wrapper.set_autocommit(False)
        one(wrapper)
        proxy.inject(Fault.HALF_OPEN)
        wrapper.commit()

    (error,) = patiently(commit)
    proxy.mend()
    assert "did not answer within" in str(error)


def test_every_connection_of_a_guarded_process_is_bounded(database: None) -> None:
    patience.guard()
    connection.close()
    with transaction.atomic():
        assert isinstance(connection.connection, patience.Bounded)

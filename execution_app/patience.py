"""A database that takes a question and never answers it: a proxy in between that hangs, or a half-open connection.

The server ends a statement after its own timeout, and keepalives tell of a peer that is gone. Neither helps where
something else keeps the connection up and says nothing. Whoever waits longer than the server would work waits for
nobody, so the connection is closed and the statement fails as it does when a connection breaks: whether a commit was
carried out is then unknown, and every caller of ours asks again by key.
"""

import threading
from typing import Any

import psycopg
from django.db import connection as default_connection
from django.db.backends.signals import connection_created

ANSWER_S = 18.0  # the server's own limit for a statement is 15 s, see DATABASES
_of_thread = threading.local()


class Bounded(psycopg.Connection[Any]):
    """A connection that waits no longer for an answer than its thread, or else its process, has patience."""

    of_process_s: float | None = None

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        limit_s = getattr(_of_thread, "limit_s", self.of_process_s)
        if timeout is not None or limit_s is None:
            return super().wait(gen, interval, timeout)
        try:
            return super().wait(gen, interval, limit_s)
        except psycopg.errors._WaitTimeout:  # noqa: SLF001 - documented as what `wait` raises
            self.pgconn.finish()
            raise psycopg.OperationalError(f"the database did not answer within {limit_s:g} s") from None


def guard() -> None:
    """Bound every statement of this process, for services: a command that a person runs may take its time."""
    Bounded.of_process_s = ANSWER_S
    connection_created.connect(_bound, dispatch_uid=__name__)
    if default_connection.connection is not None:
        _bound(connection=default_connection)


def answer_within(limit_s: float) -> None:
    """Bound the statements of this thread alone, where they are small ones."""
    _of_thread.limit_s = limit_s


def _bound(connection: Any, **_: Any) -> None:
    # Django has no place for a connection class of one's own; this one adds no state to its parent.
    connection.connection.__class__ = Bounded

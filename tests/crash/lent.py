"""One session of the database for all children, one after another, since each new one reads the whole catalog again.

A child is the only one who talks while it lives. When it is gone its parent does what
the server does for a client that has gone: what was not committed is rolled back, locks
are released, settings are forgotten. That is only possible where the child ended
between two statements; a session of any other child is ended, and the next has a new one.
"""

import time
from typing import Any

import psycopg
from django.db import connections

# As DISCARD ALL, but for plans: they change what a statement costs, never what it does.
FORGET = (
    "ROLLBACK; SET SESSION AUTHORIZATION DEFAULT; RESET ALL; CLOSE ALL; UNLISTEN *; "
    "SELECT pg_advisory_unlock_all(); DISCARD TEMP; DISCARD SEQUENCES"
)


class Lent:
    """Used by one process at a time; `take` in a child, the rest in its parent."""

    def __init__(self) -> None:
        self._session: Any = None  # a wrapper of Django's, which knows how a connection is set up

    def prepare(self) -> None:
        """Before the fork."""
        if self._session is None:
            self._session = connections["default"].copy()
            self._session.connect()
            self._session.connection.add_notice_handler(_unheard)

    def take(self) -> None:
        """In the child: from now on this is its connection. The parent's own stays the parent's, and is not closed."""
        own: Any = connections["default"]
        own.connection = self._session.connection
        own.close_at = time.monotonic() + own.settings_dict["CONN_MAX_AGE"]
        own.health_check_done = True

    def take_back(self, *, between_statements: bool) -> None:
        """The child is gone."""
        if not (between_statements and self._forgets()):
            self.end()

    def _forgets(self) -> bool:
        try:
            self._session.connection.execute(FORGET)
        except psycopg.OperationalError:
            return False  # the child had closed it
        return True

    def end(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None


def _unheard(_: psycopg.errors.Diagnostic) -> None:
    """That there was nothing to roll back is no news."""


lent = Lent()

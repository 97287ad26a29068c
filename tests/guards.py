"""The power of the server's owner, for setting a stage that the guards would refuse."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection


@contextmanager
def without_guards() -> Iterator[None]:
    """No trigger fires meanwhile in this connection; only a superuser may do that."""
    with connection.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica")
        try:
            yield
        finally:
            cursor.execute("SET session_replication_role = origin")

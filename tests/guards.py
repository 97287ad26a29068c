"""The power of the server's owner, for setting a stage that the guards would refuse."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import DatabaseError, connection


@contextmanager
def without_guards() -> Iterator[None]:
    """No trigger fires meanwhile in this connection; only a superuser may do that."""
    with connection.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica")
        try:
            yield
        except DatabaseError:
            # Inside a transaction the rollback that must follow takes the setting back, too.
            if not connection.in_atomic_block:
                cursor.execute("SET session_replication_role = origin")
            raise
        cursor.execute("SET session_replication_role = origin")

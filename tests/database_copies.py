"""A database as it was: copied table by table, and given back as a restore in place would."""

from django.db import connection, transaction

from tests.conftest import KEPT
from tests.guards import without_guards

# Written by the watch of this very process, all the time.
BEATING = {"heartbeats", "pool_beats"}


def _tables() -> list[str]:
    return sorted(set(connection.introspection.table_names()) - KEPT - BEATING)


def take() -> None:
    """Keep every table's rows beside it."""
    with connection.cursor() as cursor:
        cursor.execute("DROP SCHEMA IF EXISTS kept CASCADE")
        cursor.execute("CREATE SCHEMA kept")
        for table in _tables():
            cursor.execute(f'CREATE TABLE kept."{table}" AS TABLE public."{table}"')


def give_back() -> None:
    """Put the rows back, whatever happened since; sequences go on, as a dump's would not quite."""
    quoted = ", ".join(f'public."{table}"' for table in _tables())
    # At once for everybody else: a heartbeat that came between would be there twice.
    with transaction.atomic(), without_guards(), connection.cursor() as cursor:
        cursor.execute(f"TRUNCATE {quoted} CASCADE")
        for table in _tables():
            cursor.execute(
                f'INSERT INTO public."{table}" OVERRIDING SYSTEM VALUE SELECT * FROM kept."{table}"'
            )
        cursor.execute("DROP SCHEMA kept CASCADE")

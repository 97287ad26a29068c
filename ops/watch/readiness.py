"""Whether this process may be sent signals."""

from functools import cache

from django.db import Error as DatabaseError
from django.db import connection
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder

from ops.watch.probe import Probe

PATIENCE_S = 1.5
FRESH_S = 0.8


def ready_problem() -> str:
    """Why not, in fixed words; blank when it may."""
    _PROBE.begin()
    problem = _PROBE.answer()
    return "database: no answer in time" if problem is None else problem


def look() -> str:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_is_in_recovery()")
            if (cursor.fetchone() or (True,))[0]:
                return "database: read-only"
        missing = _migrations_on_disk() - set(MigrationRecorder(connection).applied_migrations())
    except DatabaseError as error:
        return f"database: {type(error).__name__}"
    finally:
        connection.close()
    return f"{len(missing)} migration(s) not applied" if missing else ""


@cache
def _migrations_on_disk() -> frozenset[tuple[str, str]]:
    loader = MigrationLoader(None)
    return frozenset(loader.disk_migrations)


_PROBE: Probe[str] = Probe("ready", look, patience_s=PATIENCE_S, fresh_s=FRESH_S)


def forget() -> None:
    """Look anew next time."""
    _PROBE.forget()

"""Fixtures over the real parts: a clean database, a clean Redis, a chain that is taken back after each test."""

import os
from collections.abc import Iterator
from typing import Any

import pytest
import redis as redis_py
from django.core.management import call_command
from django.db import OperationalError, connection

from tests import real_parts
from tests.guards import without_guards
from tests.rig import Rig

# Rows that migrations wrote and nobody changes, or that belong to Django.
KEPT = {
    "intent_moves",
    "control",
    "stack_mode",
    "django_migrations",
    "django_content_type",
    "auth_permission",
}


# The slowest first, which mostly wait: so none of them is left over for one process alone.
SLOWEST = ("tests/e2e/test_outages.py", "tests/e2e/", "tests/test_compose.py", "tests/crash/", "tests/chaos/")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def turn(item: pytest.Item) -> int:
        return next((at for at, part in enumerate(SLOWEST) if part in item.nodeid), len(SLOWEST))

    items.sort(key=turn)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """On a build machine what was left out has failed."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("CI") != "true" or reporter is None:
        return
    left_out = [kind for kind in ("skipped", "xfailed", "xpassed") if reporter.stats.get(kind)]
    if left_out:
        reporter.write_line(f"CI=true and tests were left out: {', '.join(left_out)}", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(scope="session")
def django_db_setup(django_test_environment: None, django_db_blocker: object) -> None:
    """The server is this run's own, so its database is used as it is; child processes find the same one."""
    with django_db_blocker.unblock():  # type: ignore[attr-defined]
        call_command("migrate", verbosity=0)


@pytest.fixture
def database(django_db_setup: None, django_db_blocker: object) -> Iterator[None]:
    """A database with real commits, emptied before the test. Use it instead of django_db(transaction=True)."""
    with django_db_blocker.unblock():  # type: ignore[attr-defined]
        empty_database()
        yield
        connection.close()


MOST_DEADLOCKS = 5
_RESTART = """
SELECT setval(format('%%I.%%I', schemaname, sequencename)::regclass, start_value, false) FROM pg_sequences
WHERE schemaname = 'public' AND last_value IS NOT NULL AND NOT sequencename = ANY(%s)
"""


def empty_database() -> None:
    """As migrations left it, and unknown to whoever keeps what names it."""
    tables = sorted(set(connection.introspection.table_names()) - KEPT)
    looks = " UNION ALL ".join(f"SELECT '{one}' WHERE EXISTS (SELECT FROM \"{one}\")" for one in tables)
    with without_guards(), connection.cursor() as cursor:
        # To truncate all of them, empty ones too, costs more than most tests.
        cursor.execute(looks)
        full = ", ".join(connection.ops.quote_name(table) for (table,) in cursor.fetchall())
        if full:
            _truncate(cursor, full)
        cursor.execute(_RESTART, [[f"{table}_id_seq" for table in KEPT]])
        cursor.execute("UPDATE control SET epoch = 1")
        cursor.execute(
            "UPDATE stack_mode SET mode = 'DRY', dry_at = '2000-01-01', changes = 0,"
            " requested = 'DRY', requested_dry_at = '2000-01-01'"
        )
    real_parts.forget_database()
    redis_py.Redis.from_url(real_parts.valkey.url).delete("database_seen")


def _truncate(cursor: Any, tables: str) -> None:
    """A process that lives through several tests may look at the same tables in another order just then."""
    for _ in range(MOST_DEADLOCKS):
        try:
            cursor.execute(f"TRUNCATE {tables} CASCADE")
        except OperationalError as error:
            if "deadlock detected" not in str(error):
                raise
        else:
            return
    cursor.execute(f"TRUNCATE {tables} CASCADE")


@pytest.fixture
def valkey() -> Iterator[redis_py.Redis]:
    """The real Redis-protocol server, flushed before the test."""
    client = redis_py.Redis.from_url(real_parts.valkey.url, decode_responses=True)
    client.flushall()
    yield client
    client.close()


@pytest.fixture
def rig(database: None, valkey: redis_py.Redis) -> Iterator[Rig]:
    """A funded trader with a delegate wallet, an open gate, and a chain that mines on request."""
    assert real_parts.anvil.pid is not None, f"the node has ended: {real_parts.anvil.log.read_text()[-4000:]}"
    rig = Rig(valkey)
    try:
        rig.build()
        yield rig
    finally:
        rig.close()

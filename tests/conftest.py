"""Fixtures over the real parts: a clean database, a clean Redis, a chain that is taken back after each test."""

import os
from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest
import redis as redis_py
from django.core.management import call_command
from django.db import OperationalError, connection
from django.test import override_settings
from psycopg.pq import TransactionStatus
from pytest_django.fixtures import Settings

from execution_app.node.signing import keyfiles
from tests import migrated, patience, real_parts
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

# How long an example takes says nothing, whether a build machine tells so (`CI`) or not. Who set another profile has a reason.
if hypothesis.settings.get_current_profile_name() in ("default", "ci"):
    hypothesis.settings.register_profile(
        "patient",
        hypothesis.settings(),
        deadline=None,
        suppress_health_check=[hypothesis.HealthCheck.too_slow],
    )
    hypothesis.settings.load_profile("patient")

# The slowest first, which mostly wait: so none of them is left over for one process alone.
SLOWEST = (
    *("tests/e2e/test_outages.py", "tests/e2e/", "tests/crash/"),
    *("tests/soak/", "tests/faults/", "tests/chaos/"),
)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if os.environ.get("SUITE") != "whole":
        whole = [item for item in items if item.get_closest_marker("whole")]
        config.hook.pytest_deselected(items=whole)
        items[:] = [item for item in items if item not in whole]

    def turn(item: pytest.Item) -> int:
        return next((at for at, part in enumerate(SLOWEST) if part in item.nodeid), len(SLOWEST))

    items.sort(key=turn)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """In place of `--dist loadfile`; only where xdist is there, and deals by files."""
    if config.getvalue("dist") != "loadfile":
        return None
    from tests.dealing import Dealing

    return Dealing(config, log)


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
        connection.close()
        migrated.keep(real_parts.postgres)


@pytest.fixture(scope="session", autouse=True)
def secrets_open_at_once() -> Iterator[None]:
    """Passwords and keystores of tests guard nothing, and to stretch one costs more than most tests."""
    with (
        override_settings(PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"]),
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(keyfiles, "KDF_ROUNDS", 1_000)
        yield


@pytest.fixture
def database(django_db_setup: None, django_db_blocker: object) -> Iterator[None]:
    """A database with real commits, emptied before the test. Use it instead of django_db(transaction=True)."""
    with django_db_blocker.unblock():  # type: ignore[attr-defined]
        if not connection.is_usable():
            connection.close()
        empty_database()
        yield
        put_away_connection()


def put_away_connection() -> None:
    """Left as a new one for the next test, where it is well; a really new one would have to learn every table."""
    if connection.in_atomic_block or not connection.is_usable() or not is_idle():
        connection.close()
        return
    with connection.cursor() as cursor:
        cursor.execute("DISCARD ALL")


def is_idle() -> bool:
    """Whether no transaction was left open on it, by whatever means."""
    return bool(connection.connection.info.transaction_status == TransactionStatus.IDLE)


_FULL = """
SELECT relname, pg_relation_size(oid) FROM pg_class
WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace AND pg_relation_size(oid) > 0
"""
_RESTART = """
SELECT setval(format('%%I.%%I', schemaname, sequencename)::regclass, start_value, false) FROM pg_sequences
WHERE schemaname = 'public' AND last_value IS NOT NULL AND NOT sequencename = ANY(%s)
"""
_MODE = """
UPDATE stack_mode SET mode = 'DRY', dry_at = '2000-01-01', changes = 0, requested = 'DRY', requested_dry_at = '2000-01-01'
"""
# A table's dead rows cost less than a new file for it and for each of its indexes, until they fill some pages.
SMALL_BYTES = 4 * 8192
MOST_DEADLOCKS = 5


def empty_database() -> None:
    """As migrations left it, and unknown to whoever keeps what names it."""
    with without_guards(), connection.cursor() as cursor:
        cursor.execute(_FULL)
        found = sorted((connection.ops.quote_name(name), size) for name, size in cursor if name not in KEPT)
        large = [name for name, size in found if size > SMALL_BYTES]
        steps = [f"DELETE FROM {name}" for name, size in found if size <= SMALL_BYTES]
        if found:
            # Whoever still writes there is waited for.
            steps.insert(0, f"LOCK TABLE {', '.join(name for name, _ in found)} IN EXCLUSIVE MODE")
        if large:
            steps.append(f"TRUNCATE {', '.join(large)} CASCADE")
        # Without parameters it is one message, and so one transaction.
        _do(cursor, "; ".join([*steps, "UPDATE control SET epoch = 1", _MODE]))
        cursor.execute(_RESTART, [[f"{table}_id_seq" for table in KEPT]])
    real_parts.forget_database()
    redis_py.Redis.from_url(real_parts.valkey.url).delete("database_seen")


def _do(cursor: Any, steps: str) -> None:
    """A process that lives through several tests may look at the same tables in another order just then."""
    for _ in range(MOST_DEADLOCKS):
        try:
            cursor.execute(steps)
        except OperationalError as error:
            if "deadlock detected" not in str(error):
                raise
        else:
            return
    cursor.execute(steps)


@pytest.fixture
def valkey() -> Iterator[redis_py.Redis]:
    """The real Redis-protocol server, flushed before the test."""
    client = redis_py.Redis.from_url(real_parts.valkey.url, decode_responses=True)
    client.flushall()
    yield client
    client.close()


@pytest.fixture
def own_limits() -> None:
    """The product's own limits of time hold: the test takes a part away, and waits for what follows.

    Elsewhere they are longer, since a machine that loses a second has lost no part.
    """


@pytest.fixture(autouse=True)
def _patient_windows(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the test's own patch, so that whatever it changes on top of this is put back before this is."""
    if "own_limits" not in request.fixturenames:
        patience.look_long(monkeypatch)


@pytest.fixture
def rig(
    request: pytest.FixtureRequest,
    database: None,
    valkey: redis_py.Redis,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Rig]:
    """A funded trader with a delegate wallet, an open gate, and a chain that mines on request."""
    assert real_parts.anvil.pid is not None, f"the node has ended: {real_parts.anvil.log.read_text()[-4000:]}"
    rig = Rig(valkey)
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(update=patience.TIMERS)
    patience.age_slowly(monkeypatch)
    if "own_limits" not in request.fixturenames:
        patience.be_patient(monkeypatch)
    try:
        rig.build()
        yield rig
    finally:
        rig.close()

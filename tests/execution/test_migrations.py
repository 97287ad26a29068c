"""Migrations run forwards from empty and backwards to empty, and none is missing."""

from collections.abc import Iterator

import psycopg
import pytest
from django.conf import settings
from django.core.management import call_command
from django.db import connections
from psycopg import sql

APPS = ("execution_app", "signals_app")
ALIAS = "migrations"
NAME = "vanta_migrations"


def server() -> psycopg.Connection[tuple[object, ...]]:
    return psycopg.connect(settings.ENVIRONMENT.database_url.get_secret_value(), autocommit=True)


@pytest.fixture
def empty_database(django_db_setup: None, django_db_blocker: object) -> Iterator[str]:
    """A second database of the same server, under an alias of its own."""
    with server() as admin:
        admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(NAME)))
        admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(NAME)))
    with django_db_blocker.unblock():  # type: ignore[attr-defined]
        connections.settings[ALIAS] = connections.settings["default"] | {"NAME": NAME}
        yield ALIAS
        connections[ALIAS].close()
        del connections[ALIAS]
        del connections.settings[ALIAS]
    with server() as admin:
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(NAME)))


def everything(alias: str) -> set[tuple[str, str]]:
    """Every table, constraint, index, trigger and function of the public schema."""
    found: set[tuple[str, str]] = set()
    questions = {
        "relation": "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace",
        "constraint": "SELECT conname || pg_get_constraintdef(oid) FROM pg_constraint"
        " WHERE connamespace = 'public'::regnamespace",
        "function": "SELECT proname || prosrc FROM pg_proc WHERE pronamespace = 'public'::regnamespace",
        "trigger": "SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal",
        "move": "SELECT from_state || '>' || to_state FROM intent_moves",
        "control": "SELECT id || ' ' || epoch FROM control",
    }
    tables = set(connections[alias].introspection.table_names())
    with connections[alias].cursor() as cursor:
        for kind, question in questions.items():
            if {"move": "intent_moves", "control": "control"}.get(kind, "django_migrations") not in tables:
                continue
            cursor.execute(question)
            found |= {(kind, name) for (name,) in cursor.fetchall()}
    return found


def test_forwards_from_empty_backwards_to_empty_and_forwards_again(empty_database: str) -> None:
    def migrate(app: str, *target: str) -> None:
        call_command("migrate", app, *target, database=empty_database, verbosity=0)

    call_command("migrate", "contenttypes", database=empty_database, verbosity=0)
    bare = everything(empty_database)
    for app in APPS:
        migrate(app)
    full = everything(empty_database)
    assert {("relation", name) for name in ("tx_intents", "tx_sends", "signals", "control")} <= full
    for app in reversed(APPS):
        migrate(app, "zero")
    assert everything(empty_database) == bare
    for app in APPS:
        migrate(app)
    assert everything(empty_database) == full


def test_both_apps_go_back_with_rows_in_them(empty_database: str) -> None:
    """Going back is for an operator with data: triggers against deletion must not stand in the way."""
    call_command("migrate", database=empty_database, verbosity=0)
    with connections[empty_database].cursor() as cursor:
        cursor.execute(
            "INSERT INTO signals (source, signal_id, body_sha256, tg_user_id, symbol, side, slippage_pct,"
            " order_type, meta, decision, reasons) VALUES ('a', '1', '', 1, 'BTC-USD', 'CLOSE', 1, 'market', '{}', '', '[]')"
        )
        cursor.execute(
            "INSERT INTO tx_intents (intent_key, tg_user_id, action, symbol, slippage_pct, state, reason,"
            " reason_detail, attempts, to_address) VALUES ('sig:a:1', 1, 'close', 'BTC-USD', 1, 'pending', '', '', 0, '')"
        )
    for app in reversed(APPS):
        call_command("migrate", app, "zero", database=empty_database, verbosity=0)
    assert not {"signals", "tx_intents"} & set(connections[empty_database].introspection.table_names())


def test_no_migration_is_missing(database: None) -> None:
    call_command("makemigrations", *APPS, check=True, dry_run=True, verbosity=0)

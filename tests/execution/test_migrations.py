"""Migrations run forwards from empty and backwards to empty, and none is missing."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from django.conf import settings
from django.core.management import call_command
from django.db import connections
from psycopg import sql

APPS = ("execution_app", "signals_app", "bot")
ALIAS = "migrations"
NAME = "vanta_migrations"


def server() -> psycopg.Connection[tuple[object, ...]]:
    return psycopg.connect(settings.ENVIRONMENT.database_url.get_secret_value(), autocommit=True)


@contextmanager
def second_database(django_db_blocker: Any) -> Iterator[str]:
    """An empty one of the same server, under an alias of its own."""
    with server() as admin:
        admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(NAME)))
        admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(NAME)))
    with django_db_blocker.unblock():
        connections.settings[ALIAS] = connections.settings["default"] | {"NAME": NAME}
        yield ALIAS
        connections[ALIAS].close()
        del connections[ALIAS]
        del connections.settings[ALIAS]
    with server() as admin:
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(NAME)))


@pytest.fixture
def empty_database(django_db_setup: None, django_db_blocker: Any) -> Iterator[str]:
    with second_database(django_db_blocker) as alias:
        yield alias


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
        "column": "SELECT table_name || '.' || column_name || ' ' || data_type || ' ' || coalesce(column_default, '')"
        " FROM information_schema.columns WHERE table_schema = 'public'",
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
    """Going back is for an operator with data: triggers against deletion must not stand in the way."""

    def migrate(app: str, *target: str) -> None:
        call_command("migrate", app, *target, database=empty_database, verbosity=0)

    for app in ("contenttypes", "auth"):  # Django's own, which passkeys belong to people of
        migrate(app)
    bare = everything(empty_database)
    for app in APPS:
        migrate(app)
    full = everything(empty_database)
    assert {
        ("relation", name) for name in ("tx_intents", "tx_sends", "signals", "control", "telegram_users")
    } <= full
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
        migrate(app, "zero")
    assert everything(empty_database) == bare
    for app in APPS:
        migrate(app)
    assert everything(empty_database) == full


OPENS = [
    # state, mode, what became of it, and what it has at stake once there are reservations
    ("pending", None, None, None),
    ("pending_inclusion", "LIVE", None, ("open", 10)),
    ("venue_cancelled", "LIVE", None, ("open", 10)),
    ("filled", "LIVE", "open", ("exposed", 8)),
    ("filled", "LIVE", "closed", ("exposed", 10)),  # not known to be final
    ("simulated", "DRY", "open", ("exposed", 8)),
    ("simulated", "DRY", "closed", None),
    ("final_reverted", "LIVE", None, None),
]


def test_what_is_open_already_counts_once_there_are_reservations(empty_database: str) -> None:
    def migrate(target: str) -> None:
        call_command("migrate", "execution_app", target, database=empty_database, verbosity=0)

    migrate("0008")
    with connections[empty_database].cursor() as cursor:
        cursor.execute("ALTER TABLE tx_intents DISABLE TRIGGER guard_intent")
        cursor.execute(
            "INSERT INTO traders (id, tg_user_id, label, address, enabled) VALUES (1, 123, '', %s, true);"
            "INSERT INTO wallets (id, trader_id, chain_id, address, next_nonce, max_in_flight, halted_reason)"
            " VALUES (1, 1, 31337, %s, 99, 16, '')",
            ["0x" + "ab" * 20, "0x" + "cd" * 20],
        )
        for number, (state, mode, ended, _) in enumerate(OPENS):
            settled = "now()" if state in ("simulated", "final_reverted") else "NULL"
            nonce = number if mode == "LIVE" else None
            cursor.execute(
                "INSERT INTO tx_intents (intent_key, trader_id, wallet_id, tg_user_id, action, symbol, is_long,"
                " collateral_usdc, leverage_x, slippage_pct, state, mode, reason, reason_detail, attempts,"
                " to_address, nonce, calldata, value_wei, gas_limit, settled_at) VALUES (%s, 1, 1, 123, 'open',"
                f" 'BTC-USD', true, 5, 2, 1, %s, %s, '', '', 0, '', %s, '', 0, 1, {settled}) RETURNING id",
                [f"sig:drill:{number}", state, mode, nonce],
            )
            intent = cursor.fetchone()[0]
            if ended is None:
                continue
            cursor.execute(
                "INSERT INTO positions (trader_id, venue, symbol, pair_index, trade_index, opened_at, mode, state,"
                " is_long, collateral_usdc, leverage_x, open_price, drift) VALUES (1, 'v', 'BTC-USD', 0, %s, now(),"
                " %s, %s, true, 4, 2, 1, '') RETURNING id",
                [number, mode, ended],
            )
            cursor.execute(
                "INSERT INTO fills (intent_id, position_id, action, mode, price, collateral_usdc, leverage_x, tx_hash,"
                " log_index, block_number, block_hash) VALUES (%s, %s, 'open', %s, 1, 5, 2, %s, 0, 1, '')",
                [intent, cursor.fetchone()[0], mode, f"0x{number}"],
            )
        cursor.execute("ALTER TABLE tx_intents ENABLE TRIGGER guard_intent")
    migrate("0010")
    with connections[empty_database].cursor() as cursor:
        cursor.execute(
            "SELECT r.state, r.notional_usdc, i.source FROM tx_intents i LEFT JOIN risk_reservations r"
            " ON r.intent_id = i.id ORDER BY i.id"
        )
        found = cursor.fetchall()
        cursor.execute("SELECT mode, SUM(change_usdc) FROM risk_log GROUP BY mode ORDER BY mode")
        assert cursor.fetchall() == [("DRY", 8), ("LIVE", 38)]
    assert [None if state is None else (state, int(usdc)) for state, usdc, _ in found] == [
        stake for *_, stake in OPENS
    ]
    assert {source for *_, source in found} == {"drill"}
    migrate("0008")
    migrate("0010")


def test_no_migration_is_missing(database: None) -> None:
    call_command("makemigrations", *APPS, check=True, dry_run=True, verbosity=0)

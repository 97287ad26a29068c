"""During an upgrade two versions run side by side on the newer schema; going back is one migration, with rows in it."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connections
from django.db.migrations.loader import MigrationLoader
from django_migration_linter import MigrationLinter
from django_migration_linter.sql_analyser.postgresql import PostgresqlAnalyser

from tests.execution.test_migrations import APPS, everything, second_database
from tests.real_parts import ROOT

# From before the first release, when nothing ran beside it. Nothing is added here: expand first, contract a release later.
BEFORE_ANY_RELEASE = {("signals_app", "0003_sources")}
# Columns that take more than before, which the linter cannot tell from less: more decimals, a longer word.
WIDENING = {("execution_app", "0036_increases"), ("signals_app", "0009_increases")}


def test_migrations_expand_before_they_contract(database: None) -> None:
    """The linter reads the SQL of each: nothing that the version before reads or writes is dropped, renamed or narrowed."""
    linter = MigrationLinter(
        str(ROOT),
        include_apps=list(APPS),
        ignore_name=[name for _, name in BEFORE_ANY_RELEASE | WIDENING],
        no_cache=True,
        quiet=["ok", "warning", "ignore"],
    )
    linter.lint_all_migrations()
    assert linter.nb_valid > 20
    assert linter.nb_erroneous == 0


@pytest.mark.parametrize(
    "sql",
    [
        'ALTER TABLE "tx_intents" DROP COLUMN "nonce" CASCADE;',
        'ALTER TABLE "tx_intents" RENAME COLUMN "nonce" TO "slot";',
        'ALTER TABLE "tx_intents" ADD COLUMN "slot" integer NOT NULL;',
        'ALTER TABLE "tx_intents" RENAME TO "intents";',
        'DROP TABLE "tx_intents" CASCADE;',
    ],
)
def test_the_linter_notices_what_contracts(sql: str) -> None:
    analyser = PostgresqlAnalyser([])
    analyser.analyse([sql])
    assert analyser.errors


@pytest.fixture(scope="module")
def migrated(django_db_setup: None, django_db_blocker: Any) -> Iterator[str]:
    """From nothing, once: each test leaves it as it was, or migrated anew."""
    with second_database(django_db_blocker) as alias:
        call_command("migrate", database=alias, verbosity=0)
        yield alias


def test_what_runs_of_tests_keep_is_what_migrations_make(database: None, migrated: str) -> None:
    """Whatever tests/migrated.py brought: no test runs on another schema than an operator has."""
    assert everything("default") == everything(migrated)


def before(loader: MigrationLoader, app: str) -> str:
    """The name of the migration before the app's newest one."""
    (newest,) = loader.graph.leaf_nodes(app)
    own = [key[1] for key in loader.graph.node_map[newest].parents if key[0] == app]
    return own[0] if own else "zero"


def test_the_version_before_works_on_the_newest_schema(migrated: str) -> None:
    """Its models, as they were, read every table; what has come since is filled by the database where it is not named."""
    loader = MigrationLoader(connections[migrated])
    asked = 0
    for app in APPS:
        if (name := before(loader, app)) == "zero":
            continue
        models = loader.project_state((app, name)).apps.get_app_config(app).get_models()
        for model in models:
            list(model._default_manager.using(migrated)[:1])  # names each of its columns
            known = {field.column for field in model._meta.local_fields}
            with connections[migrated].cursor() as cursor:
                cursor.execute(
                    "SELECT column_name FROM information_schema.columns WHERE table_schema = 'public'"
                    " AND table_name = %s AND is_nullable = 'NO' AND column_default IS NULL AND is_identity = 'NO'",
                    [model._meta.db_table],
                )
                wanted = {name for (name,) in cursor.fetchall()}
            assert wanted <= known, (
                f"{model._meta.db_table}: the older version does not fill {wanted - known}"
            )
            asked += 1
    assert asked > 20


def test_the_newest_migration_goes_back_and_forth_with_rows_in_it(migrated: str) -> None:
    with connections[migrated].cursor() as cursor:
        cursor.execute(
            "INSERT INTO signals (source, signal_id, body_sha256, tg_user_id, symbol, side, slippage_pct,"
            " order_type, meta, decision, reasons) VALUES ('a', '1', '', 1, 'BTC-USD', 'CLOSE', 1, 'market', '{}', '', '[]')"
        )
        cursor.execute(
            "INSERT INTO tx_intents (intent_key, tg_user_id, action, symbol, slippage_pct, state, reason,"
            " reason_detail, attempts, to_address) VALUES ('sig:a:1', 1, 'close', 'BTC-USD', 1, 'pending', '', '', 0, '')"
        )
    loader = MigrationLoader(connections[migrated])
    for app in APPS:
        call_command("migrate", app, before(loader, app), database=migrated, verbosity=0)
        call_command("migrate", database=migrated, verbosity=0)
    with connections[migrated].cursor() as cursor:
        cursor.execute("SELECT (SELECT count(*) FROM signals), (SELECT state FROM tx_intents)")
        assert cursor.fetchone() == (1, "pending")

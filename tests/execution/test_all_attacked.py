"""Nothing is left unattacked: every constraint of our tables, and the triggers on every table of money."""

import re

from django.apps import apps
from django.db import connection
from django.db import models as django_models

from tests.execution import (
    test_archive_guards,
    test_constraints,
    test_correction_guards,
    test_increase_guards,
    test_keeper_due_guards,
    test_margin_guards,
    test_message_guards,
    test_more_guards,
    test_people_guards,
    test_price_guards,
    test_protection_guards,
    test_resting_guards,
    test_restore_points,
    test_risk_constraints,
    test_shadow_guards,
    test_sign_requests,
)
from tests.execution.test_constraints import undone
from tests.ops.bot import test_bot_rows

__all__ = ["undone"]  # the fixture: one transaction that is rolled back


def test_every_named_constraint_is_attacked() -> None:
    """A new constraint comes with its attack."""
    named = {
        constraint.name
        for app in ("execution_app", "signals_app", "bot")
        for model in apps.get_app_config(app).get_models()
        for constraint in model._meta.constraints
        if isinstance(constraint, django_models.CheckConstraint | django_models.UniqueConstraint)
    }
    elsewhere = {"ck_tx_intents_terminal_is_settled"}  # test_states
    attacks = [
        *test_constraints.ATTACKS,
        *test_archive_guards.ATTACKS,
        *test_risk_constraints.ATTACKS,
        *test_more_guards.ATTACKS,
        *test_sign_requests.ATTACKS,
        *test_protection_guards.ATTACKS,
        *test_correction_guards.ATTACKS,
        *test_shadow_guards.ATTACKS,
        *test_restore_points.ATTACKS,
        *test_message_guards.ATTACKS,
        *test_people_guards.ATTACKS,
        *test_resting_guards.ATTACKS,
        *test_price_guards.ATTACKS,
        *test_increase_guards.ATTACKS,
        *test_margin_guards.ATTACKS,
        *test_keeper_due_guards.ATTACKS,
        *test_bot_rows.ATTACKS,
    ]
    attacked = {name for name in named if any(name in words.split("|") for _, words, _ in attacks)}
    assert named - attacked - elsewhere == set()


def test_every_table_of_money_is_guarded_by_triggers() -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT tgrelid::regclass::text, tgname FROM pg_trigger WHERE NOT tgisinternal AND tgenabled = 'O'"
        )
        guards = set(cursor.fetchall())
    assert guards >= {
        ("tx_intents", "guard_intent"),
        ("tx_intents", "keep_intent"),
        ("tx_intents", "guard_resting"),
        ("tx_intents", "guard_increase"),
        ("tx_intents", "guard_increase_kept"),
        ("tx_intents", "keep_keeper_due"),
        ("tx_sends", "guard_send"),
        ("tx_sends", "keep_send"),
        ("intent_transitions", "keep_transition"),
        ("intent_transitions", "keep_until_archived"),
        ("archives", "guard_archive"),
        ("wallets", "guard_wallet"),
        ("fills", "guard_fill"),
        ("signals", "guard_signal"),
        ("caps", "guard_cap"),
        ("caps", "keep_cap"),
        ("risk_reservations", "guard_reservation"),
        ("risk_reservations", "keep_reservation"),
        ("risk_reservations", "log_risk"),
        ("risk_log", "keep_risk_log"),
        ("risk_log", "keep_until_archived"),
        ("sign_requests", "guard_sign_request"),
        ("venue_messages", "guard_message"),
        ("venue_messages", "keep_row"),
        ("tx_intents", "guard_road"),
        ("protections", "guard_protection"),
        ("protections", "keep_row"),
        ("protection_triggers", "guard_trigger"),
        ("protection_triggers", "keep_row"),
        ("restore_points", "guard_restore_point"),
        ("restore_points", "keep_row"),
        ("tx_intents", "guard_only_position"),
        ("position_corrections", "guard_correction"),
        ("shadow_fills", "guard_shadow"),
        ("shadow_fills", "keep_until_archived"),
        ("position_corrections", "keep_row"),
        ("margin_changes", "guard_margin"),
        ("margin_changes", "keep_whole"),
    }


def test_a_guard_that_is_asked_in_need_is_asked_about_every_column_that_it_looks_at() -> None:
    """A column that is left out of a trigger's condition would go by its function unseen."""
    # What a function takes from a row once another column has changed, or when a row is new.
    besides = {"guard_approval": {"state"}, "guard_resting": {"trader_id", "wallet_id"}}
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT t.tgname, pg_get_triggerdef(t.oid), pg_get_functiondef(t.tgfoid) FROM pg_trigger t JOIN pg_proc p"
            " ON p.oid = t.tgfoid WHERE NOT t.tgisinternal AND t.tgqual IS NOT NULL AND t.tgtype & 16 > 0"
            " AND t.tgname LIKE 'guard_%%' AND t.tgname NOT LIKE '%%_kept'"
        )
        guards = cursor.fetchall()
    assert {name for name, _, _ in guards} >= {
        "guard_request",
        "guard_send",
        "guard_offer",
        "guard_road",
        *besides,
    }
    for name, condition, function in guards:
        asked, looked_at = (set(re.findall(r"\b(?:new|NEW)\.(\w+)", text)) for text in (condition, function))
        assert looked_at - asked == besides.get(name, set()), name

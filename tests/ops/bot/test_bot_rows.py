"""Rows of the bot, attacked by plain SQL."""

import secrets
from collections.abc import Callable

import pytest
from django.db import IntegrityError, transaction

from tests.execution import rows
from tests.execution.test_constraints import undone

__all__ = ["undone"]  # the fixture: one transaction that is rolled back
NOW = "2026-01-01T00:00:00Z"


def user(**fields: object) -> int:
    return rows.insert("telegram_users", {"tg_user_id": 7, "role": "viewer", "allowed_by": "test"} | fields)


def update(**fields: object) -> int:
    return rows.insert("telegram_updates", {"update_id": 7, "tg_user_id": 7, "body": "{}"} | fields)


def confirmation(**fields: object) -> None:
    row: rows.Row = {
        "token": "A" * 22,
        "tg_user_id": 7,
        "asked": "{}",
        "expires_at": "2999-01-01T00:00:00Z",
    } | fields
    columns = ", ".join(f'"{name}"' for name in row)
    marks = ", ".join(["%s"] * len(row))
    rows.execute(f"INSERT INTO telegram_confirmations ({columns}) VALUES ({marks})", *row.values())


def binding(**fields: object) -> int:
    row: rows.Row = {
        "tg_user_id": 7,
        "address": "0x" + "ab" * 20,
        "nonce": secrets.token_hex(16),
        "domain": "vanta.invalid",
        "chain_id": 31337,
        "expires_at": "2999-01-01T00:00:00Z",
    } | fields
    return rows.insert("telegram_bindings", row)


def both(*makes: Callable[[], object]) -> None:
    for make in makes:
        make()


def twice(make: Callable[[], object]) -> None:
    make()
    make()


# What is wrong, the constraint that refuses it, and how it is tried.
ATTACKS: list[tuple[str, str, Callable[[], object]]] = [
    ("a group as a person", "ck_telegram_users_id", lambda: user(tg_user_id=-100_777)),
    ("nobody as a person", "ck_telegram_users_id", lambda: user(tg_user_id=0)),
    ("another role", "ck_telegram_users_role", lambda: user(role="owner")),
    ("one person twice", "telegram_users_tg_user_id", lambda: twice(user)),
    ("one update twice", "telegram_updates_pkey", lambda: twice(update)),
    ("a short token", "ck_telegram_confirmations_token", lambda: confirmation(token="A" * 15)),
    (
        "a token of other letters",
        "ck_telegram_confirmations_token",
        lambda: confirmation(token="A" * 21 + ":"),
    ),
    ("over before it begins", "ck_telegram_confirmations_expiry", lambda: confirmation(expires_at=NOW)),
    (
        "a question that nobody asks",
        "ck_telegram_flows_step",
        lambda: rows.execute(
            "INSERT INTO telegram_flows (tg_user_id, step, answers) VALUES (7, 'withdraw', '{}')"
        ),
    ),
    ("no address", "ck_telegram_bindings_address", lambda: binding(address="0x12")),
    ("another nonce", "ck_telegram_bindings_nonce", lambda: binding(nonce="g" * 32)),
    (
        "proved too late",
        "ck_telegram_bindings_in_time",
        lambda: binding(expires_at=NOW, proved_at="2999-01-01T00:00:00Z"),
    ),
    (
        "one person with two",
        "uq_telegram_bindings_person",
        lambda: both(
            lambda: binding(proved_at=NOW), lambda: binding(proved_at=NOW, address="0x" + "cd" * 20)
        ),
    ),
    (
        "one address of two",
        "uq_telegram_bindings_holder",
        lambda: both(lambda: binding(proved_at=NOW), lambda: binding(proved_at=NOW, tg_user_id=8)),
    ),
    ("one token twice", "telegram_confirmations_pkey", lambda: twice(confirmation)),
    (
        "handled and not forgotten",
        "ck_telegram_updates_forgotten",
        lambda: update(body='{"text": "/approve x 123456"}', handled_at=NOW),
    ),
]


@pytest.mark.parametrize(("words", "attack"), [(words, attack) for _, words, attack in ATTACKS])
def test_the_database_refuses(words: str, attack: Callable[[], object]) -> None:
    with pytest.raises(IntegrityError, match=words), transaction.atomic():
        attack()


def test_what_the_bot_does_is_allowed() -> None:
    user(tg_user_id=2**63 - 1, role="operator")
    update(body='{"text": "/stop"}')
    rows.execute("UPDATE telegram_updates SET body = '{}', handled_at = now()")

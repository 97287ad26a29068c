"""Rows of the bot, attacked by plain SQL."""

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


def twice(make: Callable[[], int]) -> None:
    make()
    make()


# What is wrong, the constraint that refuses it, and how it is tried.
ATTACKS: list[tuple[str, str, Callable[[], object]]] = [
    ("a group as a person", "ck_telegram_users_id", lambda: user(tg_user_id=-100_777)),
    ("nobody as a person", "ck_telegram_users_id", lambda: user(tg_user_id=0)),
    ("another role", "ck_telegram_users_role", lambda: user(role="owner")),
    ("one person twice", "telegram_users_tg_user_id", lambda: twice(user)),
    ("one update twice", "telegram_updates_pkey", lambda: twice(update)),
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

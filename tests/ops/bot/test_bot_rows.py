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


def page(**fields: object) -> None:
    row: rows.Row = {
        "token_sha256": "ab" * 32,
        "tg_user_id": 7,
        "language": "en",
        "nonce": secrets.token_hex(16),
        "domain": "vanta.invalid",
        "chain_id": 31337,
        "expires_at": "2999-01-01T00:00:00Z",
    } | fields
    columns = ", ".join(f'"{name}"' for name in row)
    marks = ", ".join(["%s"] * len(row))
    rows.execute(f"INSERT INTO telegram_pages ({columns}) VALUES ({marks})", *row.values())


SIGNED = {"address": "0x" + "ab" * 20, "signature": "0x00", "answered_at": NOW}


def both(*makes: Callable[[], object]) -> None:
    for make in makes:
        make()


def chat(**fields: object) -> int:
    return rows.insert("telegram_chats", {"tg_user_id": 7} | fields)


def level(**fields: object) -> int:
    return rows.insert("telegram_levels", {"tg_user_id": 7, "event": "mode", "level": "on"} | fields)


def notice(**fields: object) -> int:
    row = {
        "tg_user_id": 7,
        "thread": "mode 1",
        "about": "{}",
        "steps": "[]",
        "wanted": 1,
        "delivered": 0,
        "due_at": NOW,
        **dict.fromkeys(("urgent", "silent", "doubted"), False),
    }
    return rows.insert("telegram_notices", row | fields)


SHOWN = {"delivered": 1, "due_at": None, "message_id": 9, "sent_at": NOW}


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
    ("what is no restriction", "ck_telegram_updates_restricts", lambda: update(restricts="open")),
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
    ("a chat of a group", "ck_telegram_chats_id", lambda: chat(tg_user_id=-7)),
    ("closed without a reason", "ck_telegram_chats_closed", lambda: chat(closed_at=NOW)),
    ("two levels of one event", "uq_telegram_levels", lambda: twice(level)),
    ("another event", "ck_telegram_levels_event", lambda: level(event="weather")),
    ("another level", "ck_telegram_levels_level", lambda: level(level="loud")),
    (
        "a cursor below nothing",
        "ck_telegram_tallies_number",
        lambda: rows.insert("telegram_tallies", {"name": "told x", "number": -1}),
    ),
    ("one thread twice", "uq_telegram_notices_thread", lambda: twice(notice)),
    (
        "more shown than there is",
        "ck_telegram_notices_delivered",
        lambda: notice(**SHOWN | {"delivered": 2, "due_at": NOW}),
    ),
    (
        "shown without a message",
        "ck_telegram_notices_message",
        lambda: notice(**SHOWN | {"message_id": None}),
    ),
    ("a link's token itself", "ck_telegram_pages_token", lambda: page(token_sha256="A" * 22)),
    ("a signature of nobody", "ck_telegram_pages_answer", lambda: page(**SIGNED | {"address": ""})),
    ("an answer without a time", "ck_telegram_pages_answer", lambda: page(**SIGNED | {"answered_at": None})),
    (
        "an answer that came late",
        "ck_telegram_pages_answer",
        lambda: page(**SIGNED | {"answered_at": "2999-01-02T00:00:00Z"}),
    ),
    ("judged before it was answered", "ck_telegram_pages_answer", lambda: page(settled_at=NOW)),
    ("a link twice", "telegram_pages_pkey", lambda: twice(page)),
    ("neither shown nor due", "ck_telegram_notices_due", lambda: notice(due_at=None)),
    ("given up without a reason", "ck_telegram_notices_due", lambda: notice(due_at=None, failed_at=NOW)),
    ("due although it is shown", "ck_telegram_notices_due", lambda: notice(**SHOWN | {"due_at": NOW})),
]


@pytest.mark.parametrize(("words", "attack"), [(words, attack) for _, words, attack in ATTACKS])
def test_the_database_refuses(words: str, attack: Callable[[], object]) -> None:
    with pytest.raises(IntegrityError, match=words), transaction.atomic():
        attack()


def test_what_the_bot_does_is_allowed() -> None:
    user(tg_user_id=2**63 - 1, role="operator")
    update(body='{"text": "/stop"}')
    rows.execute("UPDATE telegram_updates SET body = '{}', handled_at = now()")
    notice()
    notice(thread="mode 2", **SHOWN)
    notice(thread="mode 3", due_at=None, failed_at=NOW, failed_why="blocked")
    page()
    page(token_sha256="cd" * 32, **SIGNED, settled_at=NOW)

"""People and passkeys, attacked by plain SQL."""

from collections.abc import Callable

import pytest
from django.db import IntegrityError, transaction

from execution_app.models.people import PSEUDONYMS_BEGIN
from tests.execution import rows
from tests.execution.test_constraints import undone

__all__ = ["undone"]  # the fixture: one transaction that is rolled back


def person(**fields: object) -> None:
    row = {"tg_user_id": 7, "pseudonym": PSEUDONYMS_BEGIN} | fields
    rows.execute("INSERT INTO people (tg_user_id, pseudonym) VALUES (%s, %s)", *row.values())


def beside(**fields: object) -> None:
    person()
    person(**fields)


def passkey(**fields: object) -> int:
    user = rows.one(
        "INSERT INTO auth_user (username, password, is_superuser, is_staff, is_active, first_name, last_name, email,"
        " date_joined) VALUES ('keeper', '', false, true, true, '', '', '', now())"
        " ON CONFLICT (username) DO UPDATE SET is_staff = true RETURNING id"
    )
    row: rows.Row = {
        "user_id": user,
        "name": "phone",
        "credential_id": b"id",
        "public_key": b"key",
        "uses": 0,
    }
    return rows.insert("passkeys", row | fields)


def twice(make: Callable[[], object]) -> None:
    for _ in range(2):
        make()


ATTACKS: list[tuple[str, str, Callable[[], object]]] = [
    ("nobody's id", "ck_people_id", lambda: person(tg_user_id=0)),
    ("an id that Telegram cannot give", "ck_people_id", lambda: person(tg_user_id=2**52)),
    ("a pseudonym like an id", "ck_people_pseudonym", lambda: person(pseudonym=PSEUDONYMS_BEGIN - 1)),
    ("one pseudonym for two", "people_pseudonym", lambda: beside(tg_user_id=8)),
    ("two pseudonyms for one", "people_pkey", lambda: beside(pseudonym=PSEUDONYMS_BEGIN + 1)),
    ("a passkey without a name", "ck_passkeys_name", lambda: passkey(name="")),
    ("uses below none", "ck_passkeys_uses", lambda: passkey(uses=-1)),
    ("one passkey twice", "passkeys_credential_id", lambda: twice(passkey)),
]


@pytest.mark.parametrize(("words", "attack"), [(words, attack) for _, words, attack in ATTACKS])
def test_the_database_refuses(undone: None, words: str, attack: Callable[[], object]) -> None:
    with pytest.raises(IntegrityError, match=words), transaction.atomic():
        attack()

"""What a remote signer has still to sign, attacked by plain SQL."""

import uuid
from collections.abc import Callable

import pytest
from django.db import IntegrityError, transaction

from execution_app.states import IntentState
from tests.execution import rows
from tests.execution.test_constraints import change, undone

__all__ = ["undone"]  # the fixture: one transaction that is rolled back
NOW = "2026-01-01T00:00:00Z"


def request(**fields: object) -> int:
    row: rows.Row = {
        "intent_id": None,
        "attempt": 0,
        "kind": "exec",
        "max_fee_wei": 10,
        "tip_wei": 1,
        "tries": 0,
    }
    row |= fields
    row["intent_id"] = row["intent_id"] or rows.intent_in(IntentState.RESERVED)
    return rows.insert("sign_requests", row)


def twice() -> None:
    intent = rows.intent_in(IntentState.RESERVED)
    request(intent_id=intent)
    request(intent_id=intent, attempt=1)


ATTACKS: list[tuple[str, str, Callable[[], object]]] = [
    ("another kind", "ck_sign_requests_kind", lambda: request(kind="order")),
    ("a tip above the fee", "ck_sign_requests_fee", lambda: request(tip_wei=11)),
    ("a tip below zero", "ck_sign_requests_fee", lambda: request(tip_wei=-1)),
    ("a lease without a name", "ck_sign_requests_lease", lambda: request(leased_at=NOW)),
    ("a name without a lease", "ck_sign_requests_lease", lambda: request(lease=uuid.uuid4())),
    ("two for one slot", "sign_requests_intent_id_key", twice),
    ("for nobody", "violates foreign key|owns no slot", lambda: request(intent_id=99_999_999)),
    ("without a slot", "owns no slot", lambda: request(intent_id=rows.intent())),
    ("for what is mined", "owns no slot", lambda: request(intent_id=rows.intent_in(IntentState.MINED))),
    ("for what is over", "owns no slot", lambda: request(intent_id=rows.intent_in(IntentState.FINAL_CANCELLED))),
    ("another intent", "belongs to its attempt", lambda: change("sign_requests", request(), intent_id=rows.intent_in(IntentState.RESERVED))),
    ("another attempt", "belongs to its attempt", lambda: change("sign_requests", request(), attempt=1)),
    ("a cancel that becomes an order", "a cancel stays one", lambda: change("sign_requests", request(kind="cancel"), kind="exec")),
]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "attack"), [(words, attack) for _, words, attack in ATTACKS], ids=[name for name, *_ in ATTACKS]
)
def test_the_database_refuses(words: str, attack: Callable[[], object]) -> None:
    with pytest.raises(IntegrityError, match=words), transaction.atomic():
        attack()


def test_what_the_engine_does_is_allowed() -> None:
    pk = request()
    change("sign_requests", pk, leased_at=NOW, lease=uuid.uuid4())
    change("sign_requests", pk, kind="cancel", max_fee_wei=20, tip_wei=2)
    change("sign_requests", pk, leased_at=None, lease=None, tries=1, next_try_at=NOW)
    assert rows.execute("DELETE FROM sign_requests WHERE id = %s", pk) == 1

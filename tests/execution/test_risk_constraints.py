"""Caps, reservations and their log, attacked by plain SQL; and that no row can loosen anything."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import DatabaseError, transaction

from tests.execution import rows


@pytest.fixture(autouse=True)
def undone(django_db_setup: None, django_db_blocker: object) -> Iterator[None]:
    with django_db_blocker.unblock(), transaction.atomic():  # type: ignore[attr-defined]
        rows.execute("ALTER TABLE caps DISABLE TRIGGER keep_cap")
        rows.execute("DELETE FROM caps")
        rows.execute("ALTER TABLE caps ENABLE TRIGGER keep_cap")
        yield
        transaction.set_rollback(True)


def change(table: str, pk: int, **changes: Any) -> None:
    rows.update(table, pk, changes)


def delete(table: str, pk: int) -> None:
    rows.execute(f"DELETE FROM {table} WHERE id = %s", pk)


def twice(**fields: Any) -> None:
    rows.cap(**fields)
    rows.cap(**fields)


def lifted() -> int:
    pk = rows.cap()
    change("caps", pk, lifted_at="2026-01-01T00:00:00Z", lifted_by="test")
    return pk


def released() -> int:
    pk = rows.reservation()
    change("risk_reservations", pk, state="released", notional_usdc=0, released_at="2026-01-01T00:00:00Z")
    return pk


def line() -> int:
    return int(rows.one("SELECT id FROM risk_log WHERE reservation_id = %s", rows.reservation()))


def same_intent() -> None:
    intent = rows.intent()
    rows.reservation(intent_id=intent)
    rows.reservation(intent_id=intent)


ATTACKS: list[tuple[str, str, Callable[[], object]]] = [
    ("two active caps", "uq_caps_active", twice),
    (
        "two active bans",
        "uq_caps_active",
        lambda: twice(name="banned", value=0, scope="symbol", scope_value="BTC-USD"),
    ),
    ("unknown scope", "ck_caps_scope", lambda: rows.cap(scope="house")),
    ("unknown cap", "ck_caps_name", lambda: rows.cap(name="luck")),
    ("negative cap", "ck_caps_value", lambda: rows.cap(value=-1)),
    ("NaN cap", "ck_caps_value", lambda: rows.cap(value="NaN")),
    ("endless cap", "overflow", lambda: rows.cap(value="Infinity")),
    ("ban with a value", "ck_caps_ban_is_zero", lambda: rows.cap(name="banned", value=1)),
    ("cap without a reason", "ck_caps_reason", lambda: rows.cap(reason="")),
    ("cap of nobody", "ck_caps_reason", lambda: rows.cap(set_by="")),
    ("global cap of one", "ck_caps_scope_value", lambda: rows.cap(scope_value="123")),
    ("trader by name", "ck_caps_scope_value", lambda: rows.cap(scope="trader", scope_value="bob")),
    (
        "trader with a zero before",
        "ck_caps_scope_value",
        lambda: rows.cap(scope="trader", scope_value="0123"),
    ),
    ("no trader", "ck_caps_scope_value", lambda: rows.cap(scope="trader")),
    ("no source", "ck_caps_scope_value", lambda: rows.cap(scope="source")),
    ("symbol in lower case", "ck_caps_scope_value", lambda: rows.cap(scope="symbol", scope_value="btc-usd")),
    ("cap raised in place", "never changed", lambda: change("caps", rows.cap(), value=10**9)),
    ("cap moved", "never changed", lambda: change("caps", rows.cap(), scope="trader", scope_value="9")),
    ("reason rewritten", "never changed", lambda: change("caps", rows.cap(), reason="another")),
    (
        "raised while lifted",
        "never changed",
        lambda: change("caps", rows.cap(), value=10**9, lifted_at="2026-01-01T00:00:00Z"),
    ),
    ("cap back again", "never changed", lambda: change("caps", lifted(), lifted_at=None)),
    ("lifting rewritten", "never changed", lambda: change("caps", lifted(), lifted_by="another")),
    ("born lifted", "starts active", lambda: rows.cap(lifted_at="2026-01-01T00:00:00Z")),
    ("deleted cap", "caps are kept", lambda: delete("caps", rows.cap())),
    ("two reservations of an order", "intent_id", same_intent),
    ("unknown mode", "ck_risk_reservations_mode", lambda: rows.reservation(mode="TEST")),
    ("unknown state", "ck_risk_reservations_state", lambda: rows.reservation(state="lost")),
    ("nothing asked", "ck_risk_reservations_asked", lambda: rows.reservation(asked_usdc=0)),
    ("NaN asked", "ck_risk_reservations_asked", lambda: rows.reservation(asked_usdc="NaN")),
    ("nothing at stake", "ck_risk_reservations_stake", lambda: rows.reservation(notional_usdc=0)),
    ("NaN at stake", "ck_risk_reservations_stake", lambda: rows.reservation(notional_usdc="NaN")),
    (
        "released, yet at stake",
        "ck_risk_reservations_stake",
        lambda: rows.reservation(state="released", released_at="2026-01-01T00:00:00Z"),
    ),
    (
        "released at no time",
        "ck_risk_reservations_stake",
        lambda: rows.reservation(state="released", notional_usdc=0),
    ),
    (
        "open and released",
        "ck_risk_reservations_stake",
        lambda: change("risk_reservations", rows.reservation(), released_at="2026-01-01T00:00:00Z"),
    ),
    (
        "revived",
        "is released",
        lambda: change("risk_reservations", released(), state="open", notional_usdc=10, released_at=None),
    ),
    (
        "revived without its position",
        "is released",
        lambda: change("risk_reservations", released(), state="exposed", notional_usdc=10, released_at=None),
    ),
    (
        "another order's",
        "for life",
        lambda: change("risk_reservations", rows.reservation(), intent_id=rows.intent()),
    ),
    (
        "another trader's",
        "for life",
        lambda: change("risk_reservations", rows.reservation(), trader_id=rows.trader()),
    ),
    ("another source's", "for life", lambda: change("risk_reservations", rows.reservation(), source="x")),
    (
        "another symbol's",
        "for life",
        lambda: change("risk_reservations", rows.reservation(), symbol="ETH-USD"),
    ),
    ("LIVE made DRY", "for life", lambda: change("risk_reservations", rows.reservation(), mode="DRY")),
    ("asked less", "for life", lambda: change("risk_reservations", rows.reservation(), asked_usdc=1)),
    ("deleted reservation", "reservations are kept", lambda: delete("risk_reservations", rows.reservation())),
    ("edited log", "append-only", lambda: change("risk_log", line(), change_usdc=0)),
    ("deleted log", "append-only", lambda: delete("risk_log", line())),
    ("another source asked", "does not change", lambda: change("tx_intents", rows.intent(), source="x")),
]


@pytest.mark.parametrize(
    ("words", "attack"),
    [(words, attack) for _, words, attack in ATTACKS],
    ids=[name for name, _, _ in ATTACKS],
)
def test_the_database_refuses(words: str, attack: Callable[[], object]) -> None:
    with pytest.raises(DatabaseError, match=words), transaction.atomic():
        attack()


def test_a_lifted_cap_makes_room_for_another_and_stays_as_history() -> None:
    first = lifted()
    assert rows.cap() != first
    assert rows.one("SELECT count(*) FROM caps") == 2


def test_every_change_is_logged_with_its_running_sum() -> None:
    before = rows.one("SELECT COALESCE(SUM(notional_usdc), 0) FROM risk_reservations WHERE mode = 'DRY'")
    first = rows.reservation(mode="DRY")
    second = rows.reservation(mode="DRY", notional_usdc=7, asked_usdc=7)
    rows.reservation(mode="LIVE", notional_usdc=1000)
    change("risk_reservations", first, state="exposed", notional_usdc=4)
    change("risk_reservations", second, state="released", notional_usdc=0, released_at="2026-01-01T00:00:00Z")
    told = rows.one(
        "SELECT array_agg(ARRAY[change_usdc, notional_usdc, total_usdc] ORDER BY id) FROM risk_log"
        " WHERE reservation_id IN (%s, %s)",
        first,
        second,
    )
    assert [[int(change), int(left), int(total - before)] for change, left, total in told] == [
        [10, 10, 10],
        [7, 7, 17],
        [-6, 4, 11],
        [-7, 0, 4],
    ]

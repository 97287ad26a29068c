"""The table of moves in Python, in the database, and in what both refuse."""

import importlib
import re
from collections.abc import Iterator
from enum import StrEnum
from itertools import product

import pytest
from django.db import IntegrityError, connection, transaction

from execution_app import audit_words, states
from execution_app.states import MOVES, OWNING_NONCE, TERMINAL, UNDECIDED, UNMINED, WAITING, IntentState
from tests.execution import rows
from tests.guards import without_guards

MIGRATION = importlib.import_module("execution_app.migrations.0002_guards")
PAIRS = list(product(IntentState, IntentState))
ILLEGAL = [(old, new) for old, new in PAIRS if new not in MOVES[old] and new is not old]
LEGAL = [(old, new) for old in IntentState for new in sorted(MOVES[old])]

LISTED: list[tuple[str, str, type[StrEnum]]] = [
    ("tx_intents", "state", states.IntentState),
    ("tx_intents", "action", states.Action),
    ("tx_intents", "order_type", states.OrderType),
    ("tx_sends", "kind", states.SendKind),
    ("tx_sends", "outcome", states.SendOutcome),
    ("venue_messages", "outcome", states.SendOutcome),
    ("sign_requests", "kind", states.SendKind),
    ("venue_orders", "state", states.OrderState),
    ("positions", "mode", states.Mode),
    ("positions", "state", states.PositionState),
    ("fills", "mode", states.Mode),
    ("mode_history", "kind", states.ModeKind),
    ("mode_changes", "kind", states.RestrictionKind),
    ("mode_changes", "origin", states.Origin),
    ("caps", "scope", states.CapScope),
    ("caps", "name", states.CapName),
    ("risk_reservations", "mode", states.Mode),
    ("risk_reservations", "state", states.ReservationState),
    ("protection_triggers", "kind", states.TriggerKind),
    ("audit_log", "origin", audit_words.AuditOrigin),
    ("audit_log", "action", audit_words.AuditAction),
]


@pytest.fixture
def undone(django_db_setup: None, django_db_blocker: object) -> Iterator[None]:
    """One transaction that is rolled back, which is quicker than emptying the tables each time."""
    with django_db_blocker.unblock(), transaction.atomic():  # type: ignore[attr-defined]
        with without_guards():
            rows.execute("DELETE FROM mode_changes")
        yield
        transaction.set_rollback(True)


def changes_to(state: IntentState) -> rows.Row:
    """The new state and what its CHECKs ask beside it, so that only the move itself can be wrong."""
    changes: rows.Row = {"state": state.value}
    if state in TERMINAL:
        changes["settled_at"] = "2026-01-01T00:00:00Z"
    return changes


def test_moves_equal_the_migration_and_the_table(undone: None) -> None:
    expected = {(old.value, new.value) for old, new in LEGAL}
    written = {(old, new) for old, news in MIGRATION.MOVES.items() for new in news}
    written.add(("reserved", "lost_nonce"))  # 0013
    written |= {(old, "lapsed") for old in ("signed", "sending", "pending_inclusion")}  # 0020
    written |= {
        ("mined", "changed"),
        ("changed", "pending_inclusion"),
        ("reserved", "lapsed"),
        ("reserved", "mined"),
    }  # 0027
    with connection.cursor() as cursor:
        cursor.execute("SELECT from_state, to_state FROM intent_moves")
        stored = cursor.fetchall()
    assert written == expected
    assert set(stored) == expected
    assert len(stored) == len(expected)


def test_every_state_is_in_the_table_of_moves() -> None:
    assert set(MOVES) == set(IntentState)


def test_groups_of_states_fit_together() -> None:
    before_a_nonce = {IntentState.REJECTED, IntentState.SIMULATED, IntentState.EXPIRED, IntentState.NO_OP}
    assert {state for state in IntentState if not MOVES[state]} == TERMINAL
    assert OWNING_NONCE | WAITING | before_a_nonce == set(IntentState)
    assert not OWNING_NONCE & (WAITING | before_a_nonce)
    assert not UNDECIDED & TERMINAL
    assert UNMINED < OWNING_NONCE


def test_groups_are_these() -> None:
    s = IntentState
    unmined = {s.RESERVED, s.SIGNED, s.SENDING, s.PENDING_INCLUSION}
    ended = {
        s.FINAL_REVERTED,
        s.FINAL_CANCELLED,
        s.REJECTED,
        s.SIMULATED,
        s.EXPIRED,
        s.NO_OP,
        s.LOST_NONCE,
        s.LAPSED,
    }
    assert {s.PENDING, s.HELD} == WAITING
    assert unmined == UNMINED
    assert ended == TERMINAL
    assert ended | {s.FILLED, s.VENUE_CANCELLED} == states.RELEASING, "a close lets its position go"
    assert unmined | {s.MINED, s.ORDERED} == states.IN_FLIGHT, "a close may still take something out"
    assert {s.PENDING, s.HELD, s.MINED, s.ORDERED} | unmined == UNDECIDED, "an open may still become exposure"
    assert {states.Action.OPEN, states.Action.CLOSE, states.Action.INCREASE} == set(states.ORDERS)
    assert {states.Action.OPEN, states.Action.INCREASE} == set(states.GROWING)
    assert {states.Action.OPEN, states.Action.INCREASE, states.Action.MARGIN} == set(states.STAKING)
    assert {states.Action.CANCEL_ORDER, states.Action.UPDATE_ORDER} == set(states.ORDER_CHANGES)
    end = states.PositionEnd
    assert {end.TAKE_PROFIT, end.STOP_LOSS, end.LIQUIDATION, end.OWNER} == set(states.ENDED_BY_VENUE)


def test_a_nonce_is_for_life() -> None:
    """No move leads from a state that owns a slot to one that does not."""
    assert {new for old in OWNING_NONCE for new in MOVES[old]} <= OWNING_NONCE


def test_every_state_can_be_reached_from_pending() -> None:
    reached, edge = {IntentState.PENDING}, {IntentState.PENDING}
    while edge:
        edge = {new for old in edge for new in MOVES[old]} - reached
        reached |= edge
    assert reached == set(IntentState)


@pytest.mark.parametrize(("table", "column", "words"), LISTED, ids=str)
def test_check_lists_exactly_the_enum(undone: None, table: str, column: str, words: type[StrEnum]) -> None:
    definition = rows.one(
        "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = %s AND conrelid = %s::regclass",
        f"ck_{table}_{column}",
        table,
    )
    assert set(re.findall(r"'([A-Za-z_]+)'::", definition)) == {word.value for word in words}


def test_every_column_of_an_enum_has_its_check(undone: None) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT conname FROM pg_constraint WHERE contype = 'c' AND pg_get_constraintdef(oid) LIKE '%ANY%'"
            " AND conname ~ '_(state|kind|outcome|action|origin|order_type)$' AND conrelid <> 'source_buckets'::regclass"
        )
        checks = {name for (name,) in cursor.fetchall()}
    assert {name for name in checks if name.startswith("ck_")} == {
        f"ck_{table}_{column}" for table, column, _ in LISTED if column not in ("mode", "scope", "name")
    } | {"ck_fills_action"}


@pytest.mark.parametrize("old", IntentState)
def test_plain_sql_cannot_make_an_illegal_move(undone: None, old: IntentState) -> None:
    pk = rows.intent_in(old)
    for _, new in [pair for pair in ILLEGAL if pair[0] is old]:
        with pytest.raises(IntegrityError, match=r"cannot move|is settled"), transaction.atomic():
            rows.update("tx_intents", pk, changes_to(new))
        assert rows.one("SELECT state FROM tx_intents WHERE id = %s", pk) == old


@pytest.mark.parametrize(("old", "new"), LEGAL)
def test_plain_sql_makes_every_legal_move(undone: None, old: IntentState, new: IntentState) -> None:
    """Else the test above would pass for another reason than the table of moves."""
    levels = rows.of_levels() if new is IntentState.CHANGED else {}
    pk = rows.intent_in(old, gateway=new in (IntentState.LAPSED, IntentState.CHANGED), **levels)
    changes = changes_to(new)
    if new is IntentState.RESERVED:
        changes |= rows.slot()
    if new is IntentState.SIMULATED:
        changes["mode"] = "DRY"
    assert rows.update("tx_intents", pk, changes) == 1


def test_what_fills_is_an_order(undone: None) -> None:
    definition = rows.one(
        "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = 'ck_fills_action'"
    )
    assert set(re.findall(r"'([a-z]+)'::", definition)) == {action.value for action in states.ORDERS}


@pytest.mark.parametrize(
    "state", [IntentState.FILLED, IntentState.CHANGED, IntentState.VENUE_CANCELLED], ids=str
)
def test_a_settled_row_moves_no_more(undone: None, state: IntentState) -> None:
    pk = rows.intent_in(state)
    rows.execute("UPDATE tx_intents SET settled_at = now() WHERE id = %s", pk)
    for new in MOVES[state]:
        with pytest.raises(IntegrityError, match="is settled"), transaction.atomic():
            rows.update("tx_intents", pk, {"state": new.value})
        with pytest.raises(IntegrityError, match="is settled"), transaction.atomic():
            rows.update("tx_intents", pk, {"state": new.value, "settled_at": None})
    with pytest.raises(IntegrityError, match="is settled"), transaction.atomic():
        rows.update("tx_intents", pk, {"settled_at": None})


@pytest.mark.parametrize("state", sorted(TERMINAL))
def test_a_terminal_state_needs_its_time(undone: None, state: IntentState) -> None:
    before = next(old for old in IntentState if state in MOVES[old])
    pk = rows.intent_in(before, gateway=state is IntentState.LAPSED)
    changes: rows.Row = {"state": state.value} | ({"mode": "DRY"} if state is IntentState.SIMULATED else {})
    with pytest.raises(IntegrityError, match="ck_tx_intents_terminal_is_settled"), transaction.atomic():
        rows.update("tx_intents", pk, changes)


@pytest.mark.parametrize(
    "state", sorted(set(IntentState) - {IntentState.PENDING, IntentState.REJECTED}), ids=str
)
def test_an_intent_is_born_pending_or_rejected(undone: None, state: IntentState) -> None:
    row = rows.intent_row(**changes_to(state))
    with pytest.raises(IntegrityError, match="starts pending or rejected"), transaction.atomic():
        rows.insert("tx_intents", row)

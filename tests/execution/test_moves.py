"""`move` and `open_intent`: the only verbs that change or make an intent."""

import threading
from decimal import Decimal, InvalidOperation
from typing import Any

import pytest
from django.db import DataError, IntegrityError, connection
from django.db.models import Model
from prometheus_client import REGISTRY

from execution_app.errors import IllegalMove, Stale
from execution_app.models import (
    IntentTransition,
    Reservation,
    Shadow,
    TxIntent,
    TxReceipt,
    TxSend,
    VenueOrder,
    arrays,
)
from execution_app.moves import Step, move, move_all, open_intent
from execution_app.states import MOVES, TERMINAL, IntentState, SendKind
from tests.execution import rows

FIELDS: dict[str, Any] = {
    "tg_user_id": 1,
    "action": "open",
    "symbol": "BTC-USD",
    "is_long": True,
    "collateral_usdc": 5,
    "leverage_x": 2,
    "slippage_pct": 1,
}


def illegal_moves_counted() -> float:
    return REGISTRY.get_sample_value("vanta_intent_illegal_transition_total") or 0


@pytest.mark.parametrize("old", IntentState)
def test_every_illegal_move_is_refused_and_counted(database: None, old: IntentState) -> None:
    intent = TxIntent.objects.get(pk=rows.intent_in(old))
    history = IntentTransition.objects.filter(intent=intent).count()
    illegal = [new for new in IntentState if new not in MOVES[old]]
    before = illegal_moves_counted()
    for new in illegal:
        with pytest.raises(IllegalMove):
            move(intent, new, why="attack", by="test")
    assert illegal_moves_counted() - before == len(illegal)
    intent.refresh_from_db()
    assert intent.state == old
    assert IntentTransition.objects.filter(intent=intent).count() == history


def test_a_move_from_a_state_that_has_passed_is_stale(database: None) -> None:
    pk = rows.intent()
    mine, theirs = TxIntent.objects.get(pk=pk), TxIntent.objects.get(pk=pk)
    move(theirs, IntentState.HELD, why="first", by="test")
    with pytest.raises(Stale):
        move(mine, IntentState.REJECTED, why="second", by="test")
    mine.refresh_from_db()
    assert (mine.state, mine.settled_at) == ("held", None)
    assert IntentTransition.objects.count() == 1


def test_of_many_all_move_or_none(database: None) -> None:
    slots = [{**rows.slot(), "nonce": at, "mode": "LIVE"} for at in range(2)]
    pks = [rows.intent(wallet_id=(wallet := rows.wallet()), trader_id=rows.one("SELECT trader_id FROM wallets WHERE id = %s", wallet)) for _ in slots]  # fmt: skip
    seen = list(TxIntent.objects.filter(pk__in=pks).order_by("id"))
    steps = [Step(intent, "together", slot) for intent, slot in zip(seen, slots, strict=True)]
    move(TxIntent.objects.get(pk=pks[1]), IntentState.HELD, why="first", by="test")
    with pytest.raises(Stale):
        move_all(steps, IntentState.RESERVED, by="test")
    assert set(TxIntent.objects.values_list("state", "nonce")) == {("pending", None), ("held", None)}
    with pytest.raises(IllegalMove):
        move_all([Step(TxIntent.objects.get(pk=pks[0]), "too far")], IntentState.SIGNED, by="test")
    fresh = list(TxIntent.objects.order_by("id"))
    move_all([Step(i, "now", f) for i, f in zip(fresh, slots, strict=True)], IntentState.RESERVED, by="test")
    history = IntentTransition.objects.filter(to_state="reserved").order_by("intent")
    assert list(history.values_list("intent", "from_state")) == [(pks[0], "pending"), (pks[1], "held")]
    assert [i.nonce for i in TxIntent.objects.order_by("id")] == [0, 1]


def pending(count: int) -> list[TxIntent]:
    wallet = rows.wallet()
    trader = rows.one("SELECT trader_id FROM wallets WHERE id = %s", wallet)
    pks = [rows.intent(wallet_id=wallet, trader_id=trader) for _ in range(count)]
    return list(TxIntent.objects.filter(pk__in=pks).order_by("id"))


OWNED: tuple[dict[str, Any], ...] = (
    {
        "calldata": b"\x00\\\"{,}'\xff",
        "value_wei": 10**30,
        "wanted_price": Decimal("0.0000000001"),
        "close_usdc": None,
    },
    {"calldata": b"", "value_wei": 0, "wanted_price": None, "close_usdc": Decimal("0.000001")},
    {"calldata": bytes(range(256)) * 4, "value_wei": 7, "wanted_price": Decimal(10**9), "close_usdc": None},
)


def test_each_of_many_gets_what_is_its_own(database: None) -> None:
    """Blank, missing, binary and very large values, each in its row and exact."""
    common = {
        "mode": "LIVE",
        "to_address": "0x" + "ab" * 20,
        "gas_limit": 21_000,
        "reason": "",
        "reason_detail": "a,{b}",
    }
    fields = [{"nonce": at, **common, **own} for at, own in enumerate(OWNED)]
    before = pending(len(fields))
    steps = [Step(intent, "now", own) for intent, own in zip(before, fields, strict=True)]
    move_all(steps, IntentState.RESERVED, by="test")
    for intent, own in zip(before, fields, strict=True):
        stored = TxIntent.objects.get(pk=intent.pk)
        found = {name: getattr(stored, name) for name in own} | {"calldata": bytes(stored.calldata or b"")}
        assert found == own
        assert stored.state == intent.state == "reserved"
        assert stored.updated_at > intent.updated_at


@pytest.mark.parametrize(
    "own", [{"to_address": "0x" + "a" * 41}, {"value_wei": 10**78}, {"close_usdc": Decimal(10) ** 30}]
)
def test_what_a_column_cannot_hold_is_refused_and_not_cut(database: None, own: dict[str, Any]) -> None:
    fields = [{**rows.slot(), "nonce": at, "mode": "LIVE"} for at in range(2)]
    steps = [
        Step(intent, "now", {**f, "close_usdc": None, **(own if at else {})})
        for at, (intent, f) in enumerate(zip(pending(2), fields, strict=True))
    ]
    with pytest.raises((DataError, InvalidOperation, IntegrityError)):
        move_all(steps, IntentState.RESERVED, by="test")
    assert set(TxIntent.objects.values_list("state", "nonce")) == {("pending", None)}


def test_a_settled_fill_does_not_go_back(database: None) -> None:
    pk = rows.intent_in(IntentState.FILLED)
    rows.execute("UPDATE tx_intents SET settled_at = now() WHERE id = %s", pk)
    with pytest.raises(Stale):
        move(TxIntent.objects.get(pk=pk), IntentState.ORDERED, why="a reorg too late", by="test")


@pytest.mark.parametrize("end", sorted(TERMINAL & MOVES[IntentState.PENDING]))
def test_a_terminal_move_settles_and_writes_history(database: None, end: IntentState) -> None:
    intent = TxIntent.objects.get(pk=rows.intent_in(IntentState.PENDING))
    extra = {"mode": "DRY"} if end is IntentState.SIMULATED else {}
    move(intent, end, why="w" * 1_000, by="b" * 100, **extra)
    intent.refresh_from_db()
    line = IntentTransition.objects.get(intent=intent)
    assert intent.settled_at is not None
    assert (line.from_state, line.to_state, line.why, line.by) == ("pending", end, "w" * 400, "b" * 64)


def test_a_failing_history_takes_the_move_back(database: None) -> None:
    intent = TxIntent.objects.get(pk=rows.intent())
    with pytest.raises(DataError, match="NUL"):
        move(intent, IntentState.HELD, why="a NUL \x00 cannot be stored", by="test")
    intent.refresh_from_db()
    assert intent.state == "pending"


def test_racing_movers_make_one_move(database: None) -> None:
    pk = rows.intent()
    starting = threading.Barrier(12)
    ends: list[str] = []

    def race(to: IntentState) -> None:
        intent = TxIntent.objects.get(pk=pk)
        starting.wait(timeout=20)
        try:
            move(intent, to, why="race", by="test")
            ends.append(to)
        except Stale:
            ends.append("stale")
        finally:
            connection.close()

    targets = [IntentState.REJECTED, IntentState.EXPIRED, IntentState.HELD] * 4
    threads = [threading.Thread(target=race, args=(to,)) for to in targets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert ends.count("stale") == 11
    winner = next(end for end in ends if end != "stale")
    assert TxIntent.objects.get(pk=pk).state == winner
    assert IntentTransition.objects.filter(intent_id=pk).count() == 1


def test_racing_openers_make_one_intent(database: None) -> None:
    starting = threading.Barrier(12)
    seen: list[tuple[int, bool]] = []

    def race() -> None:
        try:
            starting.wait(timeout=20)
            intent, created = open_intent(key="sig:race:1", by="test", **FIELDS)
            seen.append((intent.pk, created))
        finally:
            connection.close()

    threads = [threading.Thread(target=race) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert len(seen) == 12
    assert len({pk for pk, _ in seen}) == 1
    assert sum(created for _, created in seen) == 1
    assert TxIntent.objects.count() == 1
    assert IntentTransition.objects.count() == 1


def test_a_rejected_birth_is_settled_with_its_reason(database: None) -> None:
    intent, created = open_intent(
        key="sig:x:1", by="test", state=IntentState.REJECTED, reason="unknown_trader", **FIELDS
    )
    intent.refresh_from_db()
    line = IntentTransition.objects.get()
    assert created
    assert intent.settled_at is not None
    assert (line.from_state, line.to_state, line.why) == ("", "rejected", "unknown_trader")


MODELS = (TxIntent, TxSend, TxReceipt, Reservation, Shadow, VenueOrder)
VALUES: dict[type, tuple[list[Any], ...]] = {
    str: (["", "exec", None], [SendKind.EXEC, "bump"]),
    int: ([0, -1, 2**62, None], [None]),
    bool: ([True, False, None],),
}


@pytest.mark.parametrize("model", MODELS)
def test_what_is_written_as_it_is_is_what_its_field_would_write(model: type[Model]) -> None:
    """The short cut of many rows in one statement changes no value."""
    short = 0
    for field in model._meta.concrete_fields:
        for values in VALUES.get(arrays._PLAIN.get(type(field), Model), ()):
            written = arrays.stored(field, values)
            assert written == [
                None if one is None else field.get_db_prep_save(one, connection) for one in values
            ]
            short += 1
    assert short

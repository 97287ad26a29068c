"""Whose turn it is without a nonce, and what is decided of it before the chain is asked."""

from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from execution_app.engine import dues
from execution_app.engine import waiting as engine
from execution_app.engine.waiting import BATCH, actions_due, database_now, sort, turn
from execution_app.gate import control
from execution_app.gate.admission import Admission, Verdict
from execution_app.models import TxIntent, Wallet
from execution_app.states import Action, Mode, Reason
from tests.execution import rows
from tests.execution.intents import again, in_slot, opened, ruling, shortly, waiting, waiting_close

pytestmark = pytest.mark.usefixtures("database")
REFUSED = Admission(Verdict.REFUSE, Reason.NOTIONAL_ABOVE_CAP, "too much")


@pytest.fixture
def wallet() -> Wallet:
    """With another beside it that nothing here is about."""
    beside = Wallet.objects.get(pk=rows.wallet(max_in_flight=9))
    waiting(beside, action="open")
    waiting_close(beside)
    return Wallet.objects.get(pk=rows.wallet(max_in_flight=3))


def queue(wallet: Wallet | int) -> list[int]:
    return [intent.pk for intent in engine.waiting(wallet)]


def told(intent: TxIntent) -> tuple[str, str, str]:
    intent = again(intent)
    return intent.state, intent.reason, intent.reason_detail


# Whose turn it is


def test_exits_come_first_then_all_in_their_order(wallet: Wallet) -> None:
    first, close, second, later = (
        waiting(wallet),
        waiting_close(wallet),
        waiting(wallet),
        waiting_close(wallet),
    )
    assert queue(wallet) == queue(wallet.pk) == [close.pk, later.pk, first.pk, second.pk]


def test_only_what_has_no_nonce_waits(wallet: Wallet) -> None:
    held, pending = waiting(wallet, state="held"), waiting(wallet)
    in_slot(wallet, 1)
    rows.update("tx_intents", waiting(wallet).pk, {"state": "rejected", "settled_at": "2026-01-01T00:00:00Z"})
    assert queue(wallet) == [held.pk, pending.pk]


def test_who_was_looked_at_just_now_is_not_due_unless_it_waits_for_the_mode(
    monkeypatch: pytest.MonkeyPatch, wallet: Wallet
) -> None:
    monkeypatch.setattr(dues, "RETRY_S", 50)  # this machine may lose some seconds
    soon = shortly(40)
    waiting(wallet, next_try_at=soon, reason="price_stale")
    for_mode = waiting(wallet, next_try_at=soon, reason="mode_degraded")
    beyond, past = waiting(wallet, next_try_at=shortly(90)), waiting(wallet, next_try_at=shortly(-1))
    assert queue(wallet) == [for_mode.pk, beyond.pk, past.pk]


def test_what_its_keeper_has_does_not_wait_for_us(wallet: Wallet) -> None:
    registered: dict[str, Any] = {"mode": "DRY", "wanted_price": 60_000}
    waiting(wallet, keeper_due_at=shortly(30), **registered)
    waiting(wallet, keeper_due_at=shortly(30), reason="mode_degraded", **registered)
    late = waiting(wallet, keeper_due_at=shortly(-1), **registered)
    back = waiting(wallet, keeper_due_at=shortly(90), **registered)
    assert queue(wallet) == [late.pk, back.pk]


def test_trader_and_position_are_read_with_the_intents(wallet: Wallet) -> None:
    position = opened(wallet)
    waiting_close(wallet, position_id=position.pk)
    waiting_close(wallet)
    with CaptureQueriesContext(connection) as asked:
        first, second = engine.waiting(wallet)
        assert (first.position, first.trader is second.trader) == (position, True)
    assert len(asked) == 2


def test_a_pass_asks_once_what_kinds_are_due(wallet: Wallet) -> None:
    for _ in range(2):
        waiting(wallet)
        waiting_close(wallet)
    with CaptureQueriesContext(connection) as asked:
        assert actions_due(wallet) == {"open": 3, "close": 3}
    (statement,) = asked
    assert "DISTINCT" in statement["sql"]
    assert "ORDER BY" not in statement["sql"]
    assert actions_due(Wallet.objects.get(pk=rows.wallet())) == {}


def test_the_oldest_have_their_turn_and_who_was_not_looked_at_for_longest(wallet: Wallet) -> None:
    ages = (-1.0, -2.0, -3.0, None, -5.0, -4.0)
    found = [waiting(wallet, next_try_at=None if age is None else shortly(age)).pk for age in ages]
    waiting_close(wallet)
    assert turn(wallet, Action.OPEN, 2) == [found[0], found[1], found[3], found[4]]
    assert turn(wallet.pk, Action.OPEN, 6) == found
    with CaptureQueriesContext(connection) as asked:
        assert turn(wallet, Action.OPEN, 7) == found
    assert len(asked) == 1
    assert turn(wallet, Action.OPEN) == found
    assert BATCH == 64


def test_of_those_nobody_looked_at_the_oldest_is_next(wallet: Wallet) -> None:
    first = waiting(wallet, next_try_at=shortly(-9))
    second, third = waiting(wallet), waiting(wallet)
    rows.update("tx_intents", second.pk, {"reason_detail": "is written anew"})
    assert turn(wallet, Action.OPEN, 1) == [first.pk, second.pk]
    assert third.pk > second.pk


def test_the_clock_is_the_databases_and_goes_on_within_a_transaction() -> None:
    with transaction.atomic():
        first, second = database_now(), database_now()
    assert first < second
    assert first.tzinfo is not None


# What is sorted


class Over(control.Turn):
    """Over from the start, as after a stop that waits."""

    def is_over(self) -> bool:
        return True


def sorted_out(
    monkeypatch: pytest.MonkeyPatch, wallet: Wallet, keys: list[int]
) -> tuple[list[int], list[int]]:
    monkeypatch.setattr(engine, "_is_ready", lambda _, intent, *__: intent.symbol == "BTC-USD")
    ready, left = sort(wallet, ruling(), database_now(), keys)
    return [intent.pk for intent in ready], left


def test_intents_are_decided_in_the_order_that_was_asked_for(
    monkeypatch: pytest.MonkeyPatch, wallet: Wallet
) -> None:
    first, second, unfit = waiting(wallet), waiting(wallet), waiting(wallet, symbol="ETH-USD")
    waiting(wallet)
    keys = [second.pk, in_slot(wallet, 1).pk, unfit.pk, first.pk]
    assert sorted_out(monkeypatch, wallet, keys) == ([second.pk, first.pk], [])


def test_whoever_keeps_a_stop_waiting_comes_to_one_intent_all_the_same(
    monkeypatch: pytest.MonkeyPatch, wallet: Wallet
) -> None:
    monkeypatch.setattr(control, "Turn", Over)
    keys = [waiting(wallet).pk for _ in range(3)]
    assert sorted_out(monkeypatch, wallet, keys) == (keys[:1], keys[1:])


def judged(
    monkeypatch: pytest.MonkeyPatch, wallet: Wallet, intent: TxIntent, admission: Admission | Verdict
) -> bool:
    found = admission if isinstance(admission, Admission) else Admission(admission)
    monkeypatch.setattr(engine, "admit", lambda *_: found)
    return engine._is_ready(wallet, intent, ruling(), database_now())


def test_what_the_gate_refuses_is_refused_and_what_it_holds_is_held(
    monkeypatch: pytest.MonkeyPatch, wallet: Wallet
) -> None:
    intent = waiting(wallet)
    assert (
        judged(monkeypatch, wallet, intent, Admission(Verdict.HOLD, Reason.MODE_DEGRADED, "redis")) is False
    )
    assert told(intent) == ("held", "mode_degraded", "redis")
    assert judged(monkeypatch, wallet, intent, REFUSED) is False
    assert told(intent) == ("rejected", "notional_above_cap", "too much")


def test_a_halted_wallet_executes_nothing_and_simulates(
    monkeypatch: pytest.MonkeyPatch, wallet: Wallet
) -> None:
    monkeypatch.setattr(engine, "room", lambda *_: None)
    wallet.halted_reason = "a nonce is not accounted for"
    intent = waiting(wallet)
    assert judged(monkeypatch, wallet, intent, Verdict.SIMULATE)
    assert judged(monkeypatch, wallet, intent, Verdict.EXECUTE) is False
    assert told(intent) == ("held", "wallet_halted", "a nonce is not accounted for")


def test_what_waited_for_live_is_not_simulated(monkeypatch: pytest.MonkeyPatch, wallet: Wallet) -> None:
    monkeypatch.setattr(engine, "room", lambda *_: None)
    intent = waiting(wallet, state="held", reason="mode_degraded", reason_detail="redis")
    assert judged(monkeypatch, wallet, intent, Verdict.SIMULATE) is False
    assert told(intent) == ("held", "mode_degraded", "redis")
    assert again(intent).next_try_at is not None
    assert judged(monkeypatch, wallet, intent, Verdict.EXECUTE)
    assert judged(monkeypatch, wallet, waiting(wallet), Verdict.SIMULATE)


@pytest.mark.parametrize("action", ["levels", "margin", "cancel_order", "update_order"])
def test_what_is_no_order_is_judged_elsewhere(
    monkeypatch: pytest.MonkeyPatch, wallet: Wallet, action: str
) -> None:
    assert judged(monkeypatch, wallet, TxIntent(action=action, state="pending"), Verdict.EXECUTE)


@pytest.mark.parametrize(("verdict", "mode"), [(Verdict.EXECUTE, Mode.LIVE), (Verdict.SIMULATE, Mode.DRY)])
@pytest.mark.parametrize("action", ["open", "increase"])
def test_what_puts_money_in_asks_whether_there_is_room(
    monkeypatch: pytest.MonkeyPatch, wallet: Wallet, verdict: Verdict, mode: Mode, action: str
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(engine, "room", lambda *about: asked.append(about))
    intent, now = TxIntent(action=action, state="pending"), database_now()
    monkeypatch.setattr(engine, "admit", lambda *_: Admission(verdict))
    assert engine._is_ready(wallet, intent, ruling(), now)
    assert asked == [(intent, mode, now)]


def test_what_has_no_room_is_refused_unless_its_keeper_has_it(
    monkeypatch: pytest.MonkeyPatch, wallet: Wallet
) -> None:
    monkeypatch.setattr(engine, "room", lambda *_: REFUSED)
    registered = waiting(wallet, mode="DRY", wanted_price=1, keeper_due_at=shortly(-1))
    assert judged(monkeypatch, wallet, registered, Verdict.SIMULATE)
    intent = waiting(wallet)
    assert judged(monkeypatch, wallet, intent, Verdict.SIMULATE) is False
    assert told(intent) == ("rejected", "notional_above_cap", "too much")


@pytest.mark.parametrize("bound", [True, False])
def test_a_close_is_bound_in_the_mode_that_it_is_let_in_with(
    monkeypatch: pytest.MonkeyPatch, wallet: Wallet, bound: bool
) -> None:
    asked: list[Any] = []

    def bind(intent: TxIntent, mode: Mode) -> bool:
        asked.append((intent, mode))
        return bound

    monkeypatch.setattr(engine, "_bind", bind)
    close = TxIntent(action="close", state="pending")
    assert judged(monkeypatch, wallet, close, Verdict.EXECUTE) is bound
    assert asked == [(close, Mode.LIVE)]

"""A page of a wallet's slots, of which what may leave is announced in one commit."""

from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from execution_app.engine import broadcast
from execution_app.engine.broadcast import _Leased
from execution_app.engine.waiting import database_now
from execution_app.gate import limits
from execution_app.gate.admission import Departure
from execution_app.models import TxIntent, TxSend, Wallet
from execution_app.states import IntentState
from tests.execution.slots import HELD, LIVE, LONG_AGO, bytes_of, other_wallet, slot, two_wallets
from tests.execution.test_broadcast_rules import MARKET, answer

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture
def wallet() -> Wallet:
    return two_wallets()


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> None:
    """An open one."""
    monkeypatch.setattr(broadcast, "ruling_now", lambda: LIVE)
    answer(monkeypatch, Departure.LEAVE)


class Turn:
    over = False

    def is_over(self) -> bool:
        return self.over


def signed(wallet: Wallet, *nonces: int) -> list[TxSend]:
    return [bytes_of(slot(wallet, nonce)) for nonce in nonces]


@pytest.mark.usefixtures("gate")
def test_a_page_is_announced_in_one_commit_under_the_wallets_lock(wallet: Wallet) -> None:
    sends = signed(wallet, 1, 0)
    with transaction.atomic(), pytest.raises(RuntimeError, match="durable"):
        broadcast._lease(wallet.pk, None)
    with CaptureQueriesContext(connection) as asked:
        found = broadcast._lease(wallet.pk, None)
    assert any('FROM "wallets"' in one["sql"] and "FOR NO KEY UPDATE" in one["sql"] for one in asked)
    assert found.sends == sends[::-1], "in the order of their nonces"
    assert (found.looked_at, found.last) == (2, None)


@pytest.mark.usefixtures("gate")
def test_what_leaves_is_announced_and_nothing_else(monkeypatch: pytest.MonkeyPatch, wallet: Wallet) -> None:
    monkeypatch.setattr(broadcast, "LEASE_S", 600)
    mine = bytes_of(slot(wallet, 0), leased_at=database_now())  # as signed bytes need no timer
    again = bytes_of(slot(wallet, 1, IntentState.SENDING), leased_at=LONG_AGO)
    fresh = bytes_of(slot(wallet, 2, IntentState.SENDING), leased_at=database_now())
    [others] = signed(other_wallet(), 0)
    found = broadcast._lease(wallet.pk, None)
    assert found.sends == [mine, again]
    assert (found.looked_at, found.last) == (3, None)
    leased: dict[int, Any] = dict(TxSend.objects.values_list("pk", "leased_at"))
    assert leased[mine.pk] > mine.leased_at
    assert leased[again.pk] > fresh.leased_at
    assert (leased[fresh.pk], leased[others.pk]) == (fresh.leased_at, None)
    states = dict(TxIntent.objects.values_list("pk", "state"))
    assert [states[one.intent_id] for one in (mine, again, fresh, others)] == ["sending"] * 3 + ["signed"]
    moved = mine.intent.transitions.get(to_state=IntentState.SENDING)
    assert (moved.why, moved.by) == (mine.tx_hash, "engine")


@pytest.mark.usefixtures("gate")
def test_of_a_halted_wallet_nothing_leaves(wallet: Wallet) -> None:
    signed(wallet, 0)
    Wallet.objects.filter(pk=wallet.pk).update(halted_reason="drill", halted_at=database_now())
    assert broadcast._lease(wallet.pk, MARKET) == _Leased([], 0, None)


@pytest.mark.usefixtures("gate")
def test_a_turn_that_is_over_ends_behind_one_slot_at_least(
    monkeypatch: pytest.MonkeyPatch, wallet: Wallet
) -> None:
    sends = signed(wallet, 4, 5, 6)
    monkeypatch.setattr(broadcast, "Turn", Turn)
    monkeypatch.setattr(Turn, "over", True)
    assert broadcast._lease(wallet.pk, None) == _Leased(sends[:1], 1, 4)
    monkeypatch.setattr(Turn, "over", False)
    assert broadcast._lease(wallet.pk, None, 4) == _Leased(sends[1:], 2, None)


@pytest.mark.usefixtures("gate")
def test_behind_a_whole_page_there_may_be_more(monkeypatch: pytest.MonkeyPatch, wallet: Wallet) -> None:
    signed(wallet, 4, 5, 6)
    assert broadcast.BATCH == 100
    for most, looked_at, last in ((2, 2, 5), (3, 3, 6), (4, 3, None)):
        monkeypatch.setattr(broadcast, "BATCH", most)
        answer(monkeypatch, Departure.PARK)
        assert broadcast._lease(wallet.pk, None) == _Leased([], looked_at, last)


@pytest.mark.usefixtures("gate")
def test_caps_are_read_once_for_all_of_a_page(monkeypatch: pytest.MonkeyPatch, wallet: Wallet) -> None:
    known: list[bool] = []

    def may_leave(*_: object, **__: object) -> Departure:
        known.append(limits._known.get() is not None)
        return Departure.PARK

    monkeypatch.setattr(broadcast, "may_leave", may_leave)
    signed(wallet, 0, 1)
    broadcast._lease(wallet.pk, None)
    assert known == [True, True]


def test_the_newest_bytes_of_slots_of_which_no_node_holds_any(wallet: Wallet) -> None:
    later, first = slot(wallet, 7, IntentState.SENDING), slot(wallet, 0)
    for intent in (later, first):
        bytes_of(intent)
    newest = bytes_of(later, 1, "bump")
    held = slot(wallet, 1, IntentState.SENDING)
    bytes_of(held, **HELD)
    bytes_of(held, 1, "bump")
    for nonce, state in (
        (2, IntentState.PENDING_INCLUSION),
        (3, IntentState.MINED),
        (4, IntentState.LOST_NONCE),
    ):
        bytes_of(slot(wallet, nonce, state))
    signed(other_wallet(), 5)
    found = broadcast._unheld(wallet.pk, -1)
    assert [(send.intent_id, send.attempt) for send in found] == [(first.pk, 0), (later.pk, 1)]
    assert broadcast._unheld(wallet.pk, 0) == [newest]
    assert broadcast._unheld(wallet.pk, 6) == [newest]
    assert broadcast._unheld(wallet.pk, 7) == []


def test_a_page_of_slots_costs_a_few_queries(wallet: Wallet) -> None:
    signed(wallet, *range(3))
    with CaptureQueriesContext(connection) as asked:
        found = broadcast._unheld(wallet.pk, -1)
        assert [(send.intent.wallet, send.intent.trader) for send in found] == [(wallet, wallet.trader)] * 3
    assert len(asked) <= 5

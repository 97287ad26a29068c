"""Whose cancel is asked for, by whom, and which of them are signed."""

from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from structlog.testing import capture_logs

from execution_app.audit_words import AuditOrigin
from execution_app.engine import cancels
from execution_app.errors import Refused
from execution_app.models import AuditEntry, TxIntent, TxSend, Wallet
from execution_app.node import fees
from execution_app.states import IntentState
from tests.execution import rows
from tests.execution.slots import (
    CLOSE,
    HELD,
    LONG_AGO,
    bytes_of,
    other_wallet,
    seconds_ago,
    slot,
    two_wallets,
)

pytestmark = pytest.mark.usefixtures("database")
MARKET = fees.Market(1, 1)
SENDING, PENDING = IntentState.SENDING, IntentState.PENDING_INCLUSION
MARGIN: dict[str, Any] = {
    "action": "margin",
    "is_long": None,
    "leverage_x": None,
    "margin_usdc": 5,
    "collateral_usdc": None,
}


@pytest.fixture
def wallet() -> Wallet:
    return two_wallets()


def asked_of() -> set[int]:
    return set(TxIntent.objects.exclude(cancel_asked_at=None).values_list("pk", flat=True))


# Asking


def margin(wallet: Wallet, nonce: int) -> TxIntent:
    return slot(wallet, nonce, **MARGIN, position_id=rows.position(trader_id=wallet.trader_id))


def test_every_unmined_open_and_change_of_margin_is_asked_of(wallet: Wallet) -> None:
    """Of all wallets, oldest first; exits, what waits and what was mined are left as they are."""
    states = (IntentState.RESERVED, IntentState.SIGNED, SENDING, PENDING)
    opens = [slot(wallet, 20 - at, state) for at, state in enumerate(states)]
    opens += [margin(wallet, 3), slot(other_wallet(), 3)]
    slot(wallet, 4, **CLOSE)
    for nonce, state in enumerate((IntentState.MINED, IntentState.FILLED, IntentState.LOST_NONCE), 5):
        slot(wallet, nonce, state)
    rows.intent(wallet_id=wallet.pk, trader_id=wallet.trader_id)
    assert cancels.request(by="ann") == [intent.intent_key for intent in opens]
    assert asked_of() == {intent.pk for intent in opens}
    entry = AuditEntry.objects.get()
    assert (entry.actor, entry.origin, entry.action) == ("ann", "command", "pending_cancelled")
    assert entry.subject == "unmined opens"
    assert entry.after == {"count": 6, "first": [intent.intent_key for intent in opens]}


def test_who_asked_first_is_not_overwritten(wallet: Wallet) -> None:
    """Asked of all again, it is told of again; when it was first asked for stays."""
    first, second = slot(wallet, 3, cancel_asked_at=LONG_AGO), slot(wallet, 4)
    assert cancels.request(by="ann") == [first.intent_key, second.intent_key]
    assert TxIntent.objects.get(pk=first.pk).cancel_asked_at == first.cancel_asked_at
    assert asked_of() == {first.pk, second.pk}


def test_of_one_key_once(wallet: Wallet) -> None:
    mine, beside = slot(wallet, 3), slot(wallet, 4)
    exits = slot(wallet, 5, **CLOSE)
    assert cancels.request(by="ann", key=exits.intent_key) == []
    assert cancels.request(by="ann", key="sig:nobody:1") == []
    assert not AuditEntry.objects.exists()
    assert cancels.request(by="ann", key=mine.intent_key, origin=AuditOrigin.TELEGRAM) == [mine.intent_key]
    assert asked_of() == {mine.pk}
    assert beside.pk not in asked_of()
    assert AuditEntry.objects.get().origin == "telegram"
    assert cancels.request(by="ann", key=mine.intent_key) == []
    assert AuditEntry.objects.count() == 1


def test_that_cancels_were_asked_for_is_logged_where_there_were_any(wallet: Wallet) -> None:
    slot(wallet, 3)
    for key, told in (("sig:nobody:1", []), (None, [("cancels asked for", "ann", 1)])):
        with capture_logs() as lines:
            cancels.request(by="ann", key=key)
        assert [(line["event"], line["by"], line["count"]) for line in lines] == told


def test_twenty_keys_are_named(wallet: Wallet) -> None:
    keys = [slot(wallet, nonce).intent_key for nonce in range(21)]
    assert cancels.request(by="ann") == keys
    assert AuditEntry.objects.get().after == {"count": 21, "first": keys[:20]}


def test_asking_is_one_commit_with_its_entry(wallet: Wallet) -> None:
    slot(wallet, 3)
    with transaction.atomic(), pytest.raises(RuntimeError, match="durable"):
        cancels.request(by="ann")
    assert asked_of() == set()


# Signing


@pytest.fixture
def signed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, str]]:
    """Of which nonces a cancel was signed, and why."""
    done: list[tuple[int, str]] = []

    def cancel_in_slot(intent: TxIntent, market: fees.Market, *, why: str) -> TxSend:
        assert market is MARKET
        done.append((intent.nonce or 0, why))
        return TxSend(intent=intent)

    monkeypatch.setattr(cancels, "cancel_in_slot", cancel_in_slot)
    monkeypatch.setattr(cancels, "may_be_cancelled", lambda intent, market: market is MARKET)
    return done


PERSON, TRADE = "a person asked for it", "its trade has lost its slot"


def wanted(wallet: Wallet, nonce: int, state: IntentState = PENDING, **fields: Any) -> TxIntent:
    """One whose cancel is asked for and whose bytes a node holds."""
    intent = slot(wallet, nonce, state, **({"cancel_asked_at": LONG_AGO} | fields))
    bytes_of(intent, **HELD)
    return intent


def test_what_nodes_hold_is_cancelled_in_the_order_of_its_nonces(
    wallet: Wallet, signed: list[tuple[int, str]]
) -> None:
    wanted(wallet, 9)
    wanted(wallet, 3, SENDING)
    wanted(wallet, 5, **CLOSE)
    found = cancels.sign(wallet.pk, MARKET)
    assert signed == [(3, PERSON), (5, TRADE), (9, PERSON)]
    assert [send.intent.nonce for send in found] == [3, 5, 9]


def test_each_slot_once_however_many_of_its_bytes_are_held(
    wallet: Wallet, signed: list[tuple[int, str]]
) -> None:
    bytes_of(wanted(wallet, 3), 1, "bump", **HELD)
    cancels.sign(wallet.pk, MARKET)
    assert signed == [(3, PERSON)]


def test_nobody_elses_and_nothing_that_was_not_asked_for(
    wallet: Wallet, signed: list[tuple[int, str]]
) -> None:
    wanted(wallet, 3, cancel_asked_at=None)
    wanted(other_wallet(), 3)
    for nonce, state in enumerate((IntentState.RESERVED, IntentState.SIGNED, IntentState.MINED), 4):
        wanted(wallet, nonce, state)
    bytes_of(
        slot(wallet, 8, SENDING, cancel_asked_at=LONG_AGO)
    )  # no node holds it: it gets its own before it leaves
    with CaptureQueriesContext(connection) as asked:
        assert cancels.sign(wallet.pk, MARKET) == []
    assert len(asked) == 1, "nobody waits for the wallet"
    assert signed == []


def test_what_has_a_cancel_gets_no_second(wallet: Wallet, signed: list[tuple[int, str]]) -> None:
    bytes_of(wanted(wallet, 3), 1, "cancel")
    wanted(wallet, 4)
    assert len(cancels.sign(wallet.pk, MARKET)) == 1
    assert signed == [(4, PERSON)]


def test_signing_is_one_commit_under_the_wallets_lock(wallet: Wallet, signed: list[tuple[int, str]]) -> None:
    wanted(wallet, 3)
    with transaction.atomic(), pytest.raises(RuntimeError, match="durable"):
        cancels.sign(wallet.pk, MARKET)
    with CaptureQueriesContext(connection) as asked:
        cancels.sign(wallet.pk, MARKET)
    assert any('FROM "wallets"' in one["sql"] and "FOR NO KEY UPDATE" in one["sql"] for one in asked)
    assert "LIMIT 50" in asked.captured_queries[-2]["sql"], "a page of them"


def test_a_halted_wallet_signs_none(wallet: Wallet, signed: list[tuple[int, str]]) -> None:
    wanted(wallet, 3)
    Wallet.objects.filter(pk=wallet.pk).update(halted_reason="drill", halted_at=seconds_ago(0))
    assert cancels.sign(wallet.pk, MARKET) == []
    assert signed == []


def test_one_that_cannot_be_signed_keeps_no_other_back(
    monkeypatch: pytest.MonkeyPatch, wallet: Wallet, signed: list[tuple[int, str]]
) -> None:
    """Its fee ceiling is reached, its key is lost, or a remote signer was asked."""
    for nonce in range(3, 7):
        wanted(wallet, nonce)
    sign: Callable[..., TxSend] = vars(cancels)["cancel_in_slot"]

    def cancel_in_slot(intent: TxIntent, market: fees.Market, *, why: str) -> TxSend | None:
        if intent.nonce == 4:
            raise Refused("the key is lost")
        return None if intent.nonce == 5 else sign(intent, market, why=why)

    monkeypatch.setattr(cancels, "cancel_in_slot", cancel_in_slot)
    monkeypatch.setattr(cancels, "may_be_cancelled", lambda intent, _: intent.nonce != 3)
    found = cancels.sign(wallet.pk, MARKET)
    assert [send.intent.nonce for send in found] == [6]
    assert signed == [(6, PERSON)]

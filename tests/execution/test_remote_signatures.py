"""What becomes of a remote signer's answer: stored, thrown away, or asked for again."""

import time
import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from structlog.testing import capture_logs

from execution_app import meters
from execution_app.engine import remote_signing as engine
from execution_app.engine import signatures
from execution_app.engine.waiting import database_now
from execution_app.errors import Refused
from execution_app.gate.modes import Ruling
from execution_app.models import SignRequest, TxIntent, TxSend, Wallet
from execution_app.node import signers
from execution_app.node.fees import Fee
from execution_app.states import IntentState, Mode, SendKind
from tests.execution import rows
from tests.execution.intents import again, in_slot, ruling, sent, shortly
from tests.execution.test_remote_leases import (
    DRY,
    FEE,
    LIVE,
    MARKET,
    STOPPED,
    ask,
    decide,
    open_gate,
    slot,
    wallet,
)

__all__ = ["open_gate", "wallet"]  # the fixtures
pytestmark = pytest.mark.usefixtures("database", "open_gate")
S = IntentState
LONG_AGO = "2026-01-01T00:00:00Z"


def signed() -> signers.Signed:
    return signers.Signed(b"\x02raw", rows.tx_hash())


def stored(wallet: Wallet, *answers: Any, in_time: bool = True) -> engine.Signatures:
    return engine._store(wallet.pk, engine._lease(wallet.pk, None), answers, in_time=in_time)


def test_a_signature_is_stored_and_waits_for_the_gate(wallet: Wallet) -> None:
    request, beside, answer = slot(wallet, 1), slot(wallet, 2), signed()
    rows.update("tx_intents", request.intent_id, {"reason": "signer_away", "reason_detail": "no answer"})
    leases = engine._lease(wallet.pk, None)
    found = engine._store(wallet.pk, leases[:1], [answer], in_time=True)
    send = TxSend.objects.get(intent=request.intent_id)
    assert (found.stored, found.sends) == (1, [])
    assert (send.attempt, send.kind, send.tx_hash, bytes(send.raw)) == (0, "exec", answer.tx_hash, answer.raw)
    assert (Fee(int(send.max_fee_wei), int(send.tip_wei)), send.leased_at) == (FEE, None)
    intent = again(request.intent)
    assert (intent.state, intent.reason, intent.reason_detail) == ("signed", "", "")
    moved = intent.transitions.latest("id")
    assert (moved.why, moved.by) == (answer.tx_hash, "engine")
    assert SignRequest.objects.filter(intent__wallet=wallet).get() == beside


@pytest.mark.parametrize("reason", ["signer_away", "signer_refused", "fee_above_ceiling"])
def test_a_replacement_leaves_at_once(wallet: Wallet, reason: str) -> None:
    request, before = slot(wallet, 1, S.PENDING_INCLUSION), meters.RBF_ATTEMPT._value.get()
    beside = in_slot(wallet, 2)
    for pk in (request.intent_id, beside.pk):
        rows.update("tx_intents", pk, {"reason": reason, "reason_detail": "words", "updated_at": LONG_AGO})
    begun_s = time.monotonic()
    found = stored(wallet, signed())
    (send,) = found.sends
    assert (found.stored, send.attempt, send.kind) == (1, 1, "bump")
    assert begun_s <= found.begun_s <= time.monotonic()
    send.refresh_from_db()
    assert send.leased_at is not None
    intent = again(request.intent)
    kept = (reason, "words") if reason == "fee_above_ceiling" else ("", "")
    assert (intent.state, intent.reason, intent.reason_detail) == ("pending_inclusion", *kept)
    assert (intent.updated_at > again(beside).updated_at) is (kept == ("", ""))
    assert (again(beside).reason, again(beside).reason_detail) == (reason, "words")
    assert meters.RBF_ATTEMPT._value.get() == before + 1


def test_an_answer_is_one_commit_under_the_wallets_lock(wallet: Wallet) -> None:
    slot(wallet, 1)
    leases = engine._lease(wallet.pk, None)
    with transaction.atomic(), pytest.raises(RuntimeError, match="durable"):
        engine._store(wallet.pk, leases, [signed()], in_time=True)
    with CaptureQueriesContext(connection) as asked:
        engine._store(wallet.pk, leases, [signed()], in_time=True)
    assert any("FOR NO KEY UPDATE" in query["sql"] for query in asked)


def test_what_replaces_bytes_that_no_node_holds_waits_for_the_gate(wallet: Wallet) -> None:
    intent = in_slot(wallet, 1, S.SIGNED)
    sent(intent)
    ask(intent, attempt=1, kind=SendKind.CANCEL)
    found = stored(wallet, signed())
    assert (found.stored, found.sends) == (1, [])
    assert TxSend.objects.get(attempt=1).leased_at is None
    assert again(intent).state == "signed"


def test_a_cancel_is_no_raised_fee(wallet: Wallet) -> None:
    request, before = slot(wallet, 1, S.PENDING_INCLUSION), meters.RBF_ATTEMPT._value.get()
    SignRequest.objects.filter(pk=request.pk).update(kind="cancel")
    assert [send.kind for send in stored(wallet, signed()).sends] == ["cancel"]
    assert meters.RBF_ATTEMPT._value.get() == before


def test_what_was_mined_meanwhile_needs_no_bytes(wallet: Wallet) -> None:
    request = slot(wallet, 1, S.PENDING_INCLUSION)
    leases = engine._lease(wallet.pk, None)
    rows.update("tx_intents", request.intent_id, {"state": "mined"})
    assert engine._store(wallet.pk, leases, [signed()], in_time=True).stored == 0
    assert not SignRequest.objects.filter(pk=request.pk).exists()
    assert TxSend.objects.filter(intent=request.intent_id).count() == 1


def test_an_answer_under_another_lease_is_not_used(wallet: Wallet) -> None:
    request, other = slot(wallet, 1), slot(wallet, 2)
    leases = engine._lease(wallet.pk, None)
    SignRequest.objects.filter(pk=request.pk).update(lease=uuid.uuid4())
    assert engine._store(wallet.pk, leases, [signed(), signed()], in_time=True).stored == 1
    assert SignRequest.objects.filter(pk=request.pk, lease__isnull=False).exists()
    assert not SignRequest.objects.filter(pk=other.pk).exists()


@pytest.mark.parametrize(
    ("word", "halted", "in_time", "why"),
    [
        (LIVE, "", False, ""),
        (LIVE, "lost", True, "lost"),
        (DRY, "", True, "redis"),
        (STOPPED, "", True, "emergency stop"),
        (ruling(Mode.DRY, stop=True, reason="redis"), "", True, "emergency stop"),
    ],
)
def test_what_was_signed_after_a_stop_had_begun_is_thrown_away(
    monkeypatch: pytest.MonkeyPatch, wallet: Wallet, *, word: Ruling, halted: str, in_time: bool, why: str
) -> None:
    request = slot(wallet, 1, S.PENDING_INCLUSION)
    leases = engine._lease(wallet.pk, None)
    decide(monkeypatch, word)
    if halted:
        Wallet.objects.filter(pk=wallet.pk).update(halted_reason=halted, halted_at=shortly(0))
    with capture_logs() as logged:
        assert engine._store(wallet.pk, leases, [signed()], in_time=in_time).stored == 0
    (line,) = logged
    assert (line["nonce"], line["why"]) == (1, why)
    request.refresh_from_db()
    assert (request.leased_at, request.lease, request.next_try_at, request.tries) == (None, None, None, 0)


@pytest.mark.parametrize(("tries", "later_s"), [(0, 0.5), (1, 1), (3, 4), (4, 8), (5, 10), (40, 10)])
def test_a_signer_that_is_away_is_asked_again_soon_then_less_often(
    wallet: Wallet, tries: int, later_s: float
) -> None:
    request, beside = slot(wallet, 1), slot(wallet, 2)
    SignRequest.objects.filter(pk=request.pk).update(tries=tries)
    leases = engine._lease(wallet.pk, None)
    before = database_now()
    TxIntent.objects.update(updated_at=LONG_AGO)
    with capture_logs() as logged:
        engine._store(wallet.pk, leases[:1], [signers.SignerAwayError("x" * 500)], in_time=True)
    request.refresh_from_db()
    assert (request.lease, request.tries) == (None, tries + 1)
    assert request.next_try_at is not None
    later = request.next_try_at - timedelta(seconds=later_s)
    assert before <= later <= database_now()
    intent = again(request.intent)
    assert (intent.state, intent.reason, intent.reason_detail) == ("reserved", "signer_away", "x" * 400)
    assert intent.updated_at >= before
    assert [(line["log_level"], line["event"], line["nonce"]) for line in logged] == [
        ("warning", "a slot waits for its signature", 1)
    ]
    assert again(beside.intent).reason == ""
    assert SignRequest.objects.filter(pk=beside.pk, lease__isnull=False).exists()


def test_a_signer_that_refuses_needs_a_person(wallet: Wallet) -> None:
    request, before = slot(wallet, 1), database_now()
    with capture_logs() as logged:
        stored(wallet, Refused("no such key"))
    assert [line["log_level"] for line in logged] == ["error"]
    request.refresh_from_db()
    assert request.next_try_at is not None
    assert before <= request.next_try_at - timedelta(seconds=30) <= database_now()
    assert (again(request.intent).reason, again(request.intent).reason_detail) == (
        "signer_refused",
        "no such key",
    )


# All together


def asked_signer(monkeypatch: pytest.MonkeyPatch, *answers: Any, takes_s: float = 0) -> list[Any]:
    """A clock that stands still but for what the signer takes, and what it was asked."""
    told: list[Any] = []
    clock = [100.0]

    def sign(asked: Any, deadline_s: float) -> list[Any]:
        told.append((asked, deadline_s))
        clock[0] += takes_s
        return list(answers)

    monkeypatch.setattr(signers, "sign_remotely", sign)
    monkeypatch.setattr(engine, "LEASE_S", 4.0)
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    return told


@pytest.mark.parametrize(("takes_s", "kept"), [(3.9, 1), (4, 0)])
def test_the_signer_is_asked_between_two_commits_for_as_long_as_the_lease_is(
    monkeypatch: pytest.MonkeyPatch, wallet: Wallet, takes_s: float, kept: int
) -> None:
    request = slot(wallet, 1)
    told = asked_signer(monkeypatch, signed(), takes_s=takes_s)
    assert engine.sign_waiting(wallet.pk, None).stored == kept
    assert told == [([(signatures.slot_of(request.intent, SendKind.EXEC), FEE)], 103.5)]


def test_nobody_is_asked_for_nothing(monkeypatch: pytest.MonkeyPatch, wallet: Wallet) -> None:
    told = asked_signer(monkeypatch)
    assert engine.sign_waiting(rows.wallet(), None) == engine.Signatures(100.0)
    assert told == []


def test_a_nonce_of_another_order_halts_the_wallet(monkeypatch: pytest.MonkeyPatch, wallet: Wallet) -> None:
    slot(wallet, 1)
    slot(wallet, 2)
    asked_signer(monkeypatch, signed(), signers.NonceUsedError("nonce 2 is another order's"))
    assert engine.sign_waiting(wallet.pk, MARKET).stored == 1
    wallet.refresh_from_db()
    assert wallet.halted_reason == "nonce 2 is another order's"
    assert Wallet.objects.filter(halted_reason="").count() == 1

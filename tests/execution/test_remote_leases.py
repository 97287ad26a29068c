"""A remote signer's requests: who leases one and when, and what may be signed for it."""

import uuid
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from pytest_django.fixtures import Settings

from execution_app.engine import remote_signing as engine
from execution_app.engine import signatures
from execution_app.engine.waiting import database_now
from execution_app.gate.admission import Departure
from execution_app.gate.modes import Ruling
from execution_app.models import SignRequest, TxIntent, Wallet
from execution_app.node import fees
from execution_app.node.fees import Fee
from execution_app.states import IntentState, Mode, SendKind
from tests.execution import rows
from tests.execution.intents import in_slot, ruling, sent, shortly

pytestmark = pytest.mark.usefixtures("database", "open_gate")
S = IntentState
GWEI = 10**9
FEE = Fee(2 * GWEI, GWEI)
MARKET = fees.Market(5 * GWEI, GWEI)
RAISED = Fee(11_125_000_000, 1_125_000_000)  # what MARKET asks of who replaces FEE
LIVE, DRY, STOPPED = ruling(), ruling(Mode.DRY, reason="redis"), ruling(stop=True)


@pytest.fixture
def open_gate(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(update={"max_fee_per_gas_gwei": 20})
    decide(monkeypatch, LIVE)
    leave(monkeypatch, Departure.LEAVE)


def decide(monkeypatch: pytest.MonkeyPatch, word: Ruling) -> None:
    monkeypatch.setattr(engine, "ruling_now", lambda: word)


def leave(monkeypatch: pytest.MonkeyPatch, departure: Departure) -> list[bool]:
    asked: list[bool] = []

    def may_leave(*_: Any, expired: bool) -> Departure:
        asked.append(expired)
        return departure

    monkeypatch.setattr(engine, "may_leave", may_leave)
    return asked


@pytest.fixture
def wallet() -> Wallet:
    """With a request of another wallet beside it."""
    ask(in_slot(Wallet.objects.get(pk=rows.wallet()), 1))
    return Wallet.objects.get(pk=rows.wallet())


def ask(intent: TxIntent, **fields: Any) -> SignRequest:
    fee = {"max_fee_wei": FEE.max_fee_wei, "tip_wei": FEE.tip_wei}
    sound: dict[str, Any] = {"attempt": 0, "kind": SendKind.EXEC, **fee}
    return SignRequest.objects.create(intent=intent, **sound | fields)


def slot(wallet: Wallet, nonce: int, state: IntentState = S.RESERVED, **fields: Any) -> SignRequest:
    """What waits for its signature. A slot that is further on has bytes that are to be replaced."""
    intent = in_slot(wallet, nonce, **fields)
    if state is S.RESERVED:
        return ask(intent)
    sent(intent, max_fee_wei=FEE.max_fee_wei, tip_wei=FEE.tip_wei, held_at=shortly(-1))
    found = ask(intent, attempt=1, kind=SendKind.BUMP)
    for step in rows.road(state)[1:]:
        rows.update("tx_intents", intent.pk, {"state": step.value})
    return found


def leased(wallet: Wallet, market: fees.Market | None = None) -> list[int]:
    return [one.request_id for one in engine._lease(wallet.pk, market)]


# Who is asked for


def test_nobody_waits_for_the_wallet_where_nothing_is_to_be_signed(wallet: Wallet) -> None:
    with CaptureQueriesContext(connection) as asked, transaction.atomic():
        assert engine._lease(rows.wallet(), None) == []
    assert not any("FOR NO KEY UPDATE" in query["sql"] for query in asked)


def test_a_lease_is_one_commit_under_the_wallets_lock(wallet: Wallet) -> None:
    slot(wallet, 1)
    with transaction.atomic(), pytest.raises(RuntimeError, match="durable"):
        leased(wallet)
    with CaptureQueriesContext(connection) as asked:
        assert leased(wallet)
    assert any("FOR NO KEY UPDATE" in query["sql"] for query in asked)


def test_the_lowest_nonces_are_leased_in_their_order(wallet: Wallet) -> None:
    found = {nonce: slot(wallet, nonce).pk for nonce in range(engine.BATCH + 1, 0, -1)}
    assert engine.BATCH == 16
    assert leased(wallet) == [found[nonce] for nonce in range(1, engine.BATCH + 1)]
    assert leased(wallet) == [found[engine.BATCH + 1]]
    assert leased(wallet) == []
    assert SignRequest.objects.filter(lease=None).count() == 1


def test_a_lease_is_written_as_it_is_told(wallet: Wallet) -> None:
    request = slot(wallet, 7)
    (one,) = engine._lease(wallet.pk, None)
    request.refresh_from_db()
    assert (one.request_id, one.lease, one.fee) == (request.pk, request.lease, FEE)
    assert one.slot == signatures.slot_of(request.intent, SendKind.EXEC)
    assert request.leased_at is not None
    assert abs(database_now() - request.leased_at) < timedelta(seconds=30)


def test_the_fee_that_the_signer_is_asked_for_is_kept(wallet: Wallet) -> None:
    request = slot(wallet, 1, S.PENDING_INCLUSION)
    (one,) = engine._lease(wallet.pk, MARKET)
    request.refresh_from_db()
    assert one.fee == Fee(int(request.max_fee_wei), int(request.tip_wei)) == RAISED


def test_a_halted_wallet_has_nothing_signed(wallet: Wallet) -> None:
    slot(wallet, 1)
    Wallet.objects.filter(pk=wallet.pk).update(halted_reason="lost", halted_at="2026-01-01T00:00:00Z")
    assert leased(wallet) == []


def test_what_the_chain_has_decided_is_not_asked_for(wallet: Wallet) -> None:
    decided, other = slot(wallet, 1, S.MINED), slot(wallet, 2)
    assert leased(wallet) == [other.pk]
    assert not SignRequest.objects.filter(pk=decided.pk).exists()


def test_what_may_not_leave_keeps_nobody_else_from_it(
    monkeypatch: pytest.MonkeyPatch, wallet: Wallet
) -> None:
    first, second = slot(wallet, 1), slot(wallet, 2)
    monkeypatch.setattr(engine, "_kind", lambda request, *_: None if request == first else SendKind.CANCEL)
    (one,) = engine._lease(wallet.pk, None)
    assert (one.request_id, one.slot.to) == (second.pk, wallet.address)
    first.refresh_from_db()
    second.refresh_from_db()
    assert (first.lease, first.kind, second.kind) == (None, "exec", "cancel")


@pytest.mark.parametrize(
    ("ago_s", "free"),
    [(None, True), (0, False), (1, False), (10, False), (10.001, True), (-0.001, True)],
)
def test_a_lease_that_ran_out_is_free(
    monkeypatch: pytest.MonkeyPatch, wallet: Wallet, ago_s: float | None, free: bool
) -> None:
    monkeypatch.setattr(engine, "LEASE_S", 10)
    request, now = slot(wallet, 1), database_now()
    if ago_s is not None:
        at = now - timedelta(seconds=ago_s)
        SignRequest.objects.filter(pk=request.pk).update(leased_at=at, lease=uuid.uuid4())
    assert engine._open(wallet.pk, now) == [request] * free


@pytest.mark.parametrize(
    ("in_s", "due"), [(None, True), (-1, True), (0, True), (0.001, False), (30, False), (30.001, True)]
)
def test_who_was_put_off_is_due_at_its_time(wallet: Wallet, in_s: float | None, due: bool) -> None:
    request, now = slot(wallet, 1), database_now()
    at = None if in_s is None else now + timedelta(seconds=in_s)
    SignRequest.objects.filter(pk=request.pk).update(next_try_at=at)
    assert engine._open(wallet.pk, now) == [request] * due


def test_what_signing_needs_is_read_with_the_requests(wallet: Wallet) -> None:
    slot(wallet, 1)
    now = database_now()
    with CaptureQueriesContext(connection) as asked:
        (request,) = engine._open(wallet.pk, now)
        assert request.intent.wallet == wallet
        assert request.intent.trader is not None
    assert len(asked) == 1


# What may be signed


def kind(request: SignRequest, word: Ruling = LIVE, now: datetime | None = None) -> SendKind | None:
    return engine._kind(request, word, now or database_now())


@pytest.mark.parametrize("word", [STOPPED, DRY])
def test_under_a_stop_only_a_cancel_that_a_person_asked_for_replaces_what_has_left(
    wallet: Wallet, word: Ruling
) -> None:
    request = slot(wallet, 1, S.PENDING_INCLUSION)
    assert (kind(request), kind(request, word)) == (SendKind.BUMP, None)
    request.kind = SendKind.CANCEL
    assert (kind(request), kind(request, word)) == (SendKind.CANCEL, None)
    request.intent.cancel_asked_at = database_now()
    assert (kind(request), kind(request, word)) == (SendKind.CANCEL, SendKind.CANCEL)
    request.kind = SendKind.BUMP
    assert (kind(request), kind(request, word)) == (SendKind.BUMP, None)


@pytest.mark.parametrize(
    ("departure", "asked", "action", "found"),
    [
        (Departure.LEAVE, False, "open", SendKind.EXEC),
        (Departure.LEAVE, True, "open", SendKind.CANCEL),
        (Departure.CANCEL, False, "open", SendKind.CANCEL),
        (Departure.CANCEL, True, "close", SendKind.CANCEL),
        (Departure.PARK, False, "open", None),
        (Departure.PARK, True, "open", SendKind.CANCEL),
        (Departure.PARK, True, "close", None),
    ],
)
def test_what_has_not_left_is_signed_as_the_gate_lets_it(
    monkeypatch: pytest.MonkeyPatch,
    wallet: Wallet,
    *,
    departure: Departure,
    asked: bool,
    action: str,
    found: SendKind | None,
) -> None:
    leave(monkeypatch, departure)
    request = slot(wallet, 1)
    sent(request.intent)  # no node is known to hold it
    request.intent.action = action
    request.intent.cancel_asked_at = database_now() if asked else None
    assert kind(request, STOPPED) is found


def test_the_gate_is_told_whether_it_is_too_late(monkeypatch: pytest.MonkeyPatch, wallet: Wallet) -> None:
    asked = leave(monkeypatch, Departure.LEAVE)
    request, now = slot(wallet, 1), database_now()
    for end in (None, now, now + timedelta(microseconds=1)):
        request.intent.expires_at = end
        kind(request, LIVE, now)
    assert asked == [False, True, False]


def test_a_first_fee_is_the_one_that_was_committed(wallet: Wallet) -> None:
    assert engine._fee(slot(wallet, 1), MARKET) == FEE


def test_a_replacement_asks_what_the_market_does_now(wallet: Wallet) -> None:
    request = slot(wallet, 1, S.PENDING_INCLUSION)
    assert engine._fee(request, None) == FEE
    assert engine._fee(request, MARKET) == RAISED
    newest = sent(request.intent, 1, max_fee_wei=16 * GWEI, tip_wei=2 * GWEI)
    assert engine._fee(request, MARKET) == Fee(newest.max_fee_wei * 9 // 8, newest.tip_wei * 9 // 8)


def test_above_its_ceiling_the_fee_stays_as_it_was_committed(settings: Settings, wallet: Wallet) -> None:
    """It takes what the ceiling leaves, down to what the next block asks: base fee and tip."""
    least_wei = MARKET.base_fee_wei + RAISED.tip_wei
    request = slot(wallet, 1, S.PENDING_INCLUSION)
    for ceiling_wei, expected in (
        (RAISED.max_fee_wei, RAISED),
        (RAISED.max_fee_wei - 1, Fee(RAISED.max_fee_wei - 1, RAISED.tip_wei)),
        (least_wei, Fee(least_wei, RAISED.tip_wei)),
        (least_wei - 1, FEE),
    ):
        request.intent.max_cost_wei = 21_000 * ceiling_wei
        assert engine._fee(request, MARKET) == expected
    request.kind = SendKind.CANCEL
    assert engine._fee(request, MARKET) == RAISED
    for gwei, expected in ((11, Fee(11 * GWEI, RAISED.tip_wei)), (6, FEE)):
        settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(update={"max_fee_per_gas_gwei": gwei})
        assert engine._fee(request, MARKET) == expected

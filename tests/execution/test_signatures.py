"""What a slot's next transaction says, and whether it is signed at once or asked for."""

import uuid
from decimal import Decimal

import pytest

from execution_app.engine import signatures
from execution_app.errors import Refused
from execution_app.models import SignRequest, TxSend, Wallet
from execution_app.node import signers
from execution_app.node.fees import Fee
from execution_app.states import SendKind
from tests.execution import rows
from tests.execution.intents import in_slot, shortly

pytestmark = pytest.mark.usefixtures("database")
FEE, MORE = Fee(30, 2), Fee(60, 3)


@pytest.fixture
def wallet() -> Wallet:
    return Wallet.objects.get(pk=rows.wallet(chain_id=8453))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """A remote signer whose policy and journal say yes, and what they were asked."""
    found: list[object] = []
    monkeypatch.setattr(signers, "is_remote", lambda: True)
    monkeypatch.setattr(signers, "permit", lambda slot, fee: found.append((slot, fee)))
    monkeypatch.setattr(signers, "check_nonce", found.append)
    return found


def stored(intent_id: int) -> tuple[int, str, int, int]:
    request = SignRequest.objects.get(intent=intent_id)
    return request.attempt, request.kind, int(request.max_fee_wei), int(request.tip_wei)


def test_an_order_is_signed_as_it_was_fixed_with_its_nonce(wallet: Wallet) -> None:
    intent = in_slot(wallet, 7, value_wei=5, gas_limit=90_000, calldata=b"\x01\x02")
    assert intent.trader is not None
    order = signers.order_of(intent.intent_key, intent.to_address, 5, 90_000, b"\x01\x02")
    said = signatures.slot_of(intent, SendKind.BUMP)
    assert said == signatures.slot_of(intent, SendKind.EXEC)
    assert said == signers.Slot(
        8453, wallet.address, 7, intent.to_address, 5, 90_000, b"\x01\x02", intent.trader.address, order
    )
    assert not said.cancels


def test_a_cancel_is_an_empty_transfer_to_itself_in_the_same_orders_slot(wallet: Wallet) -> None:
    intent = in_slot(wallet, 7, value_wei=5, gas_limit=90_000)
    order = signatures.slot_of(intent, SendKind.EXEC).order
    said = signatures.slot_of(intent, SendKind.CANCEL)
    assert (said.to, said.value_wei, said.gas_limit, said.data) == (wallet.address, 0, 21_000, b"")
    assert (said.order, said.nonce, said.cancels) == (order, 7, True)


def test_what_a_slot_has_not_is_nothing(wallet: Wallet) -> None:
    intent = in_slot(wallet, 7)
    intent.value_wei = intent.gas_limit = intent.calldata = intent.trader = None
    said = signatures.slot_of(intent, SendKind.EXEC)
    assert (said.value_wei, said.gas_limit, said.data, said.trader) == (0, 0, b"", "")
    assert said.order == signers.order_of(intent.intent_key, intent.to_address, 0, 0, b"")


@pytest.mark.parametrize("leaves", [True, False])
def test_a_local_key_signs_at_once(monkeypatch: pytest.MonkeyPatch, wallet: Wallet, leaves: bool) -> None:
    made, told = signers.Signed(b"\x02raw", rows.tx_hash()), []

    def sign(slot: signers.Slot, fee: Fee) -> signers.Signed:
        told.append((slot, fee))
        return made

    monkeypatch.setattr(signers, "is_remote", lambda: False)
    monkeypatch.setattr(signers, "sign", sign)
    intent = in_slot(wallet, 7)
    send = signatures.obtain(intent, 3, SendKind.CANCEL, FEE, leaves=leaves)
    assert send == TxSend.objects.get()
    send = TxSend.objects.get()
    assert told == [(signatures.slot_of(intent, SendKind.CANCEL), FEE)]
    assert (send.intent, send.attempt, send.kind, send.tx_hash) == (intent, 3, "cancel", made.tx_hash)
    assert (bytes(send.raw), int(send.max_fee_wei), int(send.tip_wei)) == (made.raw, 30, 2)
    assert (send.leased_at is not None) is leaves
    assert not SignRequest.objects.exists()


def test_a_remote_signer_is_asked_for_it_once_the_policy_and_the_journal_agree(
    wallet: Wallet, asked: list[object]
) -> None:
    intent = in_slot(wallet, 7)
    assert signatures.obtain(intent, 3, SendKind.BUMP, FEE, leaves=True) is None
    slot = signatures.slot_of(intent, SendKind.BUMP)
    assert asked == [(slot, FEE), slot]
    assert stored(intent.pk) == (3, "bump", 30, 2)
    assert not TxSend.objects.exists()


@pytest.mark.parametrize("who", ["permit", "check_nonce"])
def test_what_would_not_be_signed_is_not_asked_for(
    monkeypatch: pytest.MonkeyPatch, wallet: Wallet, asked: list[object], who: str
) -> None:
    def refuse(*_: object) -> None:
        raise Refused("no")

    monkeypatch.setattr(signers, who, refuse)
    with pytest.raises(Refused):
        signatures.ask(in_slot(wallet, 7), 0, SendKind.EXEC, FEE)
    assert not SignRequest.objects.exists()


def leased(intent_id: int) -> dict[str, object]:
    lease = {"leased_at": shortly(0), "lease": uuid.uuid4(), "next_try_at": shortly(9)}
    SignRequest.objects.filter(intent=intent_id).update(**lease)
    return lease


@pytest.mark.usefixtures("asked")
@pytest.mark.parametrize(
    ("first", "then"),
    [(SendKind.BUMP, SendKind.BUMP), (SendKind.CANCEL, SendKind.CANCEL), (SendKind.CANCEL, SendKind.BUMP)],
)
def test_what_was_asked_for_is_not_asked_for_again(wallet: Wallet, first: SendKind, then: SendKind) -> None:
    intent = in_slot(wallet, 7)
    signatures.ask(intent, 1, first, FEE)
    lease = leased(intent.pk)
    signatures.ask(intent, 2, then, MORE)
    assert stored(intent.pk) == (1, first.value, 30, 2)
    assert SignRequest.objects.filter(intent=intent, **lease).exists()


@pytest.mark.usefixtures("asked")
def test_a_cancel_takes_the_place_of_what_is_asked_for(wallet: Wallet) -> None:
    intent, beside = in_slot(wallet, 7), in_slot(wallet, 8)
    for one in (intent, beside):
        signatures.ask(one, 1, SendKind.EXEC, FEE)
        leased(one.pk)
    signatures.ask(intent, 2, SendKind.CANCEL, MORE)
    assert stored(intent.pk) == (1, "cancel", 60, 3)
    request = SignRequest.objects.get(intent=intent)
    assert (request.leased_at, request.lease, request.next_try_at) == (None, None, None)
    assert stored(beside.pk) == (1, "exec", 30, 2)
    assert SignRequest.objects.filter(intent=beside, lease__isnull=False).exists()


def test_first_sends_are_stored_together_and_wait_for_the_gate(wallet: Wallet) -> None:
    made = [signers.Signed(bytes([2, at]), rows.tx_hash()) for at in range(2)]
    intents = [in_slot(wallet, at) for at in range(2)]
    signatures.store_first(list(zip(intents, (FEE, MORE), made, strict=True)))
    sends = TxSend.objects.order_by("intent")
    assert [(send.intent_id, send.tx_hash, bytes(send.raw)) for send in sends] == [
        (intent.pk, one.tx_hash, one.raw) for intent, one in zip(intents, made, strict=True)
    ]
    assert {(send.attempt, send.kind, send.leased_at) for send in sends} == {(0, "exec", None)}
    assert [(send.max_fee_wei, send.tip_wei) for send in sends] == [(Decimal(30), 2), (Decimal(60), 3)]

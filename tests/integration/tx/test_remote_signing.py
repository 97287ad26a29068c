"""The road with a remote signer: nonce committed, then signed, then stored; a signer that is away delays and loses nothing."""

from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import transaction
from django.db.models.functions import Now
from prometheus_client import REGISTRY
from pytest_django.fixtures import Settings

from execution_app.engine import cancels, remote_signing, reserve
from execution_app.gate import control
from execution_app.models import SignRequest, TxIntent, TxSend, Wallet
from execution_app.node import signers
from execution_app.node.fees import Fee
from execution_app.states import Action, Origin, Reason, RestrictionKind
from tests import invariants
from tests.integration.tx.remote import finish, in_thread, signing_remotely, until
from tests.proxy import Proxy
from tests.remote_signers import Web3SignerFake
from tests.rig import Rig, rpc_call
from tests.timers import pass_a_minute


@pytest.fixture
def signer(rig: Rig, node: Proxy, settings: Settings):
    with signing_remotely(rig, settings) as signer:
        yield signer


def away() -> float:
    return (
        REGISTRY.get_sample_value("vanta_signer_requests_total", {"backend": "web3signer", "outcome": "away"})
        or 0.0
    )


def reserved(rig: Rig, signer: Web3SignerFake) -> TxIntent:
    """A slot that the signer has not been asked for."""
    intent = rig.intent()
    assert reserve.reserve(rig.wallet.pk) == 1
    intent.refresh_from_db()
    assert (intent.state, intent.nonce, signer.signed) == ("reserved", 0, [])
    return intent


def test_an_open_and_its_close_are_signed_once_each(rig: Rig, node: Proxy, signer: Web3SignerFake) -> None:
    opened = rig.intent()
    rig.run()
    closed = rig.intent(Action.CLOSE)
    rig.run()
    for intent in (opened, closed):
        intent.refresh_from_db()
        assert intent.state == "filled"
        states = list(intent.transitions.order_by("id").values_list("to_state", flat=True))
        assert states[:4] == ["pending", "reserved", "signed", "sending"]
    assert len(signer.signed) == 2
    assert not SignRequest.objects.exists()
    invariants.check(node)


def test_a_signer_is_never_asked_within_a_transaction(rig: Rig, signer: Web3SignerFake) -> None:
    slot = signers.Slot(31337, rig.wallet.address, 0, rig.wallet.address, 0, 21_000, b"")
    with transaction.atomic(), pytest.raises(RuntimeError, match="never within"):
        signers.sign(slot, Fee(10**9, 1))
    assert signer.requests == 0
    assert signers.sign(slot, Fee(10**9, 1)).raw


def test_a_signer_that_is_away_before_the_nonce_takes_none(
    rig: Rig, node: Proxy, signer: Web3SignerFake
) -> None:
    intent = rig.intent()
    signer.faults.away = True
    before = away()
    rig.submit()
    intent.refresh_from_db()
    assert (intent.state, intent.reason, intent.nonce) == ("held", Reason.SIGNER_AWAY, None)
    assert away() > before, "no alert would tell of a signer that nobody has reached yet"
    assert signer.url not in intent.reason_detail
    signer.faults.away = False
    finish(rig)
    intent.refresh_from_db()
    assert intent.state == "filled"
    invariants.check(node)


@pytest.mark.parametrize(
    ("faults", "reason"),
    [
        ({"away": True}, Reason.SIGNER_AWAY),
        ({"status": 500}, Reason.SIGNER_AWAY),
        ({"status": 429}, Reason.SIGNER_AWAY),
        ({"lose_next": 9}, Reason.SIGNER_AWAY),
        ({"status": 400}, Reason.SIGNER_REFUSED),
        ({"status": 404}, Reason.SIGNER_REFUSED),
        ({"answer": b"0x"}, Reason.SIGNER_REFUSED),
        ({"wrong_key": True}, Reason.SIGNER_REFUSED),
        ({"other_bytes": True}, Reason.SIGNER_REFUSED),
    ],
    ids=str,
)
def test_a_slot_waits_for_its_signature_and_keeps_its_nonce(
    rig: Rig, node: Proxy, signer: Web3SignerFake, faults: dict[str, object], reason: Reason
) -> None:
    intent = reserved(rig, signer)
    for name, value in faults.items():
        setattr(signer.faults, name, value)
    rig.submit()
    rig.track()
    intent.refresh_from_db()
    assert (intent.state, intent.reason, intent.nonce) == ("reserved", reason, 0)
    assert not TxSend.objects.exists()
    assert not node.log
    for name in faults:
        setattr(signer.faults, name, type(getattr(signer.faults, name))() if name != "answer" else None)
    finish(rig)
    intent.refresh_from_db()
    assert (intent.state, intent.reason, intent.nonce, intent.sends.count()) == ("filled", "", 0, 1)
    assert Wallet.objects.get().next_nonce == 1
    invariants.check(node)


def test_the_signature_is_over_what_was_committed(rig: Rig, node: Proxy, signer: Web3SignerFake) -> None:
    """The market moves while the signer is away; nonce, calldata, value, gas and fee stay as they were committed."""
    intent = reserved(rig, signer)
    request = SignRequest.objects.get()
    rpc_call("anvil_setNextBlockBaseFeePerGas", hex(3 * 10**9))
    rig.mine()
    rig.submit()
    send = intent.sends.get()
    said = node.log[0]
    assert (send.max_fee_wei, send.tip_wei) == (request.max_fee_wei, request.tip_wei)
    assert (said.nonce, said.max_fee_wei, said.tip_wei) == (0, request.max_fee_wei, request.tip_wei)


def test_what_a_reserved_slot_may_cost_is_not_spent_twice(rig: Rig, signer: Web3SignerFake) -> None:
    first = reserved(rig, signer)
    request = SignRequest.objects.get()
    cost_wei = first.value_wei + first.gas_limit * request.max_fee_wei
    rpc_call("anvil_setBalance", rig.wallet.address, hex(int(cost_wei * Decimal("1.5"))))
    second = rig.intent()
    assert reserve.reserve(rig.wallet.pk) == 0
    second.refresh_from_db()
    assert (second.state, second.reason) == ("held", Reason.INSUFFICIENT_GAS)


def test_two_workers_sign_a_slot_once(rig: Rig, node: Proxy, signer: Web3SignerFake) -> None:
    for _ in range(5):
        rig.intent()
    signer.go.clear()
    workers = [in_thread(rig.submit) for _ in range(2)]
    until(lambda: signer.waiting == 5)
    rig.track()  # the follower is a third
    signer.go.set()
    for worker in workers:
        worker.join()
    assert len(signer.signed) == 5
    finish(rig)
    assert set(TxIntent.objects.values_list("state", flat=True)) == {"filled"}
    assert len({asked.digest for asked in signer.signed}) == 5
    invariants.check(node)


def test_an_answer_that_comes_after_its_lease_is_not_used(
    rig: Rig, node: Proxy, signer: Web3SignerFake
) -> None:
    intent = reserved(rig, signer)
    signer.go.clear()
    late = in_thread(rig.submit)
    until(lambda: signer.waiting == 1)
    pass_a_minute()
    second = in_thread(rig.submit)
    until(lambda: signer.waiting == 2)
    signer.go.set()
    late.join()
    second.join()
    assert intent.sends.count() == 1
    assert len(signer.signed) == 2
    finish(rig)
    invariants.check(node)


def test_a_stuck_transaction_is_raised_by_the_signer_once_it_is_back(
    rig: Rig, node: Proxy, signer: Web3SignerFake
) -> None:
    intent = rig.intent()
    node.hold()
    rig.submit()
    first = intent.sends.get()
    signer.faults.away = True
    for _ in range(3):
        pass_a_minute()
        rig.track()
    intent.refresh_from_db()
    assert intent.sends.count() == 1
    assert (intent.state, intent.reason) == ("pending_inclusion", Reason.SIGNER_AWAY)
    assert SignRequest.objects.get().kind == "bump"
    signer.faults.away = False
    pass_a_minute()
    rig.track()
    bump = intent.sends.get(attempt=1)
    assert (bump.kind, bump.max_fee_wei * 8 >= first.max_fee_wei * 9) == ("bump", True)
    assert bump.tx_hash in {offer.tx_hash for offer in node.log}
    node.release()
    finish(rig)
    intent.refresh_from_db()
    assert (intent.state, intent.reason) == ("filled", "")
    invariants.check(node)


def test_a_slot_that_was_never_signed_is_cancelled_in_its_place(
    rig: Rig, node: Proxy, signer: Web3SignerFake
) -> None:
    """Reduce-only, or the end of its lag, comes while the signer is away: the order itself is never signed."""
    first = reserved(rig, signer)
    TxIntent.objects.filter(pk=first.pk).update(expires_at=Now() - timedelta(seconds=1))
    finish(rig)
    first.refresh_from_db()
    assert first.state == "final_cancelled"
    assert [send.kind for send in first.sends.all()] == ["cancel"]
    assert len(signer.signed) == 1
    invariants.check(node)


def test_reduce_only_between_signature_and_departure(rig: Rig, node: Proxy, signer: Web3SignerFake) -> None:
    intent = reserved(rig, signer)
    remote_signing.sign_waiting(rig.wallet.pk, None)
    intent.refresh_from_db()
    assert intent.state == "signed"
    control.impose(RestrictionKind.REDUCE_ONLY, Origin.COMMAND, by="test", reason="")
    finish(rig)
    intent.refresh_from_db()
    assert intent.state == "final_cancelled"
    assert list(intent.sends.order_by("attempt").values_list("kind", flat=True)) == ["exec", "cancel"]
    assert len(node.first_seen()) == 1
    invariants.check(node)


def test_a_person_cancels_what_has_left(rig: Rig, node: Proxy, signer: Web3SignerFake) -> None:
    intent = rig.intent()
    node.hold()
    rig.submit()
    assert cancels.request(by="ann") == [intent.intent_key]
    pass_a_minute()
    rig.track()
    assert intent.sends.get(attempt=1).kind == "cancel"
    node.release()
    finish(rig)
    invariants.check(node)


def test_a_nonce_that_was_used_elsewhere_while_the_signer_was_away_is_lost(
    rig: Rig, node: Proxy, signer: Web3SignerFake
) -> None:
    intent = reserved(rig, signer)
    signer.faults.away = True
    rpc_call("anvil_impersonateAccount", rig.wallet.address)
    foreign = rpc_call("eth_sendTransaction", {"from": rig.wallet.address, "to": rig.wallet.address})
    rig.mine(6)
    rig.track()
    signer.faults.away = False
    finish(rig)
    intent.refresh_from_db()
    assert intent.state == "lost_nonce"
    assert Wallet.objects.get().halted_reason
    assert signer.signed == []
    invariants.check(node, foreign=[foreign])

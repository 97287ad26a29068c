"""A harness that finds nothing proves nothing: two bugs are planted in the child, and must be found."""

import dataclasses

import pytest

from execution_app.engine import heads, offers
from execution_app.engine.broadcast import latest_send
from execution_app.models import TxIntent, TxSend, Wallet
from execution_app.node import rpc, signers
from execution_app.node.fees import Fee
from execution_app.node.signers import Signed, Slot
from execution_app.states import SendKind
from tests import invariants
from tests.crash.bench import Bench
from tests.crash.scenarios import LOST, OPEN
from tests.crash.trial import in_child, run, run_alive


def _broadcast_before_persist(_: Bench) -> None:
    """The node gets the bytes as soon as they are signed, before their commit."""
    sign = signers.sign

    def sign_and_send(slot: Slot, fee: Fee) -> Signed:
        signed = sign(slot, fee)
        rpc.endpoints()[0].batch([("eth_sendRawTransaction", ("0x" + signed.raw.hex(),))])
        return signed

    signers.sign = sign_and_send


def test_bytes_that_leave_before_they_are_stored_are_found(bench: Bench) -> None:
    labels = run_alive(bench, OPEN)
    signed = labels.index("after sign nonce 0") + 1
    # With the plant, two more points lie within the signature: around its request.
    blocks_go_on = dataclasses.replace(OPEN, again=lambda bench: bench.rig.mine())
    trial = run(bench, blocks_go_on, signed + 2, _broadcast_before_persist)
    assert "sign" in trial.label
    assert trial.problem, "the node held bytes that no table knew, and nobody noticed"
    with pytest.raises(AssertionError, match="I3"):
        invariants.check(bench.proxy, drained=False)


def _execute_again_on_silence(bench: Bench) -> None:
    """No answer is taken for no arrival: the order gets another nonce."""
    record = offers.record

    def record_or_repeat(send: TxSend, outcome: str) -> None:
        record(send, outcome)  # type: ignore[arg-type]
        if outcome != "unknown" or send.attempt:
            return
        wallet = Wallet.objects.get()
        intent = TxIntent.objects.get(pk=send.intent_id)
        slot = Slot(
            chain_id=wallet.chain_id,
            sender=wallet.address,
            nonce=wallet.next_nonce,
            to=intent.to_address,
            value_wei=int(intent.value_wei or 0),
            gas_limit=int(intent.gas_limit or 0),
            data=bytes(intent.calldata or b""),
        )
        signed = signers.sign(slot, Fee(int(send.max_fee_wei), int(send.tip_wei)))
        TxSend.objects.create(
            intent=intent,
            attempt=1,
            kind=SendKind.BUMP,
            tx_hash=signed.tx_hash,
            raw=signed.raw,
            max_fee_wei=send.max_fee_wei,
            tip_wei=send.tip_wei,
        )
        Wallet.objects.update(next_nonce=wallet.next_nonce + 1)
        rpc.endpoints()[0].batch([("eth_sendRawTransaction", ("0x" + signed.raw.hex(),))])

    offers.record = record_or_repeat


def test_an_order_that_is_repeated_in_another_slot_is_found(bench: Bench) -> None:
    bench.renew()

    def walk(_: int) -> None:
        bench.start_process()
        _execute_again_on_silence(bench)
        bench.post("one")
        bench.decide("one")
        bench.proxy_call("proxy_lose", 1)
        bench.submit()
        bench.rig.mine()
        heads.follow()

    ended = in_child(walk)
    assert ended.code == 0, "\n".join(ended.lines)
    wallet = Wallet.objects.get()
    seen = invariants.look(wallet.address)
    assert len(seen.mined) == 2, "it was not executed twice"
    with pytest.raises(AssertionError, match="I2"):
        invariants.check(bench.proxy, drained=False)
    with pytest.raises(AssertionError, match="I1"):
        invariants.executed_once(wallet, seen, foreign=())


def test_without_plants_the_same_roads_are_sound(bench: Bench) -> None:
    assert run(bench, LOST, 24).problem == ""
    assert latest_send(TxIntent.objects.get()).attempt == 0

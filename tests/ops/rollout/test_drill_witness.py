"""The evidence of drills sees what must not happen: made to happen here, since a good stack never shows it."""

import time

import pytest

from execution_app.engine import broadcast, reserve
from execution_app.models import TxIntent, TxSend
from ops.rollout.drills import witness
from ops.rollout.drills.report import Failed
from tests.guards import without_guards
from tests.rig import Rig


def test_a_signature_after_the_stop_is_seen(rig: Rig) -> None:
    then = witness.moment()
    assert (witness.signed_since(then), witness.left_since(then, ())) == ([], [])
    intent = rig.intent()
    reserve.reserve(rig.wallet.pk)
    (tx_hash,) = TxSend.objects.filter(intent=intent).values_list("tx_hash", flat=True)
    assert witness.signed_since(then) == [tx_hash]
    assert witness.next_nonces() != then.next_nonces
    assert witness.sent_between(then.at, witness.now()) == [tx_hash]
    assert witness.sent_between(witness.now(), witness.now()) == []


def test_a_first_broadcast_after_the_stop_is_seen_unless_it_was_told(rig: Rig) -> None:
    intent = rig.intent()
    reserve.reserve(rig.wallet.pk)
    then = witness.moment()
    assert then.in_flight == {"signed": 1}
    broadcast.broadcast(rig.wallet.pk)
    (tx_hash,) = TxSend.objects.filter(intent=intent).values_list("tx_hash", flat=True)
    assert witness.left_since(then, ()) == [tx_hash]
    assert witness.left_since(then, [tx_hash]) == []
    assert witness.signed_since(then) == []
    assert witness.counts("pending")[rig.wallet.address] == then.pending[rig.wallet.address] + 1


def test_an_execution_that_the_rows_do_not_tell_of_is_seen(rig: Rig) -> None:
    intent = rig.intent()
    rig.run()
    rig.finish()
    key = intent.intent_key
    assert witness.await_ends([key], 1) == {"filled": 1}
    assert witness.wrongly_executed([key]) == []
    assert (witness.gaps(), witness.unmined()) == ([], [])
    with without_guards():
        TxIntent.objects.filter(pk=intent.pk).update(state="final_cancelled")
    assert witness.wrongly_executed([key]) == [f"{key} is final_cancelled, executed 1 times"]


def test_a_lost_slot_is_seen(rig: Rig) -> None:
    rig.intent()
    rig.run()
    with without_guards():
        rig.wallet.next_nonce = 3
        rig.wallet.save(update_fields=["next_nonce"])
    assert witness.gaps() == [f"{rig.wallet.address} nonce {n}" for n in (1, 2)]
    assert witness.unmined() == [f"{rig.wallet.address}: chain 1, ours 3"]


def test_what_is_not_settled_is_waited_for_and_then_named(rig: Rig) -> None:
    intent = rig.intent()
    began_s = time.monotonic()
    with pytest.raises(Failed, match=r"pending\?"):
        witness.await_ends([intent.intent_key, "sig:drill:unheard"], 0.3)
    assert time.monotonic() - began_s < 30
    assert witness.ends(["sig:drill:unheard"]) == {"undecided?": 1}

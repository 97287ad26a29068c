"""The key signed elsewhere, or the chain is another: halt, and let an operator decide."""

from pathlib import Path
from typing import Any

import pytest
from pytest_django.fixtures import Settings

from execution_app import meters
from execution_app.engine import adoption, heads, reserve
from execution_app.errors import Disagreement
from execution_app.gate import watch
from execution_app.models import TxIntent, TxSend
from execution_app.node import rpc, signers
from execution_app.node.fees import Fee
from ops.rehearsal.parts.anvil import Anvil
from tests import invariants, real_parts
from tests.proxy import Proxy, read_raw
from tests.rig import Rig, rpc_call
from tests.timers import pass_a_minute

GWEI = 10**9


def spend_elsewhere(rig: Rig, nonce: int) -> str:
    """The wallet's key signs an empty self-transfer that no table of ours knows; returns its hash."""
    account = signers._account(rig.wallet.address)
    transaction: dict[str, Any] = {
        "type": 2,
        "chainId": 31337,
        "nonce": nonce,
        "to": rig.wallet.address,
        "value": 1,
        "gas": 21_000,
        "maxFeePerGas": 100 * GWEI,
        "maxPriorityFeePerGas": 5 * GWEI,
    }
    raw = account.sign_transaction(transaction).raw_transaction
    return str(rpc_call("eth_sendRawTransaction", "0x" + bytes(raw).hex()))


def test_a_foreign_transaction_in_our_slot(rig: Rig, node: Proxy) -> None:
    """Lost only once its block is final; nothing is ever queued again by itself."""
    node.hold()
    intent = rig.intent()
    rig.submit()
    foreign = spend_elsewhere(rig, 0)
    rig.mine()
    rig.track()
    intent.refresh_from_db()
    assert intent.state == "pending_inclusion", "the block is not final yet"
    rig.mine(4)
    rig.track()
    intent.refresh_from_db()
    rig.wallet.refresh_from_db()
    assert intent.state == "lost_nonce"
    assert "not ours" in rig.wallet.halted_reason
    node.release("none")
    behind = rig.intent()
    for _ in range(3):
        pass_a_minute()
        rig.submit()
        rig.track()
        rig.mine()
    behind.refresh_from_db()
    assert (behind.state, behind.reason, behind.nonce) == ("held", "wallet_halted", None)
    assert TxSend.objects.values_list("intent", flat=True).distinct().get() == intent.pk
    assert not invariants.executions(rig.wallet)
    invariants.check(node, foreign=[foreign], drained=False)


def test_the_chain_counts_more_than_we_signed(rig: Rig, node: Proxy) -> None:
    foreign = spend_elsewhere(rig, 0)
    rig.mine()
    rig.track()
    rig.wallet.refresh_from_db()
    assert "the chain has 1 transactions" in rig.wallet.halted_reason
    intent = rig.intent()
    rig.submit()
    intent.refresh_from_db()
    assert (intent.state, intent.reason, intent.nonce) == ("held", "wallet_halted", None)
    assert not node.log
    invariants.check(node, foreign=[foreign], drained=False)


def test_signed_slots_of_a_halted_wallet_do_not_leave(rig: Rig, node: Proxy) -> None:
    """The wallet halts between signature and broadcast: what has not left stays."""
    rig.intent()
    assert reserve.reserve(rig.wallet.pk) == 1
    foreign = [spend_elsewhere(rig, 0), spend_elsewhere(rig, 1)]
    rig.mine()
    heads.follow()
    rig.wallet.refresh_from_db()
    assert rig.wallet.halted_reason
    rig.submit()
    assert not node.log
    invariants.check(node, foreign=foreign, drained=False)


def test_another_chain_with_the_same_id(rig: Rig, node: Proxy, settings: Settings, tmp_path: Path) -> None:
    """The node was replaced by one with another genesis: chain and database disagree, nobody trades."""
    rig.intent()
    rig.run()
    other = Anvil(tmp_path / "chain", tools=real_parts.ROOT / "var" / "tools", block_time_s=None)
    other.start()
    try:
        with Proxy(other.url) as replaced:
            settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(update={"base_rpc_url": replaced.url})
            rpc.endpoints.cache_clear()
            with pytest.raises(Disagreement):
                heads.follow()
            intent = rig.intent()
            rig.submit()
            intent.refresh_from_db()
            assert (intent.state, intent.nonce) == ("held", None)
            assert "began with block" in watch.chain_problem()
            assert not replaced.log
    finally:
        other.destroy()
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(update={"base_rpc_url": node.url})
    rpc.endpoints.cache_clear()
    heads.follow()
    assert watch.chain_problem() == ""
    pass_a_minute()
    rig.run()
    assert TxIntent.objects.filter(state="filled").count() == 2
    invariants.check(node)


def hide(node: Proxy, *, blocks: bool) -> None:
    """The node shows no receipt any more; and, where told, no transaction within a block either."""
    node.faults.hide_receipts = True

    def empty(request: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
        if request["method"] == "eth_getBlockByNumber" and answer.get("result"):
            answer["result"]["transactions"] = []
        return answer

    node.faults.tell = empty if blocks else None


def follow_to_final(rig: Rig) -> None:
    for _ in range(3):
        rig.mine(4)
        rig.track()


def told(rig: Rig, intent: TxIntent) -> tuple[str, str]:
    intent.refresh_from_db()
    rig.wallet.refresh_from_db()
    return intent.state, rig.wallet.halted_reason


def test_our_own_bytes_in_a_final_block_are_not_lost_for_a_receipt_that_is_hidden(
    rig: Rig, node: Proxy
) -> None:
    """An index of receipts that is behind, at the only endpoint: the block itself says that it was us."""
    intent = rig.intent()
    rig.submit()
    hide(node, blocks=False)
    lost = meters.NONCE_LOST._value.get()
    follow_to_final(rig)
    assert told(rig, intent) == ("pending_inclusion", "")
    assert meters.NONCE_LOST._value.get() == lost
    node.faults.hide_receipts = False
    pass_a_minute()
    rig.run()
    assert told(rig, intent) == ("filled", "")
    invariants.check(node)


@pytest.mark.parametrize("forgotten", ["blocks", "states"])
def test_what_nobody_can_show_halts_and_is_not_lost(rig: Rig, node: Proxy, forgotten: str) -> None:
    """A node came back without receipts and transactions of its last blocks, or without the states to find them by."""
    intent = rig.intent()
    rig.submit()
    rig.mine(3)
    hide(node, blocks=forgotten == "blocks")
    node.faults.forget_state = forgotten == "states"
    lost = meters.NONCE_LOST._value.get()
    follow_to_final(rig)
    state, halted = told(rig, intent)
    assert (state, meters.NONCE_LOST._value.get()) == ("pending_inclusion", lost)
    assert "no node shows by what" in halted
    behind = rig.intent()
    rig.submit()
    behind.refresh_from_db()
    assert (behind.state, behind.reason, behind.nonce) == ("held", "wallet_halted", None)
    # It was ours all the time, and is found in spite of the halt, which a person ends.
    node.faults.hide_receipts, node.faults.forget_state, node.faults.tell = False, False, None
    pass_a_minute()
    rig.run()
    assert told(rig, intent) == ("filled", halted)
    adoption.resume(rig.wallet, by="ann", reason="the node has its receipts again")
    pass_a_minute()
    rig.run()
    behind.refresh_from_db()
    assert behind.state == "filled"
    invariants.check(node)


def test_our_own_order_under_an_unknown_hash_is_adopted_and_not_lost(rig: Rig, node: Proxy) -> None:
    """The bump of a database that is gone was mined: the order stands at the venue."""
    node.hold()
    intent = rig.intent()
    rig.submit()
    intent.refresh_from_db()
    known = intent.sends.get()
    account = signers._account(rig.wallet.address)
    transaction: dict[str, Any] = {
        "type": 2,
        "chainId": 31337,
        "nonce": 0,
        "to": intent.to_address,
        "value": int(intent.value_wei or 0),
        "gas": int(intent.gas_limit or 0),
        "data": bytes(intent.calldata or b""),
        "maxFeePerGas": 2 * int(known.max_fee_wei),
        "maxPriorityFeePerGas": 2 * int(known.tip_wei),
    }
    signed = account.sign_transaction(transaction)
    node.release("none")
    bumped = str(rpc_call("eth_sendRawTransaction", "0x" + bytes(signed.raw_transaction).hex()))
    lost = meters.NONCE_LOST._value.get()
    rig.mine(8)
    rig.track()
    state, halted = told(rig, intent)
    assert (state, meters.NONCE_LOST._value.get()) == ("pending_inclusion", lost)
    assert bumped in halted
    drawn = adoption.plan(rig.wallet)
    assert [use.what for use in drawn.uses.uses] == ["replaced"]
    adoption.adopt(rig.wallet, drawn, by="ann", reason="the bump of a database that is gone")
    rig.run()
    assert told(rig, intent)[0] == "filled"
    assert [mined.tx_hash for mined in invariants.executions(rig.wallet)] == [bumped]


def test_the_checker_sees_what_it_is_told(rig: Rig) -> None:
    """The bytes that tests decode are those that the signer made."""
    slot = signers.Slot(31337, rig.wallet.address, 7, rig.wallet.address, 0, 21_000, b"")
    signed = signers.sign(slot, Fee(3 * GWEI, GWEI))
    said = read_raw("0x" + signed.raw.hex())
    assert (said.tx_hash, said.nonce, said.sender) == (signed.tx_hash, 7, rig.wallet.address)
    assert (said.max_fee_wei, said.tip_wei) == (3 * GWEI, GWEI)

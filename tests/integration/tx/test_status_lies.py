"""One of three endpoints lies about how a transaction ended, in a block that all of them have."""

from typing import Any

import pytest

from execution_app.engine import cancels
from execution_app.models import Position, TxIntent, TxReceipt, VenueOrder
from execution_app.node import quorum
from execution_app.states import Action
from tests import invariants
from tests.chaos.lagging_node import LaggingNode
from tests.execution.test_exits import opened, pause
from tests.integration.tx.test_nodes_that_lie import Tell, mend, nodes, settle, silence, state
from tests.rig import Rig, rpc_call
from tests.timers import pass_a_minute

__all__ = ["nodes"]


def with_status(status: str) -> Tell:
    def tell(request: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
        receipt = answer.get("result")
        if request["method"] != "eth_getTransactionReceipt" or receipt is None:
            return answer
        return {**answer, "result": {**receipt, "status": status, "logs": []}}

    return tell


def test_an_order_that_one_node_calls_reverted_is_filled(rig: Rig, nodes: list[LaggingNode]) -> None:
    nodes[0].faults.tell = with_status("0x0")
    intent = rig.intent()
    rig.submit()
    rig.mine()
    rig.track()
    assert state(intent) == "ordered", "two of three say so, long before the block is final"
    assert TxReceipt.objects.get(intent=intent).status == 1
    settle(rig, nodes, intent)
    assert Position.objects.get().state == "open"


def test_nothing_is_finally_reverted_while_a_majority_is_silent(rig: Rig, nodes: list[LaggingNode]) -> None:
    nodes[0].faults.tell = with_status("0x0")
    intent = rig.intent()
    rig.submit()
    rig.mine()
    silence(nodes, 1)
    for _ in range(3):
        rig.track()
        rig.mine(4)
    assert state(intent) == "mined", "one says this and one says that"
    assert not VenueOrder.objects.exists()
    mend(nodes)
    settle(rig, nodes, intent)


def test_a_close_that_one_node_calls_reverted_is_not_sent_again(rig: Rig, nodes: list[LaggingNode]) -> None:
    """Half of the position would be closed twice."""
    position = opened(rig)
    nodes[0].faults.tell = with_status("0x0")
    close = rig.intent(Action.CLOSE, reduce_pct=50)
    rig.run()
    for _ in range(3):
        pass_a_minute()
        rig.track()
        rig.run()
    assert state(close) == "filled"
    mend(nodes)
    rig.finish(2)
    assert TxIntent.objects.filter(action=Action.CLOSE).get() == close
    position.refresh_from_db()
    assert (position.state, position.collateral_usdc) == ("open", close.close_usdc)


@pytest.mark.parametrize("liars", [1, 2])
def test_a_revert_that_one_node_calls_a_success_is_final_by_the_others(
    rig: Rig, nodes: list[LaggingNode], liars: int
) -> None:
    """Without an order in it, it would be waited for that for ever."""
    for node in nodes:
        node.hold()
    intent = rig.intent()
    rig.submit()
    pause(paused=True)  # between the broadcast and its block
    for node in nodes:
        node.release()
    for node in nodes[:liars]:
        node.faults.tell = with_status("0x1")
    rig.mine()
    rig.track()
    rig.track()
    receipt = TxReceipt.objects.get()
    assert (state(intent), receipt.status) == ("mined", liars - 1)
    mend(nodes)
    rig.finish(2)
    assert state(intent) == "final_reverted"
    assert not Position.objects.exists()
    pause(paused=False)
    invariants.check(nodes[0])


def test_a_revert_in_another_block_than_the_majoritys_is_corrected(
    rig: Rig, nodes: list[LaggingNode], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its block is true and old, and does not hold the transaction; whoever has another one contradicts."""
    monkeypatch.setattr(quorum, "KEPT_BLOCKS", 1)
    rig.mine(3)
    old = rpc_call("eth_getBlockByNumber", "latest", False)

    def elsewhere(request: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
        receipt = answer.get("result")
        if request["method"] != "eth_getTransactionReceipt" or receipt is None:
            return answer
        told = {"blockHash": old["hash"], "blockNumber": old["number"], "status": "0x0", "logs": []}
        return {**answer, "result": receipt | told}

    nodes[0].faults.tell = elsewhere
    intent = rig.intent()
    rig.submit()
    rig.mine(5)
    rig.track()
    assert state(intent) == "ordered"
    assert TxReceipt.objects.get(intent=intent).block_hash != old["hash"]
    settle(rig, nodes, intent)


def test_a_cancel_that_one_node_made_up_is_not_final(rig: Rig, nodes: list[LaggingNode]) -> None:
    """The order was mined; the first node hides that and shows the cancel in its place."""
    for node in nodes:
        node.hold()
    intent = rig.intent()
    rig.submit()
    cancels.request(by="ann")
    pass_a_minute()
    rig.track()
    cancel = intent.sends.get(kind="cancel")
    order = intent.sends.get(attempt=0)
    for node in nodes:
        node.release("first")
    rig.mine()

    def swapped(request: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
        if request["method"] != "eth_getTransactionReceipt":
            return answer
        if request["params"][0] != cancel.tx_hash:
            return {**answer, "result": None}
        truth = rpc_call("eth_getTransactionReceipt", order.tx_hash)
        return {**answer, "result": truth | {"transactionHash": cancel.tx_hash, "logs": []}}

    nodes[0].faults.tell = swapped
    for _ in range(3):
        rig.track()
        rig.mine(4)
    assert state(intent) in {"mined", "pending_inclusion"}, "never final"
    settle(rig, nodes, intent)


def test_a_cancel_that_one_node_puts_into_another_block_ends_by_the_others(
    rig: Rig, nodes: list[LaggingNode]
) -> None:
    """Its block is true, so nothing but the receipts of others speaks against it."""
    for node in nodes:
        node.hold()
    intent = rig.intent()
    rig.submit()
    cancels.request(by="ann")
    pass_a_minute()
    rig.track()
    cancel = intent.sends.get(kind="cancel")
    for node in nodes:
        node.release()
    old = rpc_call("eth_getBlockByNumber", "latest", False)
    rig.mine()

    def elsewhere(request: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
        receipt = answer.get("result")
        if request["method"] != "eth_getTransactionReceipt" or receipt is None:
            return answer
        told = {"blockHash": old["hash"], "blockNumber": old["number"]}
        return {**answer, "result": receipt | told}

    nodes[0].faults.tell = elsewhere
    rig.track()
    assert TxReceipt.objects.get(send=cancel).block_hash == old["hash"]
    rig.mine(4)
    mend(nodes)
    rig.finish(2)
    assert state(intent) == "final_cancelled"
    receipt = TxReceipt.objects.get(send=cancel)
    assert (receipt.canonical, receipt.block_hash == old["hash"]) == (True, False)

"""A transaction is found by its nonce, on nodes that have forgotten all but their newest states, too."""

import pytest

from execution_app.node import history, rpc
from execution_app.node.faults import NodeError
from execution_app.node.wire import Call
from tests.rig import Rig, rpc_call

KEPT = 24  # states; the chain below is longer


@pytest.fixture
def forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    """The node has no state of blocks older than its newest ones, and says so as geth does."""
    ask = rpc.Endpoint.batch

    def batch(endpoint: rpc.Endpoint, calls: list[Call]) -> list[object]:
        (head,) = ask(endpoint, [("eth_blockNumber", ())])
        said = ask(endpoint, calls)
        old = [
            method == "eth_getTransactionCount"
            and str(params[1]).startswith("0x")
            and int(str(params[1]), 16) <= int(str(head), 16) - KEPT
            for method, params in calls
        ]
        gone = NodeError(-32000, "missing trie node")
        return [gone if is_old else answer for is_old, answer in zip(old, said, strict=True)]

    monkeypatch.setattr(rpc.Endpoint, "batch", batch)


def order(rig: Rig) -> None:
    rig.intent()
    rig.submit()
    rig.mine()


@pytest.mark.usefixtures("forgetful")
@pytest.mark.parametrize("blocks", [0, 1, 2, 5, 9, 16, 20, 22])
def test_what_a_young_block_holds_is_found_without_old_states(rig: Rig, blocks: int) -> None:
    rig.mine(2 * KEPT)
    order(rig)
    order(rig)
    block = int(rpc_call("eth_blockNumber"), 16)
    rig.mine(blocks)
    head = int(rpc_call("eth_blockNumber"), 16)
    for nonce, number in ((0, block - 1), (1, block)):
        found = history.find(rig.wallet.address, nonce, head)
        assert found is not None
        mined = rpc_call("eth_getBlockByNumber", hex(number), False)["transactions"]
        assert (found.nonce, [found.tx_hash]) == (nonce, mined)


@pytest.mark.usefixtures("forgetful")
def test_what_lies_behind_the_states_of_a_node_is_not_found(rig: Rig) -> None:
    order(rig)
    rig.mine(2 * KEPT)
    assert history.find(rig.wallet.address, 0, int(rpc_call("eth_blockNumber"), 16)) is None


def test_the_first_block_of_all_and_the_newest_are_looked_at(rig: Rig) -> None:
    order(rig)
    head = int(rpc_call("eth_blockNumber"), 16)
    assert history.find(rig.wallet.address, 0, head) is not None
    rig.mine(3)
    assert history.find(rig.wallet.address, 0, head + 3) is not None


def test_an_answer_that_did_not_come_is_not_a_state_that_is_forgotten(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a wrong block would be looked at, and what was ours would count as unseen."""
    order(rig)
    rig.mine(9)
    head = int(rpc_call("eth_blockNumber"), 16)
    ask, asked = rpc.Endpoint.batch, list[object]()

    def batch(endpoint: rpc.Endpoint, calls: list[Call]) -> list[object]:
        asked.append(calls)
        if len(asked) == 3:
            return [NodeError(-32000, "header not found")]
        return list(ask(endpoint, calls))

    monkeypatch.setattr(rpc.Endpoint, "batch", batch)
    with pytest.raises(rpc.RpcFault, match="header not found"):
        history.find(rig.wallet.address, 0, head)
    assert history.find(rig.wallet.address, 0, head) is not None

"""What one endpoint says while the others are away, or says otherwise than they do: it cancels, loses and halts nothing."""

import time
from typing import Any

import pytest
from pytest_django.fixtures import Settings

from execution_app.models import Chain
from execution_app.node import history, rpc
from execution_app.node.breaker import Breaker, Rules
from tests.chaos.lagging_node import LaggingNode
from tests.integration.tx.test_nodes_that_lie import Tell, mend, nodes, settle, silence, state
from tests.rig import Rig, rpc_call
from tests.timers import pass_a_minute

__all__ = ["nodes"]  # a fixture
INVENTED = 10**9


def test_what_one_node_calls_hopeless_while_the_others_rest_is_not_cancelled(
    rig: Rig, nodes: list[LaggingNode], settings: Settings
) -> None:
    """They would take it, and may have it already."""
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(update={"bump_after_s": 45})
    nodes[0].faults.refuse_nonce, nodes[0].faults.refusal = 0, "exceeds block gas limit"
    for endpoint in rpc.endpoints()[1:]:
        endpoint.breaker = Breaker(Rules(rest_s=600), endpoint._changed)
        endpoint.breaker.fail(time.monotonic(), took_s=60)
    intent = rig.intent()
    rig.submit()
    for _ in range(2):
        pass_a_minute()
        rig.track()
        rig.submit()
    assert [len(node.log) > 0 for node in nodes] == [True, False, False]
    assert list(intent.sends.values_list("kind", "outcome")) == [("exec", "unknown")]
    settle(rig, nodes, intent)


def test_what_a_majority_calls_hopeless_is_cancelled_though_one_is_away(
    rig: Rig, nodes: list[LaggingNode], settings: Settings
) -> None:
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(update={"bump_after_s": 45})
    for node in nodes[:2]:
        node.faults.refuse_nonce, node.faults.refusal = 0, "exceeds block gas limit"
    resting = rpc.endpoints()[2]
    resting.breaker = Breaker(Rules(rest_s=600), resting._changed)
    resting.breaker.fail(time.monotonic(), took_s=60)
    intent = rig.intent()
    rig.submit()
    pass_a_minute()
    rig.track()
    assert list(intent.sends.order_by("attempt").values_list("kind", flat=True)) == ["exec", "cancel"]


def confused_about(method: str) -> Tell:
    """An error in words that no table knows, as of a node whose files are damaged."""

    def tell(request: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
        if request["method"] != method:
            return answer
        error = {"code": -32603, "message": "Internal error"}
        return {"jsonrpc": "2.0", "id": request["id"], "error": error}

    return tell


@pytest.mark.parametrize(
    "method",
    ["eth_getTransactionReceipt", "eth_getTransactionCount", "eth_getBalance", "eth_getLogs"],
)
def test_a_node_that_has_an_error_for_facts_is_passed_over(
    rig: Rig, nodes: list[LaggingNode], method: str
) -> None:
    nodes[0].faults.tell = confused_about(method)
    intent = rig.intent()
    rig.run()
    assert state(intent) == "filled"
    assert intent.settled_at is not None
    settle(rig, nodes, intent)


def invents_blocks(node: LaggingNode) -> Tell:
    """Its latest block is far ahead, and the state there is that of the true one."""

    def tell(request: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
        method, params = request["method"], request["params"]
        if method == "eth_getBlockByNumber" and params[0] == "latest":
            return {**answer, "result": answer["result"] | {"number": hex(INVENTED)}}
        if hex(INVENTED) in params:
            known = ["latest" if param == hex(INVENTED) else param for param in params]
            return dict(node.forward({**request, "params": known}))
        return answer

    return tell


@pytest.mark.parametrize("stays", [True, False])
def test_a_block_that_one_invents_while_the_others_are_away_halts_nobody_for_ever(
    rig: Rig, nodes: list[LaggingNode], *, stays: bool
) -> None:
    first = rig.intent()
    rig.run()
    silence(nodes, 1, 2)
    nodes[0].faults.tell = lies = invents_blocks(nodes[0])
    rig.track()
    assert Chain.objects.get().head_number == INVENTED
    mend(nodes)
    nodes[0].faults.tell = lies if stays else None
    rig.mine()
    rig.track()
    chain = Chain.objects.get()
    assert chain.head_number == chain.reached_number < INVENTED
    second = rig.intent()
    rig.finish(2)
    assert (state(second), second.settled_at is not None) == ("filled", True)
    settle(rig, nodes, first, second)


def made_up(address: str, to: str | int, **more: str) -> Tell:
    """The wallet's transaction is another one, of a kind whose bytes cannot be held against their hash."""
    lies = {"to": to, "type": "0x0", "hash": "0x" + "ab" * 32, "input": "0x"} | more

    def tell(request: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
        if request["method"] != "eth_getBlockByNumber" or not answer["result"]:
            return answer
        if not request["params"][1]:
            return answer
        told = [
            tx | lies if tx["from"].lower() == address.lower() else tx
            for tx in answer["result"]["transactions"]
        ]
        return {**answer, "result": answer["result"] | {"transactions": told}}

    return tell


def test_what_took_a_nonce_is_not_what_one_node_makes_of_it(rig: Rig, nodes: list[LaggingNode]) -> None:
    """Else an order that waits, and was executed, would be called foreign, and sent again."""
    intent = rig.intent()
    rig.submit()
    rig.mine()
    head = int(rpc_call("eth_blockNumber"), 16)
    address, sent = rig.wallet.address, intent.sends.get()
    nodes[0].faults.tell = made_up(address, "0x" + "cd" * 20)
    found = history.find(address, 0, head)
    assert found is not None
    assert (found.tx_hash, found.raw) == (sent.tx_hash, bytes(sent.raw))
    nodes[0].faults.tell, nodes[2].faults.tell = (
        None,
        made_up(address, "0x" + "cd" * 20, hash=sent.tx_hash),
    )
    assert history.find(address, 0, head) == found, "under the right hash"
    nodes[0].faults.tell, nodes[2].faults.tell = nodes[2].faults.tell, None
    assert history.find(address, 0, head) == found
    nodes[0].faults.tell = made_up(address, to=5)
    assert history.find(address, 0, head) == found, "nonsense is no vote"
    nodes[0].faults.tell = made_up(address, "0x" + "cd" * 20)
    silence(nodes, 2)
    with pytest.raises(rpc.RpcFault, match="do not agree"):
        history.find(address, 0, head)
    nodes[0].faults.tell = None
    assert history.find(address, 0, head) == found, "nobody contradicts"
    silence(nodes, 0, 1)
    with pytest.raises(rpc.RpcFault):
        history.find(address, 0, head)

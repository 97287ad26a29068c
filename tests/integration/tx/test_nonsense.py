"""One of three endpoints talks nonsense about one intent: the others tell the truth about it, and no other intent waits."""

from typing import Any

import pytest

from execution_app.models import Chain
from tests.chaos.lagging_node import LaggingNode
from tests.integration.tx.test_nodes_that_lie import Tell, nodes, settle, state
from tests.rig import Rig

__all__ = ["nodes"]  # the fixture

RECEIPTS: dict[str, dict[str, Any]] = {
    "gas beyond 64 bits": {"gasUsed": hex(2**80)},
    "a block beyond 64 bits": {"blockNumber": hex(2**80)},
    "a status that is none": {"status": "0x10000"},
    "no status": {"status": None},
    "a hash that is too long": {"blockHash": "0x" + "11" * 40},
    "a price beyond all money": {"effectiveGasPrice": hex(2**200)},
    "no logs": {"logs": None},
    "another transaction's": {},
}


def about(tx_hash: str, result: Any) -> Tell:
    """Another answer for the receipt of this hash, and the truth about all else."""

    def tell(request: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
        asked = request["method"] == "eth_getTransactionReceipt" and request["params"][0] == tx_hash
        return {**answer, "result": result} if asked and answer["result"] else answer

    return tell


@pytest.mark.parametrize("nonsense", sorted(RECEIPTS))
def test_a_receipt_that_is_none_is_taken_from_another(
    rig: Rig, nodes: list[LaggingNode], nonsense: str
) -> None:
    first, second = rig.intent(), rig.intent(symbol="ETH-USD")
    rig.submit()
    rig.mine()
    hashes = [intent.sends.get().tx_hash for intent in (first, second)]
    question = {"jsonrpc": "2.0", "id": 1, "method": "eth_getTransactionReceipt"}
    shown = hashes[1] if nonsense == "another transaction's" else hashes[0]
    receipt = nodes[1].forward({**question, "params": [shown]})["result"]
    nodes[0].faults.tell = about(hashes[0], receipt | RECEIPTS[nonsense])
    rig.track()
    assert [state(intent) for intent in (first, second)] == ["ordered", "ordered"]
    settle(rig, nodes, first, second)


def test_a_node_that_indexes_yet_is_passed_over(rig: Rig, nodes: list[LaggingNode]) -> None:
    """As geth says after a start, for hours."""

    def indexes(request: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
        if request["method"] != "eth_getTransactionReceipt":
            return answer
        error = {"code": -32000, "message": "transaction indexing is in progress"}
        return {"jsonrpc": "2.0", "id": request["id"], "error": error}

    nodes[0].faults.tell = indexes
    intent = rig.intent()
    rig.run()
    assert state(intent) == "filled"
    assert intent.settled_at is not None
    settle(rig, nodes, intent)


@pytest.mark.parametrize("word", [2, 3, 4, 11], ids=["pair", "slot", "collateral", "opened at"])
def test_an_event_that_the_book_cannot_hold_is_taken_from_another(
    rig: Rig, nodes: list[LaggingNode], word: int
) -> None:
    first, second = rig.intent(), rig.intent(symbol="ETH-USD")
    rig.submit()
    rig.mine()
    rig.track()
    rig.keep()
    order = f"{first.venue_order.order_id:064x}"

    def beyond(request: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
        if request["method"] != "eth_getLogs":
            return answer
        for log in answer["result"]:
            if log["data"][2:66] == order:
                at = 2 + 64 * word
                log["data"] = log["data"][:at] + f"{2**200:064x}" + log["data"][at + 64 :]
        return answer

    nodes[0].faults.tell = beyond
    rig.track()
    assert [state(intent) for intent in (first, second)] == ["filled", "filled"]
    assert Chain.objects.get().reconciled_at is not None
    settle(rig, nodes, first, second)

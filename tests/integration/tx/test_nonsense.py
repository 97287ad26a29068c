"""One of three endpoints talks nonsense about one intent: the others tell the truth about it, and no other intent waits."""

from typing import Any

import pytest

from execution_app import meters
from execution_app.engine import mined
from execution_app.models import Chain, TxSend
from execution_app.models.kinds import MOST_WEI
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


HASH = "0x" + "cd" * 32
SOUND: dict[str, Any] = {
    "transactionHash": HASH, "blockNumber": hex(2**63 - 1), "blockHash": "0x" + "aB" * 32, "status": "0x1", "logs": [],
    "gasUsed": hex(2**63 - 1), "effectiveGasPrice": hex(MOST_WEI - 1), "l1Fee": hex(MOST_WEI - 1),
}  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"status": "0x0"},
        {"l1Fee": None},
        {"transactionHash": HASH.upper().replace("0X", "0x")},
        dict.fromkeys(("blockNumber", "gasUsed", "effectiveGasPrice", "l1Fee"), "0x0"),
    ],
    ids=str,
)
def test_a_receipt_up_to_what_can_be_kept_is_one(change: dict[str, Any]) -> None:
    assert mined.shows(TxSend(tx_hash=HASH), SOUND | change)


@pytest.mark.parametrize(
    "change",
    [
        *({name: value} for name in ("blockNumber", "gasUsed") for value in (hex(2**63), "-0x1", "x", 1)),
        *({name: value} for name in ("effectiveGasPrice", "l1Fee") for value in (hex(MOST_WEI), "-0x1")),
        *({"status": value} for value in ("0x2", "-0x1", None)),
        *(
            {"blockHash": value}
            for value in ("0x" + "ab" * 31, "0x" + "ab" * 33, "ab" * 32, "0x" + "zz" * 32)
        ),
        {"logs": {}},
        {"logs": None},
        {"transactionHash": "0x" + "ce" * 32},
    ],
    ids=str,
)
def test_a_receipt_beyond_that_is_none_and_is_counted(change: dict[str, Any]) -> None:
    counter = meters.INVARIANT_VIOLATIONS.labels("one_order_per_receipt")
    before = counter._value.get()
    assert not mined.shows(TxSend(tx_hash=HASH), SOUND | change)
    assert counter._value.get() == before + 1


@pytest.mark.parametrize("answer", [None, "0x1", [], {}, SOUND | {"blockNumber": None}], ids=str)
def test_no_receipt_yet_is_no_nonsense(answer: Any) -> None:
    counter = meters.INVARIANT_VIOLATIONS.labels("one_order_per_receipt")
    before = counter._value.get()
    assert not mined.shows(TxSend(tx_hash=HASH), answer)
    assert counter._value.get() == before


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

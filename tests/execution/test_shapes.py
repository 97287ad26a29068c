"""Nonsense of one node costs it its own word, and nothing else: reads go on to the next, and votes are counted without it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import structlog

from execution_app.engine import heads, watermark
from execution_app.engine.watermark import Mark
from execution_app.node import quorum, rpc
from execution_app.node.rpc import Call, NodeError

HASH = "0x" + "ab" * 32
BLOCK = {"hash": HASH, "number": "0x5", "timestamp": "0x6", "baseFeePerGas": "0x7"}
SOUND: dict[str, Any] = {
    "eth_getBlockByNumber": BLOCK,
    "eth_getTransactionCount": "0x9",
    "eth_getBalance": "0x0",
    "eth_estimateGas": "0x5208",
    "eth_chainId": "0x7a69",
    "eth_call": "0x",
    "eth_getCode": "0xfe",
    "eth_getLogs": [{}],
    "eth_getTransactionReceipt": {"logs": None},
}
NUMBERS = ("eth_getTransactionCount", "eth_getBalance", "eth_estimateGas", "eth_chainId")


def nonsense(method: str, *said: Any) -> list[tuple[str, Any]]:
    return [(method, one) for one in said]


BLOCKS = [
    *({}, [], "0x5", 5, True, {"hash": HASH, "number": "0x5"}),
    *({**BLOCK, "hash": None}, {**BLOCK, "hash": []}, {**BLOCK, "hash": {}}, {**BLOCK, "hash": 7}),
    *(
        {**BLOCK, "number": None},
        {**BLOCK, "number": 5},
        {**BLOCK, "number": "0x"},
        {**BLOCK, "number": "0x5\n"},
    ),
]
NONSENSE = [
    *nonsense("eth_getBlockByNumber", *BLOCKS),
    *(one for method in NUMBERS for one in nonsense(method, "much", 9, "", "0x", "-0x9", {}, [], False)),
    *nonsense("eth_call", "0x123", "0xzz", "00", 0, {}, []),
    *nonsense("eth_getCode", "fe", {}),
    *nonsense("eth_getLogs", {}, "0x", [None], ["0x"], [[]]),
]
ALL: list[Call] = [(method, ()) for method in SOUND]

Says = Callable[[str], Any]


@dataclass
class Node:
    """An endpoint as far as its answers go."""

    position: int
    says: Says = SOUND.__getitem__

    def batch(self, calls: Sequence[Call]) -> list[Any]:
        return [self.says(method) for method, _ in calls]

    def confirm(self) -> None:
        """It is on our chain."""


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> list[Node]:
    found = [Node(position) for position in range(3)]
    monkeypatch.setattr(rpc, "awake", lambda: found)
    monkeypatch.setattr(quorum, "needed", lambda: 2)
    return found


def telling(method: str, said: Any) -> Says:
    return lambda asked: said if asked == method else SOUND[asked]


@pytest.mark.parametrize(("method", "said"), NONSENSE)
def test_whoever_talks_nonsense_has_no_vote_and_the_others_have_theirs(
    nodes: list[Node], method: str, said: Any
) -> None:
    nodes[0].says = telling(method, said)
    with structlog.testing.capture_logs() as logs:
        found = list(quorum.ask_each(ALL))
    assert found == [(1, list(SOUND.values())), (2, list(SOUND.values()))]
    (line,) = logs
    assert f"endpoint 0: no answer to {method}" in line["fault"]


@pytest.mark.parametrize("said", [None, NodeError(-32000, "no")])
def test_nothing_and_a_nodes_own_error_are_answers(nodes: list[Node], said: Any) -> None:
    nodes[0].says = lambda _: said
    assert [position for position, _ in quorum.ask_each(ALL)] == [0, 1, 2]


def test_a_block_that_is_none_keeps_nobody_from_following_the_chain(nodes: list[Node]) -> None:
    for said in ({}, [1], "0x", {**BLOCK, "hash": []}):
        nodes[0].says = telling("eth_getBlockByNumber", said)
        assert heads._votes([5])[5] == {HASH: 2}
        assert watermark.look(Mark(4, 3, HASH)).readers == {1, 2}

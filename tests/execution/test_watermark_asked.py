"""What every endpoint is asked for at the beginning of a pass, and which final block its answers agree on."""

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from execution_app.engine.watermark import NOTHING_FINAL, Mark, look
from execution_app.errors import Disagreement
from execution_app.node import quorum, rpc
from execution_app.node.rpc import NodeError, RpcFault

Blocks = dict[str, Any]
MARK = Mark(head=100, final=90, final_hash="0x5a")


def blocks(number: int, final: int, **others: Any) -> Blocks:
    """By the name of what is asked for, what a node of the one chain answers."""
    known = {hex(at): {"number": hex(at), "hash": hex(at)} for at in (0, 90, final)}
    latest = {"number": hex(number), "hash": hex(number), "baseFeePerGas": "0x7"}
    return known | {"latest": latest, "finalized": known[hex(final)], "chain": "0x7a69"} | others


class Nodes:
    """Endpoints by position; one that is not there has no vote."""

    def __init__(self, *told: Blocks | None) -> None:
        self.told = dict(enumerate(told))
        self.asked: list[list[rpc.Call]] = []

    def ask_each(self, calls: Sequence[rpc.Call]) -> Iterator[tuple[int, list[Any]]]:
        self.asked.append(list(calls))
        readers = rpc._READERS.get()
        for position, told in self.told.items():
            if told is not None and (readers is None or position in readers):
                yield position, [self._answer(told, call) for call in calls]

    def _answer(self, told: Blocks, call: rpc.Call) -> Any:
        method, parameters = call
        if method == "eth_chainId":
            return told["chain"]
        assert method == "eth_getBlockByNumber"
        name, whole = parameters
        assert whole is False, "nobody reads what is in the blocks"
        return told.get(str(name))


def among(monkeypatch: pytest.MonkeyPatch, *told: Blocks | None) -> Nodes:
    nodes = Nodes(*told)
    monkeypatch.setattr(quorum, "ask_each", nodes.ask_each)
    monkeypatch.setattr(quorum, "needed", lambda: len(told) // 2 + 1)
    return nodes


def test_a_further_final_block_is_named_by_a_majority(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = among(monkeypatch, *[blocks(105, 95)] * 3)
    head = look(MARK)
    assert (head.number, head.block_hash) == (105, hex(105))
    assert (head.finalized, head.finalized_hash) == (95, hex(95))
    assert (head.chain_id, head.genesis_hash, head.base_fee_wei) == (31337, "0x0", 7)
    assert head.readers == {0, 1, 2}
    first, second = nodes.asked
    assert [parameters[0] for method, parameters in first if method == "eth_getBlockByNumber"] == [
        "latest",
        "finalized",
        "0x0",
        hex(90),
    ]
    assert [parameters[0] for _, parameters in second] == [hex(95)]


def test_the_same_final_block_is_not_asked_about_again(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = among(monkeypatch, *[blocks(105, 90)] * 3)
    head = look(MARK)
    assert (head.finalized, head.finalized_hash) == (90, "")
    assert len(nodes.asked) == 1


def test_before_anything_was_final_the_first_block_is_held_against_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nodes = among(monkeypatch, blocks(3, 0))
    head = look(Mark())
    assert (head.number, head.finalized, head.finalized_hash) == (3, 0, "0x0")
    assert nodes.asked[0][-1] == ("eth_getBlockByNumber", ("0x0", False))


@pytest.mark.parametrize(
    ("third", "fourth", "finalized"),
    [
        ("0x5f", "0x5f", 95),
        ("0x5f", "0xother", 95),
        ("0xother", "0xother", 90),
        (None, None, 90),
        ("0x5f", None, 95),
    ],
)
def test_a_hash_without_a_majority_makes_nothing_final(
    monkeypatch: pytest.MonkeyPatch, third: str | None, fourth: str | None, finalized: int
) -> None:
    """Of five, three have to say the same; one of them is away."""
    others = [blocks(105, 95) | {hex(95): {"hash": said} if said else None} for said in (third, fourth)]
    for one in others:
        one["finalized"] = {"number": hex(95), "hash": hex(95)}
    among(monkeypatch, blocks(105, 95), blocks(105, 95), *others, None)
    head = look(MARK)
    assert (head.number, head.finalized) == (105, finalized)
    assert head.finalized_hash == ("0x5f" if finalized == 95 else "")


def test_nobody_names_the_final_block(monkeypatch: pytest.MonkeyPatch) -> None:
    mute = blocks(105, 95) | {"0x5f": NodeError(-32000, "pruned")}
    among(monkeypatch, mute)
    head = look(MARK)
    assert (head.finalized, head.finalized_hash) == (90, "")


def test_only_those_that_have_reached_the_head_name_the_final_block(monkeypatch: pytest.MonkeyPatch) -> None:
    behind = blocks(99, 95) | {"0x5f": {"hash": "0xstale"}}
    among(monkeypatch, behind, blocks(105, 95), blocks(105, 95))
    head = look(MARK)
    assert (set(head.readers), head.finalized_hash) == ({1, 2}, "0x5f")


@pytest.mark.parametrize(
    "damage",
    [
        {"latest": None},
        {"latest": {"number": "nonsense", "hash": "0x1"}},
        {"latest": {"hash": "0x1"}},
        {"0x0": None},
        {"chain": NodeError(-32000, "not now")},
        {"chain": None},
    ],
)
def test_who_does_not_say_where_it_is_has_no_vote_and_stops_nobody(
    monkeypatch: pytest.MonkeyPatch, damage: Blocks
) -> None:
    among(monkeypatch, blocks(105, 95) | damage, blocks(105, 95), blocks(105, 95))
    assert look(MARK).readers == {1, 2}
    among(monkeypatch, blocks(105, 95) | damage)
    with pytest.raises(RpcFault):
        look(MARK)


def test_without_a_final_block_nothing_is_final(monkeypatch: pytest.MonkeyPatch) -> None:
    among(monkeypatch, blocks(105, 95) | {"finalized": None})
    head = look(MARK)
    assert (head.number, head.finalized, head.finalized_hash) == (105, NOTHING_FINAL, "")


def test_another_block_where_ours_was_final_is_a_disagreement(monkeypatch: pytest.MonkeyPatch) -> None:
    among(monkeypatch, blocks(105, 95) | {hex(90): {"hash": "0xother"}}, blocks(105, 95), blocks(105, 95))
    with pytest.raises(Disagreement, match="0xother"):
        look(MARK)


def test_who_is_behind_the_head_adds_no_vote_to_a_final_block(monkeypatch: pytest.MonkeyPatch) -> None:
    other = blocks(105, 95) | {hex(95): {"hash": "0xother"}}
    other["finalized"] = {"number": hex(95), "hash": hex(95)}
    among(monkeypatch, blocks(99, 95), blocks(105, 95), other)
    head = look(MARK)
    assert (set(head.readers), head.finalized, head.finalized_hash) == ({1, 2}, 90, "")

"""What is asked of every endpoint about a consumed slot, row by row: receipts that are denied, and those that one node lacks."""

from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from execution_app.engine import lost_nonces, receipts
from execution_app.models import TxIntent, TxSend
from execution_app.node import rpc
from execution_app.states import IntentState
from tests.execution import rows, scenes
from tests.execution.scenes import BLOCK, Endpoint, Nodes

pytestmark = pytest.mark.usefixtures("database")
S = IntentState
ELSEWHERE = "0x" + "e1" * 32


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> Nodes:
    return Nodes(monkeypatch)


def slot(state: IntentState = S.SENDING, **fields: Any) -> tuple[TxIntent, TxSend, dict[str, Any]]:
    intent = scenes.intent(state, **fields)
    send = scenes.send(intent)
    return intent, send, scenes.shown(send, scenes.registered(7_000 + intent.pk))


# Denied


def blocks(*hashes: str | None) -> Endpoint:
    """An endpoint that has these blocks from number 16 on."""

    def says(method: str, params: Any) -> Any:
        assert (method, params[1]) == ("eth_getBlockByNumber", False)
        found = hashes[int(params[0], 16) - 16]
        return None if found is None else {"hash": found}

    return says


def test_of_two_receipts_of_one_slot_a_majority_denies_one(nodes: Nodes) -> None:
    intent, first, told = slot()
    second = scenes.send(intent, attempt=1, kind="bump")
    other = scenes.shown(second, blockNumber="0x11", blockHash=ELSEWHERE)
    shown = {intent.pk: [(first, told), (second, other)]}
    for endpoints, denied in [
        ([blocks(BLOCK, BLOCK), blocks(BLOCK, BLOCK)], {(second.pk, ELSEWHERE)}),
        ([blocks(ELSEWHERE, ELSEWHERE), blocks(ELSEWHERE, None)], {(first.pk, BLOCK)}),
        ([blocks(BLOCK, BLOCK), blocks(BLOCK, None)], set()),
        ([blocks(BLOCK, BLOCK)], set()),
        ([blocks(None, None), lambda *_: rpc.NodeError(-32000, "busy")], set()),
    ]:
        nodes.endpoints = endpoints
        assert receipts._denied(shown) == denied
    assert nodes.all[0] == [("eth_getBlockByNumber", (number, False)) for number in ("0x10", "0x11")]


def test_what_was_taken_back_is_doubted_where_it_is_shown_again(nodes: Nodes) -> None:
    left, stands, moved = slot(), slot(), slot()
    rows.receipt(send_id=left[1].pk, block_hash=BLOCK, canonical=False)
    rows.receipt(send_id=stands[1].pk, block_hash=BLOCK)
    rows.receipt(send_id=moved[1].pk, block_hash=ELSEWHERE, canonical=False)
    nodes.endpoints = [blocks(ELSEWHERE)] * 2
    shown = {intent.pk: [(send, told)] for intent, send, told in (left, stands, moved)}
    with CaptureQueriesContext(connection) as read:
        assert receipts._denied(shown) == {(left[1].pk, BLOCK)}
    assert '"tx_receipts"."intent_id" IN' in scenes.statements(read)
    assert nodes.all == [[("eth_getBlockByNumber", ("0x10", False))]]


def test_nothing_is_doubted_where_nothing_is_shown(nodes: Nodes) -> None:
    rows.receipt(canonical=False)
    assert receipts._denied({}) == set()
    assert receipts._denied({1: []}) == set()
    assert nodes.all == [[], []]


def test_a_denied_receipt_is_left_out_by_its_bytes_and_its_block() -> None:
    (_, one, told), (_, two, other) = slot(), slot()
    shown = [(one, told), (two, other), (one, told | {"blockHash": ELSEWHERE})]
    assert receipts._without({(one.pk, BLOCK), (two.pk, ELSEWHERE)}, shown) == shown[1:]
    assert receipts._without(set(), shown) == shown


# Others asked


@pytest.fixture
def concluded(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    found: list[Any] = []
    monkeypatch.setattr(lost_nonces, "conclude", lambda *given: found.append(given))
    return found


def says(count: Any, shown: dict[str, Any] | None = None) -> Endpoint:
    return lambda method, params: (
        count if method == "eth_getTransactionCount" else (shown or {}).get(params[0])
    )


def ask_others(intent: TxIntent, finalized: int = 300, denied: Any = frozenset()) -> Any:
    return receipts._ask_others(intent, finalized, set(denied))


@pytest.mark.parametrize(("finalized", "at"), [(300, "0x12c"), (0, "0x0"), (-1, "0x0"), (-5, "0x0")])
def test_each_is_asked_for_the_count_and_all_hashes(
    nodes: Nodes, concluded: list[Any], finalized: int, at: str
) -> None:
    intent = scenes.intent()
    assert intent.wallet is not None
    hashes = {n: scenes.send(intent, attempt=n, kind="exec" if not n else "bump").tx_hash for n in (2, 0, 1)}
    nodes.endpoints = [says(hex(10**9))] * 2
    assert ask_others(intent, finalized) == []
    assert nodes.all == [
        [
            ("eth_getTransactionCount", (intent.wallet.address, at)),
            *(("eth_getTransactionReceipt", (hashes[n],)) for n in range(3)),
        ]
    ]
    assert concluded == [(intent, hashes[2], finalized)]


def test_a_receipt_that_any_shows_is_one(nodes: Nodes, concluded: list[Any]) -> None:
    intent, send, told = slot()
    nodes.endpoints = [
        says(hex(10**9)),
        says(hex(10**9), {send.tx_hash: told}),
        says(hex(10**9)),
    ]
    assert ask_others(intent) == [(send, told)]
    assert (nodes.heard, concluded) == (2, [])
    assert ask_others(intent, denied={(send.pk, BLOCK)}) == []


@pytest.mark.parametrize(
    ("nonce", "counts", "lost"),
    [
        (0, ["0x1", "0x1"], True),
        (0, ["0x0", "0x0"], False),
        (0, ["0x1", "0x0"], False),
        (5, ["0x6", "0x10"], True),
        (5, ["0x5", "0x5", "0x6"], False),
        (5, [None, "0x6"], False),
        (5, ["0x6", 7], False),
        (5, ["0x6", "0x6", "0x6"], True),
    ],
)
def test_a_majority_that_counts_past_the_nonce_lets_something_follow(
    nodes: Nodes, concluded: list[Any], nonce: int, counts: list[Any], lost: bool
) -> None:
    intent = scenes.intent(nonce=nonce)
    nodes.endpoints = [says(count) for count in counts]
    assert ask_others(intent) == []
    assert concluded == [(intent, "", 300)] * lost


def test_who_shows_what_is_no_receipt_has_no_vote(nodes: Nodes, concluded: list[Any]) -> None:
    intent, send, told = slot()
    scenes.send(intent, attempt=1, kind="bump")
    unsound = {send.tx_hash: told | {"status": "0x2"}}
    nodes.endpoints = [says(hex(10**9)), says(hex(10**9), unsound)]
    assert (ask_others(intent), concluded) == ([], [])


def test_a_halted_wallet_loses_nothing(nodes: Nodes, concluded: list[Any]) -> None:
    intent = scenes.intent(wallet_id=rows.wallet(halted_reason="a restore", halted_at="2026-01-01T00:00:00Z"))
    nodes.endpoints = [says(hex(10**9))] * 3
    assert (ask_others(intent), concluded) == ([], [])

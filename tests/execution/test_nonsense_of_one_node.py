"""Nonsense of one node costs it its own vote, and nothing else."""

from typing import Any

import pytest

from execution_app.engine import receipts, venue_events
from execution_app.node import rpc
from execution_app.states import IntentState as S
from tests.execution import scenes
from tests.execution.scenes import BLOCK, Nodes

pytestmark = pytest.mark.usefixtures("database")


@pytest.mark.parametrize("entry", [None, "0x", []])
def test_a_log_that_is_no_object_is_passed_over(entry: Any) -> None:
    assert venue_events._decoded(entry) is None


def test_a_block_without_a_hash_is_no_vote(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = Nodes(monkeypatch)
    intent = scenes.intent(S.SENDING)
    one, two = scenes.send(intent), scenes.send(intent, attempt=1, kind="bump")
    nodes.endpoints = [lambda *_: {}, lambda *_: {"hash": "0x2"}, lambda *_: {"hash": "0x2"}]
    shown = {intent.pk: [(one, scenes.shown(one)), (two, scenes.shown(two))]}
    assert receipts._denied(shown) == {(one.pk, BLOCK), (two.pk, BLOCK)}


def test_a_count_that_is_no_number_hides_no_receipt_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = Nodes(monkeypatch)
    intent = scenes.intent(S.SENDING)
    send = scenes.send(intent)
    told = scenes.shown(send, scenes.registered(5))
    nodes.endpoints = [
        lambda method, params: "much" if method == "eth_getTransactionCount" else None,
        lambda method, params: "0x9" if method == "eth_getTransactionCount" else told,
    ]
    receipts.apply_receipts([intent], 7)
    intent.refresh_from_db()
    assert intent.state == "ordered"


@pytest.mark.parametrize("logs", [None, {}, "0x"])
def test_logs_that_are_no_list_are_no_answer(monkeypatch: pytest.MonkeyPatch, logs: Any) -> None:
    """Neither none nor some: nothing is concluded from them."""
    monkeypatch.setattr(rpc, "read", lambda *_: logs)
    with pytest.raises(rpc.RpcFault, match="logs that are no list"):
        venue_events._logs(1, 1)

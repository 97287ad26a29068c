"""Receipts of many orders at once, while another process moves some of their intents: what it did is taken up, nothing is done twice."""

from collections.abc import Callable, Collection
from typing import Any

import pytest

from execution_app.engine import offers, receipts
from execution_app.models import TxIntent, TxReceipt, TxSend, VenueOrder
from execution_app.states import SendOutcome
from tests import invariants
from tests.proxy import Proxy
from tests.rig import Rig

MANY = 3


def path(intent: TxIntent) -> list[str]:
    return list(intent.transitions.order_by("id").values_list("to_state", flat=True))


def unanswered(rig: Rig, node: Proxy) -> list[TxIntent]:
    """Mined, and what the nodes said to their offer is not written down yet."""
    intents = [rig.intent() for _ in range(MANY)]
    node.faults.lose_next = 1
    rig.submit()
    assert [path(intent)[-1] for intent in intents] == ["sending"] * MANY
    rig.mine()
    return intents


def meanwhile(monkeypatch: pytest.MonkeyPatch, others: Callable[[], None]) -> None:
    """Let others work once: the intents were read, and their receipts are being asked for."""
    denied, done = receipts._denied, list[bool]()

    def late(found: dict[int, list[Any]]) -> Any:
        if not done:
            done.append(True)
            others()
        return denied(found)

    monkeypatch.setattr(receipts, "_denied", late)


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The intents whose receipts were stored one by one."""
    found: list[int] = []
    apply = receipts._apply

    def counted(intent: TxIntent, *others: Any) -> None:
        found.append(intent.pk)
        apply(intent, *others)

    monkeypatch.setattr(receipts, "_apply", counted)
    return found


def answered(intents: Collection[TxIntent]) -> None:
    """The answer to the offer is written down, as by the process that made it."""
    sends = TxSend.objects.filter(intent__in=intents).select_related("intent")
    offers.record([(send, SendOutcome.ACCEPTED) for send in sends])


def assert_each_is_mined_once(rig: Rig, node: Proxy, intents: list[TxIntent]) -> None:
    assert TxReceipt.objects.count() == VenueOrder.objects.count() == MANY
    assert [path(intent).count("mined") for intent in intents] == [1] * MANY
    rig.finish(2)
    assert {path(intent)[-1] for intent in intents} == {"filled"}
    invariants.check(node)


@pytest.mark.parametrize("answers", [1, MANY])
def test_an_answer_that_is_written_down_while_nodes_are_asked_is_taken_up(
    rig: Rig, node: Proxy, monkeypatch: pytest.MonkeyPatch, alone: list[int], answers: int
) -> None:
    intents = unanswered(rig, node)
    meanwhile(monkeypatch, lambda: answered(intents[:answers]))
    rig.track()
    assert alone == [], "all of them in one transaction"
    for number, intent in enumerate(intents):
        early = ["pending_inclusion"] if number < answers else []
        assert path(intent)[3:] == ["sending", *early, "mined", "ordered"]
    assert_each_is_mined_once(rig, node, intents)


def test_what_another_pass_has_stored_meanwhile_is_left_as_it_is_and_the_others_are_stored(
    rig: Rig, node: Proxy, monkeypatch: pytest.MonkeyPatch, alone: list[int]
) -> None:
    """Its receipt is of the other pass; none of the batch is lost to that, and none waits for another look."""
    intents = unanswered(rig, node)

    def others() -> None:
        receipts.apply_receipts([TxIntent.objects.get(pk=intents[1].pk)], 0)
        answered(intents[2:])

    meanwhile(monkeypatch, others)
    rig.track()
    assert [path(intent)[-1] for intent in intents] == ["ordered"] * MANY
    assert set(alone) <= {intent.pk for intent in intents}
    assert_each_is_mined_once(rig, node, intents)


def test_two_whole_passes_at_once_store_each_receipt_once(
    rig: Rig, node: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    intents = unanswered(rig, node)
    meanwhile(monkeypatch, lambda: receipts.apply_receipts(list(TxIntent.objects.order_by("id")), 0))
    rig.track()
    assert [path(intent)[-1] for intent in intents] == ["ordered"] * MANY
    assert_each_is_mined_once(rig, node, intents)

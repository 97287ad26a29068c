"""How a transaction ended, by the votes of endpoints: what decides, what is written for it, and what moved on meanwhile."""

from collections.abc import Callable
from typing import Any

import pytest
from django.db import DatabaseError, connection, transaction
from django.test.utils import CaptureQueriesContext

from execution_app import meters
from execution_app.engine import receipt_votes
from execution_app.errors import Stale
from execution_app.models import TxReceipt
from execution_app.node import quorum
from execution_app.states import IntentState
from tests.execution import rows, scenes
from tests.execution.scenes import BLOCK

pytestmark = pytest.mark.usefixtures("database")
S = IntentState
ELSEWHERE = "0x" + "e1" * 32
FINAL = 20_000
Told = dict[str, Any] | None


@pytest.fixture(autouse=True)
def _two_of_three(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quorum, "needed", lambda: 2)


@pytest.fixture
def stored() -> TxReceipt:
    """A success that is stored, beside that of another order."""
    scenes.receipt(scenes.intent(S.MINED))
    return scenes.receipt(scenes.intent(S.MINED))


def told(stored: TxReceipt, **changes: Any) -> dict[str, Any]:
    return scenes.shown(stored.send, **changes)


def reverted(stored: TxReceipt, **changes: Any) -> dict[str, Any]:
    return told(stored, status="0x0", **changes)


def violations() -> float:
    return float(meters.INVARIANT_VIOLATIONS.labels("one_order_per_receipt")._value.get())


def others(stored: TxReceipt) -> list[dict[str, Any]]:
    return [dict(row) for row in TxReceipt.objects.exclude(pk=stored.pk).values()]


# Asked


def answering(monkeypatch: pytest.MonkeyPatch, *endpoints: Callable[[str], Any]) -> list[list[str]]:
    asked: list[list[str]] = []

    def ask_each(calls: Any) -> Any:
        assert {method for method, _ in calls} == {"eth_getTransactionReceipt"}
        asked.append([params[0] for _, params in calls])
        for position, says in enumerate(endpoints):
            yield position, [says(params[0]) for _, params in calls]

    monkeypatch.setattr(quorum, "ask_each", ask_each)
    return asked


def test_each_receipt_comes_with_what_endpoints_say_of_it(
    monkeypatch: pytest.MonkeyPatch, stored: TxReceipt
) -> None:
    other = scenes.receipt(scenes.intent(S.MINED))
    by_hash = {one.send.tx_hash: told(one) for one in (stored, other)}
    answering(
        monkeypatch,
        by_hash.get,
        lambda _: None,
        lambda _: {"blockNumber": None},
        lambda tx_hash: by_hash[tx_hash] | {"status": "0x2"},
    )
    found = list(receipt_votes.ask([stored, other]))
    assert found == [(one, [by_hash[one.send.tx_hash], None]) for one in (stored, other)]


def test_they_are_asked_for_a_hundred_at_once(monkeypatch: pytest.MonkeyPatch, stored: TxReceipt) -> None:
    asked = answering(monkeypatch, lambda _: None)
    many = [stored, *(TxReceipt(pk=10**6 + n, send=stored.send) for n in range(200))]
    found = list(receipt_votes.ask(many))
    assert [len(hashes) for hashes in asked] == [100, 100, 1]
    assert found == [(one, [None]) for one in many]
    assert list(receipt_votes.ask([])) == []


# Corrected


def correct(stored: TxReceipt, *heard: Told) -> bool:
    with transaction.atomic():
        return receipt_votes.correct(stored, list(heard))


def test_what_a_majority_tells_is_taken_over(stored: TxReceipt) -> None:
    beside, before = others(stored), violations()
    moved = reverted(
        stored, blockHash=ELSEWHERE, blockNumber="0x11", gasUsed="0x6", effectiveGasPrice="0x8", l1Fee="0x9"
    )
    with CaptureQueriesContext(connection) as asked:
        assert correct(stored, told(stored), moved, moved, None) is False
    for row in (stored, TxReceipt.objects.get(pk=stored.pk)):
        assert (row.block_number, row.block_hash, row.status) == (17, ELSEWHERE, 0)
        assert (row.gas_used, row.effective_gas_price_wei, row.l1_fee_wei) == (6, 8, 9)
    assert (others(stored), violations()) == (beside, before + 1)
    locks = [query["sql"] for query in asked if "FOR " in query["sql"]]
    assert '"tx_intents"' in locks[0]
    assert locks[0].endswith("FOR NO KEY UPDATE")
    assert '"tx_receipts"' in locks[1]


def test_that_it_did_not_revert_is_taken_over_too(stored: TxReceipt) -> None:
    failed = scenes.receipt(scenes.intent(S.MINED), status=0)
    assert correct(failed, told(failed), told(failed)) is True
    assert TxReceipt.objects.get(pk=failed.pk).status == 1


@pytest.mark.parametrize("status", [0, 1])
@pytest.mark.parametrize("heard", ["nothing", "none", "one", "as known", "half", "apart"])
def test_without_a_majority_for_another_end_it_stays(status: int, heard: str) -> None:
    stored = scenes.receipt(scenes.intent(S.MINED), status=status)
    same = told(stored, status=hex(status))
    other = told(stored, status=hex(1 - status))
    said: dict[str, list[Told]] = {
        "nothing": [],
        "none": [None, None],
        "one": [other],
        "as known": [same, same, other],
        "half": [same, other],
        "apart": [other, other | {"blockHash": ELSEWHERE}],
    }
    before = violations()
    assert correct(stored, *said[heard]) is bool(status)
    assert (TxReceipt.objects.get(pk=stored.pk).status, violations()) == (status, before)


@pytest.mark.parametrize(
    "changed",
    [{"canonical": False}, {"block_hash": ELSEWHERE}, {"status": 0}],
    ids=lambda one: next(iter(one)),
)
def test_what_moved_on_meanwhile_is_not_corrected(stored: TxReceipt, changed: dict[str, Any]) -> None:
    TxReceipt.objects.filter(pk=stored.pk).update(**changed)
    moved = told(stored, blockHash="0x" + "d2" * 32)
    with pytest.raises(Stale, match="another pass has found another receipt"):
        correct(stored, moved, moved)
    assert TxReceipt.objects.filter(pk=stored.pk, **changed).exists()


def test_what_is_there_still_is_locked(stored: TxReceipt) -> None:
    with transaction.atomic(), CaptureQueriesContext(connection) as asked:
        receipt_votes.still(stored)
    assert scenes.statements(asked).endswith("FOR UPDATE")


def test_a_receipt_that_is_gone_is_no_more(stored: TxReceipt) -> None:
    stored.pk = 0
    with transaction.atomic(), pytest.raises(Stale):
        receipt_votes.still(stored)


# The fullest


def test_of_successes_in_its_block_the_one_with_most_logs_counts(stored: TxReceipt) -> None:
    best = told(stored, logs=[1, 2])
    heard: list[Told] = [
        told(stored, logs=[1]),
        None,
        best,
        reverted(stored, logs=[1, 2, 3]),
        told(stored, logs=[1, 2, 3], blockHash=ELSEWHERE),
        told(stored),
    ]
    assert receipt_votes.fullest(stored, heard) is best


def test_where_no_endpoint_shows_a_success_there_is_nothing_to_read(stored: TxReceipt) -> None:
    with pytest.raises(Stale, match="no endpoint shows a success of it in that block"):
        receipt_votes.fullest(stored, [reverted(stored), None, told(stored, blockHash=ELSEWHERE)])


# Final, or denied


def ended(kind: str, block_number: int = FINAL) -> TxReceipt:
    return scenes.receipt(scenes.intent(S.MINED), kind=kind, status=0, block_number=block_number)


@pytest.mark.parametrize(
    ("kind", "answers", "final"),
    [
        ("exec", "r", False),
        ("exec", "rr", True),
        ("exec", "rrs", True),
        ("exec", "rs", False),
        ("exec", "ss", False),
        ("exec", "re", False),
        ("exec", "rn", False),
        ("bump", "rr", True),
        ("bump", "rs", False),
        ("cancel", "rs", True),
        ("cancel", "ss", True),
        ("cancel", "s", False),
        ("cancel", "se", False),
        ("cancel", "ee", False),
        ("exec", "", False),
    ],
)
def test_how_it_ended_is_final_by_a_majority(kind: str, answers: str, final: bool) -> None:
    """Reverted, succeeded, elsewhere, none: by their first letters."""
    stored = ended(kind)
    assert receipt_votes.is_final(stored, says(stored, answers), FINAL) is final


def says(stored: TxReceipt, answers: str) -> list[Told]:
    known: dict[str, Told] = {
        "r": reverted(stored),
        "s": told(stored),
        "e": reverted(stored, blockHash=ELSEWHERE),
        "n": None,
    }
    return [known[answer] for answer in answers]


@pytest.mark.parametrize(
    ("age", "answers", "final"),
    [
        (10_001, "rn", True),
        (10_000, "rn", False),
        (-10_001, "rn", False),
        (10_001, "rnn", True),
        (10_001, "r", False),
        (10_001, "nn", False),
        (10_001, "rs", False),
        (10_001, "re", False),
        (10_001, "rns", False),
    ],
)
def test_what_is_older_than_nodes_keep_stands_where_nobody_contradicts(
    age: int, answers: str, final: bool
) -> None:
    stored = ended("exec", FINAL - age)
    assert receipt_votes.is_final(stored, says(stored, answers), FINAL) is final


@pytest.mark.parametrize(
    ("answers", "denied"),
    [
        ("nn", True),
        ("ne", True),
        ("ee", True),
        ("n", False),
        ("nr", False),
        ("nrs", False),
        ("nnr", True),
        ("", False),
    ],
)
def test_it_is_denied_by_a_majority_that_has_it_not_there(answers: str, denied: bool) -> None:
    stored = ended("exec")
    assert receipt_votes.is_denied(stored, says(stored, answers)) is denied


# Taken back


def test_what_a_majority_does_not_have_is_taken_back(stored: TxReceipt) -> None:
    beside = others(stored)
    receipt_votes.take_back(stored)
    stored.refresh_from_db()
    stored.intent.refresh_from_db()
    assert (stored.canonical, stored.intent.state) == (False, S.PENDING_INCLUSION)
    moved = stored.intent.transitions.get()
    assert (moved.why, moved.by) == (
        f"a majority does not have {stored.send.tx_hash} in block 16",
        "receipts",
    )
    assert others(stored) == beside


@pytest.mark.parametrize("changed", [{"canonical": False}, {"block_hash": ELSEWHERE}])
def test_what_moved_on_meanwhile_is_not_taken_back(stored: TxReceipt, changed: dict[str, Any]) -> None:
    TxReceipt.objects.filter(pk=stored.pk).update(**changed)
    receipt_votes.take_back(stored)
    stored.intent.refresh_from_db()
    assert (stored.intent.state, stored.intent.transitions.count()) == (S.MINED, 0)
    assert TxReceipt.objects.filter(pk=stored.pk, **changed).exists()


def test_an_intent_that_moved_on_keeps_its_receipt(stored: TxReceipt) -> None:
    rows.update("tx_intents", stored.intent_id, {"state": "ordered"})
    receipt_votes.take_back(stored)
    assert TxReceipt.objects.get(pk=stored.pk).canonical


def test_a_receipt_is_taken_back_with_its_intent_or_not_at_all(
    monkeypatch: pytest.MonkeyPatch, stored: TxReceipt
) -> None:
    def break_down(_: TxReceipt) -> None:
        assert scenes.in_transaction()
        raise DatabaseError("gone")

    monkeypatch.setattr(receipt_votes, "still", break_down)
    with pytest.raises(DatabaseError):
        receipt_votes.take_back(stored)
    assert TxReceipt.objects.select_related("intent").get(pk=stored.pk).intent.state == S.MINED
    assert TxReceipt.objects.get(pk=stored.pk).block_hash == BLOCK

"""What stands in final blocks becomes final, row by row: of whom, in which order, and what follows."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from structlog.testing import capture_logs

from execution_app import reservations
from execution_app.book import margins, positions
from execution_app.engine import exits, receipt_votes, receipts
from execution_app.errors import Stale
from execution_app.models import Fill, Position, TxIntent, TxReceipt
from execution_app.states import IntentState
from tests.execution import rows, scenes
from tests.guards import without_guards

pytestmark = pytest.mark.usefixtures("database")
S = IntentState
OLD = "2026-01-02T00:00:00Z"


def settled(intent: TxIntent) -> bool:
    return TxIntent.objects.get(pk=intent.pk).settled_at is not None


# Shared out


@pytest.mark.parametrize("state", sorted(S))
def test_what_stands_is_settled_by_what_it_is(monkeypatch: pytest.MonkeyPatch, state: IntentState) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(receipts, "_settle_transactions", lambda *given: asked.append(("mined", *given)))
    monkeypatch.setattr(receipts, "_settle_orders", lambda *given: asked.append(("ended", *given)))
    receipts.settle({1: state, 2: S.MINED, 3: S.FILLED}, 9)
    kind = {"mined": "m", "changed": "m", "filled": "e", "venue_cancelled": "e"}.get(state)
    assert asked == [
        ("mined", [1, 2] if kind == "m" else [2], 9),
        ("ended", [1, 3] if kind == "e" else [3], 9),
    ]
    asked.clear()
    receipts.settle({1: state}, 9)
    assert [name for name, *_ in asked] == {"m": ["mined"], "e": ["ended"], None: []}[kind]


# Transactions


class Votes:
    """How a majority says that transactions ended."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.asked: list[int] = []
        self.final, self.denied = set[int](), set[int]()
        self.given: set[Any] = set()
        self.settled, self.taken_back, self.changed = list[int](), list[int](), list[int]()
        patch.setattr(receipt_votes, "ask", self.ask)
        patch.setattr(receipt_votes, "is_final", self.is_final)
        patch.setattr(receipt_votes, "is_denied", lambda receipt, _: receipt.pk in self.denied)
        patch.setattr(receipt_votes, "take_back", lambda receipt: self.taken_back.append(receipt.pk))
        patch.setattr(receipts, "_settle_transaction", lambda receipt: self.settled.append(receipt.pk))
        patch.setattr(receipts, "_settle_change", lambda receipt: self.changed.append(receipt.pk))

    def ask(self, asked: Sequence[TxReceipt]) -> Iterator[tuple[TxReceipt, list[Any]]]:
        with CaptureQueriesContext(connection) as queries:
            self.asked += [one.pk for one in asked if one.send.kind and one.intent.state]
        assert len(queries) == 0
        for receipt in asked:
            yield receipt, [receipt.pk]

    def is_final(self, receipt: TxReceipt, heard: list[Any], finalized: int) -> bool:
        assert heard == [receipt.pk]
        self.given.add(finalized)
        return receipt.pk in self.final


@pytest.fixture
def votes(monkeypatch: pytest.MonkeyPatch) -> Votes:
    return Votes(monkeypatch)


def test_a_majority_is_asked_about_cancels_and_what_reverted(votes: Votes) -> None:
    """And about nothing else: an order is still to be read, a block has left, is not final, or was not seen."""
    reverted = scenes.receipt(scenes.intent(S.MINED), status=0, block_number=20)
    cancel = scenes.receipt(scenes.intent(S.MINED), kind="cancel")
    cancel_reverted = scenes.receipt(scenes.intent(S.MINED), kind="cancel", status=0)
    changed = scenes.receipt(scenes.margin(S.CHANGED))
    others = [
        scenes.receipt(scenes.intent(S.MINED)),
        scenes.receipt(scenes.intent(S.MINED), status=0, canonical=False),
        scenes.receipt(scenes.intent(S.MINED), status=0, block_number=21),
        scenes.receipt(scenes.intent(S.ORDERED), status=0),
        scenes.receipt(scenes.intent(S.MINED, settled_at=OLD), status=0),
        scenes.receipt(scenes.margin(S.CHANGED, settled_at=OLD)),
        scenes.receipt(scenes.margin(S.CHANGED), block_number=21),
    ]
    unseen = scenes.receipt(scenes.intent(S.MINED), status=0)
    seen = [one.intent_id for one in (reverted, cancel, cancel_reverted, changed, *others)]
    receipts._settle_transactions(seen, 20)
    assert sorted(votes.asked) == [reverted.pk, cancel.pk, cancel_reverted.pk]
    assert (votes.changed, votes.settled, votes.taken_back) == ([changed.pk], [], [])
    assert unseen.pk not in votes.asked


def test_what_a_majority_says_is_done(votes: Votes) -> None:
    final, denied, unsure = (scenes.receipt(scenes.intent(S.MINED), status=0) for _ in range(3))
    votes.final, votes.denied = {final.pk}, {final.pk, denied.pk}
    receipts._settle_transactions([one.intent_id for one in (final, denied, unsure)], 20)
    assert (votes.settled, votes.taken_back, votes.given) == ([final.pk], [denied.pk], {20})


@pytest.mark.parametrize(
    ("kind", "state"), [("exec", S.FINAL_REVERTED), ("bump", S.FINAL_REVERTED), ("cancel", S.FINAL_CANCELLED)]
)
def test_a_transaction_is_final_and_its_exit_is_asked_again(kind: str, state: IntentState) -> None:
    close = scenes.close(S.MINED)
    receipt = scenes.receipt(close, kind=kind, status=0)
    receipts._settle_transaction(receipt)
    close.refresh_from_db()
    assert (close.state, close.settled_at is not None) == (state, True)
    moved = close.transitions.get()
    assert (moved.why, moved.by) == ("block 16 is final", "receipts")
    assert TxIntent.objects.filter(intent_key=f"{close.intent_key}#2", state="pending").exists()


@pytest.mark.parametrize(("kind", "told"), [("exec", True), ("cancel", False)])
def test_why_it_reverted_is_told_but_not_of_a_cancel(
    monkeypatch: pytest.MonkeyPatch, kind: str, told: bool
) -> None:
    why = {"reason": "venue_revert", "reason_detail": "no USDC went in"}
    monkeypatch.setattr(margins, "why_reverted", lambda _: why)
    margin = scenes.margin(S.MINED)
    receipts._settle_transaction(scenes.receipt(margin, kind=kind, status=0))
    margin.refresh_from_db()
    assert (margin.reason, margin.reason_detail) == (
        ("venue_revert", "no USDC went in") if told else ("", "")
    )


def test_one_that_has_moved_on_is_left_as_it_is() -> None:
    receipt = scenes.receipt(scenes.intent(S.MINED), status=0)
    TxIntent.objects.filter(pk=receipt.intent_id).update(settled_at=OLD)
    receipts._settle_transaction(receipt)
    assert TxIntent.objects.get(pk=receipt.intent_id).state == S.MINED


def test_it_is_final_with_its_further_exit_or_not_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    def moved_on(_: TxIntent) -> None:
        raise Stale("another has asked")

    monkeypatch.setattr(exits, "ask_again", moved_on)
    receipt = scenes.receipt(scenes.close(S.MINED), status=0)
    receipts._settle_transaction(receipt)
    assert not settled(TxIntent.objects.get(pk=receipt.intent_id))


# Changes


@pytest.fixture
def margins_settled(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, bool]]:
    found: list[tuple[int, bool]] = []
    monkeypatch.setattr(
        margins, "settle_of", lambda intent: found.append((intent.pk, scenes.in_transaction()))
    )
    return found


def test_a_change_of_margin_is_final_with_its_margin(margins_settled: list[Any]) -> None:
    beside = scenes.margin(S.CHANGED)
    margin = scenes.margin(S.CHANGED, updated_at=OLD)
    receipts._settle_change(scenes.receipt(margin))
    margin.refresh_from_db()
    assert margin.settled_at is not None
    assert margin.updated_at > datetime(2026, 1, 3, tzinfo=UTC)
    assert (settled(beside), margins_settled) == (False, [(margin.pk, True)])


def test_a_change_of_an_order_is_final_alone(margins_settled: list[Any]) -> None:
    change = scenes.change(S.CHANGED, scenes.intent(S.ORDERED))
    receipts._settle_change(scenes.receipt(change))
    assert (settled(change), margins_settled) == (True, [])


@pytest.mark.parametrize("moved", [{"state": "mined"}, {"settled_at": OLD}])
def test_a_change_that_has_moved_on_is_not_settled(margins_settled: list[Any], moved: dict[str, str]) -> None:
    margin = scenes.margin(S.CHANGED)
    receipt = scenes.receipt(margin)
    with without_guards():
        rows.update("tx_intents", margin.pk, moved)
    before = TxIntent.objects.values().get(pk=margin.pk)
    receipts._settle_change(receipt)
    assert (TxIntent.objects.values().get(pk=margin.pk), margins_settled) == (before, [])


# Orders


class Book:
    """What the book is told, in its order."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.told: list[tuple[Any, ...]] = []
        for module, name in (
            (positions, "fold"),
            (positions, "release_replaced"),
            (exits, "ask_rest"),
            (exits, "ask_again"),
            (reservations, "follow"),
        ):
            patch.setattr(module, name, self.hearing(name))

    def hearing(self, name: str) -> Any:
        def hear(*given: Any) -> None:
            assert scenes.in_transaction()
            self.told.append((name, *(getattr(one, "pk", one) for one in given)))

        return hear


@pytest.fixture
def book(monkeypatch: pytest.MonkeyPatch) -> Book:
    return Book(monkeypatch)


def ended(state: IntentState = S.FILLED, *, done: int = 16, **fields: Any) -> TxIntent:
    intent = scenes.intent(state, **fields)
    rows.order(intent_id=intent.pk, state="executed", done_block_number=done)
    return intent


def fill(intent: TxIntent, action: str = "open", **fields: Any) -> Fill:
    return Fill.objects.select_related("position").get(
        pk=rows.fill(intent_id=intent.pk, action=action, **fields)
    )


def settle(*standing: TxIntent, finalized: int = 20) -> None:
    receipts._settle_orders([one.pk for one in standing], finalized)


def test_an_open_is_final_with_its_fill(book: Book) -> None:
    beside = fill(ended())
    intent = ended(updated_at=OLD)
    opened = fill(intent)
    settle(intent)
    intent.refresh_from_db()
    opened.refresh_from_db()
    beside.refresh_from_db()
    assert (intent.settled_at is not None, opened.settled_at is not None, beside.settled_at) == (
        True,
        True,
        None,
    )
    assert intent.updated_at > datetime(2026, 1, 3, tzinfo=UTC)
    position = opened.position_id
    assert book.told == [
        ("fold", position),
        ("release_replaced", position),
        ("ask_rest", intent.pk, position),
    ]
    settle(intent)
    assert len(book.told) == 3


def test_a_close_replaces_nothing(book: Book) -> None:
    intent = ended(action="close")
    closed = fill(intent, "close")
    settle(intent)
    assert book.told == [("fold", closed.position_id), ("ask_rest", intent.pk, closed.position_id)]


def test_the_position_is_read_with_its_fill(monkeypatch: pytest.MonkeyPatch) -> None:
    def fold(_: Position) -> None:
        raise KeyError

    monkeypatch.setattr(positions, "fold", fold)
    intent = ended()
    fill(intent)
    with CaptureQueriesContext(connection) as asked, pytest.raises(KeyError):
        settle(intent)
    assert not [query for query in asked if 'FROM "positions"' in query["sql"]]
    assert not settled(intent)


def test_a_refund_lets_its_stake_go_and_its_exit_is_asked_again(book: Book) -> None:
    intent = ended(S.VENUE_CANCELLED)
    settle(intent)
    assert settled(intent)
    assert book.told == [("follow", intent.pk), ("ask_again", intent.pk)]


def test_a_fill_that_is_final_already_is_not_folded_again(book: Book) -> None:
    intent = ended()
    fill(intent, settled_at=OLD)
    settle(intent)
    assert book.told == [("follow", intent.pk)]


def test_what_does_not_stand_in_a_final_block_waits(book: Book) -> None:
    unseen = ended()
    waiting = [
        ended(done=21),
        scenes.intent(S.FILLED),
        ended(S.ORDERED),
        ended(settled_at=OLD),
    ]
    last = ended(done=20)
    settle(*waiting, last)
    assert book.told == [("follow", last.pk)]
    assert [settled(one) for one in (unseen, *waiting, last)] == [False, False, False, False, True, True]


def test_they_are_settled_as_they_happened(book: Book) -> None:
    late, first, second, early = ended(done=12), ended(done=11), ended(done=11), ended(done=10)
    rows.update("tx_intents", first.pk, {"updated_at": OLD})  # which moves it to the table's end
    settle(late, first, second, early)
    assert [pk for _, pk in book.told] == [early.pk, first.pk, second.pk, late.pk]


@pytest.mark.parametrize("moved", [{"settled_at": OLD}, {"state": "venue_cancelled"}])
@pytest.mark.parametrize("filled", [True, False])
def test_what_moved_on_while_others_were_settled_is_left(
    monkeypatch: pytest.MonkeyPatch, book: Book, moved: dict[str, str], filled: bool
) -> None:
    """Another pass has come between the reading and its turn."""
    first, second = ended(done=10), ended(done=11)
    if filled:
        fill(second)

    def meanwhile(_: int) -> None:
        book.told.append(("follow",))
        with without_guards():
            rows.update("tx_intents", second.pk, moved)

    monkeypatch.setattr(reservations, "follow", meanwhile)
    settle(first, second)
    assert book.told == [("follow",)]
    assert not Fill.objects.filter(settled_at__isnull=False).exists()


def test_what_the_venue_refunded_meanwhile_is_asked_again_by_who_settled_it(
    monkeypatch: pytest.MonkeyPatch, book: Book
) -> None:
    first, second = ended(done=10), ended(S.VENUE_CANCELLED, done=11)

    def meanwhile(_: int) -> None:
        TxIntent.objects.filter(pk=second.pk).update(settled_at=OLD)

    monkeypatch.setattr(reservations, "follow", meanwhile)
    settle(first, second)
    assert book.told == []


@pytest.mark.usefixtures("margins_settled")
def test_that_one_is_final_is_said_once(book: Book) -> None:
    margin = scenes.receipt(scenes.margin(S.CHANGED))
    order = ended()
    for said in (1, 0):
        with capture_logs() as logs:
            receipts._settle_change(margin)
            settle(order)
        assert [entry["intent"] for entry in logs if entry["event"] == "settled"] == [
            margin.intent_id,
            order.pk,
        ] * said
    assert book.told == [("follow", order.pk)]


def test_that_it_is_final_is_not_said_where_another_pass_was_faster(
    monkeypatch: pytest.MonkeyPatch, book: Book
) -> None:
    first, second = ended(done=10), ended(done=11)

    def meanwhile(_: int) -> None:
        TxIntent.objects.filter(pk=second.pk).update(settled_at=OLD)

    monkeypatch.setattr(reservations, "follow", meanwhile)
    with capture_logs() as logs:
        settle(first, second)
    assert [entry["intent"] for entry in logs if entry["event"] == "settled"] == [first.pk]
    assert book.told == []

"""What follows from a success, row by row: the order, the change or the margin that its receipt tells of, now or when it is read again."""

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from execution_app import meters
from execution_app.book import margins, orders
from execution_app.engine import receipt_votes, receipts
from execution_app.errors import Stale
from execution_app.models import TxIntent, TxReceipt, VenueOrder
from execution_app.node import quorum
from execution_app.states import IntentState
from tests.execution import rows, scenes

pytestmark = pytest.mark.usefixtures("database")
S = IntentState


def register(intent: TxIntent, *logs: Any) -> None:
    receipts._register(intent, {"logs": list(logs)})
    intent.refresh_from_db()


def violations(invariant: str) -> float:
    return float(meters.INVARIANT_VIOLATIONS.labels(invariant)._value.get())


# Registered


def test_an_order_is_registered() -> None:
    for intent, order_id in ((scenes.intent(S.MINED), 5), (scenes.close(S.MINED), 6)):
        register(intent, scenes.registered(order_id))
        assert (intent.state, intent.venue_order.order_id) == (S.ORDERED, order_id)


def test_without_its_order_it_stays_mined() -> None:
    intent = scenes.intent(S.MINED)
    register(intent, scenes.margin_updated(), scenes.taken_back(5))
    assert (intent.state, VenueOrder.objects.exists()) == (S.MINED, False)


# Changed


@pytest.fixture
def resting() -> TxIntent:
    intent = scenes.intent(S.ORDERED)
    rows.order(order_id=5, intent_id=intent.pk, limit_index=0)
    return intent


@pytest.mark.parametrize(
    ("hit", "why", "reason"),
    [(5, "order 5 is taken back", ""), (6, "order 6 is taken back, which was not meant", "no_order")],
)
def test_a_change_says_which_order_it_hit(resting: TxIntent, hit: int, why: str, reason: str) -> None:
    intent = scenes.change(S.MINED, resting, reason="venue_revert")
    register(intent, scenes.taken_back(hit), scenes.registered(9))
    assert (intent.state, intent.reason) == (S.CHANGED, reason)
    moved = intent.transitions.get()
    assert (moved.why, moved.by) == (why, "receipts")
    assert not VenueOrder.objects.filter(order_id=9).exists()


def test_a_change_that_nothing_tells_of_stays_mined(resting: TxIntent) -> None:
    intent = scenes.change(S.MINED, resting)
    register(intent, scenes.margin_updated())
    assert (intent.state, intent.transitions.count()) == (S.MINED, 0)


def test_what_an_order_stands_at_is_kept_with_its_change_or_not_at_all(
    resting: TxIntent, monkeypatch: pytest.MonkeyPatch
) -> None:
    intent = scenes.change(S.MINED, resting)
    kept: list[tuple[int, bool]] = []
    monkeypatch.setattr(orders, "keep_terms", lambda one: kept.append((one.pk, scenes.in_transaction())))
    register(intent, scenes.taken_back(5))
    assert kept == [(intent.pk, True)]

    def refuse(_: TxIntent) -> None:
        raise ValueError("no such terms")

    monkeypatch.setattr(orders, "keep_terms", refuse)
    other = scenes.change(S.MINED, resting)
    with pytest.raises(ValueError, match="no such terms"):
        register(other, scenes.taken_back(5))
    assert TxIntent.objects.get(pk=other.pk).state == S.MINED


# Margin


class Margins:
    """What the book makes of a change of margin."""

    early, meant = False, True

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.applied: list[tuple[int, bool]] = []
        patch.setattr(margins, "is_early", lambda _, __: self.early)
        patch.setattr(margins, "apply", self.apply)

    def apply(self, intent: TxIntent, _: object) -> bool:
        self.applied.append((intent.pk, scenes.in_transaction()))
        return self.meant


@pytest.fixture
def book(monkeypatch: pytest.MonkeyPatch) -> Margins:
    return Margins(monkeypatch)


def test_margin_is_in_the_book_with_its_intent(book: Margins) -> None:
    intent, before = scenes.margin(S.MINED, reason="venue_revert"), violations("event_matches_intent")
    register(intent, scenes.margin_updated(3), scenes.registered(9))
    assert (intent.state, intent.reason) == (S.CHANGED, "")
    moved = intent.transitions.get()
    assert (moved.why, moved.by) == ("3.000000 USDC of margin", "receipts")
    assert (book.applied, violations("event_matches_intent")) == ([(intent.pk, True)], before)
    assert not VenueOrder.objects.exists()


def test_margin_of_another_trade_is_told_and_counted(book: Margins) -> None:
    book.meant = False
    intent, before = scenes.margin(S.MINED), violations("event_matches_intent")
    register(intent, scenes.margin_updated(3))
    assert (intent.state, intent.reason) == (S.CHANGED, "no_position")
    moved = intent.transitions.get()
    assert moved.why == "the margin of another trade was changed, which was not meant"
    assert (moved.by, violations("event_matches_intent")) == ("receipts", before + 1)


def test_margin_that_is_early_is_read_again(book: Margins) -> None:
    book.early = True
    intent = scenes.margin(S.MINED)
    register(intent, scenes.margin_updated(3))
    assert (intent.state, book.applied) == (S.MINED, [])


def test_margin_that_nothing_tells_of_is_read_again(book: Margins) -> None:
    intent = scenes.margin(S.MINED)
    register(intent, scenes.registered(5))
    assert (intent.state, book.applied, VenueOrder.objects.exists()) == (S.MINED, [], False)


# Read again


Heard = list[dict[str, Any] | None]


class Votes:
    """What endpoints say of receipts that are read again."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.asked: list[TxReceipt] = []
        self.heard: dict[int, Heard] = {}
        patch.setattr(receipt_votes, "ask", self.ask)
        patch.setattr(quorum, "needed", lambda: 2)

    def ask(self, asked: Sequence[TxReceipt]) -> Iterator[tuple[TxReceipt, Heard]]:
        self.asked += asked
        for receipt in sorted(asked, key=lambda one: one.pk):
            yield receipt, self.heard.get(receipt.pk, [])


@pytest.fixture
def votes(monkeypatch: pytest.MonkeyPatch) -> Votes:
    return Votes(monkeypatch)


def test_receipts_without_an_order_are_heard_again(votes: Votes) -> None:
    """Beside them: of a block that left, one that has its order, one that is final, and a cancel."""
    bare = [scenes.receipt(scenes.intent(S.MINED), status=status) for status in (0, 1)]
    scenes.receipt(scenes.intent(S.MINED), canonical=False)
    scenes.receipt(scenes.intent(S.ORDERED))
    scenes.receipt(scenes.intent(S.MINED, settled_at="2026-01-01T00:00:00Z"))
    scenes.receipt(scenes.intent(S.MINED), kind="cancel")
    bare.append(scenes.receipt(scenes.intent(S.MINED), kind="bump"))
    with CaptureQueriesContext(connection) as asked:
        receipts.read_orders_again()
    assert [one.pk for one in votes.asked[-1:]] == [bare[0].pk], "successes first"
    assert {one.pk for one in votes.asked} == {one.pk for one in bare}
    assert scenes.statements(asked).count("RANDOM()") == 2
    with CaptureQueriesContext(connection) as asked:
        assert all(one.intent.pk and one.send.tx_hash for one in votes.asked)
    assert len(asked) == 0


def test_fifty_of_a_kind_are_heard_in_one_pass(votes: Votes) -> None:
    wallet = rows.wallet()
    for _ in range(51):
        scenes.receipt(scenes.intent(S.MINED, wallet_id=wallet))
    scenes.receipt(scenes.intent(S.MINED), status=0)
    receipts.read_orders_again()
    assert [one.status for one in votes.asked] == [1] * 50 + [0]


def test_the_fullest_success_is_registered(votes: Votes) -> None:
    receipt, failed = (scenes.receipt(scenes.intent(S.MINED), status=status) for status in (1, 0))
    votes.heard = {
        receipt.pk: [
            scenes.shown(receipt.send),
            scenes.shown(receipt.send, scenes.registered(5)),
        ],
        failed.pk: [scenes.shown(failed.send, scenes.registered(6))],
    }
    with CaptureQueriesContext(connection) as asked:
        receipts.read_orders_again()
    assert VenueOrder.objects.get().order_id == 5
    assert TxIntent.objects.get(pk=receipt.intent_id).state == S.ORDERED
    assert TxIntent.objects.get(pk=failed.intent_id).state == S.MINED
    assert "FOR UPDATE" in scenes.statements(asked)


def test_one_that_moved_on_meanwhile_is_not_registered_and_the_next_one_is(
    votes: Votes, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone, stands = (scenes.receipt(scenes.intent(S.MINED)) for _ in range(2))
    for number, one in enumerate((gone, stands)):
        votes.heard[one.pk] = [scenes.shown(one.send, scenes.registered(5 + number))]
    before = violations("one_order_per_receipt")
    still = receipt_votes.still

    def moved_on(receipt: TxReceipt) -> None:
        if receipt.pk == gone.pk:
            raise Stale("another pass has found another receipt")
        still(receipt)

    monkeypatch.setattr(receipt_votes, "still", moved_on)
    receipts.read_orders_again()
    assert VenueOrder.objects.get().order_id == 6
    assert TxIntent.objects.get(pk=gone.intent_id).state == S.MINED
    assert violations("one_order_per_receipt") == before


def test_one_that_the_book_refuses_is_counted_and_the_next_one_is_registered(votes: Votes) -> None:
    refused, stands = (scenes.receipt(scenes.intent(S.MINED)) for _ in range(2))
    unreadable = scenes.registered(5) | {"topics": scenes.registered(5)["topics"][:1]}
    votes.heard = {
        refused.pk: [scenes.shown(refused.send, unreadable)],
        stands.pk: [scenes.shown(stands.send, scenes.registered(6))],
    }
    before = violations("one_order_per_receipt")
    receipts.read_orders_again()
    assert VenueOrder.objects.get().order_id == 6
    assert violations("one_order_per_receipt") == before + 1


def test_what_is_no_nonsense_is_raised(votes: Votes, monkeypatch: pytest.MonkeyPatch) -> None:
    scenes.receipt(scenes.intent(S.MINED))

    def break_down(*_: Any) -> bool:
        assert scenes.in_transaction()
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(receipt_votes, "correct", break_down)
    with pytest.raises(RuntimeError):
        receipts.read_orders_again()

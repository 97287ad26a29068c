"""What logs of the venue do to orders, each by itself, and whose word it takes that there are none."""

from types import SimpleNamespace
from typing import Any

import pytest
from django.db import DataError, IntegrityError
from pytest_django.fixtures import Settings

from execution_app import meters
from execution_app.book import orders
from execution_app.engine import venue_events
from execution_app.errors import Stale
from execution_app.models import TxIntent, VenueOrder
from execution_app.node import quorum, rpc
from execution_app.states import IntentState
from execution_app.venues import events
from execution_app.venues.increase_events import PositionIncreased
from tests.execution import scenes

HEAD = 50_000


@pytest.fixture(autouse=True)
def _of_this_venue(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(update={"venue_trading_address": scenes.TRADING})
    monkeypatch.setattr(venue_events, "_missed", {})


def mismatches() -> float:
    return float(meters.INVARIANT_VIOLATIONS.labels("event_matches_intent")._value.get())


def span(low: int, high: int) -> rpc.Call:
    return "eth_getLogs", ({"address": scenes.TRADING, "fromBlock": hex(low), "toBlock": hex(high)},)


PLACE: dict[str, Any] = {
    "emitter": scenes.TRADING, "tx_hash": "0x1", "log_index": 0, "block_number": 1, "block_hash": "0x2",
}  # fmt: skip
OWN: dict[str, Any] = {"trader": scenes.TRADER, "pair_index": 1}


def executed(order_id: int) -> events.OrderExecuted:
    names = (
        *("trade_index", "is_open", "is_long", "collateral_usdc", "leverage_x", "open_price", "price"),
        *("position_size_usdc", "pnl_pct", "usdc_sent_to_trader", "opened_at", "take_profit", "stop_loss"),
    )
    return events.OrderExecuted(**PLACE, **OWN, order_id=order_id, **dict.fromkeys(names, 1))  # type: ignore[arg-type]


def increased(order_id: int) -> PositionIncreased:
    names = (
        *("trade_index", "is_long", "price", "collateral_usdc", "leverage_x", "held_usdc", "held_leverage_x"),
        *("open_price", "take_profit", "stop_loss", "opened_at", "open_price_before", "opened_at_before"),
    )
    return PositionIncreased(**PLACE, **OWN, order_id=order_id, **dict.fromkeys(names, 1))  # type: ignore[arg-type]


def cancelled(order_id: int) -> events.OrderCancelled:
    return events.OrderCancelled(**PLACE, **OWN, order_id=order_id)


def registered(order_id: int) -> events.OrderRegistered:
    names = ("is_open", "is_long", "collateral_usdc", "leverage_x", "registered_at")
    return events.OrderRegistered(**PLACE, **OWN, order_id=order_id, **dict.fromkeys(names, 1))  # type: ignore[arg-type]


class Book:
    """Entries are events, and what is done with them is noted; or it raises."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.done: list[tuple[str, int, object]] = []
        self.problems: dict[int, Exception] = {}
        patch.setattr(venue_events, "_decoded", lambda entry: entry)
        for name in ("execute", "increase", "refund"):
            patch.setattr(orders, name, self.doing(name))

    def doing(self, name: str) -> Any:
        def do(order: VenueOrder, event: object) -> None:
            if order.order_id in self.problems:
                order.intent.state = IntentState.FILLED
                raise self.problems[order.order_id]
            self.done.append((name, order.order_id, event))

        return do


@pytest.fixture
def book(monkeypatch: pytest.MonkeyPatch) -> Book:
    return Book(monkeypatch)


def by_id(*order_ids: int) -> dict[int, VenueOrder]:
    """Their keys are a hundred above."""
    return {
        one: VenueOrder(
            pk=100 + one, order_id=one, block_hash="0xb", intent=TxIntent(pk=one, state="ordered")
        )
        for one in order_ids
    }


def apply(known: dict[int, VenueOrder], *entries: Any) -> tuple[list[int], set[int]]:
    """Ids of those of which nothing was said, and keys of those that are done."""
    done: set[int] = set()
    missing = venue_events._apply(known, list(entries), done)
    return [one.order_id for one in missing], done


def test_each_end_is_carried_out_once(book: Book) -> None:
    told = [executed(1), increased(2), cancelled(3), executed(1), None, executed(9), registered(4)]
    assert apply(by_id(1, 2, 3, 4, 5), *told) == ([4, 5], {101, 102, 103})
    assert book.done == [("execute", 1, told[0]), ("increase", 2, told[1]), ("refund", 3, told[2])]


def test_an_end_whose_block_has_left_is_the_next_looks(book: Book) -> None:
    before = mismatches()
    book.problems = {1: Stale("left the chain")}
    assert apply(by_id(1, 2), executed(1), executed(2)) == ([], {102})
    assert mismatches() == before


def test_an_end_that_clashes_with_the_book_is_counted_and_no_other_is_kept(book: Book) -> None:
    before = mismatches()
    book.problems = {1: IntegrityError("a second fill")}
    assert apply(by_id(1, 2), executed(1), executed(2)) == ([], {102})
    assert mismatches() == before + 1


@pytest.mark.usefixtures("database")
@pytest.mark.parametrize("problem", [DataError, LookupError, ValueError, ArithmeticError])
def test_nonsense_is_counted_and_other_endpoints_are_asked(book: Book, problem: type[Exception]) -> None:
    before, known = mismatches(), by_id(1, 2)
    known[1].intent = scenes.intent(IntentState.ORDERED)
    asked = known[1]
    book.problems = {1: problem("no such thing")}
    assert apply(known, executed(1), executed(2)) == ([1], {102})
    assert (mismatches(), asked.intent.state) == (before + 1, "ordered")


def test_a_fault_of_ours_is_raised(book: Book) -> None:
    book.problems = {1: RuntimeError("a fault of ours")}
    with pytest.raises(RuntimeError):
        apply(by_id(1), executed(1))


# Others


def hearing(monkeypatch: pytest.MonkeyPatch, *endpoints: list[Any]) -> list[Any]:
    asked: list[Any] = []

    def ask_each(calls: Any) -> Any:
        asked.extend(calls)
        yield from enumerate(endpoints)

    monkeypatch.setattr(quorum, "ask_each", ask_each)
    monkeypatch.setattr(quorum, "needed", lambda: 2)
    return asked


def test_what_any_endpoint_has_is_carried_out(monkeypatch: pytest.MonkeyPatch, book: Book) -> None:
    asked = hearing(monkeypatch, [[], [executed(1)]], [[executed(1), cancelled(2)], []])
    missing, done = list(by_id(1, 2, 3).values()), {7}
    assert venue_events._others_have_none(missing, 100, 1_100, done) is True
    assert asked == [span(100, 1_099), span(1_100, 1_100)]
    assert ([one.order_id for one in missing], done) == ([3], {7, 101, 102})
    assert [(name, order_id) for name, order_id, _ in book.done] == [("execute", 1), ("refund", 2)]


@pytest.mark.parametrize(
    ("endpoints", "sure"),
    [
        ([[[]], [[]]], True),
        ([[[]], [[]], [[]]], True),
        ([[[]]], False),
        ([], False),
        ([[[]], [rpc.NodeError(-32000, "pruned")]], False),
        ([[[], []], [[], rpc.NodeError(-32000, "pruned")]], False),
        ([[[]], [None]], False),
    ],
)
def test_a_majority_that_answered_in_full_makes_it_sure(
    monkeypatch: pytest.MonkeyPatch, book: Book, endpoints: list[Any], sure: bool
) -> None:
    hearing(monkeypatch, *endpoints)
    assert venue_events._others_have_none(list(by_id(1).values()), 5, 5, set()) is sure
    assert book.done == []


# Above the head


@pytest.fixture
def above(monkeypatch: pytest.MonkeyPatch, book: Book) -> SimpleNamespace:
    found = SimpleNamespace(told=[], asked=[], problem=None, book=book)

    def read(*call: Any) -> list[Any]:
        found.asked.append(call)
        if found.problem:
            raise found.problem
        return list(found.told)

    monkeypatch.setattr(rpc, "read", read)
    return found


def later(*order_ids: int, head: int = HEAD) -> set[int]:
    return venue_events._ended_later(list(by_id(*order_ids).values()), head)


def test_what_is_missed_for_the_first_time_is_the_next_looks(above: SimpleNamespace) -> None:
    assert later(1, 2) == {101, 102}
    assert later(1, 2) == {101, 102}, "and at the same head again"
    assert above.asked == []
    assert venue_events._missed == {(101, "0xb"): HEAD, (102, "0xb"): HEAD}


def test_what_ended_above_the_head_is_the_next_looks(above: SimpleNamespace) -> None:
    later(1, 2, 3, 4, head=HEAD - 1)
    above.told = [executed(1), registered(2), None, cancelled(3), executed(9)]
    assert later(1, 2, 3, 4, 5) == {101, 103, 105}
    filters = {"address": scenes.TRADING, "fromBlock": hex(HEAD), "toBlock": "latest"}
    assert above.asked == [("eth_getLogs", filters)]
    above.told = [increased(4)]
    assert later(1, 2, 3, 4) == {104}
    above.told = []
    assert later(1, 2, 3, 4) == set()


def test_where_the_node_does_not_say_none_is_judged(above: SimpleNamespace) -> None:
    later(1, head=HEAD - 1)
    above.problem = rpc.NodeError(-32000, "busy")
    assert later(1, 2) == {101, 102}
    assert later(1) == {101}


def test_what_was_read_before_is_not_asked_about(above: SimpleNamespace) -> None:
    read = by_id(1)[1]
    read.scanned_to_block = 7
    assert venue_events._ended_later([read], HEAD) == set()
    assert venue_events._ended_later([], HEAD) == set()
    assert (above.asked, venue_events._missed) == ([], {})
    later(2, head=HEAD - 1)
    above.told = [executed(1), executed(2)]
    assert venue_events._ended_later([read, by_id(2)[2]], HEAD) == {102}


def test_what_was_missed_long_ago_or_in_another_block_is_missed_anew(above: SimpleNamespace) -> None:
    venue_events._missed.update({(101, "0xb"): HEAD - 65, (102, "0xb"): HEAD - 64, (103, "0xc"): HEAD - 1})
    assert later(1, 2, 3) == {101, 103}
    assert len(above.asked) == 1
    assert venue_events._missed == {
        (101, "0xb"): HEAD,
        (102, "0xb"): HEAD - 64,
        (103, "0xc"): HEAD - 1,
        (103, "0xb"): HEAD,
    }

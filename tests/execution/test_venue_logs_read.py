"""How the venue is read for orders: which blocks, again and anew, what one log says, and which orders wait."""

from types import SimpleNamespace
from typing import Any

import pytest
from pytest_django.fixtures import Settings

from execution_app import meters
from execution_app.engine import venue_events
from execution_app.engine.venue_events import _Said
from execution_app.models import VenueOrder
from execution_app.node import rpc
from execution_app.venues import events, onchain
from tests.execution import scenes

STORAGE = "0x" + "5a" * 20
HEAD = 50_000


@pytest.fixture(autouse=True)
def _of_this_venue(settings: Settings) -> None:
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(
        update={"venue_trading_address": scenes.TRADING, "venue_storage_address": STORAGE}
    )


def mismatches() -> float:
    return float(meters.INVARIANT_VIOLATIONS.labels("event_matches_intent")._value.get())


# Said at one block


def test_what_was_said_at_a_block_is_kept_for_two_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, said = SimpleNamespace(now=1_000.0), _Said()
    monkeypatch.setattr(venue_events, "time", SimpleNamespace(monotonic=lambda: clock.now))
    first = said.at("0xa", "0x1")
    first.add(5)
    clock.now += 2.0
    assert said.at("0xa", "0x1") == {5}
    assert said.at("0xa", "0x1") is first
    clock.now += 0.5
    assert said.at("0xa", "0x1") == set()


@pytest.mark.parametrize("where", [("0xa", "0x2"), ("0xb", "0x1")])
def test_another_block_or_venue_says_something_else(
    monkeypatch: pytest.MonkeyPatch, where: tuple[str, str]
) -> None:
    monkeypatch.setattr(venue_events, "time", SimpleNamespace(monotonic=lambda: 1_000.0))
    said = _Said()
    said.at("0xa", "0x1").add(5)
    assert said.at(*where) == set()


# Turns


def test_each_has_its_turn_where_one_look_does_not_ask_about_all() -> None:
    many: list[tuple[int, int, int | None]] = [(n, n, None) for n in range(2_001)]
    assert venue_events._turn(many[:2_000], 7) == many[:2_000]
    assert venue_events._turn(many, 0) == many[:2_000]
    assert venue_events._turn(many, 1) == [many[2_000], *many[:1_999]]
    assert venue_events._turn(many, 2) == [*many[1_999:], *many[:1_998]]
    assert venue_events._turn([], 2) == []


# Blocks


@pytest.mark.parametrize(
    ("born", "rested", "scanned", "start"),
    [
        (0, None, None, 0),
        (100, None, None, 100),
        (100, 500, None, 500),
        (100, 50, None, 100),
        (100, None, 500, 436),
        (100, None, 120, 100),
        (100, 950, 1_000, 950),
        (100, 900, 1_000, 936),
    ],
)
def test_some_blocks_are_read_again(born: int, rested: int | None, scanned: int | None, start: int) -> None:
    order = VenueOrder(block_number=born, rested_to_block=rested, scanned_to_block=scanned)
    assert venue_events._start(order) == start


@pytest.mark.parametrize(
    ("age", "stage"),
    [(0, 0), (5, 3), (255, 8), (256, 10), (512, 12), (5_000, 32), (9_999, 53), (10_000, 53), (20_000, 54)],
)
def test_an_order_is_read_anew_less_and_less_often(age: int, stage: int) -> None:
    assert venue_events._stage(age) == stage


@pytest.mark.parametrize(
    ("before", "end", "head", "read_to"),
    [
        (None, 1_256, 1_256, 1_256),
        (1_255, 1_256, 1_256, 1_000),
        (1_256, 1_257, 1_257, 1_257),
        (1_255, 1_255, 1_256, 1_255),
        (1_200, 1_264, 1_264, 1_000),
        (1_199, 1_264, 1_264, 1_264),
    ],
)
def test_blocks_that_are_due_to_be_read_anew_do_not_count_as_read(
    before: int | None, end: int, head: int, read_to: int
) -> None:
    order = VenueOrder(block_number=1_000, scanned_to_block=before)
    assert venue_events._read_to(order, end, head) == read_to


def span(low: int, high: int) -> rpc.Call:
    return "eth_getLogs", ({"address": scenes.TRADING, "fromBlock": hex(low), "toBlock": hex(high)},)


@pytest.mark.parametrize(
    ("start", "head", "spans"),
    [
        (5, 5, [(5, 5)]),
        (100, 1_099, [(100, 1_099)]),
        (100, 1_100, [(100, 1_099), (1_100, 1_100)]),
        (100, 2_500, [(100, 1_099), (1_100, 2_099), (2_100, 2_500)]),
        (6, 5, []),
    ],
)
def test_a_thousand_blocks_are_read_at_once(start: int, head: int, spans: list[tuple[int, int]]) -> None:
    assert venue_events._spans(start, head) == [span(*one) for one in spans]


def test_logs_of_all_spans_come_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def read(*call: Any) -> list[Any]:
        asked.append(call)
        return [len(asked), "log"]

    monkeypatch.setattr(rpc, "read", read)
    assert venue_events._logs(100, 1_100) == [1, "log", 2, "log"]
    assert asked == [(method, *params) for method, params in (span(100, 1_099), span(1_100, 1_100))]


# One log


def test_a_log_of_the_venue_is_read() -> None:
    before = mismatches()
    event = venue_events._decoded(scenes.refunded(5))
    assert isinstance(event, events.OrderCancelled)
    assert event.order_id == 5
    assert venue_events._decoded(scenes.refunded(5, address="0x" + "99" * 20)) is None
    assert mismatches() == before


@pytest.mark.parametrize(
    "broken",
    [
        {"data": "0xzz"},
        {"data": "0x00"},
        {"topics": 5},
        {"address": None},
        {"topics": [scenes.refunded(5)["topics"][0]]},
        {"logIndex": None},
    ],
)
def test_a_log_that_cannot_be_read_is_counted_and_passed_over(broken: dict[str, Any]) -> None:
    before = mismatches()
    assert venue_events._decoded(scenes.refunded(5, **broken)) is None
    assert mismatches() == before + 1


def test_a_log_that_lacks_a_part_is_counted_and_passed_over() -> None:
    before, entry = mismatches(), scenes.refunded(5)
    del entry["data"]
    assert venue_events._decoded(entry) is None
    assert mismatches() == before + 1


# Pending


def test_the_venue_says_which_orders_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {
        1: "0x" + "0" * 63 + "1",
        2: "0x" + "0" * 64,
        3: rpc.NodeError(-32000, "busy"),
        4: "0xzz",
        5: None,
        6: "0x" + "0" * 64,
    }
    asked: list[Any] = []

    def read_batch(calls: Any) -> list[Any]:
        asked.extend(calls)
        return list(answers.values())

    monkeypatch.setattr(rpc, "read_batch", read_batch)
    waits = {9}
    outstanding = [(100 + one, one) for one in answers]
    assert venue_events._no_longer_pending(outstanding, HEAD, waits) == {102: 2, 106: 6}
    assert waits == {9, 1}
    assert asked == [
        ("eth_call", ({"to": STORAGE, "data": "0x" + onchain.call_is_pending(one).hex()}, hex(HEAD)))
        for one in answers
    ]

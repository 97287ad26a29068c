"""Which orders the venue is asked about, which of them are looked for, and what is noted of those whose end is nowhere."""

from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from pytest_django.fixtures import Settings

from execution_app import meters
from execution_app.engine import venue_events
from execution_app.engine.venue_events import _Said
from execution_app.models import VenueOrder
from execution_app.node import rpc
from execution_app.states import IntentState
from tests.execution import rows, scenes

pytestmark = pytest.mark.usefixtures("database")
S = IntentState
STORAGE, HEAD, HASH = "0x" + "5a" * 20, 50_000, "0xbb"
CHAIN = 31_337


@pytest.fixture(autouse=True)
def _of_this_venue(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(
        update={
            "venue_trading_address": scenes.TRADING,
            "venue_storage_address": STORAGE,
            "chain_id": CHAIN,
        }
    )
    monkeypatch.setattr(venue_events, "_said", _Said())


def order(order_id: int, of: IntentState = S.ORDERED, **fields: Any) -> VenueOrder:
    sound = {"order_id": order_id, "intent_id": scenes.intent(of).pk, "block_number": HEAD - 10}
    return VenueOrder.objects.get(pk=rows.order(**(sound | fields)))


# Collected


class Venue:
    """What is asked, looked for and noted; orders in `gone` are no longer pending."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.gone: dict[int, int] = {}
        self.asked: list[tuple[int, int]] = []
        self.waits: list[set[int]] = []
        self.looked: list[list[VenueOrder]] = []
        self.noted: list[list[int]] = []
        self.problem: Exception | None = None
        patch.setattr(venue_events, "_no_longer_pending", self.no_longer_pending)
        patch.setattr(venue_events, "_look", self.look)
        patch.setattr(venue_events, "_note_rest", self.noted.append)

    def no_longer_pending(self, unsure: Any, head: int, waits: set[int]) -> dict[int, int]:
        assert head == HEAD
        self.asked += unsure
        self.waits.append(waits)
        return self.gone

    def look(self, ended: list[VenueOrder], head: int) -> None:
        assert head == HEAD
        self.looked.append(ended)
        if self.problem:
            raise self.problem

    def end(self, *ended: VenueOrder) -> None:
        self.gone |= {one.pk: one.order_id for one in ended}


@pytest.fixture
def venue(monkeypatch: pytest.MonkeyPatch) -> Venue:
    return Venue(monkeypatch)


def collect() -> None:
    venue_events.collect(HEAD, HASH)


def test_orders_that_are_out_are_asked_about_the_newest_first_and_what_rests_last(venue: Venue) -> None:
    """Beside them: one that is done, and one whose intent is no longer ordered."""
    first, resting, third, second = order(5), order(8, limit_index=0), order(7), order(6)
    order(9, state="executed")
    order(10, S.FILLED)
    collect()
    assert venue.asked == [(one.pk, one.order_id) for one in (third, second, first, resting)]
    assert (venue.looked, venue.noted) == ([], [[resting.pk]])


def test_what_was_said_to_wait_at_this_block_is_not_asked_again(venue: Venue) -> None:
    waits, unsure = order(5), order(6)
    rests = order(7, limit_index=1)
    venue_events._said.at(STORAGE, HASH).update({5, 7})
    venue.end(unsure)
    collect()
    assert venue.asked == [(unsure.pk, 6)]
    assert venue.waits[0] is venue_events._said.at(STORAGE, HASH)
    assert [[one.pk for one in looked] for looked in venue.looked] == [[unsure.pk]]
    assert venue.noted == [[rests.pk]]
    assert waits.pk not in venue.gone


def test_what_rested_and_is_gone_does_not_rest(venue: Venue) -> None:
    gone = order(5, limit_index=0)
    venue.end(gone)
    collect()
    assert (venue.noted, [one.pk for one in venue.looked[0]]) == ([], [gone.pk])


def test_old_ones_are_looked_for_apart(venue: Venue) -> None:
    """Each by its number, and with what is needed of its intent."""
    at = {5: HEAD - 10_000, 8: HEAD - 9_999, 7: HEAD - 5_000, 6: HEAD - 10_001, 9: HEAD}
    ended = [order(number, block_number=block) for number, block in at.items()]
    venue.end(*ended)
    collect()
    assert [[one.order_id for one in looked] for looked in venue.looked] == [[7, 8, 9], [5, 6]]
    with CaptureQueriesContext(connection) as asked:
        assert all(one.intent.trader and not one.intent.position for one in venue.looked[0])
    assert len(asked) == 0


def test_logs_that_a_provider_has_pruned_keep_nothing_else_from_being_followed(venue: Venue) -> None:
    venue.end(order(5, block_number=1))
    venue.problem = rpc.NodeError(-32000, "pruned")
    collect()
    assert len(venue.looked) == 1


def test_logs_of_now_are_not_passed_over(venue: Venue) -> None:
    venue.end(order(5), order(6, block_number=1))
    venue.problem = rpc.NodeError(-32000, "busy")
    with pytest.raises(rpc.NodeError):
        collect()
    assert len(venue.looked) == 1


def test_a_node_that_cannot_be_reached_is_none_that_has_pruned(venue: Venue) -> None:
    venue.end(order(5, block_number=1))
    venue.problem = rpc.RpcFault("no answer")
    with pytest.raises(rpc.RpcFault):
        collect()


def test_what_another_pass_has_changed_meanwhile_is_not_looked_for(
    venue: Venue, monkeypatch: pytest.MonkeyPatch
) -> None:
    replaced, done, ended = order(5), order(6), order(7)
    venue.gone = {replaced.pk: 4, ended.pk: 7, done.pk: 6}

    def meanwhile(unsure: Any, *_: Any) -> dict[int, int]:
        assert len(unsure) == 3
        VenueOrder.objects.filter(pk=done.pk).update(state="executed")
        return venue.gone

    monkeypatch.setattr(venue_events, "_no_longer_pending", meanwhile)
    collect()
    assert [[one.pk for one in looked] for looked in venue.looked] == [[ended.pk]]


# What rests


FINAL = 5_000


def chain(chain_id: int = CHAIN, final: int = FINAL) -> None:
    rows.execute(
        "INSERT INTO chains (chain_id, genesis_hash, trading_address, head_number, head_hash, finalized_number,"
        " halted_reason) VALUES (%s, '0x0', '', 0, '', %s, '')",
        chain_id, final,
    )  # fmt: skip


def rested(pk: int) -> int | None:
    return VenueOrder.objects.values_list("rested_to_block", flat=True).get(pk=pk)


def test_what_rests_at_the_head_has_no_end_in_a_final_block() -> None:
    chain(1, 90_000)
    chain()
    chain(99_999, 90_000)
    due: dict[str, Any] = {"limit_index": 0, "block_number": 3_999}
    noted = [
        order(1, **due),
        order(2, **due, rested_to_block=3_999),
    ]
    left = [
        order(3, **due, rested_to_block=4_000),
        order(4, **due | {"block_number": 4_000}),
        order(5, **due, state="executed"),
    ]
    beside = order(6, **due)
    before = [one.rested_to_block for one in left]
    venue_events._note_rest([one.pk for one in (*noted, *left)])
    assert [rested(one.pk) for one in noted] == [FINAL, FINAL]
    assert [rested(one.pk) for one in left] == before
    assert rested(beside.pk) is None


def test_nothing_is_noted_where_nothing_is_known_to_be_final() -> None:
    resting = order(1, limit_index=0, block_number=1)
    venue_events._note_rest([resting.pk])
    assert rested(resting.pk) is None


def test_what_was_said_to_rest_behind_its_end_is_read_from_its_beginning() -> None:
    wrong: dict[str, Any] = {"rested_to_block": 900, "scanned_to_block": 950}
    said, done, beside = order(1, **wrong), order(2, **wrong, state="executed"), order(3, **wrong)
    never = order(4, scanned_to_block=950)
    assert venue_events._forget_rest([said, done, never]) == {said.pk, done.pk}
    read = VenueOrder.objects.in_bulk()
    assert (read[said.pk].rested_to_block, read[said.pk].scanned_to_block) == (None, None)
    for one in (done, beside):
        assert (read[one.pk].rested_to_block, read[one.pk].scanned_to_block) == (900, 950)
    assert read[never.pk].scanned_to_block == 950


def test_where_none_was_said_to_rest_nothing_is_forgotten() -> None:
    with CaptureQueriesContext(connection) as asked:
        assert venue_events._forget_rest([VenueOrder(pk=1)]) == set()
    assert len(asked) == 0


# Looked for


class Logs:
    """What is read, and who ended by it: `told` by the node, `others` by other endpoints, `later` above the head."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.spans: list[tuple[int, int]] = []
        self.told: set[int] = set()
        self.others: set[int] = set()
        self.later: set[int] = set()
        self.sure = True
        self.asked: list[Any] = []
        self.above: list[Any] = []
        patch.setattr(venue_events, "_logs", self.logs)
        patch.setattr(venue_events, "_apply", self.apply)
        patch.setattr(venue_events, "_others_have_none", self.others_have_none)
        patch.setattr(venue_events, "_ended_later", self.ended_later)

    def logs(self, start: int, end: int) -> list[dict[str, Any]]:
        self.spans.append((start, end))
        return [{"read": "once"}]

    def apply(self, by_id: dict[int, VenueOrder], entries: Any, done: set[int]) -> list[VenueOrder]:
        assert entries == [{"read": "once"}]
        done |= {one.pk for number, one in by_id.items() if number in self.told}
        return [one for number, one in by_id.items() if number not in self.told]

    def others_have_none(self, missing: list[VenueOrder], start: int, end: int, done: set[int]) -> bool:
        self.asked.append(([one.order_id for one in missing], start, end))
        done |= {one.pk for one in missing if one.order_id in self.others}
        missing[:] = [one for one in missing if one.order_id not in self.others]
        return self.sure

    def ended_later(self, missing: list[VenueOrder], head: int) -> set[int]:
        self.above.append(([one.order_id for one in missing], head))
        return {one.pk for one in missing if one.order_id in self.later}


@pytest.fixture
def logs(monkeypatch: pytest.MonkeyPatch) -> Logs:
    return Logs(monkeypatch)


def dropped() -> float:
    return float(meters.INVARIANT_VIOLATIONS.labels("ended_order_has_event")._value.get())


def look(*ended: VenueOrder, head: int = HEAD) -> tuple[dict[int, int | None], float]:
    """How far each one's blocks count as read afterwards, by its number, and how many were counted as dropped."""
    before = dropped()
    venue_events._look(list(ended), head)
    scanned = VenueOrder.objects.values_list("order_id", "scanned_to_block")
    return dict(scanned), dropped() - before


@pytest.mark.parametrize(
    ("head", "end"), [(HEAD, HEAD), (HEAD + 9_989, HEAD + 9_989), (HEAD + 9_990, HEAD + 9_989)]
)
def test_one_look_reads_ten_thousand_blocks_from_the_first_order_on(logs: Logs, head: int, end: int) -> None:
    look(order(2, block_number=HEAD - 5), order(1, block_number=HEAD - 10), head=head)
    assert logs.spans == [(HEAD - 10, end)]
    assert logs.asked == [([2, 1], HEAD - 10, end)]


def test_where_all_have_ended_nobody_else_is_asked(logs: Logs) -> None:
    logs.told, logs.sure = {1, 2}, False
    assert look(order(1), order(2)) == ({1: None, 2: None}, 0)
    assert (logs.asked, logs.above) == ([], [([], HEAD)])


def test_an_end_that_nobody_has_is_counted_and_noted(logs: Logs) -> None:
    """And not of another order, though it is of the same block."""
    logs.told, logs.others = {1}, {4}
    same: dict[str, Any] = {"block_hash": "0x" + "b1" * 32}
    order(3, **same)
    assert look(order(1, **same), order(2, **same), order(4, **same)) == (
        {1: None, 2: HEAD, 3: None, 4: None},
        1,
    )
    assert (logs.asked, logs.above) == ([([2, 4], HEAD - 10, HEAD)], [([2], HEAD)])


def test_it_is_counted_once(logs: Logs) -> None:
    assert look(order(1, scanned_to_block=HEAD - 1)) == ({1: HEAD}, 0)


def test_without_a_majority_nothing_is_noted(logs: Logs) -> None:
    logs.sure = False
    missing = order(1, rested_to_block=HEAD - 5)
    assert look(missing) == ({1: None}, 0)
    assert (logs.above, rested(missing.pk)) == ([], HEAD - 5)


def test_short_of_the_head_it_is_noted_and_nothing_else(logs: Logs) -> None:
    missing = order(1, rested_to_block=HEAD - 5)
    assert look(missing, head=HEAD + 20_000) == ({1: HEAD + 9_994}, 0)
    assert (logs.above, rested(missing.pk)) == ([], HEAD - 5)


def test_what_ended_later_is_neither_counted_nor_noted_nor_forgotten(logs: Logs) -> None:
    logs.later = {1}
    ends_later, missing = order(1, rested_to_block=HEAD - 5), order(2)
    assert look(ends_later, missing) == ({1: None, 2: HEAD}, 1)
    assert rested(ends_later.pk) == HEAD - 5


def test_what_was_said_to_rest_is_read_again_from_its_beginning(logs: Logs) -> None:
    missing = order(1, rested_to_block=HEAD - 5, scanned_to_block=HEAD - 1)
    assert look(missing) == ({1: None}, 0)
    assert rested(missing.pk) is None


@pytest.mark.parametrize("moved", [{"state": "executed"}, {"block_hash": "0x" + "e1" * 32}])
def test_what_moved_on_meanwhile_is_not_noted(logs: Logs, moved: dict[str, str]) -> None:
    missing, stands = order(1), order(2)
    VenueOrder.objects.filter(pk=missing.pk).update(**moved)
    assert look(missing, stands)[0] == {1: None, 2: HEAD}

"""Receipts of many orders at once, row by row: what is stored with them, what is left to be stored alone, and in which words."""

from collections.abc import Sequence
from typing import Any

import pytest
from django.db import DataError, IntegrityError, connection
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext

from execution_app import meters
from execution_app.engine import mined
from execution_app.engine.mined import Shown
from execution_app.errors import Stale
from execution_app.models import TxIntent, TxReceipt, TxSend, VenueOrder
from execution_app.states import IntentState
from tests.execution import rows, scenes

pytestmark = pytest.mark.usefixtures("database")
S = IntentState
WAITING = (S.SENDING, S.PENDING_INCLUSION)


def order(*logs: Any, state: IntentState = S.SENDING, **changes: Any) -> Shown:
    """An open whose receipt is shown; with its registration unless other logs are given."""
    intent = scenes.intent(state)
    send = scenes.send(intent)
    told = logs or (scenes.registered(7_000 + intent.pk),)
    return intent, send, scenes.shown(send, *told, **changes)


def stored(*shown: Shown) -> list[str]:
    return [TxIntent.objects.get(pk=intent.pk).state for intent, _, _ in shown]


def mined_as(status: str) -> float:
    return float(meters.TX_MINED.labels(status)._value.get())


def test_orders_are_stored_with_what_the_venue_registered() -> None:
    beside = scenes.send(scenes.intent())
    one, two = order(), order(state=S.PENDING_INCLUSION, gasUsed="0x9")
    before = mined_as("ok"), mined_as("reverted"), meters.GAS_USED._value.get()
    assert mined.apply([one, two]) == {one[0].pk, two[0].pk}
    assert stored(one, two) == ["ordered", "ordered"]
    assert [intent.state for intent, _, _ in (one, two)] == ["ordered", "ordered"]
    for intent, send, _ in (one, two):
        send.refresh_from_db()
        assert send.held_at is not None
        assert VenueOrder.objects.get(intent=intent).order_id == 7_000 + intent.pk
        assert TxReceipt.objects.get(intent=intent).send_id == send.pk
        moved = intent.transitions.get(to_state="mined")
        assert (moved.why, moved.by) == (f"exec {send.tx_hash} in block 16, status 1", "receipts")
    beside.refresh_from_db()
    assert beside.held_at is None
    after = mined_as("ok"), mined_as("reverted"), meters.GAS_USED._value.get()
    assert after == (before[0] + 2, before[1], before[2] + 14)


def test_an_order_that_reverted_registers_nothing() -> None:
    """Whatever its receipt tells."""
    failed = order(status="0x0")
    before = mined_as("reverted"), mined_as("ok")
    assert mined.apply([failed]) == {failed[0].pk}
    assert stored(failed) == ["mined"]
    assert not VenueOrder.objects.exists()
    assert (mined_as("reverted"), mined_as("ok")) == (before[0] + 1, before[1])
    assert failed[0].transitions.get().why.endswith("in block 16, status 0")


def test_a_success_without_its_order_is_mined_alone() -> None:
    bare, whole = order(1, logs=[]), order()
    assert mined.apply([bare, whole]) == {bare[0].pk, whole[0].pk}
    assert stored(bare, whole) == ["mined", "ordered"]


def test_how_long_it_took_is_observed() -> None:
    shown = order()
    TxIntent.objects.filter(pk=shown[0].pk).update(accepted_at=Now())
    shown[0].refresh_from_db()
    before = meters.SIGNAL_TO_MINED._sum.get()
    mined.apply([shown])
    assert 0 < meters.SIGNAL_TO_MINED._sum.get() - before < 60


def test_bytes_that_a_node_had_said_to_hold_keep_that_moment() -> None:
    shown = order()
    TxSend.objects.filter(pk=shown[1].pk).update(held_at="2026-01-02T00:00:00Z")
    mined.apply([shown])
    held_at = TxSend.objects.get(pk=shown[1].pk).held_at
    assert held_at is not None
    assert held_at.day == 2


def test_what_has_a_receipt_already_is_the_callers() -> None:
    again, first = order(), order()
    rows.receipt(send_id=again[1].pk, canonical=False)
    assert mined.apply([again, first]) == {first[0].pk}
    assert stored(again, first) == ["sending", "ordered"]
    assert mined.apply([again]) == set()
    assert mined.apply([]) == set()


def test_nothing_of_others_is_read() -> None:
    """However long the history, and however many are under way."""
    rows.receipt()
    shown = order()
    with CaptureQueriesContext(connection) as asked:
        assert mined.apply([shown]) == {shown[0].pk}
    first, second, *_ = [query["sql"] for query in asked]
    assert f'"tx_receipts"."intent_id" IN ({shown[0].pk})' in first
    assert f'"tx_intents"."id" IN ({shown[0].pk})' in second


def test_a_hundred_are_one_transaction(monkeypatch: pytest.MonkeyPatch) -> None:
    batches: list[int] = []
    monkeypatch.setattr(mined, "_apply", lambda batch: batches.append(len(batch)))
    send = TxSend(pk=1)
    many = [(TxIntent(pk=10**6 + n, state=S.SENDING), send, dict[str, Any]()) for n in range(201)]
    assert len(mined.apply(many)) == 201
    assert batches == [100, 100, 1]


@pytest.mark.parametrize("state", WAITING)
def test_a_batch_of_which_one_does_not_fit_is_the_callers(
    monkeypatch: pytest.MonkeyPatch, state: IntentState
) -> None:
    """And the next batch is stored all the same."""
    monkeypatch.setattr(mined, "BATCH", 2)
    taken = rows.order(order_id=9, venue="0x" + "7A" * 20)
    venue = scenes.registered(9)
    rows.update("venue_orders", taken, {"venue": _checksummed(venue["address"])})
    fits, clashes, later = order(), order(venue, state=state), order()
    assert mined.apply([fits, clashes, later]) == {later[0].pk}
    assert stored(fits, clashes, later) == ["sending", state, "ordered"]
    assert [one[0].state for one in (fits, clashes, later)] == ["sending", state, "ordered"]
    assert not TxReceipt.objects.exclude(intent=later[0]).exists()
    assert not TxSend.objects.filter(pk=fits[1].pk, held_at__isnull=False).exists()


def _checksummed(address: str) -> str:
    from execution_app.venues.words import checksummed

    return str(checksummed(address))


@pytest.mark.parametrize(
    "problem",
    [Stale, IntegrityError, DataError, LookupError, ValueError, TypeError, AttributeError, ArithmeticError],
)
def test_whatever_does_not_fit_is_stored_one_by_one(
    monkeypatch: pytest.MonkeyPatch, problem: type[Exception]
) -> None:
    shown = order()

    def refuse(batch: Sequence[Shown]) -> None:
        batch[0][0].state = S.ORDERED
        raise problem("none of these")

    monkeypatch.setattr(mined, "_apply", refuse)
    assert mined.apply([shown]) == set()
    assert shown[0].state == S.SENDING


def test_what_is_no_such_problem_is_not_swallowed(monkeypatch: pytest.MonkeyPatch) -> None:
    def break_down(_: object) -> None:
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(mined, "_apply", break_down)
    with pytest.raises(RuntimeError):
        mined.apply([order()])


@pytest.mark.parametrize(
    ("seen", "now"),
    [(S.SENDING, S.PENDING_INCLUSION), (S.PENDING_INCLUSION, S.SENDING)],
)
def test_an_answer_that_came_meanwhile_is_taken_up(seen: IntentState, now: IntentState) -> None:
    order()
    shown = order(state=now)
    shown[0].state = seen
    assert mined.apply([shown]) == {shown[0].pk}
    assert shown[0].transitions.get(to_state="mined").from_state == now


def test_one_that_has_gone_elsewhere_is_stale() -> None:
    gone, fits = order(state=S.MINED), order()
    gone[0].state = S.SENDING
    assert mined.apply([gone, fits]) == set()
    assert (stored(gone, fits), gone[0].state) == (["mined", "sending"], S.SENDING)


# One receipt


@pytest.mark.parametrize(("l1_fee", "wei"), [("0x1f", 31), (None, 0), ("", 0)])
def test_what_is_kept_of_a_receipt(l1_fee: str | None, wei: int) -> None:
    intent = scenes.intent()
    send = scenes.send(intent)
    told = scenes.shown(
        send, blockNumber="0x1a", gasUsed="0x1b", effectiveGasPrice="0x1c", status="0x0", l1Fee=l1_fee
    )
    row = mined.row_of(intent, send, told)
    assert (row.send, row.intent, row.canonical) == (send, intent, True)
    assert (row.block_number, row.block_hash, row.status) == (26, scenes.BLOCK, 0)
    assert (row.gas_used, row.effective_gas_price_wei, row.l1_fee_wei) == (27, 28, wei)
    del told["l1Fee"]
    assert mined.row_of(intent, send, told).l1_fee_wei == 0


@pytest.mark.parametrize(
    ("states", "had"),
    [
        ([], False),
        (["mined"], False),
        (["mined", "ordered"], True),
        (["changed"], True),
        (["venue_cancelled", "filled", "pending_inclusion"], False),
    ],
)
def test_what_it_came_to_before_a_reorg_says_whether_it_had_succeeded(states: list[str], had: bool) -> None:
    scenes.past(scenes.intent(), "ordered")
    intent = scenes.intent()
    scenes.past(intent, *states)
    assert mined.had_succeeded(intent) is had

"""What ending an order that is lost writes, and what it refuses."""

from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from execution_app.engine import lost_orders
from execution_app.engine.lost_orders import Proof
from execution_app.errors import Refused, Stale
from execution_app.models import AuditEntry, Reservation, TxIntent, VenueOrder, Wallet
from execution_app.states import IntentState, OrderState, Reason
from tests.execution import rows
from tests.execution.test_lost_orders import ordered

pytestmark = pytest.mark.usefixtures("database")
BLOCK_HASH = f"0x{7:064x}"
BY, WHY = "ann", "the venue confirms a refund"


def proof(order: VenueOrder, *against: str) -> Proof:
    return Proof(order.intent, order, 100, BLOCK_HASH, 2, list(against))


def end(order: VenueOrder, reason: str = WHY) -> TxIntent:
    lost_orders.end(proof(order), by=BY, reason=reason)
    return TxIntent.objects.get(pk=order.intent_id)


def untouched(order: VenueOrder) -> bool:
    now = VenueOrder.objects.get(pk=order.pk)
    told = (now.intent.state, now.intent.settled_at, now.state, now.done_block_number, now.done_block_hash)
    return told == (IntentState.ORDERED, None, OrderState.REGISTERED, None, "")


def test_what_speaks_against_it_is_told_together() -> None:
    order = ordered()
    with pytest.raises(Refused, match=r"^endpoint 0: one thing; endpoint 1: another$"):
        lost_orders.end(proof(order, "endpoint 0: one thing", "endpoint 1: another"), by=BY, reason=WHY)
    assert untouched(order)
    assert not AuditEntry.objects.exists()


def test_it_ends_as_the_venues_refund_would() -> None:
    order, beside = ordered(), ordered()
    stakes = [
        rows.reservation(intent_id=one.intent_id, trader_id=one.intent.trader_id) for one in (order, beside)
    ]
    intent = end(order)
    why = f"order {order.order_id} is lost, by block 100 of 2 endpoint(s): {WHY}"
    assert (intent.state, intent.reason, intent.reason_detail) == (
        IntentState.VENUE_CANCELLED, Reason.ORDER_LOST, why,
    )  # fmt: skip
    assert intent.settled_at is not None
    told = intent.transitions.latest("id")
    assert (told.from_state, told.why, told.by) == (IntentState.ORDERED, why, BY)
    now = VenueOrder.objects.get(pk=order.pk)
    assert (now.state, now.done_block_number, now.done_block_hash) == (OrderState.CANCELLED, 100, BLOCK_HASH)
    assert untouched(beside)
    states = dict(Reservation.objects.values_list("pk", "state"))
    assert [states[stake] for stake in stakes] == ["released", "open"]
    assert TxIntent.objects.count() == 2, "an open is not asked for again"


def test_who_ended_it_and_by_which_proof_is_written_down() -> None:
    order = ordered()
    intent = end(order)
    entry = AuditEntry.objects.get()
    assert (entry.action, entry.actor, entry.origin, entry.subject, entry.reason) == (
        "intent_decided", BY, "command", intent.intent_key, WHY,
    )  # fmt: skip
    assert entry.before == {"state": "ordered", "order": order.order_id}
    assert entry.after == {
        "state": "venue_cancelled",
        "reason": "order_lost",
        "final_block": 100,
        "final_hash": BLOCK_HASH,
        "endpoints": 2,
    }


def test_a_close_is_asked_for_again() -> None:
    order = ordered("close")
    failed = end(order)
    again = TxIntent.objects.exclude(pk=failed.pk).get()
    assert (again.intent_key, again.state, again.position_id) == (
        f"{failed.intent_key}#2", IntentState.PENDING, failed.position_id,
    )  # fmt: skip


def test_long_words_are_cut_to_their_column() -> None:
    order = ordered()
    why = f"order {order.order_id} is lost, by block 100 of 2 endpoint(s): {'x' * 400}"
    assert end(order, "x" * 400).reason_detail == why[:400]


def test_ending_is_one_commit_under_the_wallets_lock() -> None:
    order, _ = ordered(), ordered()
    with transaction.atomic(), pytest.raises(RuntimeError, match="durable"):
        end(order)
    with CaptureQueriesContext(connection) as asked:
        end(order)
    locked = [query["sql"] for query in asked if "FOR NO KEY UPDATE" in query["sql"]]
    assert any(f'"wallets"."id" = {order.intent.wallet_id}' in one for one in locked)
    assert Wallet.objects.count() == 2


@pytest.mark.parametrize(
    "moved", [{"state": "executed"}, {"state": "cancelled"}, {"block_hash": "0x" + "e" * 64}]
)
def test_an_order_that_has_moved_on_is_looked_at_again(moved: dict[str, Any]) -> None:
    """Whatever stands beside it in its block."""
    order = ordered()
    ordered(block_hash=order.block_hash)
    VenueOrder.objects.filter(pk=order.pk).update(**moved)
    with pytest.raises(Stale, match=f"^order {order.order_id} has moved on$"):
        end(order)
    assert TxIntent.objects.get(pk=order.intent_id).state == IntentState.ORDERED
    assert not AuditEntry.objects.exists()


def test_an_intent_that_has_moved_on_keeps_its_order() -> None:
    order = ordered()
    rows.update("tx_intents", order.intent_id, {"state": "filled"})
    with pytest.raises(Stale, match="no longer ordered"):
        end(order)
    assert VenueOrder.objects.get(pk=order.pk).state == OrderState.REGISTERED

"""What an order has at stake begins with its nonce and ends with its end, each in the transaction that says so."""

from decimal import Decimal
from typing import Any

import pytest
from django.db import transaction
from django.db.models.functions import Now

from execution_app import reservations
from execution_app.book.absence import end
from execution_app.models import Position, Reservation, TxIntent
from execution_app.moves import move
from execution_app.states import Action, IntentState, Mode
from tests.execution import rows
from tests.integration.tx.test_venue_surprises import owner_closes
from tests.rig import Rig

S = IntentState
ENDS = [(S.MINED, S.FINAL_REVERTED), (S.MINED, S.FINAL_CANCELLED), (S.PENDING_INCLUSION, S.LOST_NONCE)]


def reserved_in(state: IntentState) -> tuple[TxIntent, Reservation]:
    pk = rows.intent_in(state)
    trader = rows.one("SELECT trader_id FROM tx_intents WHERE id = %s", pk)
    held = rows.reservation(intent_id=pk, trader_id=trader)
    return TxIntent.objects.get(pk=pk), Reservation.objects.get(pk=held)


@pytest.mark.parametrize(("last", "ending"), ENDS, ids=[ending.value for _, ending in ENDS])
def test_every_end_of_an_order_releases_it_in_the_same_commit(
    database: None, last: IntentState, ending: IntentState
) -> None:
    intent, held = reserved_in(last)
    with transaction.atomic():
        move(intent, ending, why="final", by="test")
        transaction.set_rollback(True)
    held.refresh_from_db()
    assert (held.state, held.notional_usdc) == ("open", 10)
    move(TxIntent.objects.get(pk=intent.pk), ending, why="final", by="test")
    held.refresh_from_db()
    assert (held.state, held.notional_usdc, held.released_at is None) == ("released", 0, False)
    reservations.follow(intent.pk)  # once more changes nothing
    assert held.log.count() == 2


ROAD = [
    (S.PENDING_INCLUSION, S.MINED),
    (S.MINED, S.PENDING_INCLUSION),
    (S.MINED, S.ORDERED),
    (S.ORDERED, S.PENDING_INCLUSION),
    (S.ORDERED, S.VENUE_CANCELLED),
    (S.VENUE_CANCELLED, S.ORDERED),
    (S.VENUE_CANCELLED, S.PENDING_INCLUSION),
]


@pytest.mark.parametrize(("here", "there"), ROAD, ids=[f"{a.value}>{b.value}" for a, b in ROAD])
def test_what_may_still_become_a_position_stays_reserved(
    database: None, here: IntentState, there: IntentState
) -> None:
    intent, held = reserved_in(here)
    move(intent, there, why="a block came or left", by="test")
    held.refresh_from_db()
    assert (held.state, held.notional_usdc) == ("open", 10)


def test_a_refund_releases_once_its_block_is_final(database: None) -> None:
    intent, held = reserved_in(S.VENUE_CANCELLED)
    reservations.follow(intent.pk)
    held.refresh_from_db()
    assert held.state == "open"
    TxIntent.objects.filter(pk=intent.pk).update(settled_at=Now())
    reservations.follow(intent.pk)
    held.refresh_from_db()
    assert held.state == "released"


@pytest.mark.parametrize("why", ["rejected", "expired"])
def test_what_never_had_a_nonce_never_had_a_reservation(rig: Rig, why: str) -> None:
    fields: dict[str, Any] = {"expires_at": Now()} if why == "expired" else {"leverage_x": Decimal(76)}
    intent = rig.intent(**fields)
    rig.submit()
    intent.refresh_from_db()
    assert intent.state == why
    assert not Reservation.objects.exists()


def test_a_position_that_its_owner_closed_is_released_when_it_is_known_to_be_gone(rig: Rig) -> None:
    rig.intent()
    rig.run()
    owner_closes(rig)
    position = Position.objects.get()
    assert Reservation.objects.get().state == "exposed"
    assert end(position, 10**9)
    held = Reservation.objects.get()
    assert (held.state, held.notional_usdc) == ("released", 0)


def test_a_replaced_position_is_released_when_the_one_in_its_slot_is_final(rig: Rig) -> None:
    rig.intent()
    rig.run()
    owner_closes(rig)
    rig.intent()
    rig.submit()
    rig.mine()
    rig.track()
    rig.keep()
    rig.track()
    assert list(Position.objects.order_by("id").values_list("state", flat=True)) == ["closed", "open"]
    assert [r.state for r in Reservation.objects.order_by("id")] == ["exposed", "exposed"]
    rig.mine(4)
    rig.track()
    assert [r.state for r in Reservation.objects.order_by("id")] == ["released", "exposed"]


def test_the_caps_lock_is_only_for_transactions(database: None) -> None:
    with pytest.raises(RuntimeError, match="inside the transaction"):
        reservations.lock()


def test_closes_reserve_nothing(rig: Rig) -> None:
    rig.intent()
    rig.run()
    rig.intent(Action.CLOSE)
    rig.submit()
    assert Reservation.objects.count() == 1
    assert Reservation.objects.get().mode == Mode.LIVE

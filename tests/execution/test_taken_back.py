"""An opening leaves the chain: its void row is the trade as it was opened, whatever was done to it since."""

from dataclasses import fields
from decimal import Decimal
from importlib import import_module
from typing import Any

import pytest
from django.db import connection
from django.db.models.functions import Now

from execution_app.book import margins, orders, positions, reopened
from execution_app.models import Chain, Position, TxIntent, Wallet
from execution_app.states import IntentState
from execution_app.venues.margin_events import MarginUpdated
from tests.execution import rows, scenes
from tests.execution.intents import CLOSE, again, in_slot, opened, waiting_close
from tests.execution.test_binding import SETTLED, bind, resting_order, shares, told

MARGIN: rows.Row = {**CLOSE, "action": "margin", "margin_usdc": 3}
pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture
def wallet() -> Wallet:
    return Wallet.objects.get(pk=rows.wallet())


def filled(wallet: Wallet, nonce: int, trade_index: int, **fields: Any) -> tuple[TxIntent, Position]:
    opening = in_slot(wallet, nonce, IntentState.FILLED, collateral_usdc=10)
    pk = rows.position(trader_id=wallet.trader_id, trade_index=trade_index, **fields)
    rows.fill(intent_id=opening.pk, position_id=pk, collateral_usdc=10, price=60_000, block_number=5)
    positions.fold(Position.objects.get(pk=pk))
    return opening, Position.objects.get(pk=pk)


def part_closed(wallet: Wallet, position: Position, usdc: int) -> None:
    asked = {**CLOSE, "position_id": position.pk, "close_usdc": usdc, "holds_position": True}
    close = in_slot(wallet, 2, IntentState.FILLED, **asked)
    told = {"action": "close", "collateral_usdc": usdc, "sent_to_trader_usdc": usdc, "block_number": 6}
    rows.fill(intent_id=close.pk, position_id=position.pk, **told)
    positions.fold(position)


def test_a_void_row_is_as_large_as_it_was_opened(wallet: Wallet) -> None:
    opening, position = filled(wallet, 1, 0)
    part_closed(wallet, position, 4)
    rows.update("positions", position.pk, {"grown_price": 61_000, "open_price": 60_500})
    position.refresh_from_db()
    assert (position.state, position.collateral_usdc) == ("open", 6)
    orders.take_back(again(opening))
    position.refresh_from_db()
    assert (position.state, position.collateral_usdc, position.leverage_x) == ("void", 10, 2)
    assert (position.open_price, position.grown_price) == (60_000, None)
    assert position.opened_by == opening


def test_by_that_who_wants_out_finds_it_when_it_comes_again(wallet: Wallet) -> None:
    opening, position = filled(wallet, 1, 0)
    part_closed(wallet, position, 4)
    orders.take_back(again(opening))
    position.refresh_from_db()
    assert reopened.outcome(position) == (None, True)
    pk = rows.position(
        trader_id=wallet.trader_id, opened_at="2026-01-01T00:00:05Z", collateral_usdc=Decimal(10)
    )
    rows.fill(intent_id=opening.pk, position_id=pk, collateral_usdc=10, block_number=7)
    assert reopened.outcome(position) == (Position.objects.get(pk=pk), False)


def test_rows_that_were_void_before_are_given_the_one_order_that_is_like_them(wallet: Wallet) -> None:
    """Or none: an exit must not wait for, or close, what another order opens."""
    opening, position = filled(wallet, 1, 0)
    orders.take_back(again(opening))
    rows.transition(intent_id=opening.pk, from_state="filled", to_state="ordered")
    backfill = import_module("execution_app.migrations.0044_void_rows_of_before").FORWARDS
    for others, expected in ((False, opening), (True, None)):
        if others:
            another, _ = filled(wallet, 2, 1)
            orders.take_back(again(another))
            rows.transition(intent_id=another.pk, from_state="filled", to_state="ordered")
        rows.update("positions", position.pk, {"opened_by_id": None})
        with connection.cursor() as cursor:
            cursor.execute(backfill)
        position.refresh_from_db()
        assert position.opened_by == expected
    rows.update("tx_intents", another.pk, {"state": "ordered"})
    assert reopened.outcome(position) == (None, True), "one of them may come again"
    TxIntent.objects.filter(pk__in=(opening.pk, another.pk)).update(settled_at=Now())
    assert reopened.outcome(position) == (None, False)


@pytest.mark.parametrize(("final", "known", "waits"), [(6, "0xf", True), (7, "0xf", False), (7, "", True)])
def test_margin_waits_for_its_trade_to_come_again_until_the_book_must_have_heard_of_it(
    wallet: Wallet, settings: Any, *, final: int, known: str, waits: bool
) -> None:
    """Its order may rest again, for weeks; margin that is taken for early keeps all exits from the slot."""
    opening, position = filled(wallet, 1, 0)
    orders.take_back(again(opening))
    change = in_slot(wallet, 2, IntentState.MINED, **MARGIN, position_id=position.pk)
    told: dict[str, Any] = {field.name: None for field in fields(MarginUpdated)}
    told |= {"trader": position.trader.address, "pair_index": 1, "trade_index": 0, "block_number": 7}
    told |= {"change_usdc": Decimal(3), "is_long": True, "open_price": Decimal(61_000)}
    event = MarginUpdated(**told)
    Chain.objects.create(chain_id=settings.ENVIRONMENT.chain_id, finalized_number=final, finalized_hash=known)
    assert margins.is_early(change, event) is waits


# Who wants out of it


def reorged(order: TxIntent, **fields: Any) -> TxIntent:
    """A close of a position whose opening by this order left the chain."""
    assert order.wallet is not None
    void = opened(order.wallet, state="void", opened_by_id=order.pk, **fields)
    return waiting_close(order.wallet, position_id=void.pk, only_position=True, reduce_usdc=3)


def fills(order: TxIntent, **fields: Any) -> Position:
    """What the order has opened, in the next slot of its trader."""
    place = Position.objects.filter(trader=order.trader_id).count()
    pk = rows.position(**{"trader_id": order.trader_id, "trade_index": place, **fields})
    rows.fill(intent_id=order.pk, position_id=pk)
    return Position.objects.get(pk=pk)


@pytest.mark.parametrize("earlier", [True, False])
def test_what_a_reorg_made_anew_is_closed_in_its_place(wallet: Wallet, *, earlier: bool) -> None:
    """Also in the row that it had before that one, where the chain went back to what it was."""
    order = in_slot(wallet, 1, IntentState.FILLED)
    if earlier:
        anew = fills(order)
        close = reorged(order)
    else:
        close = reorged(order)
        anew = fills(order)
    void = close.position_id
    assert bind(close) is False
    assert shares(close) == [(void, 3), (anew.pk, 3)]
    further = f"{close.intent_key}#2"
    assert told(close) == ("no_op", "no_position", f"a reorg made it position {anew.pk}: {further}")


def test_what_is_like_it_is_another_trade(wallet: Wallet) -> None:
    order, other = in_slot(wallet, 1, IntentState.FILLED), in_slot(wallet, 2, IntentState.FILLED)
    close = reorged(order)
    beside, anew = fills(other), fills(order)
    rows.transition(intent_id=other.pk, from_state="filled", to_state="ordered")
    assert bind(close) is False
    assert [position for position, _ in shares(close)] == [close.position_id, anew.pk]
    assert beside.pk != anew.pk


def test_what_has_ended_meanwhile_is_waited_for_there(wallet: Wallet) -> None:
    order = in_slot(wallet, 1, IntentState.FILLED)
    close = reorged(order)
    anew = fills(order, state="closed")
    assert bind(close) is False
    further = TxIntent.objects.get(intent_key=f"{close.intent_key}#2")
    assert bind(further) is False
    words = f"position {anew.pk} is closed, not finally yet"
    assert told(further) == ("pending", "waits_for_earlier_close", words)


@pytest.mark.parametrize(
    ("state", "settled", "waits"),
    [
        (IntentState.PENDING_INCLUSION, None, True),
        (IntentState.ORDERED, None, True),
        (IntentState.VENUE_CANCELLED, None, True),
        (IntentState.VENUE_CANCELLED, SETTLED, False),
    ],
)
def test_its_order_is_waited_for_until_that_has_ended(
    wallet: Wallet, state: IntentState, settled: str | None, *, waits: bool
) -> None:
    order = in_slot(wallet, 1, state)
    if settled:
        rows.update("tx_intents", order.pk, {"settled_at": settled})
    close = reorged(order)
    assert bind(close) is False
    if waits:
        words = f"position {close.position_id} is opened anew after a reorg"
        assert told(close) == ("pending", "waits_for_earlier_order", words)
    else:
        words = f"position {close.position_id} was never opened"
        assert told(close) == ("no_op", "no_position", words)


def test_no_exit_waits_for_another_order_to_be_filled_again(wallet: Wallet) -> None:
    """Which rests at the venue since its fill left the chain, and may do so for weeks."""
    rests = resting_order(wallet)
    rows.transition(intent_id=rests.pk, from_state="filled", to_state="ordered")
    order = in_slot(wallet, 2, IntentState.FILLED)
    close = reorged(order)
    anew = fills(order)
    assert bind(close) is False
    assert [position for position, _ in shares(close)] == [close.position_id, anew.pk]


def test_a_stop_parks_what_stands_in_for_an_exit_that_was_under_way(wallet: Wallet) -> None:
    """It failed as a close of the row that a reorg left void, and is one of another row now."""
    order, other = in_slot(wallet, 1, IntentState.FILLED), in_slot(wallet, 2, IntentState.FILLED)
    close = reorged(order)
    void = {"position_id": close.position_id, "intent_key": f"{close.intent_key}#2"}
    scenes.close(IntentState.FINAL_CANCELLED, wallet_id=wallet.pk, trader_id=wallet.trader_id, **void)
    anew, beside = fills(order), fills(other)
    key = f"{close.intent_key}#"
    again_of, elsewhere = (
        waiting_close(wallet, intent_key=f"{key}{number}", position_id=held.pk, only_position=True)
        for number, held in ((3, anew), (4, beside))
    )
    assert positions.is_asked_again(again_of)
    assert not positions.is_asked_again(elsewhere)

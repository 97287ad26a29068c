"""An opening leaves the chain: its void row is the trade as it was opened, whatever was done to it since."""

from decimal import Decimal
from typing import Any

import pytest

from execution_app.book import orders, positions
from execution_app.models import Position, TxIntent, Wallet
from execution_app.states import IntentState
from tests.execution import rows
from tests.execution.intents import CLOSE, again, in_slot, waiting_close

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture
def wallet() -> Wallet:
    return Wallet.objects.get(pk=rows.wallet())


def filled(wallet: Wallet, nonce: int, trade_index: int, **fields: Any) -> tuple[TxIntent, Position]:
    opening = in_slot(wallet, nonce, IntentState.FILLED)
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


def test_by_that_who_wants_out_finds_it_when_it_comes_again(wallet: Wallet) -> None:
    opening, position = filled(wallet, 1, 0)
    close = waiting_close(wallet, position_id=position.pk, only_position=True)
    part_closed(wallet, position, 4)
    orders.take_back(again(opening))
    rows.transition(intent_id=opening.pk, from_state="filled", to_state="ordered")
    pk = rows.position(
        trader_id=wallet.trader_id, opened_at="2026-01-01T00:00:05Z", collateral_usdc=Decimal(10)
    )
    rows.fill(intent_id=opening.pk, position_id=pk, collateral_usdc=10, block_number=7)
    position.refresh_from_db()
    assert [one.pk for one in positions.opened_again(position, close)] == [pk]

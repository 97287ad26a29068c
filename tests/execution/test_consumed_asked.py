"""Who asked for an order that the chain carries, as far as rows can tell."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from execution_app.engine import consumed
from execution_app.models import Position, Wallet
from execution_app.venues.orders import Kind
from tests.execution import rows
from tests.execution.test_consumed import close_order, open_order, other, waiting, waiting_close, wallet

__all__ = ["wallet"]  # the fixture
pytestmark = pytest.mark.usefixtures("database")


@pytest.mark.parametrize(
    "fields",
    [
        {"symbol": "ETH-USD"},
        {"is_long": False},
        {"collateral_usdc": 6},
        {"leverage_x": 3},
        {"slippage_pct": "0.6"},
        {"take_profit": 70_000},
        {"stop_loss": 50_000},
        {"order_type": "limit", "limit_price": 60_000, "road": "onchain"},
        {"state": "rejected", "settled_at": "2026-01-01T00:00:00Z"},
    ],
)
def test_an_open_that_asks_for_something_else_did_not_ask_for_it(
    wallet: Wallet, fields: dict[str, Any]
) -> None:
    waiting(wallet, **fields)
    waiting(other())
    waiting_close(wallet)
    assert consumed._asked_for(wallet, open_order(), set()) is None
    held = waiting(wallet)
    rows.update("tx_intents", held.pk, {"state": "held", "reason": "degraded"})
    assert consumed._asked_for(wallet, open_order(), set()) == held


def test_an_increase_of_the_same_size_did_not_ask_for_an_open(wallet: Wallet) -> None:
    waiting(wallet, action="increase", position_id=rows.position(trader_id=wallet.trader_id))
    assert consumed._asked_for(wallet, open_order(), set()) is None


def test_levels_and_triggers_are_compared_as_well(wallet: Wallet) -> None:
    levels = waiting(wallet, take_profit=70_000, stop_loss=50_000)
    rests = waiting(wallet, road="onchain", order_type="limit", limit_price=60_000)
    stop = waiting(wallet, road="onchain", order_type="stop_limit", limit_price=60_000)
    asked = {
        levels.pk: open_order(take_profit=Decimal(70_000), stop_loss=Decimal(50_000)),
        rests.pk: open_order(kind=Kind.LIMIT),
        stop.pk: open_order(kind=Kind.STOP_LIMIT),
    }
    for pk, order in asked.items():
        intent = consumed._asked_for(wallet, order, set())
        assert intent is not None
        assert intent.pk == pk
    others: list[dict[str, Any]] = [{"take_profit": Decimal(1)}, {"stop_loss": Decimal(1)}]
    for level in others:
        assert consumed._asked_for(wallet, replace(asked[levels.pk], **level), set()) is None
    assert consumed._asked_for(wallet, replace(asked[rests.pk], wanted_price=Decimal(1)), set()) is None


def test_an_orders_type_and_trigger_are_those_of_the_columns() -> None:
    kinds = [Kind.MARKET, Kind.LIMIT, Kind.STOP_LIMIT]
    assert [consumed.type_of(open_order(kind=kind)) for kind in kinds] == [
        {"order_type": "market", "limit_price": None},
        {"order_type": "limit", "limit_price": Decimal(60_000)},
        {"order_type": "stop_limit", "limit_price": Decimal(60_000)},
    ]


def held_position(wallet: Wallet, **fields: object) -> Position:
    return Position.objects.get(pk=rows.position(trader_id=wallet.trader_id, **fields))


@pytest.mark.parametrize(
    "fields",
    [
        {"symbol": "ETH-USD", "pair_index": 0},
        {"trade_index": 1},
        {"mode": "DRY"},
        {"state": "closed", "ended_by": "close", "opened_at": "2025-01-01T00:00:00Z"},
        {"trader_id": None},
    ],
)
def test_a_close_is_of_the_open_trade_in_the_slot_that_it_names(
    wallet: Wallet, fields: dict[str, Any]
) -> None:
    waiting_close(wallet)
    rows.position(**({"trader_id": wallet.trader_id} | fields))
    assert consumed.position_of(wallet, close_order()) is None
    assert consumed._asked_for(wallet, close_order(), set()) is None
    mine = held_position(wallet)
    assert consumed.position_of(wallet, close_order()) == mine


def test_the_oldest_close_that_may_have_meant_the_position_asked_for_it(wallet: Wallet) -> None:
    mine, beside = held_position(wallet), held_position(wallet, trade_index=1)
    waiting(wallet)
    waiting_close(other())
    waiting_close(wallet, symbol="ETH-USD")
    waiting_close(wallet, position_id=beside.pk)
    first, second = waiting_close(wallet), waiting_close(wallet, position_id=mine.pk)
    rows.update(
        "tx_intents", first.pk, {"state": "held", "reason": "degraded"}
    )  # stored behind the other one now
    assert consumed._asked_for(wallet, close_order(), set()) == first
    assert consumed._asked_for(wallet, close_order(), {first.pk}) == second
    assert consumed._asked_for(wallet, close_order(), {first.pk, second.pk}) is None


def test_what_goes_by_message_has_asked_for_no_transaction(wallet: Wallet) -> None:
    """It can be given no nonce: taken for it, the wallet could not be adopted at all."""
    position = held_position(wallet)
    again = waiting_close(wallet, road="gateway")
    assert consumed._asked_for(wallet, close_order(), set()) is None
    assert consumed._may_have_meant(wallet, close_order(), position, set()) == []
    asked = waiting_close(wallet)
    assert again.pk < asked.pk
    assert consumed._asked_for(wallet, close_order(), set()) == asked


def test_a_position_that_another_close_has_is_only_that_ones(wallet: Wallet) -> None:
    mine = held_position(wallet)
    waiting_close(wallet)
    holder = waiting_close(wallet, position_id=mine.pk, holds_position=True)
    assert consumed._asked_for(wallet, close_order(), set()) == holder
    assert consumed._asked_for(wallet, close_order(), {holder.pk}) is None


def test_of_several_closes_the_one_that_takes_as_much_asked_for_it(wallet: Wallet) -> None:
    position = Position.objects.get(pk=rows.position(trader_id=wallet.trader_id))
    whole = position.collateral_usdc
    part, share, nothing = (
        waiting_close(wallet, reduce_usdc=2),
        waiting_close(wallet, reduce_pct=25),
        waiting_close(wallet, reduce_pct="0.0001"),
    )
    everything = waiting_close(wallet)
    asked = {Decimal(2): part, whole / 4: share, whole: everything}
    for amount_usdc, close in asked.items():
        order = close_order(collateral_usdc=amount_usdc)
        assert consumed._asked_for(wallet, order, set()) == close
        assert consumed._asked_for(wallet, order, {close.pk}) == (part if close != part else share)
    assert consumed._asked_for(wallet, close_order(collateral_usdc=Decimal("0.7")), set()) == part
    rows.update("positions", position.pk, {"collateral_usdc": Decimal("0.5")})
    order = close_order(collateral_usdc=Decimal("0.5"))
    assert consumed._asked_for(wallet, order, {part.pk, share.pk}) == everything, f"not {nothing.pk}"

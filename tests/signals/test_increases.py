"""A signal that increases: it means the one position that is open, and has its leverage, its side and its levels."""

from decimal import Decimal
from typing import Any

import pytest

from execution_app.models import Position, Trader
from execution_app.states import Reason
from signals_app import payloads
from tests.execution import rows
from tests.signals.test_payloads import errors
from tests.signals.test_rules import TRADER_ID, assert_nothing_was_sent, decide, trader

__all__ = ["trader"]  # the fixture
INCREASE: dict[str, Any] = {"side": "INCREASE", "collateral_usdc": "7.5", "leverage_x": None}
BODY = {"source": "drill", "signal_id": "1", "tg_user_id": 1, "symbol": "BTC-USD", "side": "increase"}


@pytest.mark.parametrize(
    ("fields", "faulty"),
    [
        ({}, "collateral_usdc"),
        *(({"collateral_usdc": 5, name: 1}, name) for name in payloads.NOT_OF_INCREASES),
        ({"collateral_usdc": 5, "limit_price": 1}, "limit_price"),
        ({"collateral_usdc": 5, "order_type": "limit"}, "order_type"),
    ],
)
def test_it_needs_collateral_and_takes_nothing_of_its_positions(fields: dict[str, Any], faulty: str) -> None:
    assert list(errors(BODY | fields)) == [faulty]


def test_its_side_may_be_spelled_in_any_case() -> None:
    read = payloads.read(BODY | {"collateral_usdc": 5, "order_type": "market"})
    assert (read.side, read.collateral_usdc, read.leverage_x) == ("INCREASE", Decimal(5), None)


def by_gateway(settings: Any) -> None:
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(update={"venue": "gateway"})


def position(trader: Trader, **fields: object) -> Position:
    return Position.objects.get(pk=rows.position(trader_id=trader.pk, **fields))


def test_it_means_the_one_position_that_is_open(trader: Trader, settings: Any) -> None:
    by_gateway(settings)
    position(trader, trade_index=1, state="closed")
    position(trader, trade_index=2, mode="DRY")
    position(trader, trade_index=3, symbol="ETH-USD", pair_index=0)
    held = position(trader, is_long=False, leverage_x="2.3333333333")
    signal, intent = decide(**INCREASE)
    assert (signal.decision, intent.state, intent.action) == ("accepted", "pending", "increase")
    assert (intent.position, intent.is_long, intent.road) == (held, False, "gateway")
    assert (intent.collateral_usdc, intent.leverage_x) == (Decimal("7.5"), Decimal("2.3333"))
    assert (intent.only_position, intent.expires_at is None) == (False, False)


def test_a_simulated_position_is_increased_whatever_the_road(trader: Trader) -> None:
    held = position(trader, mode="DRY")
    _, intent = decide(**INCREASE)
    assert (intent.state, intent.position, intent.road) == ("pending", held, "")


def test_none_and_several_are_refused(trader: Trader, settings: Any) -> None:
    by_gateway(settings)
    for count in (0, 2):
        for index in range(count):
            position(trader, trade_index=index)
        signal, intent = decide(**INCREASE, signal_id=f"with-{count}")
        assert (signal.reasons, intent.state, intent.position) == ([Reason.NO_POSITION], "rejected", None)
        assert f"{count} positions on BTC-USD are open" in intent.reason_detail
    assert_nothing_was_sent()


def test_where_the_road_has_none_it_is_refused_by_name(trader: Trader) -> None:
    position(trader)
    signal, intent = decide(**INCREASE)
    assert signal.reasons == [Reason.ORDER_TYPE_UNSUPPORTED]
    assert "onchain does not support increase (field side)" in intent.reason_detail
    assert_nothing_was_sent()


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"collateral_usdc": "500.1"}, Reason.NOTIONAL_ABOVE_CAP),
        ({"symbol": "NOPE-USD"}, Reason.SYMBOL_UNKNOWN),
        ({"tg_user_id": TRADER_ID + 1}, Reason.UNKNOWN_TRADER),
    ],
)
def test_it_is_judged_as_an_open(
    trader: Trader, settings: Any, fields: dict[str, Any], reason: Reason
) -> None:
    by_gateway(settings)
    position(trader)
    signal, intent = decide(**(INCREASE | fields))
    assert (signal.reasons[0], intent.state) == (reason, "rejected")
    assert_nothing_was_sent()

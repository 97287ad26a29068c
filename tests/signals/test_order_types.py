"""Orders that rest, changes of them, and margin: taken where the road to the venue has them, refused by name where it has not."""

from decimal import Decimal
from typing import Any

import pytest

from execution_app.models import Trader, TxIntent
from execution_app.states import Reason
from signals_app.models import Signal, SourceGrant
from tests.execution import rows
from tests.signals.test_rules import assert_nothing_was_sent, decide, trader

__all__ = ["trader"]  # the fixture


@pytest.mark.parametrize("order_type", ["limit", "stop_limit"])
def test_an_order_that_rests_is_refused_where_the_road_has_none(
    trader: Trader, settings: Any, order_type: str
) -> None:
    signal, intent = decide(order_type=order_type, limit_price=60_000)
    assert (signal.decision, intent.order_type, intent.limit_price) == ("accepted", order_type, 60_000)
    assert intent.road == "onchain"
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(update={"venue": "gateway"})
    signal, intent = decide(signal_id="second", order_type=order_type, limit_price=60_000)
    assert (signal.decision, signal.reasons) == ("rejected", [Reason.ORDER_TYPE_UNSUPPORTED])
    assert intent.reason_detail == f"gateway does not support open_{order_type} (field order_type)"
    assert_nothing_was_sent()


def change(**fields: object) -> tuple[Signal, TxIntent]:
    none = dict.fromkeys(("collateral_usdc", "leverage_x", "slippage_pct"))
    return decide(**{"side": "CHANGE", "changes": "rests", "limit_price": 59_000, **none, **fields})


def test_a_change_names_an_order_of_its_own_source(trader: Trader) -> None:
    _, order = decide(signal_id="rests", order_type="limit", limit_price=60_000)
    signal, intent = change()
    assert (signal.decision, intent.state, intent.action, intent.target) == (
        *("accepted", "pending", "update_order"),
        order,
    )
    assert (intent.limit_price, intent.new_slippage_pct, intent.take_profit) == (59_000, None, None)
    assert intent.expires_at is not None
    _, intent = change(slippage_pct=2, stop_loss=50_000, limit_price=None)
    assert (intent.limit_price, intent.new_slippage_pct, intent.stop_loss) == (None, 2, 50_000)
    signal, intent = change(signal_id="gone", stop_loss=0, limit_price=None)
    assert (signal.decision, signal.stop_loss, signal.take_profit) == ("accepted", 0, None)
    assert (intent.stop_loss, intent.take_profit, intent.state) == (0, None, "pending"), "0 goes, null stays"


@pytest.mark.parametrize(
    "named",
    [
        {"changes": "nothing"},
        {"changes": "market"},
        {"symbol": "ETH-USD"},
        {"source": "other"},
    ],
    ids=["unknown", "a market order", "another symbol", "another source"],
)
def test_a_change_of_no_such_order_is_kept_and_refused(trader: Trader, named: dict[str, object]) -> None:
    SourceGrant.objects.create(source="other", tg_user_id=trader.tg_user_id)
    decide(signal_id="rests", order_type="limit", limit_price=60_000)
    decide(signal_id="market")
    signal, intent = change(**named)
    assert (signal.decision, signal.reasons) == ("rejected", [Reason.NO_ORDER])
    assert (intent.state, intent.target, intent.action) == ("rejected", None, "update_order")
    assert_nothing_was_sent()


def test_a_change_is_refused_where_the_road_has_none(trader: Trader, settings: Any) -> None:
    decide(signal_id="rests", order_type="limit", limit_price=60_000)
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(update={"venue": "gateway"})
    signal, intent = change()
    assert (signal.decision, signal.reasons) == ("rejected", [Reason.ORDER_TYPE_UNSUPPORTED])
    assert intent.reason_detail == "gateway does not support change_order (field side)"
    assert_nothing_was_sent()


def test_a_change_of_a_stranger_is_refused_by_every_reason(trader: Trader) -> None:
    signal, intent = change(tg_user_id=999)
    assert (signal.decision, signal.reasons) == ("rejected", [Reason.UNKNOWN_TRADER])
    assert (intent.state, intent.trader, intent.target) == ("rejected", None, None)


def margin(**fields: object) -> tuple[Signal, TxIntent]:
    none = dict.fromkeys(("collateral_usdc", "leverage_x", "slippage_pct"))
    return decide(**{"side": "MARGIN", "deposit_usdc": "2.5", **none, **fields})


def test_margin_is_of_the_one_position_on_its_symbol(trader: Trader) -> None:
    signal, intent = margin()
    assert (signal.decision, signal.reasons, intent.position) == ("rejected", [Reason.NO_POSITION], None)
    rows.position(trader_id=trader.pk, mode="DRY")
    rows.position(trader_id=trader.pk, symbol="ETH-USD", pair_index=0)
    rows.position(trader_id=trader.pk, state="closed", opened_at="2025-01-01T00:00:00Z")
    held = rows.position(trader_id=trader.pk)
    signal, intent = margin()
    assert (signal.decision, intent.action, intent.position_id, intent.margin_usdc) == (
        *("accepted", "margin"),
        *(held, Decimal("2.5")),
    )
    assert intent.expires_at is not None
    _, intent = margin(deposit_usdc=None, withdraw_usdc=1)
    assert intent.margin_usdc == -1
    rows.position(trader_id=trader.pk, trade_index=1)
    signal, intent = margin()
    assert (signal.reasons, intent.state, intent.position) == ([Reason.NO_POSITION], "rejected", None)
    assert "a MARGIN needs the one that it means" in intent.reason_detail
    assert_nothing_was_sent()


def test_margin_of_a_simulated_position_where_there_is_no_other(trader: Trader, settings: Any) -> None:
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(update={"venue": "gateway"})
    held = rows.position(trader_id=trader.pk, mode="DRY")
    signal, intent = margin()
    assert (signal.decision, intent.position_id, intent.road) == ("accepted", held, "")


def test_margin_above_a_cap_is_refused_at_once(trader: Trader, settings: Any) -> None:
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(update={"max_notional_usdc": Decimal(20)})
    rows.position(trader_id=trader.pk)
    signal, _ = margin(deposit_usdc="20.1")
    assert (signal.decision, signal.reasons) == ("rejected", [Reason.NOTIONAL_ABOVE_CAP])
    signal, _ = margin(deposit_usdc=None, withdraw_usdc=20)
    assert signal.decision == "accepted", "what it would come to is known from the trade alone"


def test_margin_is_refused_where_the_road_has_none(trader: Trader, settings: Any) -> None:
    rows.position(trader_id=trader.pk)
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(update={"venue": "gateway"})
    signal, intent = margin()
    assert (signal.decision, signal.reasons) == ("rejected", [Reason.ORDER_TYPE_UNSUPPORTED])
    assert intent.reason_detail == "gateway does not support change_margin (field side)"
    signal, intent = margin(tg_user_id=999)
    assert (intent.state, intent.trader, intent.position) == ("rejected", None, None)

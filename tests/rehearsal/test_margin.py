"""Margin of a trade at the rehearsal venue: put in within the allowance, taken out within the limits, at the same notional."""

from decimal import Decimal

import pytest

from execution_app.venues import calls, margin_events
from execution_app.venues.calls import Margin
from ops.rehearsal import venue
from ops.rehearsal.contracts import artefact
from ops.rehearsal.rpc import Message
from tests.rehearsal.desk import BTC, GAS

NO_FEE = 0


def call(way: Margin, amount: str, index: int = 0) -> bytes:
    return calls.encode_update_margin(BTC, index, way, Decimal(amount), [b""])


def wrapped(desk, way, amount, index=0):
    return artefact("Trading").call("delegatedAction", desk.trader.address, call(way, amount, index))


def change(desk, way, amount):
    message = Message(desk.deployment.trading, wrapped(desk, way, amount), GAS, NO_FEE)
    (receipt,) = desk.delegate.transact(message)
    decoded = (margin_events.decode(log, trading_address=desk.deployment.trading) for log in receipt["logs"])
    (event,) = [event for event in decoded if event is not None]
    return event


def test_margin_goes_in_and_comes_out_at_the_same_notional(desk):
    opened = desk.fill()
    before = desk.usdc(desk.trader.address)
    desk.node.request("evm_increaseTime", 30)
    event = change(desk, Margin.DEPOSIT, "0.5")
    trade = desk.trade(0)
    assert trade is not None
    assert (trade.collateral_usdc, trade.leverage_x) == (Decimal("5.5"), Decimal("1.8181818181"))
    assert trade.position_size_usdc == Decimal("9.999999")
    assert trade.open_price == opened.price
    assert trade.opened_at > opened.opened_at
    assert (event.trader, event.pair_index, event.trade_index) == (desk.trader.address, BTC, 0)
    assert (event.change_usdc, event.collateral_usdc, event.leverage_x) == (
        Decimal("0.5"),
        trade.collateral_usdc,
        trade.leverage_x,
    )
    assert (event.is_long, event.open_price, event.opened_at) == (True, opened.price, trade.opened_at)
    assert desk.usdc(desk.trader.address) == before - 500_000
    event = change(desk, Margin.WITHDRAW, "3")
    trade = desk.trade(0)
    assert trade is not None
    assert (event.change_usdc, trade.collateral_usdc, trade.leverage_x) == (
        -3,
        Decimal("2.5"),
        Decimal("3.9999996"),
    )
    assert desk.usdc(desk.trader.address) == before + 2_500_000


def test_a_close_pays_what_is_in_it_by_then(desk):
    desk.fill()
    before = desk.usdc(desk.trader.address)
    change(desk, Margin.DEPOSIT, "5")
    (closed,) = desk.execute(desk.close(0, Decimal(10)).order_id)
    assert closed.collateral_usdc == 10
    # 0.01 % of spread both ways and the fee of 10 USDC notional
    assert before - desk.usdc(desk.trader.address) < 100_000
    assert desk.trade(0) is None


@pytest.mark.parametrize(
    ("way", "amount", "name"),
    [
        (Margin.DEPOSIT, "0", "INVALID_AMOUNT"),
        (Margin.DEPOSIT, "6", "LEVERAGE_INCORRECT"),  # below 1x
        (Margin.DEPOSIT, "2000000", "LEVERAGE_INCORRECT"),
        (Margin.WITHDRAW, "5", "INVALID_AMOUNT"),
        (Margin.WITHDRAW, "4.95", "LEVERAGE_INCORRECT"),  # 200x
    ],
)
def test_what_is_beyond_the_limits_is_refused(desk, way, amount, name):
    desk.fill()
    assert desk.revert(desk.delegate, wrapped(desk, way, amount), NO_FEE) == name
    trade = desk.trade(0)
    assert trade is not None
    assert (trade.collateral_usdc, trade.leverage_x) == (5, 2)


def test_what_would_be_liquidated_then_is_not_given_out(desk):
    desk.fill()
    venue.set_price(desk.url, desk.deployment, "BTC-USD", Decimal(80_000))
    # 20 % against 10 USDC are 2 USDC: 80 % of 2.5, and 100 % of 2
    assert desk.revert(desk.delegate, wrapped(desk, Margin.WITHDRAW, "2.9"), NO_FEE) == "LIQUIDATION_REACHED"
    assert change(desk, Margin.WITHDRAW, "2.4").collateral_usdc == Decimal("2.6")


def test_nobody_changes_the_margin_of_what_is_not_theirs_or_is_being_closed(desk):
    desk.fill()
    assert desk.revert(desk.operator, call(Margin.WITHDRAW, "1"), NO_FEE) == "NO_TRADE"
    assert desk.revert(desk.operator, wrapped(desk, Margin.WITHDRAW, "1"), NO_FEE) == "DELEGATE_NOT_APPROVED"
    assert desk.revert(desk.delegate, wrapped(desk, Margin.DEPOSIT, "1", 1), NO_FEE) == "NO_TRADE"
    order = desk.close(0, Decimal(1))
    assert desk.revert(desk.delegate, wrapped(desk, Margin.DEPOSIT, "1"), NO_FEE) == "ALREADY_BEING_CLOSED"
    desk.execute(order.order_id)
    assert change(desk, Margin.DEPOSIT, "1").collateral_usdc == 5

"""The rehearsal venue adds to a trade: by signed message alone, in two steps, at a blended price, or with a refund."""

from dataclasses import replace
from decimal import Decimal

import pytest

from execution_app.venues import costs
from execution_app.venues.costs import Held
from execution_app.venues.events import OrderCancelled
from execution_app.venues.increase_events import IncreaseRequested, PositionIncreased
from execution_app.venues.messages import IncreaseMessage
from execution_app.venues.onchain import CloseOrder, call_open_trades_count, encode_close, read_uint
from execution_app.venues.orders import IncreaseOrder
from ops.rehearsal import venue
from ops.rehearsal.contracts import artefact
from ops.rehearsal.rpc import Sender
from tests.rehearsal.desk import BTC
from tests.rehearsal.test_intents import carry_out, is_spent, now_s, signed, soon_ms

__all__ = ["signed"]  # the fixture


def increasing(desk, nonce=21, **changes):
    usual = IncreaseOrder(
        desk.trader.address, BTC, 0, Decimal(5), Decimal(2), Decimal(100_000), Decimal("0.5")
    )
    return IncreaseMessage(replace(usual, **changes), soon_ms(desk), nonce)


def register(desk, signed, **changes):
    (event,) = carry_out(desk, signed(increasing(desk, **changes)))
    assert isinstance(event, IncreaseRequested)
    return event


def grow(desk, signed, **changes):
    (event,) = desk.execute(register(desk, signed, **changes).order_id)
    assert isinstance(event, PositionIncreased)
    return event


def set_price(desk, price):
    venue.set_price(desk.url, desk.deployment, "BTC-USD", Decimal(price))


def paid(desk, usdc):
    (closed,) = desk.execute(desk.close(0, Decimal(usdc)).order_id)
    return closed.usdc_sent_to_trader


def test_it_is_registered_then_added_by_the_keeper(desk, signed):
    opened = desk.fill(take_profit=Decimal(150_000), stop_loss=Decimal(80_000))
    desk.node.request("evm_increaseTime", 60)
    set_price(desk, 110_000)
    before = desk.usdc(desk.trader.address)
    requested = register(desk, signed, wanted_price=Decimal(110_000))
    assert (requested.trader, requested.trade_index, requested.is_long) == (desk.trader.address, 0, True)
    assert (requested.collateral_usdc, requested.leverage_x) == (5, 2)
    assert desk.usdc(desk.trader.address) == before - 5_000_000
    assert desk.trade(0).collateral_usdc == 5, "what is registered is no fill"
    (added,) = desk.execute(requested.order_id)
    assert (added.price, added.collateral_usdc, added.leverage_x) == (Decimal(110_011), 5, 2)
    assert (added.open_price_before, added.opened_at_before) == (opened.price, opened.opened_at)
    trade = desk.trade(0)
    expected = costs.blended(
        Held(Decimal(5), Decimal(2), opened.price), Held(Decimal(5), Decimal(2), added.price)
    )
    assert Held(trade.collateral_usdc, trade.leverage_x, trade.open_price) == expected
    told = (added.held_usdc, added.held_leverage_x, added.open_price, added.opened_at)
    assert told == (trade.collateral_usdc, trade.leverage_x, trade.open_price, trade.opened_at)
    assert (trade.take_profit, trade.stop_loss) == (150_000, 80_000)
    assert trade.opened_at >= opened.opened_at + 60
    assert not desk.is_pending(requested.order_id)
    assert desk.execute(requested.order_id) == [], "twice does nothing"


@pytest.mark.parametrize("is_long", [True, False])
@pytest.mark.parametrize("end", [105_000, 97_000])
def test_both_together_are_worth_what_each_is(desk, signed, is_long, end):
    """Blended by coins: closing the whole pays what two trades at the two prices would, but for a unit of rounding."""
    terms = {"collateral_usdc": Decimal(500), "is_long": is_long}
    desk.fill(**terms)
    set_price(desk, 102_000)
    grow(desk, signed, collateral_usdc=Decimal(300), leverage_x=Decimal(3), wanted_price=Decimal(102_000))
    second = desk.fill(
        **{**terms, "collateral_usdc": Decimal(300)}, leverage_x=Decimal(3), wanted_price=Decimal(102_000)
    )
    first = desk.trade(0)
    assert first.leverage_x == Decimal("2.375")
    set_price(desk, end)
    fill = costs.fill_price(Decimal(end), costs.Costs(0, 8, 10**8), buys=not is_long)
    apart = sum(
        costs.proceeds(usdc, leverage, price, fill, costs.Costs(0, 8, 10**8), is_long=is_long).paid_usdc
        for usdc, leverage, price in (
            (Decimal(500), Decimal(2), Decimal(100_010) if is_long else Decimal(99_990)),
            (Decimal(300), Decimal(3), second.price),
        )
    )
    assert abs(paid(desk, 800) - apart) <= Decimal("0.00001")


def test_the_same_leverage_stays_to_the_last_digit(desk, signed):
    desk.fill(collateral_usdc=Decimal("5.000001"), leverage_x=Decimal("2.3333"))
    grow(desk, signed, collateral_usdc=Decimal("7.000003"), leverage_x=Decimal("2.3333"))
    trade = desk.trade(0)
    assert (trade.collateral_usdc, trade.leverage_x) == (Decimal("12.000004"), Decimal("2.3333"))


def test_its_fee_comes_out_of_what_is_added(desk, signed):
    desk.fill()
    desk.set_terms(open_fee_bps=10)
    added = grow(desk, signed)
    assert added.collateral_usdc == Decimal("4.99")
    assert desk.trade(0).collateral_usdc == Decimal("9.99")


def test_it_takes_no_slot(desk, signed):
    for _ in range(3):  # all that one trader may have of a pair here
        desk.fill()
    register(desk, signed)
    count = desk.node.call(desk.deployment.storage, call_open_trades_count(desk.trader.address, BTC))
    assert read_uint(count) == 3
    pending = artefact("TradingStorage").call("pendingOpensCount", desk.trader.address, BTC)
    assert read_uint(desk.node.call(desk.deployment.storage, pending)) == 0


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"trade_index": 1}, "NO_TRADE"),
        ({"leverage_x": Decimal("75.1")}, "LEVERAGE_INCORRECT"),
        ({"leverage_x": Decimal("0.9")}, "LEVERAGE_INCORRECT"),
        ({"slippage_pct": Decimal("80.1")}, "INVALID_SLIPPAGE"),
    ],
)
def test_what_can_be_none_is_refused_and_spends_nothing(desk, signed, changes, reason):
    desk.fill()
    assert desk.revert(desk.operator, signed(increasing(desk, **changes)), 0) == reason
    assert not is_spent(desk, desk.delegate.address, 21)


def test_signer_nonce_and_deadline_are_those_of_every_message(desk, signed):
    desk.fill()
    stranger = Sender(desk.node, "0x" + "17" * 32)
    assert desk.revert(desk.operator, signed(increasing(desk), by=stranger), 0) == "DELEGATE_NOT_APPROVED"
    first = signed(increasing(desk))
    assert desk.revert(desk.delegate, first, 0) == "ONLY_OPERATOR"
    carry_out(desk, first)
    assert is_spent(desk, desk.delegate.address, 21)
    assert desk.revert(desk.operator, first, 0) == "InvalidNonce"
    late = signed(increasing(desk, nonce=22))
    desk.node.request("evm_setNextBlockTimestamp", now_s(desk) + 101)
    desk.node.request("anvil_mine", "0x1")
    assert desk.revert(desk.operator, late, 0) == "InvalidDeadline"


def test_more_than_the_allowance_is_not_taken(desk, signed):
    desk.fill()
    call = signed(increasing(desk, collateral_usdc=Decimal(9_500)))
    assert desk.revert(desk.operator, call, 0) is not None
    assert not is_spent(desk, desk.delegate.address, 21)


def test_a_paused_venue_takes_none(desk, signed):
    desk.fill()
    venue.set_paused(desk.url, desk.deployment, paused=True)
    assert desk.revert(desk.operator, signed(increasing(desk)), 0) == "Pausable: paused"


def refunded(desk, order_id, before):
    (event,) = desk.execute(order_id)
    assert isinstance(event, OrderCancelled)
    assert desk.usdc(desk.trader.address) == before
    assert not desk.is_pending(order_id)


@pytest.mark.parametrize(
    ("price", "levels"),
    [(100_600, {}), (100_300, {"take_profit": Decimal(100_200)}), (99_700, {"stop_loss": Decimal(99_800)})],
)
def test_a_fill_beyond_the_slippage_or_a_level_is_refunded(desk, signed, price, levels):
    desk.fill(**levels)
    before, stood = desk.usdc(desk.trader.address), desk.trade(0)
    order = register(desk, signed).order_id
    set_price(desk, price)
    refunded(desk, order, before)
    assert desk.trade(0) == stood


def test_a_trade_that_changed_meanwhile_is_left_alone(desk, signed):
    """Closed, in part or wholly and opened anew: the message meant another one."""
    desk.fill()
    for usdc in (2, 3):
        before = desk.usdc(desk.trader.address)
        order = register(desk, signed, nonce=usdc).order_id
        desk.node.request("evm_increaseTime", 30)
        closing = encode_close(CloseOrder(desk.trader.address, BTC, 0, Decimal(usdc), Decimal(1)))
        (asked,) = desk.transact(desk.trader, closing)
        (closed,) = desk.execute(asked.order_id)
        refunded(desk, order, before + int(closed.usdc_sent_to_trader * 10**6))
    assert desk.trade(0) is None


def test_nothing_is_added_while_a_close_is_under_way_and_a_close_waits_for_no_increase(desk, signed):
    desk.fill()
    order = register(desk, signed).order_id
    close = desk.close(0, Decimal(5)).order_id
    assert desk.revert(desk.operator, signed(increasing(desk, nonce=22)), 0) == "ALREADY_BEING_CLOSED"
    added, closed = desk.execute(order, close)
    assert isinstance(added, PositionIncreased)
    assert (closed.collateral_usdc, desk.trade(0).collateral_usdc) == (5, 5), "it closes what it named"
    assert paid(desk, 5) > 0
    assert desk.trade(0) is None

"""Orders that rest at the rehearsal venue: taken with their collateral, triggered by the oracle, changed, taken back."""

from decimal import Decimal

import pytest

from execution_app.venues import calls, onchain
from execution_app.venues.events import OrderCancelled, OrderExecuted, OrderRegistered, OrderUpdated
from execution_app.venues.orders import Kind
from ops.rehearsal import venue
from ops.rehearsal.contracts import artefact
from ops.rehearsal.keeper import Keeper
from ops.rehearsal.rpc import Node
from tests.rehearsal.desk import BTC, FEE_WEI

LIMIT = {"kind": Kind.LIMIT, "wanted_price": Decimal(95_000)}
NO_FEE = 0


def price(desk, usd):
    venue.set_price(desk.url, desk.deployment, "BTC-USD", Decimal(usd))


def wrapped(desk, call):
    """By the delegate, also what ours never signs."""
    return artefact("Trading").call("delegatedAction", desk.trader.address, call)


def cancel(desk, slot=0):
    return desk.delegated(calls.encode_cancel_limit(BTC, slot))


def test_an_order_rests_until_its_price_comes(desk):
    before = desk.usdc(desk.trader.address)
    registered = desk.open(**LIMIT, take_profit=Decimal(120_000), stop_loss=Decimal(90_000))
    assert isinstance(registered, OrderRegistered)
    assert (registered.limit_index, registered.is_open, registered.is_long) == (0, True, True)
    assert (registered.collateral_usdc, registered.leverage_x) == (Decimal(5), Decimal(2))
    assert desk.usdc(desk.trader.address) == before - 5_000_000
    assert desk.execute(registered.order_id) == []
    assert desk.is_pending(registered.order_id)

    price(desk, 94_900)
    (executed,) = desk.execute(registered.order_id)
    assert isinstance(executed, OrderExecuted)
    assert (executed.order_id, executed.is_open, executed.collateral_usdc) == (
        registered.order_id,
        True,
        Decimal(5),
    )
    assert executed.price == Decimal("94909.49")
    assert (executed.take_profit, executed.stop_loss) == (Decimal(120_000), Decimal(90_000))
    trade = desk.trade(0)
    assert trade is not None
    assert (trade.open_price, trade.take_profit, trade.stop_loss) == (executed.price, 120_000, 90_000)
    assert not desk.is_pending(registered.order_id)
    assert desk.execute(registered.order_id) == []


@pytest.mark.parametrize(
    ("kind", "is_long", "wanted", "waits_at", "comes_at"),
    [
        (Kind.LIMIT, True, 95_000, 95_001, 95_000),
        (Kind.LIMIT, False, 105_000, 104_999, 105_000),
        (Kind.STOP_LIMIT, True, 105_000, 104_999, 105_000),
        (Kind.STOP_LIMIT, False, 95_000, 95_001, 95_000),
    ],
)
def test_each_kind_waits_on_its_side(desk, kind, is_long, wanted, waits_at, comes_at):  # noqa: PLR0917
    order = desk.open(kind=kind, is_long=is_long, wanted_price=Decimal(wanted)).order_id
    price(desk, waits_at)
    assert desk.execute(order) == []
    price(desk, comes_at)
    assert [type(event) for event in desk.execute(order)] == [OrderExecuted]


def test_a_price_that_jumped_past_the_slippage_or_a_level_fills_nothing(desk):
    stop = desk.open(kind=Kind.STOP_LIMIT, wanted_price=Decimal(105_000)).order_id
    price(desk, 106_000)
    assert desk.execute(stop) == []
    limit = desk.open(**LIMIT, stop_loss=Decimal(94_000)).order_id
    price(desk, 93_000)
    assert desk.execute(limit) == []
    assert desk.is_pending(stop)
    assert desk.is_pending(limit)


def test_a_cancel_returns_the_collateral_and_frees_the_slot(desk):
    before = desk.usdc(desk.trader.address)
    first, second = desk.open(**LIMIT), desk.open(**LIMIT)
    assert (first.limit_index, second.limit_index) == (0, 1)
    (cancelled,) = desk.transact(desk.delegate, cancel(desk), NO_FEE)
    assert isinstance(cancelled, OrderCancelled)
    assert (cancelled.order_id, cancelled.trader, cancelled.pair_index) == (
        first.order_id,
        desk.trader.address,
        BTC,
    )
    assert desk.usdc(desk.trader.address) == before - 5_000_000
    assert desk.revert(desk.delegate, cancel(desk), NO_FEE) == "NO_LIMIT"
    assert desk.open(**LIMIT).limit_index == 0


def test_a_filled_order_is_cancelled_no_more(desk):
    order = desk.open(**LIMIT).order_id
    price(desk, 95_000)
    desk.execute(order)
    assert desk.revert(desk.delegate, cancel(desk), NO_FEE) == "NO_LIMIT"


def test_new_terms_hold_from_then_on(desk):
    order = desk.open(**LIMIT).order_id
    call = calls.encode_update_limit(BTC, 0, Decimal(98_000), Decimal(1), take_profit=Decimal(110_000))
    (updated,) = desk.transact(desk.delegate, wrapped(desk, call), NO_FEE)
    assert isinstance(updated, OrderUpdated)
    assert (updated.order_id, updated.price, updated.take_profit) == (
        order,
        Decimal(98_000),
        Decimal(110_000),
    )
    price(desk, 97_900)
    (executed,) = desk.execute(order)
    assert isinstance(executed, OrderExecuted)
    assert (executed.take_profit, executed.stop_loss, executed.collateral_usdc) == (
        Decimal(110_000),
        None,
        Decimal(5),
    )


@pytest.mark.parametrize(
    ("terms", "name"),
    [
        ({"price": Decimal(0)}, "INVALID_PRICE"),
        ({"slippage_pct": Decimal(81)}, "INVALID_SLIPPAGE"),
        ({"take_profit": Decimal(97_000)}, "WRONG_TP"),
        ({"stop_loss": Decimal(99_000)}, "WRONG_SL"),
    ],
)
def test_terms_that_make_no_sense_are_refused(desk, terms, name):
    desk.open(**LIMIT)
    price, slippage = terms.pop("price", Decimal(98_000)), terms.pop("slippage_pct", Decimal(1))
    call = wrapped(desk, calls.encode_update_limit(BTC, 0, price, slippage, **terms))
    assert desk.revert(desk.delegate, call, NO_FEE) == name


def test_nobody_else_cancels_or_changes_it(desk):
    desk.open(**LIMIT)
    for call in (
        calls.encode_cancel_limit(BTC, 0),
        calls.encode_update_limit(BTC, 0, Decimal(98_000), Decimal(1)),
    ):
        assert desk.revert(desk.operator, call, NO_FEE) == "NO_LIMIT"
        assert desk.revert(desk.operator, wrapped(desk, call), NO_FEE) == "DELEGATE_NOT_APPROVED"


def test_it_counts_among_trades_and_pending_orders(desk):
    for _ in range(3):
        desk.open(**LIMIT)
    call = desk.delegated(onchain.encode_open(desk.order()))
    assert desk.revert(desk.delegate, call, FEE_WEI) == "MAX_TRADES_PER_PAIR"
    desk.transact(desk.delegate, cancel(desk, 1), NO_FEE)
    assert desk.open().limit_index is None


def test_an_unknown_kind_is_refused(desk):
    call = bytearray(onchain.encode_open(desk.order()))
    call[4 + 11 * 32 + 31] = 3
    assert desk.revert(desk.delegate, desk.delegated(bytes(call))) == "ORDER_TYPE_UNSUPPORTED"


def test_the_keeper_sends_nothing_for_what_rests(desk):
    keeper = Keeper(Node(desk.url), desk.deployment)
    order = desk.open(**LIMIT).order_id
    sent = desk.node.number("eth_getTransactionCount", desk.operator.address, "latest")
    keeper.step()
    assert desk.node.number("eth_getTransactionCount", desk.operator.address, "latest") == sent
    assert keeper.pending() == [order]
    market = desk.open(pair_index=0, wanted_price=Decimal(4_000)).order_id
    keeper.step()
    assert not desk.is_pending(market)
    price(desk, 95_000)
    keeper.step()
    assert not desk.is_pending(order)

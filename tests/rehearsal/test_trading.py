"""The rehearsal venue behaves as the live one does on chain: register, then execute apart."""

from decimal import Decimal

import pytest
from eth_account import Account

from execution_app.venues import onchain
from execution_app.venues.events import OrderCancelled, OrderExecuted
from execution_app.venues.onchain import CloseOrder
from ops.rehearsal import venue
from ops.rehearsal.contracts import artefact
from ops.rehearsal.rpc import NodeRefusedError, Sender
from tests.rehearsal.desk import BTC, FEE_WEI

TRADING = artefact("Trading")


def test_an_open_is_registered_then_executed(desk):
    before = desk.usdc(desk.trader.address)
    registered = desk.open()
    assert (registered.trader, registered.pair_index) == (desk.trader.address, BTC)
    assert (registered.is_open, registered.is_long) == (True, True)
    assert (registered.collateral_usdc, registered.leverage_x) == (Decimal(5), Decimal(2))
    assert desk.usdc(desk.trader.address) == before - 5_000_000
    assert desk.is_pending(registered.order_id)
    assert desk.trade(0) is None

    (executed,) = desk.execute(registered.order_id)
    assert isinstance(executed, OrderExecuted)
    assert (executed.order_id, executed.trade_index, executed.is_open) == (registered.order_id, 0, True)
    assert executed.price == Decimal(100_010)  # the oracle's 100,000 and 0.01 % of spread
    assert (executed.position_size_usdc, executed.usdc_sent_to_trader) == (Decimal(10), Decimal(0))
    assert not desk.is_pending(registered.order_id)
    trade = desk.trade(0)
    assert trade is not None
    assert (trade.collateral_usdc, trade.leverage_x, trade.is_long) == (5, 2, True)
    assert (trade.opened_at, trade.open_price) == (executed.opened_at, executed.price)


def test_the_same_order_is_executed_once(desk):
    order = desk.open().order_id
    assert len(desk.execute(order, order)) == 1
    assert desk.execute(order) == []
    assert desk.execute(10**6) == []


def test_order_ids_rise_and_the_lowest_free_index_is_taken(desk):
    ids = [desk.open().order_id for _ in range(3)]
    assert ids == sorted(set(ids))
    assert [event.trade_index for event in desk.execute(*ids)] == [0, 1, 2]
    desk.execute(desk.close(1, Decimal(5)).order_id)
    assert desk.fill().trade_index == 1


def test_a_full_close_pays_the_trader_not_the_caller(desk):
    opened = desk.fill()
    venue.set_price(desk.url, desk.deployment, "BTC-USD", Decimal(110_000))
    before, delegate_before = desk.usdc(desk.trader.address), desk.usdc(desk.delegate.address)
    (closed,) = desk.execute(desk.close(0, Decimal(5)).order_id)
    assert not closed.is_open
    assert (closed.trade_index, closed.collateral_usdc) == (0, 5)
    assert closed.opened_at == opened.opened_at
    assert closed.price == Decimal(109_989)
    # (109,989 - 100,010) / 100,010 x 2, and 8 bps of 10 USDC as fee
    assert closed.pnl_pct == Decimal("19.9560043995")
    assert closed.usdc_sent_to_trader == Decimal("5.997800") - Decimal("0.008")
    assert desk.usdc(desk.trader.address) - before == int(closed.usdc_sent_to_trader * 10**6)
    assert desk.usdc(desk.delegate.address) == delegate_before
    assert desk.trade(0) is None


def test_a_short_gains_when_the_price_falls(desk):
    desk.fill(is_long=False)
    venue.set_price(desk.url, desk.deployment, "BTC-USD", Decimal(90_000))
    (closed,) = desk.execute(desk.close(0, Decimal(5)).order_id)
    assert not closed.is_long
    assert closed.pnl_pct > 19


def test_a_loss_beyond_liquidation_pays_nothing(desk):
    desk.fill(leverage_x=Decimal(10))
    venue.set_price(desk.url, desk.deployment, "BTC-USD", Decimal(91_000))
    (closed,) = desk.execute(desk.close(0, Decimal(5)).order_id)
    assert closed.pnl_pct < -85
    assert closed.usdc_sent_to_trader == 0


def test_a_partial_close_keeps_the_rest_and_refreshes_the_timestamp(desk):
    opened = desk.fill()
    desk.node.request("evm_increaseTime", 60)
    (closed,) = desk.execute(desk.close(0, Decimal(2)).order_id)
    assert (closed.collateral_usdc, closed.position_size_usdc) == (2, 4)
    assert closed.opened_at == opened.opened_at
    trade = desk.trade(0)
    assert trade is not None
    assert (trade.collateral_usdc, trade.leverage_x, trade.open_price) == (3, 2, opened.price)
    assert trade.opened_at >= opened.opened_at + 60


@pytest.mark.parametrize(
    ("price", "order"),
    [
        (Decimal(100_600), {}),
        (Decimal(99_400), {"is_long": False}),
        (Decimal(100_300), {"take_profit": Decimal(100_200)}),
        (Decimal(99_700), {"stop_loss": Decimal(99_800)}),
        (Decimal(99_700), {"is_long": False, "take_profit": Decimal(99_800)}),
    ],
)
def test_an_open_beyond_slippage_or_level_is_cancelled_with_full_refund(desk, price, order):
    before = desk.usdc(desk.trader.address)
    registered = desk.open(**order)
    venue.set_price(desk.url, desk.deployment, "BTC-USD", price)
    (cancelled,) = desk.execute(registered.order_id)
    assert isinstance(cancelled, OrderCancelled)
    assert (cancelled.order_id, cancelled.trader) == (registered.order_id, desk.trader.address)
    assert desk.usdc(desk.trader.address) == before
    assert desk.trade(0) is None
    assert not desk.is_pending(registered.order_id)


@pytest.mark.parametrize(
    ("order", "reason"),
    [
        ({"collateral_usdc": Decimal("2.499999")}, "BELOW_MIN_POS"),
        ({"leverage_x": Decimal("75.0001")}, "LEVERAGE_INCORRECT"),
        ({"leverage_x": Decimal("0.9")}, "LEVERAGE_INCORRECT"),
        ({"slippage_pct": Decimal("80.0001")}, "INVALID_SLIPPAGE"),
        ({"take_profit": Decimal(99_999)}, "WRONG_TP"),
        ({"take_profit": Decimal(100_000)}, "WRONG_TP"),
        ({"is_long": False, "take_profit": Decimal(100_001)}, "WRONG_TP"),
        ({"stop_loss": Decimal(100_001)}, "WRONG_SL"),
        ({"is_long": False, "stop_loss": Decimal(99_999)}, "WRONG_SL"),
        ({"stop_loss": Decimal(59_999)}, "SL_TOO_BIG"),
        ({"pair_index": 999}, "INVALID_PAIR"),
        ({"collateral_usdc": Decimal(9_001)}, "ERC20: transfer amount exceeds allowance"),
    ],
)
def test_an_open_is_refused(desk, order, reason):
    call = desk.delegated(onchain.encode_open(desk.order(**order)))
    assert desk.revert(desk.delegate, call) == reason


def test_levels_are_stored(desk):
    desk.fill(take_profit=Decimal(150_000), stop_loss=Decimal(60_001))
    trade = desk.trade(0)
    assert trade is not None
    assert (trade.take_profit, trade.stop_loss) == (150_000, 60_001)


def test_limits_count_trades_and_waiting_orders(desk):
    desk.fill()
    for _ in range(2):
        desk.open()
    call = desk.delegated(onchain.encode_open(desk.order()))
    assert desk.revert(desk.delegate, call) == "MAX_TRADES_PER_PAIR"
    for _ in range(3):
        desk.open(pair_index=0, wanted_price=Decimal(3500))
    other = desk.delegated(onchain.encode_open(desk.order(pair_index=2, wanted_price=Decimal(200))))
    assert desk.revert(desk.delegate, other) == "MAX_PENDING_ORDERS"


def test_closes_are_refused_without_a_trade_twice_or_beyond_it(desk):
    def closing(index, amount=Decimal(5)):
        order = CloseOrder(desk.trader.address, BTC, index, amount, Decimal(1))
        return desk.delegated(onchain.encode_close(order))

    assert desk.revert(desk.delegate, closing(0)) == "NO_TRADE"
    desk.fill()
    assert desk.revert(desk.delegate, closing(0, Decimal(6))) == "INVALID_AMOUNT"
    desk.close(0, Decimal(5))
    assert desk.revert(desk.delegate, closing(0)) == "ALREADY_BEING_CLOSED"


def test_orders_need_the_fee_and_pay_it_to_the_operator(desk):
    call = desk.delegated(onchain.encode_open(desk.order()))
    quoted = onchain.read_uint(desk.node.call(desk.deployment.trading, onchain.call_execution_fee()))
    assert quoted == FEE_WEI
    assert desk.revert(desk.delegate, call, quoted - 1) == "EXECUTION_FEE_NOT_SENT"
    before = desk.node.number("eth_getBalance", desk.deployment.operator, "latest")
    desk.open()
    assert desk.node.number("eth_getBalance", desk.deployment.operator, "latest") == before + quoted


def test_a_paused_venue_takes_no_orders_but_executes_registered_ones(desk):
    order = desk.open().order_id
    venue.set_paused(desk.url, desk.deployment, paused=True)
    call = desk.delegated(onchain.encode_open(desk.order()))
    assert desk.revert(desk.delegate, call) == "Pausable: paused"
    assert isinstance(desk.execute(order)[0], OrderExecuted)
    venue.set_paused(desk.url, desk.deployment, paused=False)
    desk.open()


def test_traders_may_order_themselves_but_not_for_others(desk):
    (event,) = desk.transact(desk.trader, onchain.encode_open(desk.order()))
    assert event.trader == desk.trader.address
    assert desk.revert(desk.delegate, onchain.encode_open(desk.order())) == "NOT_ALLOWED"
    foreign = onchain.encode_open(desk.order(trader=desk.delegate.address))
    assert desk.revert(desk.delegate, desk.delegated(foreign)) == "NOT_ALLOWED"


def test_a_delegate_orders_only_while_named(desk):
    call = desk.delegated(onchain.encode_open(desk.order()))
    stranger = Sender(desk.node, Account.create().key)
    venue.fund(desk.url, desk.deployment, stranger.address, 10**18, 0)
    assert desk.revert(stranger, call) == "DELEGATE_NOT_APPROVED"
    desk.transact(desk.trader, TRADING.call("setDelegate", stranger.address, 4 * 10**9), 0)
    assert desk.revert(desk.delegate, call) == "DELEGATE_NOT_APPROVED"
    desk.transact(stranger, call)
    desk.transact(desk.trader, TRADING.call("removeDelegate", stranger.address), 0)
    assert desk.revert(stranger, call) == "DELEGATE_NOT_APPROVED"


def test_a_delegation_ends(desk):
    now_s = int(desk.node.request("eth_getBlockByNumber", "latest", False)["timestamp"], 16)
    desk.transact(desk.trader, TRADING.call("setDelegate", desk.delegate.address, now_s + 100), 0)
    desk.open()
    desk.node.request("evm_increaseTime", 100)
    desk.node.request("anvil_mine", "0x1")
    call = desk.delegated(onchain.encode_open(desk.order()))
    assert desk.revert(desk.delegate, call) == "DELEGATE_NOT_APPROVED"


def test_a_delegate_changes_no_delegates(desk):
    for inner in (
        TRADING.call("setDelegate", desk.delegate.address, 4 * 10**9),
        TRADING.call("removeDelegate", desk.delegate.address),
        TRADING.call("setPaused", True),
        b"\x19",
    ):
        call = TRADING.call("delegatedAction", desk.trader.address, inner)
        assert desk.revert(desk.delegate, call, 0) == "NOT_ALLOWED"


def test_only_the_operator_executes_and_only_the_owner_sets(desk):
    order = desk.open().order_id
    call = TRADING.call("executeMarketOrders", [order], [], 0, 0)
    assert desk.revert(desk.trader, call, 0) == "ONLY_OPERATOR"
    for data in (
        TRADING.call("setPaused", True),
        TRADING.call("setLimits", (0, 0, 0, 0)),
        TRADING.call("setCosts", (0, 0, 0, 0)),
    ):
        assert desk.revert(desk.operator, data, 0) == "NOT_ALLOWED"


def test_only_the_trading_contract_moves_what_the_storage_holds(desk):
    data = artefact("TradingStorage").call("pay", desk.trader.address, 1)
    with pytest.raises(NodeRefusedError, match="NOT_ALLOWED"):
        desk.node.call(desk.deployment.storage, data, sender=desk.trader.address)


def test_an_opening_fee_comes_out_of_the_collateral(desk):
    desk.set_terms(open_fee_bps=10)
    executed = desk.fill()
    assert executed.collateral_usdc == Decimal("4.99")
    assert executed.position_size_usdc == Decimal("9.98")


def test_the_views_that_clients_read(desk):
    prices = desk.deployment.price_aggregator
    for symbol, index in onchain.PAIRS.items():
        assert onchain.read_pair_name(desk.node.call(prices, onchain.call_pair_name(index))) == symbol
        price, _ = onchain.read_price(desk.node.call(prices, onchain.call_price(index)))
        assert price == venue.SEED_PRICES[symbol]
    venue.set_price(desk.url, desk.deployment, "BTC-USD", Decimal("99999.5"), 1_700_000_000)
    read = onchain.read_price(desk.node.call(prices, onchain.call_price(BTC)))
    assert read == (Decimal("99999.5"), 1_700_000_000)
    named = onchain.read_delegate(
        desk.node.call(desk.deployment.trading, onchain.call_delegate(desk.trader.address))
    )
    assert named == (desk.delegate.address, 4 * 10**9)


def test_indices_beyond_one_word(desk):
    desk.set_terms(max_trades_per_pair=400, max_pending_orders=400)
    for _ in range(3):
        data = desk.delegated(onchain.encode_open(desk.order()))
        desk.node.receipts(desk.delegate.send([desk.message(data)] * 100))
    for first in (1, 101, 201):
        desk.execute(*range(first, first + 100))
    count = onchain.call_open_trades_count(desk.trader.address, BTC)
    assert onchain.read_uint(desk.node.call(desk.deployment.storage, count)) == 300
    assert desk.trade(299) is not None
    assert desk.trade(300) is None


def test_a_pool_too_small_refuses_the_close_and_keeps_the_order(desk):
    desk.fill()
    order = desk.close(0, Decimal(5)).order_id
    held = desk.drain_pool()
    call = TRADING.call("executeMarketOrders", [order], [], 0, 0)
    assert desk.revert(desk.operator, call, 0) == "ERC20: transfer amount exceeds balance"
    assert desk.is_pending(order)
    venue.fund(desk.url, desk.deployment, desk.deployment.storage, 0, held)
    assert isinstance(desk.execute(order)[0], OrderExecuted)

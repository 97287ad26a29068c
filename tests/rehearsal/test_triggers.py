"""What the venue ends by itself: own levels and liquidations, by the keeper, once, through restarts and reorgs."""

from decimal import Decimal

import pytest

from execution_app.states import PositionEnd
from execution_app.venues import events
from ops.rehearsal import venue
from ops.rehearsal.contracts import artefact
from ops.rehearsal.keeper import Keeper
from ops.rehearsal.rpc import Message, Node, TransactionFailedError

LEVELS = {"take_profit": Decimal(110_000), "stop_loss": Decimal(90_000)}
SHORT_LEVELS = {"take_profit": Decimal(90_000), "stop_loss": Decimal(110_000)}


def keeper(desk, **faults) -> Keeper:
    return Keeper(Node(desk.url), desk.deployment, **{"ends_trades": True, **faults})


def set_price(desk, price: int) -> None:
    venue.set_price(desk.url, desk.deployment, "BTC-USD", Decimal(price))


def ended(desk) -> list[tuple[PositionEnd, events.OrderExecuted]]:
    span = {"fromBlock": "0x0", "toBlock": "latest", "address": desk.deployment.trading}
    logs = desk.node.request("eth_getLogs", span)
    found = [events.decode_ending(log, trading_address=desk.deployment.trading) for log in logs]
    return [one for one in found if one is not None]


@pytest.mark.parametrize(
    ("terms", "price", "how", "paid"),
    [
        ({**LEVELS}, 110_000, PositionEnd.TAKE_PROFIT, "6"),
        ({**LEVELS}, 90_000, PositionEnd.STOP_LOSS, "4"),
        ({**SHORT_LEVELS, "is_long": False}, 90_000, PositionEnd.TAKE_PROFIT, "6"),
        ({**SHORT_LEVELS, "is_long": False}, 110_000, PositionEnd.STOP_LOSS, "4"),
        ({}, 57_500, PositionEnd.LIQUIDATION, "0"),
        ({"is_long": False}, 142_500, PositionEnd.LIQUIDATION, "0"),
    ],
)
def test_a_price_ends_a_trade_once_and_pays_its_trader(desk, terms, price, how, paid):
    desk.set_terms(open_fee_bps=0, close_fee_bps=0, spread_pct=Decimal(0))
    working = keeper(desk)
    working.step()
    desk.fill(**terms)
    desk.fill(leverage_x=Decimal("1.1"))  # another trade that stays
    before = desk.usdc(desk.trader.address)
    set_price(desk, price)
    working.step()
    working.step()
    ((found, event),) = ended(desk)
    assert (found, event.usdc_sent_to_trader) == (how, Decimal(paid))
    assert (event.trade_index, event.collateral_usdc, event.price) == (0, Decimal(5), Decimal(price))
    assert desk.usdc(desk.trader.address) - before == int(Decimal(paid) * 10**6)
    assert desk.trade(0) is None
    assert desk.trade(1) is not None


def test_a_price_short_of_all_levels_ends_nothing(desk):
    desk.fill(**LEVELS)
    desk.fill(leverage_x=Decimal(8))  # liquidated at 89,375
    working = keeper(desk)
    for price in (90_001, 109_999):
        set_price(desk, price)
        working.step()
    assert ended(desk) == []


def test_a_keeper_that_starts_later_knows_the_trades(desk):
    desk.fill(**LEVELS)
    set_price(desk, 89_000)
    keeper(desk).step()
    assert [how for how, _ in ended(desk)] == [PositionEnd.STOP_LOSS]


def test_a_reorg_brings_the_trade_back_and_it_is_ended_again(desk):
    desk.fill(**LEVELS)
    set_price(desk, 90_000)
    working = keeper(desk)
    before = desk.node.request("evm_snapshot")
    working.step()
    assert desk.trade(0) is None
    desk.node.request("evm_revert", before)
    assert desk.trade(0) is not None
    desk.node.request("anvil_mine", "0x3")
    working.step()
    assert desk.trade(0) is None


def test_a_trade_that_an_order_closes_is_left_to_it(desk):
    desk.fill(**LEVELS)
    order = desk.close(0, Decimal(5)).order_id
    set_price(desk, 90_000)
    slots = [(desk.trader.address, 1, 0)]
    desk.operator.transact(
        Message(desk.deployment.trading, artefact("Trading").call("executeTriggers", slots), 500_000)
    )
    assert ended(desk) == []
    desk.execute(order)
    assert [how for how, _ in ended(desk)] == [PositionEnd.OWNER]


def test_a_level_that_fires_late_and_one_that_never_does(desk):
    desk.fill(**LEVELS)
    set_price(desk, 90_000)
    keeper(desk, ends_trades=False).step()
    keeper(desk, never=True).step()
    late = keeper(desk, delay_s=0.3)
    late.step()
    assert desk.trade(0) is not None
    late.stopping.wait(0.3)
    late.step()
    assert desk.trade(0) is None


def test_nobody_but_the_operator_ends_trades(desk):
    desk.fill(**LEVELS)
    set_price(desk, 90_000)
    call = artefact("Trading").call("executeTriggers", [(desk.trader.address, 1, 0)])
    with pytest.raises(TransactionFailedError):
        desk.trader.transact(Message(desk.deployment.trading, call, 500_000))
    assert desk.trade(0) is not None

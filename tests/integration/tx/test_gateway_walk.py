"""A random walk over both roads, seen by the venue's own SDK as by our rows.

`WALK=500 pytest tests/integration/tx/test_gateway_walk.py` walks further.
"""

import os
import random
from decimal import Decimal
from typing import Any

import pytest

from execution_app.models import Fill, Position, TxIntent
from execution_app.states import Action, Mode, PositionState
from execution_app.venues import onchain
from execution_app.venues.interface import CloseRequest, IncreaseRequest, OpenRequest
from ops.rehearsal import venue as rehearsal
from ops.rehearsal.gateway.server import Gateway
from tests import letters, real_parts
from tests.execution.desks.harness import KINDS, run, served
from tests.rehearsal.sdk_client import client
from tests.rig import Rig, rpc_call
from tests.timers import pass_a_minute

STEPS = int(os.environ.get("WALK", "25"))
SYMBOLS = ("BTC-USD", "ETH-USD", "SOL-USD")
USDC, VENUE = Decimal(10) ** 6, Decimal(10) ** 10


@pytest.mark.timeout(180 + 5 * STEPS)
def test_the_sdk_sees_the_markets_positions_and_fills_of_our_rows(rig: Rig, settings: Any) -> None:
    first_block = int(rpc_call("eth_blockNumber"), 16)
    dice = random.Random(20261128)
    with served(settings) as gateway:
        walk(rig, gateway, dice)
        for _ in range(4):
            pass_a_minute()
            gateway.faults.set({"never": False, "drop_next": 0, "swallow_next": 0, "refuse_next": 0})
            run(rig, gateway)
        with client(gateway.url, rig.trader.address) as sdk:
            compare(rig, sdk)
        assert Fill.objects.filter(mode=Mode.LIVE).count() > STEPS // 3
        letters.check(gateway.posts, first_block=first_block)


def walk(rig: Rig, gateway: Gateway, dice: random.Random) -> None:
    desks = [KINDS[name](rig.trader) for name in ("gateway", "gateway", "onchain")]
    gateway_desk = desks[0]
    for step in range(STEPS):
        desk = dice.choice(desks)
        held = list(Position.objects.filter(state=PositionState.OPEN, mode=Mode.LIVE).order_by("id"))
        if held and dice.random() < 0.45:
            position = dice.choice(held)
            part = dice.choice([None, (position.collateral_usdc / 2).quantize(Decimal("0.01"))])
            if dice.random() < 0.3:
                added_usdc = Decimal(dice.randint(500, 2_000)) / 100
                gateway_desk.increase(IncreaseRequest(f"walk:{step}", position.pk, added_usdc))
            else:
                desk.close(CloseRequest(f"walk:{step}", position.pk, part))
        else:
            desk.open(
                OpenRequest(
                    key=f"walk:{step}",
                    symbol=dice.choice(SYMBOLS),
                    is_long=dice.random() < 0.5,
                    collateral_usdc=Decimal(dice.randint(500, 2_000)) / 100,
                    leverage_x=Decimal(dice.randint(2, 10)),
                )
            )
        if dice.random() < 0.3:
            move_price(dice)
        gateway.faults.set(
            {
                "drop_next": int(dice.random() < 0.2),
                "drop_after": dice.choice(["", "MarketOrderAccepted"]),
                "swallow_next": int(dice.random() < 0.1),
                "refuse_next": int(dice.random() < 0.1),
                "again": dice.random() < 0.2,
                "double": dice.random() < 0.2,
            }
        )
        pass_a_minute()
        run(rig, gateway)


def move_price(dice: random.Random) -> None:
    symbol = dice.choice(SYMBOLS)
    price = (rehearsal.SEED_PRICES[symbol] * dice.randint(995, 1_005) / 1_000).quantize(Decimal("0.01"))
    rpc_call("evm_setAutomine", True)
    rehearsal.set_price(real_parts.anvil.url, real_parts.deployment, symbol, price)
    rpc_call("evm_setAutomine", False)


def compare(rig: Rig, sdk: Any) -> None:
    pairs = {info.index: info.symbol.replace("/", "-") for info in sdk.markets.pairs().values()}
    assert {symbol: index for index, symbol in pairs.items()} == onchain.PAIRS
    seen = {
        (pairs[p.pair_index], p.index, p.side == "long", p.collateral, p.leverage, p.open_price)
        for p in sdk.account.positions().positions
    }
    ours = {
        (p.symbol, p.trade_index, p.is_long, p.collateral_usdc, p.leverage_x, p.open_price)
        for p in Position.objects.filter(trader=rig.trader, mode=Mode.LIVE, state=PositionState.OPEN)
    }
    assert seen == ours
    told: list[dict[str, Any]] = []
    page: list[dict[str, Any]] = sdk.info.trade_history(rig.trader.address, 0, 100)
    while page:
        told += page
        page = sdk.info.trade_history(rig.trader.address, len(told) // 100, 100) if len(page) == 100 else []
    fills = {
        (f.tx_hash, f.log_index, f.action == "open", f.price, f.collateral_usdc)
        for f in Fill.objects.filter(mode=Mode.LIVE).exclude(action=Action.INCREASE)
    }
    # The venue's history knows none of increases; what they made of positions is above.
    assert {
        (
            one["transactionHash"],
            one["logIndex"],
            one["open"],
            Decimal(one["price"]) / VENUE,
            Decimal(one["t"]["initialPosToken"]) / USDC,
        )
        for one in told
    } == fills
    filled = TxIntent.objects.filter(state="filled", mode=Mode.LIVE).exclude(action=Action.INCREASE)
    assert len(told) == len(fills) == filled.count()

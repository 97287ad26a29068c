"""The gateway's road while messages wait for nothing but finality, and on a venue that takes messages alone."""

from typing import Any

import pytest
from eth_utils.crypto import keccak

from execution_app.book.drift import compare
from execution_app.engine import placing
from execution_app.engine.gateway import following, making, posting
from execution_app.models import Position, Reservation, VenueMessage, Wallet
from execution_app.node import gateway as window
from execution_app.node.rpc import LOG_SPAN
from execution_app.states import Action
from tests.execution.desks.harness import operate
from tests.guarded import move_price
from tests.integration.tx.test_gateway_faults import Scene, scene, state_of
from tests.integration.tx.test_resting import LIMIT, take_back
from tests.integration.tx.test_venue_surprises import owner_closes
from tests.proxy import Proxy
from tests.rig import rpc_call
from tests.timers import pass_a_minute

__all__ = ["scene"]  # the fixture
ALONE = "0x" + keccak(text="OnlyBatchedFlowAllowed()")[:4].hex()


def test_messages_that_can_no_longer_be_executed_keep_no_exit_from_its_place(scene: Scene) -> None:
    """A gateway that is away for a minute; finality takes many."""
    for symbol in ("BTC-USD", "ETH-USD", "SOL-USD"):
        for _ in range(2):
            scene.rig.intent(symbol=symbol)
    scene.rig.run()
    Wallet.objects.update(max_in_flight=1)
    scene.gateway.faults.never = True
    held = list(Position.objects.order_by("id"))
    closes = [
        scene.ask(Action.CLOSE, symbol=position.symbol, position=position, only_position=True)
        for position in held
    ]
    scene.rig.submit()
    under_way, last = closes[: 1 + placing.EXIT_PLACES], closes[-1]
    assert {state_of(close) for close in under_way} == {"pending_inclusion"}
    assert state_of(last) == "pending"
    rpc_call("evm_increaseTime", making.LIFE_S + 60)
    scene.rig.mine()
    scene.rig.track()
    assert VenueMessage.objects.filter(unused_at_block=None).count() == 0
    scene.gateway.faults.never = False
    scene.rig.submit()
    assert {state_of(close) for close in under_way} == {"pending_inclusion"}, "their end is not final yet"
    assert state_of(last) == "pending_inclusion"
    operate(scene.gateway)
    scene.rig.track()
    scene.rig.keep()
    scene.rig.track()
    assert (state_of(last), scene.trades()) == ("filled", len(held) - 1)


@pytest.fixture
def alone(scene: Scene, node: Proxy) -> Scene:
    """The venue's own word to whoever tries an order as a transaction, whatever there is to trade."""

    def tell(request: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
        if request["method"] != "eth_call" or len(request["params"]) == 2:
            return answer
        error = {"code": 3, "message": "execution reverted", "data": ALONE}
        return {"jsonrpc": "2.0", "id": request["id"], "error": error}

    node.faults.tell = tell
    return scene


def test_an_exit_from_a_trade_that_is_gone_ends_where_the_venue_takes_messages_alone(alone: Scene) -> None:
    """No trial shows that it is gone; a message for it would lapse, and be asked for again, for ever."""
    position = alone.open()
    owner_closes(alone.rig)
    close = alone.ask(Action.CLOSE, position=position, only_position=True)
    alone.rig.submit()
    assert state_of(close) == "pending"
    alone.rig.mine(4)
    compare()
    alone.later()
    alone.rig.submit()
    position.refresh_from_db()
    assert (position.state, position.ended_by) == ("closed", "owner")
    assert state_of(close) == "no_op"
    assert Reservation.objects.get().state == "released"
    alone.check()


def test_a_slow_gateway_keeps_nobody_from_following_the_chain(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not so slow that it is left alone: what it tells of each message is asked in turn."""
    monkeypatch.setattr(posting, "LISTEN_S", 0.5)
    scene.gateway.faults.never = True
    for symbol in ("BTC-USD", "ETH-USD", "SOL-USD", "BTC-USD"):
        scene.ask(symbol=symbol)
    scene.rig.submit()
    assert VenueMessage.objects.exclude(tracking_id="").count() == 4
    scene.gateway.faults.hang_s = 0.3
    scene.rig.track()
    first = set(VenueMessage.objects.exclude(asked_at=None).values_list("pk", flat=True))
    assert 1 <= len(first) <= 2
    scene.rig.track()
    assert VenueMessage.objects.exclude(asked_at=None).count() > len(first), "the next look asks of others"


def test_messages_that_wait_keep_no_slot_from_an_exit(scene: Scene) -> None:
    """What rests at the venue goes on-chain and is taken back there, wherever all other orders go."""
    order = scene.rig.intent(**LIMIT)
    for symbol in ("BTC-USD", "ETH-USD", "SOL-USD"):
        for _ in range(2):
            scene.rig.intent(symbol=symbol)
    scene.rig.run()
    assert state_of(order) == "ordered"
    Wallet.objects.update(max_in_flight=1)
    scene.gateway.faults.never = True
    *some, last = Position.objects.order_by("id")
    for position in some:
        scene.ask(Action.CLOSE, symbol=position.symbol, position=position, only_position=True)
    scene.rig.submit()
    assert VenueMessage.objects.count() == 1 + placing.EXIT_PLACES
    cancel = take_back(order)
    close = scene.rig.intent(Action.CLOSE, symbol=last.symbol, position=last, only_position=True)
    scene.rig.submit()
    assert (state_of(close), state_of(cancel)) == ("pending_inclusion", "pending")
    scene.rig.run()
    scene.later()
    scene.rig.run()
    assert (state_of(close), state_of(cancel), state_of(order)) == ("filled", "changed", "venue_cancelled")


def test_of_many_stretches_of_spent_messages_each_has_its_turn() -> None:
    spent = [VenueMessage(from_block=number * LOG_SPAN * following.SPANS) for number in range(9)]
    looked_at: set[int] = set()
    for head in range(9):
        found = following._stretches(spent, head)
        assert len(found) == following.STRETCHES
        assert [message.from_block for (message,) in found[:3]] == [one.from_block for one in spent[:-4:-1]]
        looked_at |= {message.from_block for (message,) in found}
    assert looked_at == {message.from_block for message in spent}
    assert [len(one) for one in following._stretches(spent[:4], 7)] == [1, 1, 1, 1]


def test_what_an_outage_left_behind_is_in_no_exits_way(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages behind their deadline wait for finality, which takes many minutes, and are posted no more."""
    monkeypatch.setattr(posting, "BATCH", 1)
    for symbol in ("BTC-USD", "ETH-USD", "SOL-USD"):
        for _ in range(2):
            scene.rig.intent(symbol=symbol)
    scene.rig.run()
    *some, last = Position.objects.order_by("id")
    scene.gateway.faults.refuse_next = 99
    for position in some:
        scene.ask(Action.CLOSE, symbol=position.symbol, position=position, only_position=True)
    scene.rig.submit()
    rpc_call("evm_increaseTime", making.LIFE_S + 60)
    scene.rig.mine()
    scene.rig.track()
    assert VenueMessage.objects.filter(unused_at_block=None).count() == 0
    scene.gateway.faults.refuse_next = 0
    window.breaker.cache_clear()
    move_price(100_000, last.symbol)
    posts = len(scene.gateway.posts)
    close = scene.ask(Action.CLOSE, symbol=last.symbol, position=last, only_position=True)
    pass_a_minute()
    scene.rig.submit()
    assert state_of(close) == "pending_inclusion"
    assert len(scene.gateway.posts) == posts + 1

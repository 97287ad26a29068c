"""The gateway's road while messages wait for nothing but finality, and on a venue that takes messages alone."""

from typing import Any

import pytest
from eth_utils.crypto import keccak

from execution_app.book.drift import compare
from execution_app.engine import placing
from execution_app.engine.gateway import making
from execution_app.models import Position, Reservation, VenueMessage, Wallet
from execution_app.states import Action
from tests.execution.desks.harness import operate
from tests.integration.tx.test_gateway_faults import Scene, scene, state_of
from tests.integration.tx.test_venue_surprises import owner_closes
from tests.proxy import Proxy
from tests.rig import rpc_call

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


def test_a_slow_gateway_keeps_nobody_from_following_the_chain(scene: Scene) -> None:
    """Not so slow that it is left alone: what it tells of each message is asked in turn."""
    scene.gateway.faults.never = True
    for symbol in ("BTC-USD", "ETH-USD", "SOL-USD", "BTC-USD"):
        scene.ask(symbol=symbol)
    scene.rig.submit()
    assert VenueMessage.objects.exclude(tracking_id="").count() == 4
    scene.gateway.faults.hang_s = 1.1
    scene.rig.track()
    first = set(VenueMessage.objects.exclude(asked_at=None).values_list("pk", flat=True))
    assert 1 <= len(first) <= 2
    scene.rig.track()
    assert VenueMessage.objects.exclude(asked_at=None).count() > len(first), "the next look asks of others"

"""The gateway's road on a venue that takes messages alone, and while messages wait for nothing but finality."""

from typing import Any

import pytest
from eth_utils.crypto import keccak

from execution_app.book.drift import compare
from execution_app.models import Reservation
from execution_app.states import Action
from tests.integration.tx.test_gateway_faults import Scene, scene, state_of
from tests.integration.tx.test_venue_surprises import owner_closes
from tests.proxy import Proxy

__all__ = ["scene"]  # the fixture
ALONE = "0x" + keccak(text="OnlyBatchedFlowAllowed()")[:4].hex()


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
    assert (position.state, position.ended_by) == ("closed", "closed_elsewhere")
    assert state_of(close) == "no_op"
    assert Reservation.objects.get().state == "released"
    alone.check()

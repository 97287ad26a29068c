"""A message that an earlier copy of the database signed, and this one signs anew: one nonce, and perhaps another size."""

from decimal import Decimal

from execution_app.engine.gateway import making
from execution_app.models import Fill, Position, VenueMessage
from execution_app.node import signers
from execution_app.states import Action
from execution_app.venues import messages
from execution_app.venues.messages import CloseMessage
from execution_app.venues.onchain import CloseOrder
from tests.execution.desks.harness import operate, run
from tests.integration.tx.test_divergences import BTC
from tests.integration.tx.test_gateway_faults import Scene, scene, state_of
from tests.rig import rpc_call

__all__ = ["scene"]  # the fixture


def signed_before(scene: Scene, position: Position, key: str, amount: str) -> None:
    """What the earlier copy of this intent's close was, accepted and registered."""
    assert position.venue_timestamp is not None
    now_s = int(rpc_call("eth_getBlockByNumber", "latest", False)["timestamp"], 16)
    trader = scene.rig.trader.address
    order = CloseOrder(trader, BTC, position.trade_index, Decimal(amount), Decimal(100_000))
    nonce = messages.nonce_of(key, making.domain())
    close = CloseMessage(order, int(position.venue_timestamp.timestamp()), (now_s + 60) * 1000, nonce)
    letter = signers.Letter(making.domain(), scene.rig.wallet.address, trader, key, close)
    scene.gateway.ledger.accept(1, close, messages.encode(close), signers.sign_letter(letter))
    operate(scene.gateway)


def test_a_part_that_was_signed_before_as_another_is_found_and_bars_no_exit(scene: Scene) -> None:
    """Half of what was there then, and half of what is left now: the venue has spent the nonce for the former."""
    position = scene.open()
    close = scene.ask(Action.CLOSE, reduce_pct=Decimal(50))
    signed_before(scene, position, close.intent_key, "2")
    scene.rig.keep()
    scene.rig.mine(3)
    run(scene.rig, scene.gateway)
    scene.later()
    close.refresh_from_db()
    assert (close.close_usdc, VenueMessage.objects.filter(intent=close).count()) == (Decimal("1.5"), 1)
    assert (state_of(close), Fill.objects.get(intent=close).collateral_usdc) == ("filled", 2)
    position.refresh_from_db()
    assert (position.state, position.collateral_usdc) == ("open", 3)
    rest = scene.ask(Action.CLOSE)
    run(scene.rig, scene.gateway)
    scene.later()
    position.refresh_from_db()
    assert (state_of(rest), position.state, scene.trades()) == ("filled", "closed", 0)
    scene.check()

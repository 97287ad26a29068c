"""Several messages that the operator submits in one transaction: each becomes the order that its bytes asked for."""

import pytest

from execution_app.engine.gateway import following
from execution_app.models import TxIntent, VenueMessage, VenueOrder
from execution_app.states import Action
from execution_app.venues.events import OrderRegistered
from tests import real_parts
from tests.integration.tx.test_divergences import BTC
from tests.integration.tx.test_gateway_faults import Scene, scene
from tests.rig import rpc_call

__all__ = ["scene"]  # the fixture


@pytest.mark.parametrize("backwards", [False, True])
def test_of_two_closes_of_one_size_each_gets_its_own_order(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, *, backwards: bool
) -> None:
    """Were one executed and the other refunded, the wrong position would seem to be closed, and nobody would leave the other."""
    held = [scene.open() for _ in range(2)]
    scene.ask(Action.CLOSE)
    for _ in range(2):
        scene.rig.submit()  # the second is asked for by the first
    messages = list(VenueMessage.objects.filter(intent__action=Action.CLOSE).order_by("id"))
    assert len({message.intent.position_id for message in messages}) == len(messages) == 2
    carried = messages[::-1] if backwards else messages
    calldata = b"batch" + b"".join(bytes.fromhex(message.nonce[2:]) for message in carried)
    latest = rpc_call("eth_getBlockByNumber", "latest", False)
    number = int(latest["number"], 16)
    orders = [
        OrderRegistered(
            emitter=real_parts.deployment.trading,
            tx_hash="0x" + "ab" * 32,
            log_index=at,
            block_number=number,
            block_hash=latest["hash"],
            order_id=1_000 + at,
            trader=scene.rig.trader.address,
            pair_index=BTC,
            is_open=False,
            is_long=True,
            collateral_usdc=message.intent.close_usdc,
            leverage_x=held[0].leverage_x,
            registered_at=int(latest["timestamp"], 16),
        )
        for at, message in enumerate(carried)
    ]
    monkeypatch.setattr(following, "_candidates", lambda *_: [(order, calldata) for order in orders])
    following._register(messages, number)
    found = dict(VenueOrder.objects.filter(order_id__gte=1_000).values_list("intent", "order_id"))
    assert found == {message.intent_id: 1_000 + at for at, message in enumerate(carried)}
    assert set(TxIntent.objects.filter(pk__in=found).values_list("state", flat=True)) == {"ordered"}

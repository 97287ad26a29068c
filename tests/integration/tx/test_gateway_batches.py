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


def closes(scene: Scene) -> list[VenueMessage]:
    """Of two positions of one size."""
    for _ in range(2):
        scene.open()
    scene.ask(Action.CLOSE)
    for _ in range(2):
        scene.rig.submit()  # the second is asked for by the first
    messages = list(VenueMessage.objects.filter(intent__action=Action.CLOSE).order_by("id"))
    assert len({message.intent.position_id for message in messages}) == len(messages) == 2
    return messages


def registered(scene: Scene, message: VenueMessage, at: int, tx_hash: str) -> OrderRegistered:
    """Of the closes' latest block, the order with this place in it."""
    assert message.intent.position is not None
    latest = rpc_call("eth_getBlockByNumber", "latest", False)
    return OrderRegistered(
        emitter=real_parts.deployment.trading,
        tx_hash=tx_hash,
        log_index=at,
        block_number=int(latest["number"], 16),
        block_hash=latest["hash"],
        order_id=1_000 + at,
        trader=scene.rig.trader.address,
        pair_index=BTC,
        is_open=False,
        is_long=True,
        collateral_usdc=message.intent.close_usdc,
        leverage_x=message.intent.position.leverage_x,
        registered_at=int(latest["timestamp"], 16),
    )


def batch(*messages: VenueMessage) -> bytes:
    return b"batch" + b"".join(bytes.fromhex(message.nonce[2:]) for message in messages)


def register(
    monkeypatch: pytest.MonkeyPatch,
    messages: list[VenueMessage],
    found: list[tuple[OrderRegistered, bytes]],
) -> dict[int, int]:
    """The order that each intent got."""
    monkeypatch.setattr(following, "_candidates", lambda *_: list(found))
    following._register(messages, found[0][0].block_number)
    got = dict(VenueOrder.objects.filter(order_id__gte=1_000).values_list("intent", "order_id"))
    assert set(TxIntent.objects.filter(pk__in=got).values_list("state", flat=True)) == {"ordered"}
    return got


@pytest.mark.parametrize("backwards", [False, True])
def test_of_two_closes_of_one_size_each_gets_its_own_order(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, *, backwards: bool
) -> None:
    """Were one executed and the other refunded, the wrong position would seem to be closed, and nobody would leave the other."""
    messages = closes(scene)
    carried = messages[::-1] if backwards else messages
    orders = [registered(scene, one, at, "0x" + "ab" * 32) for at, one in enumerate(carried)]
    got = register(monkeypatch, messages, [(order, batch(*carried)) for order in orders])
    assert got == {message.intent_id: 1_000 + at for at, message in enumerate(carried)}


@pytest.mark.parametrize("failed", [0, 1])
def test_what_a_batch_did_not_carry_out_gets_the_order_of_the_next_one(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, failed: int
) -> None:
    """Else it would have the other's order, and the other none for ever: spent, and so never over."""
    messages = closes(scene)
    later, done = messages[failed], messages[1 - failed]
    first = registered(scene, done, 0, "0x" + "ab" * 32), batch(*messages)
    second = registered(scene, later, 1, "0x" + "cd" * 32), batch(later)
    got = register(monkeypatch, messages, [first, second])
    assert got == {done.intent_id: 1_000, later.intent_id: 1_001}

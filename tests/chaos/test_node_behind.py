"""A node that fell behind tells an old truth: nothing new follows from it, and all is well when it catches up."""

from collections.abc import Iterator

import pytest
from pytest_django.fixtures import Settings

from execution_app.errors import Disagreement
from execution_app.gate import watch
from execution_app.models import Chain, Position, TxIntent, TxSend
from execution_app.node import rpc
from ops.watch import health
from tests import invariants, real_parts
from tests.chaos.lagging_node import LaggingNode
from tests.redis_outages import await_mode, eventually
from tests.rig import Rig, rpc_call


@pytest.fixture
def node(rig: Rig, settings: Settings) -> Iterator[LaggingNode]:
    """What the engine believes to be its only node."""
    with LaggingNode(real_parts.anvil.url) as lagging:
        settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(update={"base_rpc_url": lagging.url})
        rpc.endpoints.cache_clear()
        yield lagging
        rpc.endpoints.cache_clear()


def state(intent: TxIntent) -> str:
    intent.refresh_from_db()
    return str(intent.state)


def slots() -> int:
    return TxSend.objects.filter(kind="exec").count()


def test_an_old_head_takes_back_what_was_provisional_and_sends_nothing_new(
    rig: Rig, node: LaggingNode
) -> None:
    intent = rig.intent()
    rig.submit()
    rig.mine()
    rig.track()
    rig.keep()
    rig.track()
    assert (state(intent), intent.settled_at) == ("filled", None)
    with node.behind(2):
        for _ in range(3):
            rig.track()
        assert state(intent) == "pending_inclusion"
        assert not Position.objects.filter(state="open").exists()
        assert slots() == 1
    rig.mine(4)
    rig.track()
    rig.track()
    assert state(intent) == "filled"
    assert intent.settled_at is not None
    assert slots() == 1
    invariants.check(node)


def test_a_head_below_what_was_final_halts_all_and_heals_by_itself(rig: Rig, node: LaggingNode) -> None:
    before = int(rpc_call("eth_blockNumber"), 16)
    settled = rig.intent()
    rig.run()
    assert state(settled) == "filled"
    assert settled.settled_at is not None
    waiting = rig.intent()
    head = Chain.objects.get().head_number
    with node.behind(head - before):
        with pytest.raises(Disagreement, match="was final here"):
            rig.track()
        await_mode("DRY")
        assert "was final here" in watch.view().reason
        health.forget()
        assert health.answer()[1]["checks"]["chain"]["detail"] == "halted: chain and database disagree"
        rig.submit()
        assert (state(waiting), waiting.nonce) == ("held", None)
        assert state(settled) == "filled"
        assert slots() == 1
    rig.track()
    eventually(lambda: watch.view().mode == "LIVE")
    health.forget()
    assert health.answer()[1]["checks"]["chain"]["status"] == "ok"
    TxIntent.objects.filter(pk=waiting.pk).update(next_try_at=None)
    rig.run()
    assert state(waiting) == "filled"
    invariants.check(node)

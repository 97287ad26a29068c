"""Redis forgets everything, and nodes forget to answer: only latency changes."""

import random
import time

import pytest

from execution_app.engine import reserve
from execution_app.gate import watch
from execution_app.models import TxIntent
from execution_app.states import Action
from tests import invariants
from tests.proxy import Proxy
from tests.rig import Rig
from tests.timers import pass_a_minute

ROUNDS = 60


def await_live() -> None:
    """The mode comes back by itself, after three healthy looks."""
    deadline_s = time.monotonic() + 60
    while watch.effective_mode() != "LIVE":
        assert time.monotonic() < deadline_s, watch.view().reason
        time.sleep(0.02)


def await_dry() -> None:
    deadline_s = time.monotonic() + 60
    while watch.effective_mode() != "DRY":
        assert time.monotonic() < deadline_s
        time.sleep(0.005)


def finish(rig: Rig) -> int:
    """Rounds of sweeps and blocks until all is settled; how many it took."""
    for number in range(1, ROUNDS + 1):
        await_live()
        pass_a_minute()
        rig.submit()
        rig.mine()
        rig.track()
        rig.keep()
        rig.track()
        rig.mine(4)
        rig.track()
        if not TxIntent.objects.filter(settled_at=None).exists():
            return number
    left = list(TxIntent.objects.filter(settled_at=None).values_list("pk", "state", "reason_detail"))
    raise AssertionError(f"after {ROUNDS} rounds there is left {left}")


@pytest.mark.parametrize("step", ["before", "signed", "sent", "mined", "filled"])
def test_a_flush_changes_latency_only(rig: Rig, node: Proxy, step: str) -> None:
    intent = rig.intent()
    if step in ("signed", "sent", "mined", "filled"):
        assert reserve.reserve(rig.wallet.pk) == 1
    if step in ("sent", "mined", "filled"):
        rig.submit()
    if step in ("mined", "filled"):
        rig.mine()
        rig.track()
    if step == "filled":
        rig.keep()
        rig.track()
    rig.redis.flushall()
    await_dry()
    offered = len(node.log)
    rig.submit()
    assert len(node.log) == offered, "nothing leaves for the first time while the mode is DRY"
    finish(rig)
    intent.refresh_from_db()
    assert (intent.state, intent.mode) == ("filled", "LIVE")
    assert len(invariants.executions(rig.wallet)) == 1
    invariants.check(node)


def test_a_close_is_held_and_not_simulated_while_redis_is_empty(rig: Rig, node: Proxy) -> None:
    rig.intent()
    rig.run()
    close = rig.intent(Action.CLOSE)
    rig.redis.flushall()
    await_dry()
    rig.submit()
    close.refresh_from_db()
    assert (close.state, close.nonce) == ("held", None)
    finish(rig)
    close.refresh_from_db()
    assert (close.state, close.mode) == ("filled", "LIVE")
    assert not invariants.open_trades(rig.trader.address)
    invariants.check(node)


def test_forty_orders_through_lost_answers(rig: Rig, node: Proxy) -> None:
    node.faults.dice = random.Random(7)
    node.faults.lose_rate = 0.1
    for _ in range(40):
        rig.intent()
    for _ in range(5):  # bytes are offered again and again before anything is mined
        rig.submit()
        pass_a_minute()
        rig.track()
    repeated = len(node.log) - len(node.first_seen())
    assert node.lost > 0
    assert repeated > 0
    finish(rig)
    assert TxIntent.objects.filter(state="filled").count() == 40
    assert len(invariants.executions(rig.wallet)) == 40
    assert len(invariants.open_trades(rig.trader.address)) == 40
    invariants.check(node)

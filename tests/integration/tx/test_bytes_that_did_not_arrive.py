"""An offer that failed proves nothing: under a stop it is not repeated; what no node takes is cancelled."""

import time

import pytest

from execution_app.engine import broadcast, offers, reserve
from execution_app.gate import control
from execution_app.models import TxIntent, TxSend
from execution_app.states import Origin, RestrictionKind, SendOutcome
from tests import invariants
from tests.invariants import Stop
from tests.proxy import Proxy
from tests.rig import Rig
from tests.timers import pass_a_minute


def finish(rig: Rig) -> None:
    rig.submit()
    rig.mine()
    rig.track()
    rig.keep()
    rig.track()
    rig.mine(4)
    rig.track()


@pytest.mark.parametrize("kind", [RestrictionKind.STOP, RestrictionKind.DRY])
def test_bytes_that_did_not_arrive_stay_under_a_restriction(
    rig: Rig, node: Proxy, kind: RestrictionKind
) -> None:
    rig.intent()
    assert reserve.reserve(rig.wallet.pk) == 1
    begun_s = time.monotonic()
    leased = broadcast._lease(rig.wallet.pk, None).sends
    node.faults.http_5xx_next = 1
    offers.offer(leased, begun_s)
    control.impose(kind, Origin.COMMAND, by="test", reason="")
    at_s = time.monotonic()
    for _ in range(2):
        pass_a_minute()
        rig.submit()
        rig.track()
    assert not node.log
    stop = Stop(at_s, time.monotonic())
    control.lift(kind, Origin.COMMAND, by="test")
    rig.track()
    finish(rig)
    assert TxIntent.objects.get().state == "filled"
    invariants.check(node, stops=[stop])


def test_bytes_that_no_node_will_take_are_cancelled_in_their_slot(rig: Rig, node: Proxy) -> None:
    """Raising their fee would change nothing, and an exit is behind them."""
    doomed, behind = rig.intent(), rig.intent()
    node.hold()
    rig.submit()
    node.release("none")
    TxSend.objects.filter(intent=doomed).update(outcome=SendOutcome.INVALID_PERMANENT)
    pass_a_minute()
    rig.track()
    assert list(doomed.sends.order_by("attempt").values_list("kind", flat=True)) == ["exec", "cancel"]
    pass_a_minute()
    finish(rig)
    doomed.refresh_from_db()
    behind.refresh_from_db()
    assert (doomed.state, behind.state) == ("final_cancelled", "filled")
    invariants.check(node)

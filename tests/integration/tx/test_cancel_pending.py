"""Cancels that a person asks for fill the slots of opens, under a stop too, and nothing else leaves."""

import time

import pytest

from execution_app.engine import cancels, reserve
from execution_app.gate import control
from execution_app.states import Action, Origin, RestrictionKind
from tests import invariants
from tests.invariants import Stop
from tests.proxy import Proxy
from tests.rig import Rig
from tests.timers import pass_a_minute


def stop() -> None:
    control.impose(RestrictionKind.STOP, Origin.COMMAND, by="test", reason="")


def look(rig: Rig, times: int = 3) -> None:
    for _ in range(times):
        pass_a_minute()
        rig.submit()
        rig.track()
        rig.mine()
        rig.track()
    rig.mine(4)
    rig.track()


@pytest.mark.parametrize("broadcast_before", [True, False])
def test_unmined_opens_are_cancelled_under_a_stop(rig: Rig, node: Proxy, *, broadcast_before: bool) -> None:
    opens = [rig.intent() for _ in range(3)]
    node.hold()
    if broadcast_before:
        rig.submit()
    else:
        assert reserve.reserve(rig.wallet.pk) == 3
    stop()
    at_s = time.monotonic()
    assert cancels.request(by="test") == [intent.intent_key for intent in opens]
    rig.submit()
    rig.track()
    node.release("all")
    look(rig)
    for intent in opens:
        intent.refresh_from_db()
    assert {intent.state for intent in opens} == {"final_cancelled"}
    assert invariants.executions(rig.wallet) == []
    fills = {send.tx_hash for intent in opens for send in intent.sends.filter(kind="cancel")}
    invariants.check(node, stops=[Stop(at_s, in_flight=fills)])


def test_a_cancel_that_did_not_arrive_is_offered_again_under_the_stop(rig: Rig, node: Proxy) -> None:
    node.hold()
    intent = rig.intent()
    rig.submit()
    stop()
    cancels.request(by="test")
    node.faults.refuse_next = 1
    rig.track()
    assert intent.sends.get(kind="cancel").held_at is None
    pass_a_minute()
    rig.track()
    assert intent.sends.get(kind="cancel").held_at is not None
    node.release("all")
    look(rig)
    intent.refresh_from_db()
    assert intent.state == "final_cancelled"


def test_exits_are_left_as_they_are(rig: Rig, node: Proxy) -> None:
    rig.intent()
    rig.run()
    close = rig.intent(Action.CLOSE)
    node.hold()
    rig.submit()
    assert cancels.request(by="test") == []
    node.release("all")
    look(rig)
    rig.keep()
    look(rig)
    close.refresh_from_db()
    assert close.state == "filled"

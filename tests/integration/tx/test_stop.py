"""Stops raced against broadcasts, and what becomes of slots that were signed and never left."""

import threading
import time
from datetime import timedelta

import pytest
from django.db import connection
from django.db.models.functions import Now
from pytest_django.fixtures import Settings

from execution_app.engine import broadcast, reserve
from execution_app.gate import control
from execution_app.models import TxIntent, TxSend
from execution_app.node import rpc
from execution_app.states import Action, Origin, RestrictionKind
from tests import invariants
from tests.invariants import Stop
from tests.proxy import Proxy
from tests.rig import Rig
from tests.timers import pass_a_minute

ROUNDS = 12
STOP = RestrictionKind.STOP
REDUCE_ONLY = RestrictionKind.REDUCE_ONLY


def impose_stop() -> tuple[control.Imposed, float]:
    """Stop; the moment is when the call had returned."""
    imposed = control.impose(STOP, Origin.COMMAND, by="test", reason="race")
    return imposed, time.monotonic()


def lift_stop() -> None:
    assert control.lift(STOP, Origin.COMMAND, by="test")


def in_thread(rig: Rig) -> threading.Thread:
    """Submit elsewhere, on a database connection of its own."""

    def submit() -> None:
        try:
            rig.submit()
        finally:
            connection.close()

    thread = threading.Thread(target=submit)
    thread.start()
    return thread


def await_requests(node: Proxy, wanted: int, thread: threading.Thread) -> None:
    """Until the engine has asked the node this often, or has ended."""
    deadline_s, pause = time.monotonic() + 60, threading.Event()
    while node.requests < wanted and thread.is_alive():
        assert time.monotonic() < deadline_s
        pause.wait(0.001)  # it runs in this process, too


def finish(rig: Rig) -> None:
    """Sweeps and blocks until all is settled."""
    for _ in range(4):
        pass_a_minute()
        rig.submit()
        rig.mine()
        rig.track()
        rig.keep()
        rig.track()
        rig.mine(4)
        rig.track()
        if not TxIntent.objects.filter(settled_at=None).exists():
            return


def test_nothing_new_leaves_once_a_stop_has_returned(
    rig: Rig, node: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "WAIT_S", 30.0)  # whatever has begun ends, however slow the machine is
    stops = []
    for number in range(ROUNDS):
        for _ in range(3):
            rig.intent()
        before = node.requests
        submitting = in_thread(rig)
        # Each round stops at another moment of the road: before, between and after its requests.
        await_requests(node, before + number % 6, submitting)
        imposed, at_s = impose_stop()
        submitting.join()
        pass_a_minute()
        rig.submit()
        rig.track()
        stops.append(Stop(at_s, time.monotonic(), imposed.in_flight))
        lift_stop()
        finish(rig)
    assert all(not stop.in_flight for stop in stops)
    ended = set(TxIntent.objects.values_list("state", "reason"))
    assert ended <= {("filled", ""), ("rejected", "emergency_stop")}
    assert len(ended) == 2, "no race was lost, or none was won"
    invariants.check(node, stops=stops)


def test_a_stop_names_what_may_still_leave(rig: Rig, node: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """The node is slow to take the bytes: the stop waits a second, then says which may still arrive."""
    monkeypatch.setattr(control, "LEASE_S", 60.0)
    intent = rig.intent()
    node.faults.until = threading.Event()
    before = node.requests
    submitting = in_thread(rig)
    deadline_s = time.monotonic() + 60
    while not TxSend.objects.filter(leased_at__isnull=False).exists():
        assert time.monotonic() < deadline_s
    imposed, at_s = impose_stop()
    node.faults.until.set()
    submitting.join()
    assert node.requests > before
    assert imposed.in_flight == [intent.sends.get().tx_hash]
    stop = Stop(at_s, in_flight=imposed.in_flight)
    rig.mine()
    rig.track()
    rig.keep()
    rig.track()
    rig.mine(4)
    rig.track()
    invariants.check(node, stops=[stop])


def test_bytes_whose_lease_ran_out_do_not_leave_late(
    own_limits: None, rig: Rig, node: Proxy, settings: Settings
) -> None:
    """The first endpoint hangs beyond the lease; the second must not get its first bytes under a stop."""
    with Proxy(node.upstream) as slow:
        settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(
            update={"base_rpc_url": f"{slow.url},{node.url}"}
        )
        rpc.endpoints.cache_clear()
        rig.intent()
        slow.faults.delay_s = control.LEASE_S + 1.5
        slow.faults.refuse_next = 1
        submitting = in_thread(rig)
        deadline_s = time.monotonic() + 60
        lapsed = TxSend.objects.filter(leased_at__lt=Now() - timedelta(seconds=control.LEASE_S))
        while not lapsed.exists():
            assert time.monotonic() < deadline_s
        imposed, at_s = impose_stop()
        submitting.join()
        slow.faults.delay_s = 0
        stop = Stop(at_s, time.monotonic(), imposed.in_flight)
        lift_stop()
        rpc.endpoints.cache_clear()
        finish(rig)
        invariants.check(node, stops=[stop])


def test_a_stop_is_obeyed_by_every_verb(rig: Rig, node: Proxy) -> None:
    """What has left is repeated byte for byte; what has not stays, and is not replaced either."""
    left = rig.intent()
    node.hold()
    rig.submit()
    _, at_s = impose_stop()
    refused = rig.intent()
    for _ in range(3):
        pass_a_minute()
        rig.submit()
        rig.track()
    refused.refresh_from_db()
    assert (refused.state, refused.reason, refused.nonce) == ("rejected", "emergency_stop", None)
    assert left.sends.count() == 1
    assert len(node.log) > 1
    assert len(node.first_seen()) == 1
    node.release()
    rig.mine()
    rig.track()
    rig.keep()
    rig.track()
    rig.mine(4)
    rig.track()
    invariants.check(node, stops=[Stop(at_s)])


def test_parked_slots_leave_when_the_stop_is_lifted(rig: Rig, node: Proxy) -> None:
    parked = [rig.intent() for _ in range(3)]
    assert reserve.reserve(rig.wallet.pk) == 3
    _, at_s = impose_stop()
    rig.submit()
    rig.track()
    assert not node.log
    assert set(TxIntent.objects.values_list("state", flat=True)) == {"signed"}
    stop = Stop(at_s, time.monotonic())
    lift_stop()
    finish(rig)
    assert {TxIntent.objects.get(pk=intent.pk).state for intent in parked} == {"filled"}
    assert len(invariants.executions(rig.wallet)) == 3
    invariants.check(node, stops=[stop])


def test_a_parked_slot_that_expired_is_cancelled_in_its_place(rig: Rig, node: Proxy) -> None:
    first, second, third = [rig.intent() for _ in range(3)]
    assert reserve.reserve(rig.wallet.pk) == 3
    _, at_s = impose_stop()
    rig.submit()
    TxIntent.objects.filter(pk=second.pk).update(expires_at=Now() - timedelta(seconds=1))
    stop = Stop(at_s, time.monotonic())
    lift_stop()
    finish(rig)
    ends = [TxIntent.objects.get(pk=intent.pk) for intent in (first, second, third)]
    assert [(i.state, i.nonce) for i in ends] == [("filled", 0), ("final_cancelled", 1), ("filled", 2)]
    assert len(invariants.executions(rig.wallet)) == 2
    invariants.check(node, stops=[stop])


def test_reduce_only_cancels_signed_opens_and_lets_the_exit_behind_them_pass(rig: Rig, node: Proxy) -> None:
    rig.intent()
    rig.run()
    opens = [rig.intent() for _ in range(2)]
    assert reserve.reserve(rig.wallet.pk) == 2
    assert control.impose(REDUCE_ONLY, Origin.COMMAND, by="test", reason="").changed
    # A close waits for every earlier open on its symbol to be known; the exit is on the open position.
    close = rig.intent(Action.CLOSE)
    refused = rig.intent()
    finish(rig)
    ends = [TxIntent.objects.get(pk=intent.pk) for intent in (*opens, close, refused)]
    assert [(i.state, i.nonce) for i in ends] == [
        ("final_cancelled", 1),
        ("final_cancelled", 2),
        ("filled", 3),
        ("rejected", None),
    ]
    assert ends[-1].reason == "reduce_only"
    assert not invariants.open_trades(rig.trader.address)
    invariants.check(node)


@pytest.mark.parametrize("verb", [broadcast.broadcast, broadcast.rebroadcast])
def test_a_signed_slot_needs_a_market_to_be_cancelled(rig: Rig, node: Proxy, verb: object) -> None:
    """Without a fee to cancel at, a slot that may not leave waits; it does not leave."""
    rig.intent()
    reserve.reserve(rig.wallet.pk)
    control.impose(REDUCE_ONLY, Origin.COMMAND, by="test", reason="")
    assert verb(rig.wallet.pk) == 0  # type: ignore[operator]
    assert not node.log
    finish(rig)
    invariants.check(node)

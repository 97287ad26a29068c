"""Bytes that no node is known to hold: the gate is asked again before each try, and a stop knows of every one."""

import time
from datetime import timedelta

import pytest
from django.db.models.functions import Now
from pytest_django.fixtures import Settings

from execution_app.engine import broadcast, cancels, offers
from execution_app.gate import control
from execution_app.models import TxIntent
from execution_app.node import signers
from execution_app.states import Action, Origin, RestrictionKind
from tests import invariants
from tests.invariants import Stop
from tests.proxy import Proxy
from tests.rig import Rig
from tests.timers import pass_a_minute

REFUSALS = {
    "insufficient_funds": "insufficient funds for gas * price + value: balance 1, tx cost 2",
    "pool_full": "txpool is full",
    "unknown": "the upstream sequencer is having a moment",
}


def refused(rig: Rig, node: Proxy, outcome: str) -> TxIntent:
    """An open that every node has refused once."""
    node.faults.refuse_next, node.faults.refusal = 1, REFUSALS[outcome]
    intent = rig.intent()
    rig.submit()
    intent.refresh_from_db()
    assert (intent.state, intent.sends.get().outcome) == ("sending", outcome)
    return intent


def kinds(intent: TxIntent) -> list[str]:
    return list(intent.sends.order_by("attempt").values_list("kind", flat=True))


@pytest.mark.parametrize("outcome", sorted(REFUSALS))
def test_a_refused_open_does_not_leave_under_reduce_only(rig: Rig, node: Proxy, outcome: str) -> None:
    """The operator tops up so that exits pass; the open before them must not be the first to profit."""
    intent = refused(rig, node, outcome)
    control.impose(RestrictionKind.REDUCE_ONLY, Origin.COMMAND, by="test", reason="")
    rig.finish(3)
    intent.refresh_from_db()
    assert (intent.state, kinds(intent)) == ("final_cancelled", ["exec", "cancel"])
    assert invariants.executions(rig.wallet) == []
    control.lift(RestrictionKind.REDUCE_ONLY, Origin.COMMAND, by="test")
    invariants.check(node)


@pytest.mark.parametrize("outcome", sorted(REFUSALS))
def test_a_refused_open_that_is_too_old_by_now_is_cancelled(rig: Rig, node: Proxy, outcome: str) -> None:
    intent = refused(rig, node, outcome)
    TxIntent.objects.filter(pk=intent.pk).update(expires_at=Now() - timedelta(seconds=1))
    rig.finish(3)
    intent.refresh_from_db()
    assert intent.state == "final_cancelled"
    assert invariants.executions(rig.wallet) == []
    invariants.check(node)


@pytest.mark.parametrize("why", ["reduce-only", "expired", "asked"])
def test_a_fee_is_not_raised_for_an_open_that_may_no_longer_leave(rig: Rig, node: Proxy, why: str) -> None:
    """Too cheap for every node, so nobody holds it: whoever raises its fee would be the first to let it leave."""
    node.faults.refuse_next, node.faults.refusal = 1, "transaction underpriced: tip needed 1000000"
    intent = rig.intent()
    rig.submit()
    assert intent.sends.get().outcome == "underpriced"
    if why == "reduce-only":
        control.impose(RestrictionKind.REDUCE_ONLY, Origin.COMMAND, by="test", reason="")
    elif why == "expired":
        TxIntent.objects.filter(pk=intent.pk).update(expires_at=Now() - timedelta(seconds=1))
    else:
        cancels.request(by="test")
    pass_a_minute()
    rig.track()  # before any submission comes to it
    assert kinds(intent) == ["exec", "cancel"]
    rig.finish(3)
    intent.refresh_from_db()
    assert intent.state == "final_cancelled"
    assert invariants.executions(rig.wallet) == []
    invariants.check(node)


@pytest.mark.parametrize("outcome", sorted(REFUSALS))
def test_what_was_refused_for_minutes_still_executes_with_its_first_bytes(
    rig: Rig, node: Proxy, outcome: str
) -> None:
    """A fee that nobody looked at is not raised: after ten raises there would be none left."""
    intent = refused(rig, node, outcome)
    for _ in range(15):
        node.faults.refuse_next = 1
        pass_a_minute()
        rig.track()
        rig.submit()
    node.faults.refuse_next = 0
    rig.finish(3)
    intent.refresh_from_db()
    assert (intent.state, kinds(intent)) == ("filled", ["exec"])
    invariants.check(node)


def test_a_stop_names_bytes_of_which_nobody_knows(rig: Rig, node: Proxy) -> None:
    intent = refused(rig, node, "unknown")
    imposed = control.impose(RestrictionKind.STOP, Origin.COMMAND, by="test", reason="")
    assert imposed.in_flight == [intent.sends.get().tx_hash]
    control.lift(RestrictionKind.STOP, Origin.COMMAND, by="test")
    rig.finish(3)
    invariants.check(node)


def test_a_repeat_that_stalls_does_not_leave_after_the_stop(rig: Rig, node: Proxy) -> None:
    """Leased while LIVE, then the process is not scheduled for some seconds; the stop came in between."""
    intent = refused(rig, node, "unknown")
    pass_a_minute()
    begun_s = time.monotonic()
    (leased,) = broadcast._lease(rig.wallet.pk, None).sends
    imposed = control.impose(RestrictionKind.STOP, Origin.COMMAND, by="test", reason="")
    assert imposed.in_flight == [leased.tx_hash], "it is under way, and the stop has to say so"
    before = len(node.log)
    offers.offer([leased], begun_s - control.LEASE_S)
    assert len(node.log) == before, "given to a node after its lease"
    stop = Stop(time.monotonic(), in_flight=imposed.in_flight)
    for _ in range(2):
        pass_a_minute()
        rig.submit()
        rig.track()
    assert len(node.log) == before
    control.lift(RestrictionKind.STOP, Origin.COMMAND, by="test")
    rig.finish(3)
    intent.refresh_from_db()
    assert intent.state == "filled"
    invariants.check(node, stops=[Stop(stop.imposed_at_s, stop.imposed_at_s, stop.in_flight)])


def test_a_lost_key_does_not_keep_signed_exits_from_leaving(
    rig: Rig, node: Proxy, settings: Settings
) -> None:
    """The cancel of an expired open cannot be signed any more; the close behind it is signed already."""
    rig.intent()
    rig.run()
    node.faults.refuse_next, node.faults.refusal = 2, REFUSALS["pool_full"]
    expired, close = rig.intent(symbol="ETH-USD"), rig.intent(Action.CLOSE)
    rig.submit()
    TxIntent.objects.filter(pk=expired.pk).update(expires_at=Now() - timedelta(seconds=1))
    pass_a_minute()
    lose_keys(settings)
    before = len(node.log)
    rig.submit()
    rig.track()
    assert [offer.tx_hash for offer in node.log[before:]] == [close.sends.get().tx_hash]


def lose_keys(settings: Settings) -> None:
    signers._account.cache_clear()
    empty = settings.ENVIRONMENT.model_copy(update={"signer_key_dir": "/nonexistent"})
    settings.ENVIRONMENT = empty

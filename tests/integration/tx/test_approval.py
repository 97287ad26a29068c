"""A person lets one close go although Redis is not well: that close, once, and past nothing else."""

import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.db.models import F
from django.db.models.functions import Now
from pytest_django.fixtures import Settings

from execution_app.audit_words import AuditAction
from execution_app.engine import broadcast, held, reserve
from execution_app.errors import Refused
from execution_app.gate import approval, control, look, watch
from execution_app.models import AuditEntry, Chain, TxIntent, Wallet
from execution_app.states import Action, Origin, RestrictionKind
from tests import invariants
from tests.guards import without_guards
from tests.integration.tx.test_stop import await_requests, impose_stop, in_thread, lift_stop
from tests.invariants import Stop
from tests.proxy import Proxy
from tests.redis_outages import await_mode, frozen_redis
from tests.rig import Rig
from tests.timers import pass_a_minute

REASON = "the market falls and Redis is gone"
MOMENTS = (0, 3, 4, 5, 6, 8)  # how often the node was asked when the stop comes; the broadcast is the seventh


@pytest.fixture
def degraded(own_limits: None, rig: Rig, node: Proxy) -> Iterator[Rig]:
    """Two live positions, and a Redis that says nothing."""
    rig.intent()
    rig.intent(symbol="ETH-USD")
    rig.run()
    with frozen_redis():
        await_mode("DRY")
        yield rig


def approve(key: str) -> TxIntent:
    return held.approve(key, by="ann", reason=REASON, code="")


def hold_close(rig: Rig, symbol: str = "BTC-USD", *, submit: bool = True) -> TxIntent:
    """`submit` also offers what is signed; without, waiting intents are sorted only."""
    close = rig.intent(Action.CLOSE, symbol=symbol)
    (rig.submit if submit else lambda: reserve.reserve(rig.wallet.pk))()
    close.refresh_from_db()
    assert (close.state, close.reason) == ("held", "mode_degraded")
    return close


def approved_close(rig: Rig, symbol: str = "BTC-USD", *, submit: bool = True) -> TxIntent:
    return approve(hold_close(rig, symbol, submit=submit).intent_key)


def try_often(rig: Rig) -> None:
    rig.track()  # chain and database are compared, so that nothing but the rule under test speaks against it
    for _ in range(3):
        pass_a_minute()
        rig.submit()


def test_an_approved_close_is_executed_once_while_redis_says_nothing(degraded: Rig, node: Proxy) -> None:
    close, other = hold_close(degraded), degraded.intent()
    approve(close.intent_key)
    for _ in range(3):
        degraded.finish()
    close.refresh_from_db()
    other.refresh_from_db()
    assert watch.view().mode == "DRY"
    assert (close.state, close.mode, close.nonce) == ("filled", "LIVE", 2)
    assert (other.state, other.reason, other.nonce) == ("held", "mode_degraded", None)
    assert close.sends.count() == 1
    entry = AuditEntry.objects.get(action=AuditAction.INTENT_DECIDED)
    assert (entry.actor, entry.origin, entry.subject) == ("ann", "command", close.intent_key)
    assert entry.reason == REASON
    assert (entry.before["approved_by"], entry.after["approved_by"]) == ("", "ann")  # type: ignore[index]
    assert len(invariants.open_trades(degraded.trader.address)) == 1
    held.reject(other.intent_key, by="ann", reason="no longer wanted")
    invariants.check(node)


def test_an_approval_is_one_intents(degraded: Rig, node: Proxy) -> None:
    """Of a request that closes two positions, what was approved goes; its further intent asks for its own word."""
    first = approved_close(degraded)
    second = degraded.intent(Action.CLOSE)
    try_often(degraded)
    second.refresh_from_db()
    first.refresh_from_db()
    assert (first.state, first.nonce) == ("pending_inclusion", 2)
    assert (second.state, second.nonce) == ("held", None)


def test_an_unused_approval_runs_out_and_may_be_given_anew(degraded: Rig, node: Proxy) -> None:
    close = approved_close(degraded)
    sent = len(node.log)
    with without_guards():
        TxIntent.objects.update(approved_at=F("approved_at") - approval.UNUSED)
    try_often(degraded)
    close.refresh_from_db()
    assert (close.state, close.reason, close.nonce) == ("held", "mode_degraded", None)
    assert len(node.log) == sent
    approve(close.intent_key)
    try_often(degraded)
    close.refresh_from_db()
    assert close.state == "pending_inclusion"


def test_a_used_approval_is_its_slots(degraded: Rig, node: Proxy) -> None:
    """The node was away for longer than an approval waits: the exit that was signed by it still leaves."""
    close = approved_close(degraded)
    assert reserve.reserve(degraded.wallet.pk) == 1
    with without_guards():
        late = approval.UNUSED + timedelta(seconds=1)
        TxIntent.objects.filter(pk=close.pk).update(approved_at=F("approved_at") - late)
        close.sends.update(signed_at=F("signed_at") - late)
    assert broadcast.broadcast(degraded.wallet.pk) == 1


def test_what_took_its_nonce_without_an_approval_in_time_does_not_leave_by_it(
    degraded: Rig, node: Proxy
) -> None:
    close = approved_close(degraded)
    sent = len(node.log)
    assert reserve.reserve(degraded.wallet.pk) == 1
    with without_guards():
        TxIntent.objects.filter(pk=close.pk).update(approved_at=F("approved_at") - approval.UNUSED)
    try_often(degraded)
    assert len(node.log) == sent
    close.refresh_from_db()
    assert close.state == "signed"


def restrict(kind: RestrictionKind) -> Callable[[Any], None]:
    def act(_settings: Any) -> None:
        control.impose(kind, Origin.HTTP, by="test", reason="")

    return act


def environment(**fields: Any) -> Callable[[Any], None]:
    def act(settings: Any) -> None:
        settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(update=fields)

    return act


def force_by_file(settings: Any) -> None:
    settings.ENVIRONMENT.force_dry_path.parent.mkdir(parents=True, exist_ok=True)
    settings.ENVIRONMENT.force_dry_path.touch()


def halt_wallet(_settings: Any) -> None:
    Wallet.objects.update(halted_reason="foreign nonce", halted_at=Now())


def unreconcile(_settings: Any) -> None:
    Chain.objects.update(reconciled_at=Now() - timedelta(seconds=look.RECONCILED_WITHIN_S + 1))


NEVER = {
    "stop": restrict(RestrictionKind.STOP),
    "DRY in the database": restrict(RestrictionKind.DRY),
    "EXEC_MODE": environment(exec_mode="DRY"),
    "FORCE_DRY": environment(force_dry=True),
    "the file": force_by_file,
    "a halted wallet": halt_wallet,
    "an old comparison": unreconcile,
}


@pytest.mark.parametrize("never", NEVER.values(), ids=NEVER)
def test_an_approval_passes_nothing_else(
    degraded: Rig, node: Proxy, settings: Settings, tmp_path: Any, never: Callable[[Any], None]
) -> None:
    """Neither before the nonce, nor between the nonce and the first broadcast."""
    environment(force_dry_path=tmp_path / "var" / "FORCE_DRY")(settings)
    signed = approved_close(degraded)
    degraded.track()
    assert reserve.reserve(degraded.wallet.pk) == 1
    waiting = approved_close(degraded, "ETH-USD", submit=False)
    sent = len(node.log)
    never(settings)
    for _ in range(3):
        pass_a_minute()
        degraded.submit()
    signed.refresh_from_db()
    waiting.refresh_from_db()
    assert (signed.state, waiting.nonce) == ("signed", None)
    assert waiting.state in {"held", "rejected"}
    assert len(node.log) == sent


def test_an_approval_passes_no_word_that_nobody_understands(rig: Rig, node: Proxy) -> None:
    """It was meant to be a stop, and a quote is missing."""
    rig.intent()
    rig.run()
    rig.redis.set(watch.KEY, '{"emergency_stop:true}')
    await_mode("DRY")
    close = approved_close(rig)
    sent = len(node.log)
    try_often(rig)
    close.refresh_from_db()
    assert (close.state, close.reason, close.nonce) == ("held", "mode_degraded", None)
    assert "unreadable" in close.reason_detail
    assert len(node.log) == sent


def test_a_process_that_does_not_watch_passes_nothing(degraded: Rig, node: Proxy) -> None:
    close = approved_close(degraded)
    sent = len(node.log)
    watch.stop()
    try_often(degraded)
    close.refresh_from_db()
    assert (close.nonce, len(node.log)) == (None, sent)


def test_reduce_only_is_no_obstacle_to_an_exit(degraded: Rig, node: Proxy) -> None:
    control.impose(RestrictionKind.REDUCE_ONLY, Origin.HTTP, by="test", reason="")
    close = approved_close(degraded)
    try_often(degraded)
    close.refresh_from_db()
    assert close.state == "pending_inclusion"


def test_a_stop_raced_against_an_approved_close(own_limits: None, rig: Rig, node: Proxy) -> None:
    """Each round stops at another moment: before the nonce, between nonce and broadcast, after it."""
    stops, ends = [], []
    for number in MOMENTS:
        rig.intent()
        rig.finish()
        with frozen_redis():
            await_mode("DRY")
            close = approved_close(rig)
            rig.track()
            pass_a_minute()
            before = node.requests
            submitting = in_thread(rig)
            await_requests(node, before + number, submitting)
            imposed, at_s = impose_stop()
            submitting.join()
            try_often(rig)
            stops.append(Stop(at_s, time.monotonic(), imposed.in_flight))
            close.refresh_from_db()
            ends.append(close.state)
            lift_stop()
        await_mode("LIVE")
        rig.finish(3)
        close.refresh_from_db()
        assert close.state == "filled", close.reason
    assert {"held", "signed"} & set(ends), "no close was caught by a stop"
    assert "pending_inclusion" in ends, "no close was ahead of its stop"
    invariants.check(node, stops=stops)


def test_an_approval_that_meets_a_stop_waits_for_it_and_is_refused(degraded: Rig) -> None:
    """The two take the same line: whichever is later sees the other."""
    close = hold_close(degraded)
    said: list[object] = []

    def race() -> None:
        try:
            said.append(approve(close.intent_key))
        except Refused as refused:
            said.append(refused)
        finally:
            connection.close()

    threads = [threading.Thread(target=race) for _ in range(3)]
    for thread in threads:
        thread.start()
    impose_stop()
    for thread in threads:
        thread.join()
    assert sum(isinstance(word, TxIntent) for word in said) <= 1
    with pytest.raises(Refused, match="emergency stop"):
        approve(close.intent_key)

"""Redis fails in the middle of trading: what left is followed to its end, nothing new leaves, nothing is twice."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
from django.db.models.functions import Now

from execution_app.engine import reserve, rounds
from execution_app.gate import control, watch
from execution_app.models import Fill, Position, TxIntent, TxSend, Wallet
from execution_app.states import Action
from signals_app import decisions
from signals_app.models import Signal, SourceGrant
from tests.redis_outages import await_mode, dead_redis, eventually, flush, frozen_redis
from tests.rig import Rig, rpc_call
from tests.signals.sender import open_body, post

pytestmark = pytest.mark.usefixtures("own_limits")

Outage = Callable[[], AbstractContextManager[None]]
GENEROUS_S = 15.0  # what waits for a queue that hangs waits for longer
OUTAGES = pytest.mark.parametrize("outage", [frozen_redis, dead_redis])


def wallet_transactions(rig: Rig) -> list[str]:
    """Hashes from our wallet in the chain's blocks."""
    blocks = range(int(rpc_call("eth_blockNumber"), 16) + 1)
    found = [
        entry for n in blocks for entry in rpc_call("eth_getBlockByNumber", hex(n), True)["transactions"]
    ]
    return [entry["hash"] for entry in found if entry["from"].lower() == rig.wallet.address.lower()]


def pool_size() -> int:
    return int(rpc_call("txpool_status")["pending"], 16)


def state(intent: TxIntent) -> str:
    intent.refresh_from_db()
    return str(intent.state)


def ring_again() -> None:
    """What a sweep does after the retry time of waiting intents."""
    TxIntent.objects.filter(state__in=["pending", "held"]).update(next_try_at=None)
    for wallet_id in rounds.wallets_with_work():
        rounds.submit(wallet_id)


def follow_to_the_end(rig: Rig) -> None:
    rig.mine()
    rig.track()
    rig.keep()
    rig.track()
    rig.mine(4)
    rig.track()


def assert_each_executed_once(rig: Rig, count: int) -> None:
    hashes = wallet_transactions(rig)
    assert len(hashes) == len(set(hashes)) == count
    assert set(hashes) <= set(TxSend.objects.values_list("tx_hash", flat=True))
    assert Fill.objects.count() == count
    assert Wallet.objects.get().next_nonce == count
    assert not TxIntent.objects.filter(state="simulated").exists()
    assert not Position.objects.filter(mode="DRY").exists()


@OUTAGES
def test_what_left_settles_while_redis_is_away(rig: Rig, outage: Outage) -> None:
    intents = [rig.intent() for _ in range(3)]
    rig.submit()
    with outage():
        await_mode("DRY")
        follow_to_the_end(rig)
        assert [state(intent) for intent in intents] == ["filled"] * 3
        assert all(intent.settled_at for intent in intents)
    assert_each_executed_once(rig, 3)


@OUTAGES
def test_new_orders_are_held_then_expire_and_are_never_simulated(rig: Rig, outage: Outage) -> None:
    with outage():
        await_mode("DRY")
        assert watch.view().requested == "LIVE"
        opened = rig.intent()
        rig.submit()
        assert (state(opened), opened.reason) == ("held", "mode_degraded")
        TxIntent.objects.filter(pk=opened.pk).update(expires_at=Now())
        ring_again()
        assert (state(opened), opened.reason) == ("expired", "lag_exceeded")
        assert "redis" in opened.reason_detail
    await_mode("LIVE")
    ring_again()
    follow_to_the_end(rig)
    assert state(opened) == "expired"
    assert_each_executed_once(rig, 0)


def test_what_was_held_in_time_is_executed_once_after_recovery(rig: Rig) -> None:
    with frozen_redis():
        await_mode("DRY")
        intents = [rig.intent() for _ in range(3)]
        for _ in range(3):
            ring_again()
        assert [state(intent) for intent in intents] == ["held"] * 3
        assert pool_size() == 0
    await_mode("LIVE")
    for _ in range(3):
        ring_again()
    follow_to_the_end(rig)
    assert [state(intent) for intent in intents] == ["filled"] * 3
    assert [intent.nonce for intent in intents] == [0, 1, 2]
    assert_each_executed_once(rig, 3)


def test_a_live_position_is_not_closed_while_degraded(rig: Rig) -> None:
    rig.intent()
    rig.run()
    with dead_redis():
        await_mode("DRY")
        close = rig.intent(Action.CLOSE)
        ring_again()
        assert (state(close), close.reason) == ("held", "mode_degraded")
        assert Position.objects.get().state == "open"
    await_mode("LIVE")
    ring_again()
    follow_to_the_end(rig)
    assert state(close) == "filled"
    assert Position.objects.get().state == "closed"
    assert_each_executed_once(rig, 2)


def test_a_slot_signed_before_the_outage_does_not_leave_during_it(rig: Rig) -> None:
    intent = rig.intent()
    assert reserve.reserve(rig.wallet.pk) == 1
    assert state(intent) == "signed"
    with dead_redis():
        await_mode("DRY")
        for _ in range(3):
            ring_again()
        assert state(intent) == "signed"
        assert pool_size() == 0
    await_mode("LIVE")
    ring_again()
    follow_to_the_end(rig)
    assert state(intent) == "filled"
    assert_each_executed_once(rig, 1)


@OUTAGES
def test_a_signal_is_taken_and_decided_without_redis(rig: Rig, outage: Outage) -> None:
    """A bell that cannot ring costs the caller nothing; the sweeps find the rows."""
    SourceGrant.objects.create(source="drill", tg_user_id=123)
    with outage():
        await_mode("DRY")
        body = open_body()
        began_s = time.monotonic()
        answer, again = post(body), post(body)
        assert (answer.status_code, again.status_code) == (202, 200)
        assert answer.json()["mode"] == "DRY"
        decisions.decide(Signal.objects.get().pk)
        assert time.monotonic() - began_s < GENEROUS_S
        ring_again()
    await_mode("LIVE")
    ring_again()
    follow_to_the_end(rig)
    assert TxIntent.objects.get().state == "filled"
    assert_each_executed_once(rig, 1)


def test_a_flush_between_any_two_steps_changes_nothing_but_time(rig: Rig) -> None:
    opened = rig.intent()
    steps: list[Callable[[], Any]] = [rig.submit, rig.mine, rig.track, rig.keep, rig.track]
    for step in steps:
        flush()
        await_mode("DRY")
        await_mode("LIVE")
        step()
    follow_to_the_end(rig)
    assert state(opened) == "filled"
    assert_each_executed_once(rig, 1)


def test_a_flush_under_work_loses_and_doubles_nothing(rig: Rig) -> None:
    """No waiting for LIVE here: each round meets whatever mode it meets."""
    intents = [rig.intent() for _ in range(6)]
    deadline_s = time.monotonic() + 60
    while {state(intent) for intent in intents} != {"filled"} and time.monotonic() < deadline_s:
        flush()
        ring_again()
        follow_to_the_end(rig)
        if watch.view().mode != "LIVE":
            await_mode("LIVE")
            ring_again()
    assert {state(intent) for intent in intents} == {"filled"}
    assert_each_executed_once(rig, 6)


def test_a_stop_set_in_redis_outlives_its_death_and_a_flush(rig: Rig) -> None:
    rig.redis.set("exec_mode", '{"mode":"DRY","emergency_stop":true}')
    eventually(lambda: len(control.active_kinds()) == 2)
    assert watch.view().emergency_stop
    with dead_redis():
        await_mode("DRY")
        assert watch.view().emergency_stop
    flush()
    refused = rig.intent()
    rig.submit()
    assert (state(refused), refused.reason) == ("rejected", "emergency_stop")
    # A word to lift counts beside the stack's own epoch, which comes back a moment after a flush.
    eventually(lambda: rig.redis.exists("exec_mode_epoch") == 1)
    rig.redis.set("exec_mode", '{"mode":"LIVE"}')
    await_mode("LIVE")
    assert watch.view().emergency_stop
    assert {kind.value for kind in control.active_kinds()} == {"emergency_stop"}
    assert_each_executed_once(rig, 0)

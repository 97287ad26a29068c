"""The database's clock goes back by an hour: nothing that was put off for a moment waits until it has caught up."""

from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import connection
from django.db.models.functions import Now
from pytest_django.fixtures import Settings

from execution_app.book import quotes
from execution_app.engine import remote_signing, reserve, rounds
from execution_app.gate import control, watch
from execution_app.models import TxIntent, TxSend
from execution_app.states import Action, Origin, Reason, RestrictionKind
from tests import invariants
from tests.execution.desks.harness import operate
from tests.execution.test_exits import opened, pause
from tests.guarded import look, move_price, open_guarded
from tests.guards import without_guards
from tests.integration.tx.remote import signing_remotely
from tests.integration.tx.test_gateway_faults import Scene, scene, state_of
from tests.integration.tx.test_gateway_levels import post
from tests.integration.tx.test_increase import grow
from tests.proxy import Proxy
from tests.rig import Rig
from tests.timers import set_clock_back

__all__ = ["scene"]  # the fixture


def test_an_exit_that_waited_for_the_venue_leaves(rig: Rig, node: Proxy) -> None:
    opened(rig)
    pause(paused=True)
    close = rig.intent(Action.CLOSE)
    rig.submit()
    assert TxIntent.objects.get(pk=close.pk).next_try_at is not None
    pause(paused=False)
    set_clock_back()
    assert rounds.wallets_with_work() == [rig.wallet.pk]
    rig.run()
    assert state_of(close) == "filled"
    invariants.check(node)


def test_bytes_that_were_refused_are_offered_again_and_named_by_a_stop(rig: Rig, node: Proxy) -> None:
    intent = rig.intent()
    node.faults.refuse_next, node.faults.refusal = 1, "txpool is full"
    rig.submit()
    assert state_of(intent) == "sending"
    set_clock_back()
    TxSend.objects.update(leased_at=Now())  # as of who offers them just now
    found = control.impose(RestrictionKind.STOP, Origin.COMMAND, by="test", reason="test")
    assert found.in_flight == [TxSend.objects.get().tx_hash]
    control.lift(RestrictionKind.STOP, Origin.COMMAND, by="test")
    rig.run()
    assert state_of(intent) == "filled"
    invariants.check(node)


def test_a_stuck_order_is_replaced(rig: Rig, node: Proxy) -> None:
    intent = rig.intent()
    node.hold()
    rig.submit()
    set_clock_back()
    rig.track()
    assert list(intent.sends.order_by("attempt").values_list("kind", flat=True)) == ["exec", "bump"]
    node.release()
    rig.run()
    assert state_of(intent) == "filled"
    invariants.check(node)


def test_a_message_that_was_not_accepted_is_posted_again(scene: Scene) -> None:
    scene.gateway.faults.refuse_next = 1
    intent = scene.ask()
    scene.rig.submit()
    assert state_of(intent) == "sending"
    set_clock_back()
    scene.rig.submit()
    assert state_of(intent) == "pending_inclusion"


def test_a_price_from_before_does_not_pass_for_a_fresh_one(rig: Rig) -> None:
    """Or no stop would fire for an hour, whatever the price does."""
    move_price(100_000)
    quotes.keep()
    set_clock_back()
    move_price(90_000)
    quotes.keep()
    assert quotes.newest(["BTC-USD"]).fresh == {"BTC-USD": Decimal(90_000)}


def test_a_level_that_the_venue_misses_closes_the_position(rig: Rig, node: Proxy) -> None:
    position = open_guarded(rig, stop_loss="95000")
    assert look(90_000).fired == 0, "its level is the venue's first"
    set_clock_back()
    assert look(90_000).fired == 1
    rig.finish(2)
    position.refresh_from_db()
    assert position.state == "closed"
    invariants.check(node)


def test_a_close_waits_for_no_increase_that_its_keeper_leaves_alone(scene: Scene) -> None:
    position = scene.open()
    intent = grow(scene, position)
    post(scene)
    operate(scene.gateway)
    scene.rig.mine()
    scene.rig.track()
    close = scene.ask(Action.CLOSE)
    post(scene)
    assert (state_of(intent), state_of(close)) == ("ordered", "pending")
    set_clock_back()
    with without_guards(), connection.cursor() as cursor:
        hour = "made_at = made_at + interval '1 hour', deadline_ms = deadline_ms + 3600000"
        cursor.execute(f"UPDATE venue_messages SET {hour} WHERE intent_id = %s", [intent.pk])
    post(scene)
    assert state_of(close) == "pending_inclusion"


def test_a_process_that_began_before_trades_on(rig: Rig) -> None:
    watcher = watch.start("worker")
    assert watcher.started_at is not None
    watcher.started_at += timedelta(hours=1)
    watcher.look()
    assert watcher.ruling().mode == "DRY"
    rig.open_gate()
    assert watcher.ruling().mode == "LIVE"


@pytest.mark.parametrize("waits_for", ["a signer that was away", "a process that died"])
def test_a_slot_is_signed(rig: Rig, node: Proxy, settings: Settings, waits_for: str) -> None:
    """Exits are behind it."""
    with signing_remotely(rig, settings) as signer:
        intent = rig.intent()
        assert reserve.reserve(rig.wallet.pk) == 1
        if waits_for == "a process that died":
            remote_signing._lease(rig.wallet.pk, None)
        else:
            signer.faults.away = True
            rig.submit()
            signer.faults.away = False
        assert state_of(intent) == "reserved"
        set_clock_back()
        rig.submit()
        assert state_of(intent) == "pending_inclusion"
        rig.run()
    assert state_of(intent) == "filled"
    invariants.check(node)


def test_orders_of_the_minute_before_count_and_keep_no_exit_waiting(rig: Rig, settings: Settings) -> None:
    """Nobody knows any more how long ago they were: opens are refused for as long as the clock was set back."""
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(update={"max_orders_per_minute": 1})
    opened(rig)
    with without_guards(), connection.cursor() as cursor:
        cursor.execute("UPDATE risk_reservations SET reserved_at = reserved_at + interval '1 hour'")
    another, close = rig.intent(), rig.intent(Action.CLOSE)
    rig.run()
    another.refresh_from_db()
    assert (another.state, another.reason) == ("rejected", Reason.ORDERS_PER_MINUTE_AT_CAP)
    assert state_of(close) == "filled"

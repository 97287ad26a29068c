"""The watch over protected positions: a level that is crossed closes its position, once, on the right side."""

import os
import signal
import time
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from typing import Any

import pytest
from django.db import connection, connections, models
from django.test.utils import CaptureQueriesContext
from pytest_django.fixtures import Settings

from execution_app import tasks
from execution_app.engine import level_watch, rounds, waiting
from execution_app.gate import control
from execution_app.models import Position, Protection, ProtectionTrigger, TxSend
from execution_app.moves import open_intent
from execution_app.node import rpc
from execution_app.states import Action, Origin, Reason, RestrictionKind
from tests import invariants
from tests.execution.test_meters import value
from tests.execution.test_quotes import next_block
from tests.guarded import closes, fill_book, grow_old, look, move_price, open_guarded
from tests.processes import FORK, processes
from tests.proxy import Proxy
from tests.redis_outages import await_mode, eventually, frozen_redis
from tests.rig import Rig
from tests.timers import pass_a_minute

GUARDED = int(os.environ.get("GUARDED", "1000"))


def again(row: models.Model) -> Any:
    return type(row)._default_manager.get(pk=row.pk)


def current(position: Position) -> Protection:
    return Protection.objects.get(position=position, ended_at=None)


def end(rig: Rig) -> None:
    for _ in range(2):
        rig.finish()


@pytest.mark.parametrize("is_long", [True, False], ids=["long", "short"])
def test_a_stop_loss_that_the_venue_misses_closes_the_live_position(
    rig: Rig, node: Proxy, is_long: bool
) -> None:
    position = open_guarded(rig, is_long=is_long, stop_loss="95000" if is_long else "105000")
    beyond = 90_000 if is_long else 110_000
    assert look(95_001 if is_long else 104_999).fired == 0
    assert current(position).native_crossed_at is None
    assert look(beyond).fired == 0, "its level is the venue's first"
    assert current(position).native_crossed_at is not None
    pass_a_minute()
    assert (look().fired, look().fired) == (1, 0)
    (close,) = closes()
    assert close.intent_key == f"tpsl:{position.pk}:1:stop_loss"
    end(rig)
    assert (again(close).state, again(close).mode) == ("filled", "LIVE")
    assert (again(position).state, again(position).ended_by) == ("closed", "close")
    trigger = ProtectionTrigger.objects.get()
    assert (trigger.kind, trigger.price, trigger.level) == (
        "stop_loss", Decimal(beyond), Decimal(95_000 if is_long else 105_000),
    )  # fmt: skip
    assert "did not close" in trigger.detail
    assert look().fired == 0
    invariants.check(node)


def test_a_level_of_the_venue_that_is_crossed_no_more_is_left_to_it_anew(rig: Rig) -> None:
    position = open_guarded(rig, take_profit="120000")
    look(121_000)
    pass_a_minute()
    assert look(119_000).fired == 0
    assert current(position).native_crossed_at is None
    assert look(121_000).fired == 0
    assert not closes()


@pytest.mark.parametrize("is_long", [True, False], ids=["long", "short"])
def test_a_trailing_stop_follows_the_best_price_and_nothing_else(
    rig: Rig, node: Proxy, is_long: bool
) -> None:
    position = open_guarded(rig, is_long=is_long, trailing_stop_pct="5")
    sign = 1 if is_long else -1
    for move, best in ((10_000, 10_000), (6_500, 10_000), (12_000, 12_000), (8_000, 12_000)):
        assert look(100_000 + sign * move).fired == 0
        assert current(position).watermark == 100_000 + sign * best
    tick = look(106_400 if is_long else 92_400)
    assert (tick.fired, tick.wallets) == (1, {rig.wallet.pk})
    end(rig)
    assert [(close.intent_key, close.state) for close in closes()] == [
        (f"tpsl:{position.pk}:1:trailing_stop", "filled")
    ]
    assert again(position).state == "closed"
    invariants.check(node)


def test_a_simulated_position_is_closed_by_simulation(rig: Rig) -> None:
    control.impose(RestrictionKind.DRY, Origin.HTTP, by="test", reason="drill")
    position = open_guarded(rig, stop_loss="95000", take_profit="105000")
    assert position.mode == "DRY"
    assert look(105_000).fired == 1, "there is no venue that could be first"
    rig.submit()
    (close,) = closes()
    assert (close.state, close.mode, again(position).state) == ("simulated", "DRY", "closed")
    assert not TxSend.objects.exists()


def test_a_simulated_position_ends_in_simulation_although_the_mode_is_live_now(rig: Rig, node: Proxy) -> None:
    """Not the live one beside it, which nothing guards."""
    control.impose(RestrictionKind.DRY, Origin.HTTP, by="test", reason="drill")
    simulated = open_guarded(rig, break_even_pct="5")
    control.lift(RestrictionKind.DRY, Origin.HTTP, by="test")
    rig.open_gate()
    live = open_guarded(rig)
    sent = TxSend.objects.count()
    look(106_000)
    assert look(100_000).fired == 1
    end(rig)
    assert [(close.state, close.mode) for close in closes()] == [("simulated", "DRY")]
    assert (again(simulated).state, again(live).state) == ("closed", "open")
    assert TxSend.objects.count() == sent
    invariants.check(node)


@pytest.mark.usefixtures("own_limits")
def test_a_close_is_held_while_live_is_degraded_and_goes_when_it_is_back(rig: Rig, node: Proxy) -> None:
    position = open_guarded(rig, trailing_stop_pct="5")
    with frozen_redis():
        await_mode("DRY")
        assert (look(90_000).fired, look().fired) == (1, 0)
        rig.submit()
        (close,) = closes()
        assert (close.state, close.reason) == ("held", "mode_degraded")
    await_mode("LIVE")
    end(rig)
    assert (again(close).state, again(position).state) == ("filled", "closed")
    invariants.check(node)


def test_a_time_stop_counts_from_the_fill(rig: Rig) -> None:
    position = open_guarded(rig, time_stop_s=59)
    assert look().fired == 0
    pass_a_minute()
    assert look().fired == 1
    assert closes()[0].intent_key == f"tpsl:{position.pk}:1:time_stop"


def away(settings: Settings) -> None:
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(update={"base_rpc_url": "http://127.0.0.1:1"})
    rpc.endpoints.cache_clear()


def test_an_old_price_decides_nothing_and_is_an_error(rig: Rig, node: Proxy, settings: Settings) -> None:
    position = open_guarded(rig, trailing_stop_pct="5")
    look()
    usual = settings.ENVIRONMENT
    move_price(90_000)
    away(settings)
    before = value("vanta_tpsl_errors_total")
    tasks.watch_levels()
    assert value("vanta_tpsl_errors_total") == before + 1
    grow_old(31)
    tasks.watch_levels()
    assert value("vanta_tpsl_errors_total") == before + 2
    assert not closes()
    settings.ENVIRONMENT = usual
    rpc.endpoints.cache_clear()
    next_block(rig)  # in a second of its own, so that its price is another publication
    tasks.watch_levels()
    assert value("vanta_tpsl_errors_total") == before + 2
    assert [close.position_id for close in closes()] == [position.pk]


def test_a_time_stop_needs_no_price(rig: Rig, node: Proxy, settings: Settings) -> None:
    open_guarded(rig, time_stop_s=59)
    pass_a_minute()
    away(settings)
    tasks.watch_levels()
    assert len(closes()) == 1


def test_a_position_that_somebody_closes_already_is_a_success(rig: Rig, node: Proxy) -> None:
    position = open_guarded(rig, trailing_stop_pct="5")
    first = rig.intent(Action.CLOSE)
    rig.submit()
    assert look(90_000).fired == 1
    end(rig)
    (second,) = closes()
    assert (again(first).state, again(second).state, again(second).reason) == (
        "filled",
        "no_op",
        "no_position",
    )
    assert again(position).state == "closed"
    assert look().fired == 0
    invariants.check(node)


def test_a_stop_lets_nothing_be_asked_for_and_levels_are_judged_anew_after_it(rig: Rig, node: Proxy) -> None:
    position = open_guarded(rig, trailing_stop_pct="5")
    control.impose(RestrictionKind.STOP, Origin.COMMAND, by="test", reason="drill")
    assert look(110_000).fired == look(90_000).fired == 0
    assert current(position).watermark == 110_000, "the best price is followed all the same"
    assert not closes()
    control.lift(RestrictionKind.STOP, Origin.COMMAND, by="test", reason="drill")
    assert look().fired == 1
    control.impose(RestrictionKind.STOP, Origin.COMMAND, by="test", reason="drill")
    rig.submit()
    (refused,) = closes()
    assert (refused.state, refused.reason) == ("rejected", "emergency_stop")
    assert look().fired == 0
    assert current(position).version == 1
    control.lift(RestrictionKind.STOP, Origin.COMMAND, by="test", reason="drill")
    rig.open_gate()
    assert look(109_000).fired == 0, "the price has come back, and so has the protection"
    assert (current(position).version, current(position).watermark) == (2, 110_000)
    assert look(104_000).fired == 1
    end(rig)
    assert [(close.intent_key, close.state) for close in closes()] == [
        (f"tpsl:{position.pk}:1:trailing_stop", "rejected"),
        (f"tpsl:{position.pk}:2:trailing_stop", "filled"),
    ]
    assert again(position).state == "closed"
    invariants.check(node)


def test_a_stop_whose_close_found_nothing_fires_again_where_the_position_is_open(rig: Rig) -> None:
    """Nodes had no trade there at a final block, and have it after all."""
    position = open_guarded(rig, trailing_stop_pct="1")
    assert look(90_000).fired == 1
    waiting.end_empty(closes()[0], Reason.CLOSED_ELSEWHERE, "the venue has no such trade")
    assert look().fired == 1
    end(rig)
    assert [close.state for close in closes()] == ["no_op", "filled"]
    assert again(position).state == "closed"
    assert look().fired == 0


def test_a_trigger_that_cannot_be_noted_keeps_no_other_from_firing(rig: Rig) -> None:
    first, second = fill_book(rig.trader, 3, trailing_stop_usd=Decimal(1))[::2]
    # Its key is another close's already, which no code of ours does.
    taken, _ = open_intent(
        key=f"tpsl:{first.pk}:1:trailing_stop",
        by="test",
        trader=rig.trader,
        wallet=rig.wallet,
        tg_user_id=rig.trader.tg_user_id,
        action=Action.CLOSE.value,
        symbol="BTC-USD",
        slippage_pct=Decimal(1),
        position=second,
    )
    tick = look(90_000)
    assert tick.fired == 1
    assert [str(first.pk) in problem for problem in tick.problems] == [True]
    assert ProtectionTrigger.objects.get().protection.position == second
    assert taken.pk not in ProtectionTrigger.objects.values_list("intent", flat=True)


def test_two_watches_at_once_ask_for_one_close_each(rig: Rig) -> None:
    fill_book(rig.trader, 60, trailing_stop_pct=Decimal(5))
    with processes(watch_alone, watch_alone):
        for price, left in ((110_000, 30), (90_000, 0)):  # the shorts, then the longs
            move_price(price)
            eventually(partial(are_left, left), 30)
    triggers = ProtectionTrigger.objects.values_list("protection__position_id", "intent__position_id")
    assert len(triggers) == len(set(triggers)) == 60
    assert all(guarded == closed for guarded, closed in triggers)
    assert len(closes()) == 60


def are_left(count: int) -> bool:
    return Protection.objects.filter(trigger=None).count() == count


def watch_alone() -> None:
    level_watch.watch()  # without the lock that keeps a second one away


@pytest.mark.parametrize("where", ["before the trigger", "before the commit", "after the commit"])
def test_a_watch_that_is_killed_twice_in_the_middle_of_a_trigger_closes_once(
    rig: Rig, node: Proxy, where: str
) -> None:
    position = open_guarded(rig, trailing_stop_pct="5")
    move_price(90_000)
    committed = where == "after the commit"
    assert [die(where), die(where)] == [-signal.SIGKILL, 0 if committed else -signal.SIGKILL]
    assert len(closes()) == committed
    look()
    assert look().fired == 0
    end(rig)
    assert [close.state for close in closes()] == ["filled"]
    assert ProtectionTrigger.objects.count() == 1
    assert again(position).state == "closed"
    invariants.check(node)


def die(where: str) -> int:
    """The exit code of a process that watches once and is killed there."""
    connections.close_all()

    def watch_and_die() -> None:
        connections.close_all()
        connection.ensure_connection()
        database: Any = connections["default"]
        commit = database._commit

        def kill() -> None:
            os.kill(os.getpid(), signal.SIGKILL)

        def statement(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
            if where == "before the trigger" and 'INSERT INTO "protection_triggers"' in sql:
                kill()
            result = execute(sql, params, many, context)
            if 'INSERT INTO "protection_triggers"' in sql:
                seen.append(sql)
            return result

        def committed() -> None:
            if seen and where == "before the commit":
                kill()
            commit()
            if seen:
                kill()

        seen: list[str] = []
        database._commit = committed
        with connection.execute_wrapper(statement):
            level_watch.watch()

    child = FORK.Process(target=watch_and_die)
    child.start()
    child.join(60)
    assert child.exitcode is not None
    return child.exitcode


def tell(figure: str) -> None:
    print(figure)  # noqa: T201


@pytest.mark.parametrize("price", [100_000, 101_000], ids=["still", "moving"])
def test_a_thousand_positions_cost_as_many_queries_as_ten(rig: Rig, price: int) -> None:
    counts = []
    move_price(price)
    rounds.watch_levels()
    for count, mode in ((10, "DRY"), (GUARDED, "LIVE")):
        fill_book(rig.trader, count, mode=mode, trailing_stop_pct=Decimal(5))
        began_s = time.monotonic()
        with CaptureQueriesContext(connection) as queries:
            assert rounds.watch_levels().fired == 0
        tell(f"a look at {count} more positions took {time.monotonic() - began_s:.3f} s")
        counts.append(len(queries))
    assert counts[0] == counts[1]
    assert Protection.objects.filter(watermark=price).count() >= GUARDED // 2


def test_all_of_many_positions_are_closed_by_one_look(rig: Rig) -> None:
    fill_book(rig.trader, GUARDED, stop_loss=None, trailing_stop_usd=Decimal(1))
    look()
    move_price(120_000)  # against every short
    began_s = time.monotonic()
    assert look().fired == GUARDED // 2
    tell(f"{GUARDED // 2} triggers took {time.monotonic() - began_s:.3f} s")
    assert len(closes()) == GUARDED // 2

"""Levels do not fire by a price that another source does not share; they do where there is no other source."""

import pytest

from execution_app import tasks
from execution_app.engine import rounds
from execution_app.models import MarketState, Position, Protection
from ops.rehearsal.gateway.server import Gateway
from tests import invariants
from tests.execution.test_meters import value
from tests.execution.test_quotes import head_s, publish
from tests.feeds import set_market
from tests.guarded import closes, look, move_price, open_guarded
from tests.integration.tx.test_prices_compared import grow_old, source
from tests.proxy import Proxy
from tests.rig import Rig
from tests.timers import pass_a_minute

__all__ = ["source"]  # the fixture


def watermark(position: Position) -> object:
    return Protection.objects.get(position=position, ended_at=None).watermark


@pytest.mark.parametrize("is_long", [True, False], ids=["long", "short"])
def test_a_level_holds_while_sources_differ_and_fires_once_when_they_agree(
    rig: Rig, node: Proxy, source: Gateway, is_long: bool
) -> None:
    open_guarded(rig, is_long=is_long, trailing_stop_pct="5")
    wrong = 90_000 if is_long else 110_000
    source.faults.set({"core_off_pct": 10.0 if is_long else -10.0, "pro_gone": True})
    move_price(wrong)
    rounds.keep_feed()
    tick = look()
    assert tick.fired == 0
    assert "differ by" in "; ".join(tick.problems)
    assert not closes()
    source.faults.core_off_pct = 0.0
    rounds.keep_feed()
    assert (look().fired, look().fired) == (1, 0)
    for _ in range(2):
        rig.finish()
    (close,) = closes()
    assert close.state == "filled"
    invariants.check(node)


def test_it_is_counted_and_the_best_price_does_not_follow(rig: Rig, source: Gateway) -> None:
    position = open_guarded(rig, trailing_stop_pct="5")
    before, errors = watermark(position), value("vanta_tpsl_errors_total")
    source.faults.core_off_pct = -10.0
    move_price(120_000)
    rounds.keep_feed()
    tasks.watch_levels()
    assert value("vanta_tpsl_errors_total") == errors + 1
    assert watermark(position) == before
    source.faults.core_off_pct = 0.0
    rounds.keep_feed()
    tasks.watch_levels()
    assert value("vanta_tpsl_errors_total") == errors + 1
    assert watermark(position) == 120_000


def test_the_venues_own_level_is_no_reason_either(rig: Rig, source: Gateway) -> None:
    """One that it missed is closed from here once its time is over, by a price that is shared."""
    open_guarded(rig, stop_loss="95000")
    move_price(90_000)
    rounds.keep_feed()
    look()
    pass_a_minute()
    source.faults.core_off_pct = 10.0
    rounds.keep_feed()
    assert look().fired == 0
    source.faults.core_off_pct = 0.0
    rounds.keep_feed()
    assert look().fired == 1


@pytest.mark.parametrize("missing", ["old", "never told"])
def test_without_a_second_price_of_now_the_chains_is_watched(rig: Rig, source: Gateway, missing: str) -> None:
    open_guarded(rig, trailing_stop_pct="5")
    if missing == "old":
        rounds.keep_feed()
        grow_old(6)
    tick = look(90_000)
    assert (tick.fired, tick.problems) == (1, [])


def test_a_time_stop_needs_no_price(rig: Rig, source: Gateway) -> None:
    open_guarded(rig, time_stop_s=59)
    source.faults.core_off_pct = 10.0
    rounds.keep_feed()
    pass_a_minute()
    assert look().fired == 1


def test_an_old_price_of_a_closed_market_is_no_error(rig: Rig, source: Gateway) -> None:
    open_guarded(rig, trailing_stop_pct="5")
    publish(90_000, published_at=head_s() - 3600)
    rounds.keep_feed()
    assert any("s old" in problem for problem in look().problems)
    set_market(closed=True)
    MarketState.objects.all().delete()  # asked anew only every 15 s
    rounds.keep_feed()
    tick = look()
    assert (tick.fired, tick.problems) == (0, [])

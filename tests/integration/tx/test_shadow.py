"""Every LIVE order has a shadow: the simulation's estimate of it, stored before it leaves, and the gap to its fill."""

from dataclasses import replace
from decimal import Decimal
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from execution_app.book import prices, shadow, simulation
from execution_app.engine import reserve
from execution_app.gate import control
from execution_app.models import Fill, Position, Shadow, TxIntent
from execution_app.states import Action, Origin, RestrictionKind
from execution_app.venues.costs import Costs
from ops.rollout import shadow_check
from ops.rollout.shadow_check import Limits
from tests.execution.test_meters import value
from tests.guarded import move_price
from tests.integration.tx.test_reorg import reorganise
from tests.proxy import Proxy
from tests.rig import Rig


def of(intent: TxIntent) -> Shadow:
    return Shadow.objects.get(intent=intent)


def test_an_estimate_is_stored_before_anything_leaves_and_is_the_simulations(rig: Rig) -> None:
    intent = rig.intent()
    market = prices.look(["BTC-USD"], rig.wallet.address)
    wanted = simulation.estimate(intent, market)
    reserve.reserve(rig.wallet.pk)
    intent.refresh_from_db()
    row = of(intent)
    assert (intent.state, row.delay_ms, row.refusal) == ("signed", None, "")
    assert (row.oracle_price, row.price, row.fee_usdc) == (wanted.oracle_price, wanted.price, wanted.fee_usdc)


@pytest.mark.parametrize("is_long", [True, False], ids=["long", "short"])
def test_the_gap_is_what_live_was_worse_by(rig: Rig, is_long: bool) -> None:
    """The price moves against the order between its estimate and the keeper's execution."""
    sign = 1 if is_long else -1
    before = value("vanta_shadow_delay_seconds_count")
    intent = rig.intent(is_long=is_long, slippage_pct=Decimal(2))
    rig.submit()
    rig.mine()
    rig.track()
    move_price(100_000 + sign * 1_000)
    rig.keep()
    rig.track()
    row, fill = of(intent), Fill.objects.get()
    assert row.price_gap_pct == (sign * (fill.price - row.price) * 100 / row.price).quantize(
        Decimal("0.000001")
    )
    assert Decimal("0.99") < row.price_gap_pct < Decimal("1.01")
    assert row.fee_gap_usdc == 0
    assert row.delay_ms is not None
    assert value("vanta_shadow_delay_seconds_count") == before + 1
    rig.run()
    move_price(100_000)
    close = rig.intent(Action.CLOSE)
    rig.submit()
    rig.mine()
    rig.track()
    move_price(100_000 - sign * 500)
    rig.keep()
    rig.track()
    row = of(close)
    assert row.price_gap_pct is not None
    assert Decimal("0.49") < row.price_gap_pct < Decimal("0.51")
    assert row.fee_gap_usdc == 0, "what the venue kept is what a simulation keeps"
    assert row.fee_usdc > 0


def test_a_close_is_estimated_for_what_it_takes(rig: Rig) -> None:
    rig.intent()
    rig.run()
    close = rig.intent(Action.CLOSE, reduce_pct=Decimal(40))
    rig.run()
    row = of(close)
    assert row.delay_ms is not None
    fill = Fill.objects.get(intent=close)
    assert (fill.collateral_usdc, row.fee_gap_usdc) == (2, 0)
    assert row.fee_usdc == shadow.fee_usdc(fill)


def test_the_road_of_messages_casts_shadows_too(rig: Rig) -> None:
    intent = rig.intent(road="gateway")
    reserve.reserve(rig.wallet.pk)
    assert of(intent).price > 0


def test_a_fill_that_leaves_the_chain_takes_its_gap_along(rig: Rig, node: Proxy) -> None:
    intent = rig.intent()
    rig.submit()
    rig.mine()
    rig.track()
    rig.keep()
    rig.track()
    assert of(intent).delay_ms is not None
    reorganise(2)
    rig.track()
    assert (of(intent).delay_ms, Position.objects.get().state) == (None, "void")
    rig.run()
    rig.finish()
    assert of(intent).delay_ms is not None


@pytest.mark.parametrize(
    "costs",
    [Costs(10**30, 0, 0), Costs(0, 0, 100 * 10**10), Costs(0, 0, 10**40)],
    ids=["fee beyond all", "price of nothing", "price below nothing"],
)
def test_costs_that_are_nonsense_keep_no_order_waiting(rig: Rig, costs: Costs) -> None:
    market = replace(prices.look(["BTC-USD"], rig.wallet.address), costs=costs)
    assert shadow.cast(rig.intent(is_long=False), market, None) is None


def test_a_fill_that_is_nothing_like_its_estimate_is_a_fill(rig: Rig) -> None:
    intent = rig.intent()
    least = Decimal("1E-10")
    Shadow.objects.create(intent=intent, oracle_price=least, price=least, fee_usdc=Decimal(0))
    held = Position(is_long=True, open_price=Decimal(100_000))
    shadow.compare(
        Fill(intent=intent, position=held, action="open", price=Decimal(100_000), collateral_usdc=Decimal(5))
    )
    assert of(intent).delay_ms is None


def test_what_is_simulated_has_no_shadow(rig: Rig) -> None:
    control.impose(RestrictionKind.DRY, Origin.HTTP, by="test", reason="drill")
    intent = rig.intent()
    rig.submit()
    intent.refresh_from_db()
    assert intent.state == "simulated"
    assert not Shadow.objects.exists()


def told(**options: Any) -> tuple[str, bool]:
    out = StringIO()
    try:
        call_command("shadow", stdout=out, **options)
    except CommandError:
        return out.getvalue(), False
    return out.getvalue(), True


def test_the_gate_lets_honest_estimates_pass_and_stops_at_flattering_ones(rig: Rig) -> None:
    words, passed = told()
    assert not passed
    assert "0 LIVE fills of the last 7 days have an estimate, at least 20 are needed" in words
    rig.intent()
    rig.run()
    rig.intent(Action.CLOSE)
    rig.run()
    words, passed = told(fills=2, beyond_dry_s=Decimal(600))
    assert passed, words
    Shadow.objects.update(delay_ms=10_000)
    words, passed = told(fills=2)
    assert not passed
    slow = "half of the fills came within 10 s, nine of ten within 10 s; DRY waits 0 s"
    assert f"fail  shadow keeper: {slow}" in words
    assert "next: set DRY_KEEPER_DELAY_MS=10000: " in words
    worse = rig.intent(symbol="ETH-USD", slippage_pct=Decimal(2))
    rig.run()
    Shadow.objects.filter(intent=worse).update(price_gap_pct=Decimal("0.6"), fee_gap_usdc=Decimal(3))
    words, passed = told(fills=3)
    assert not passed
    for name in ("price", "worst price"):
        assert f"fail  shadow {name}" in words
    assert "ok    shadow delay" in words
    assert told(
        fills=3,
        price_gap_pct=Decimal(1),
        worst_price_gap_pct=Decimal(1),
        fee_gap_pct=Decimal(10**9),
        beyond_dry_s=Decimal(600),
    )[1]


def test_the_gate_counts_what_has_no_estimate(rig: Rig) -> None:
    rig.intent()
    rig.run()
    found = shadow_check.measure(7)
    assert (found.fills, found.unestimated, found.refused) == (1, 0, 0)
    (first, *_) = shadow_check.examine(Limits(fills=2))
    assert first.status == "fail"


def test_the_gate_refuses_limits_that_are_none() -> None:
    for name, wrong in (("--days", "0"), ("--price-gap-pct", "NaN"), ("--price-gap-pct", "-1")):
        with pytest.raises(CommandError):
            call_command("shadow", name, wrong)

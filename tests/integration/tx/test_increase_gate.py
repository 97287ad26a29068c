"""An increase before the gate: caps, stops, the mode, and what its levels are watched by."""

from decimal import Decimal
from typing import Any

import pytest
from django.db.models.functions import Now

from execution_app.book import absence, drift
from execution_app.engine import increases, margin_changes
from execution_app.engine.gateway import making
from execution_app.engine.waiting import database_now
from execution_app.gate import control, usage
from execution_app.gate.admission import Verdict
from execution_app.gate.caps import Limit
from execution_app.gate.usage import of_house
from execution_app.models import Fill, Position, Protection, TxIntent
from execution_app.states import Action, CapName, Mode, Origin, Reason, RestrictionKind
from tests import stakes
from tests.execution.desks.harness import run
from tests.feeds import served_feed
from tests.guarded import look, move_price
from tests.integration.tx.test_gateway_faults import Scene, scene, state_of
from tests.integration.tx.test_gateway_levels import post, reason_of
from tests.integration.tx.test_increase import check, go_on, grow, held_usdc, ours, theirs
from tests.integration.tx.test_permissions import allow
from tests.rig import USDC, rpc_call
from tests.timers import pass_a_minute

__all__ = ["scene"]  # the fixture


def with_caps(settings: Any, **caps: object) -> None:
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(update=caps)


def test_exposure_counts_it_once_and_is_free_when_its_close_is_final(scene: Scene, settings: Any) -> None:
    with_caps(settings, max_exposure_usdc=Decimal(25))
    position = scene.open()
    first, second = grow(scene, position), grow(scene, position)
    post(scene)
    scene.rig.track()
    assert state_of(first) == "pending_inclusion"
    for _ in range(2):
        go_on(scene)
    assert reason_of(second) == ("rejected", Reason.EXPOSURE_ABOVE_CAP)
    assert (held_usdc(), ours(position)[0]) == ([10, 10], 10)
    assert stakes.highest() == 20
    scene.ask(Action.CLOSE, reduce_usdc=Decimal(4))
    go_on(scene)
    third = grow(scene, position)
    go_on(scene)
    assert (state_of(third), held_usdc()) == ("filled", [10, 2, 10])
    assert stakes.highest() == 22
    check(scene)


def test_it_is_one_position_before_and_after(scene: Scene, settings: Any) -> None:
    with_caps(settings, max_open_positions=1)
    position = scene.open()
    intent = grow(scene, position)
    go_on(scene)
    assert (state_of(intent), ours(position)[0]) == ("filled", 10)
    now = database_now()
    assert of_house(now)[CapName.OPEN_POSITIONS, Mode.LIVE] == 1
    assert usage.used(Limit(CapName.OPEN_POSITIONS, Decimal(1)), Mode.LIVE, now) == 1
    another = scene.ask()
    go_on(scene)
    assert reason_of(another) == ("rejected", Reason.OPEN_POSITIONS_AT_CAP)


@pytest.mark.parametrize(
    ("caps", "reason"),
    [
        ({"max_notional_usdc": Decimal(9)}, Reason.NOTIONAL_ABOVE_CAP),
        ({"max_collateral_usdc": Decimal(4)}, Reason.COLLATERAL_ABOVE_CAP),
        ({"max_leverage": Decimal(1)}, Reason.LEVERAGE_ABOVE_CAP),
        ({"max_orders_per_minute": 1}, Reason.ORDERS_PER_MINUTE_AT_CAP),
    ],
)
def test_every_cap_of_an_open_is_its_own(
    scene: Scene, settings: Any, caps: dict[str, object], reason: Reason
) -> None:
    position = scene.open()
    with_caps(settings, **caps)
    intent = grow(scene, position)
    go_on(scene)
    assert reason_of(intent) == ("rejected", reason)
    assert (len(scene.gateway.posts), held_usdc()) == (1, [10])


def test_without_an_allowance_it_is_held_and_expires(scene: Scene) -> None:
    position = scene.open()
    allow(scene.rig, 4 * USDC)
    intent = grow(scene, position)
    post(scene)
    assert reason_of(intent) == ("held", Reason.INSUFFICIENT_ALLOWANCE)
    TxIntent.objects.filter(pk=intent.pk).update(expires_at=Now())
    post(scene)
    assert reason_of(intent) == ("expired", Reason.LAG_EXCEEDED)
    assert held_usdc() == [10]


def test_a_stop_refuses_it_and_parks_what_is_signed(scene: Scene) -> None:
    position = scene.open()
    scene.gateway.faults.refuse_next = 1
    signed = grow(scene, position)
    post(scene)
    posts = len(scene.gateway.posts)
    control.impose(RestrictionKind.STOP, Origin.COMMAND, reason="test", by="test")
    new = grow(scene, position)
    for _ in range(2):
        post(scene)
        scene.rig.track()
    assert reason_of(new) == ("rejected", Reason.EMERGENCY_STOP)
    assert (state_of(signed), len(scene.gateway.posts)) == ("sending", posts)
    scene.outlive()
    assert (state_of(signed), ours(position), held_usdc()) == ("lapsed", theirs(scene), [10, 0])
    check(scene)


def test_reduce_only_refuses_it_and_lets_what_is_signed_lapse(scene: Scene) -> None:
    position = scene.open()
    scene.gateway.faults.refuse_next = 1
    signed = grow(scene, position)
    post(scene)
    posts = len(scene.gateway.posts)
    control.impose(RestrictionKind.REDUCE_ONLY, Origin.COMMAND, reason="test", by="test")
    new = grow(scene, position)
    post(scene)
    assert reason_of(new) == ("rejected", Reason.REDUCE_ONLY)
    assert (state_of(signed), len(scene.gateway.posts)) == ("sending", posts)


def test_what_is_signed_does_not_leave_any_more_once_a_close_is_under_way(scene: Scene) -> None:
    """A stop parks it; by the time it is lifted a close holds the position."""
    position = scene.open()
    scene.gateway.faults.refuse_next = 1
    signed = grow(scene, position)
    post(scene)
    posts = len(scene.gateway.posts)
    Position.objects.filter(pk=position.pk).update(state="closed")
    post(scene)
    assert len(scene.gateway.posts) == posts
    Position.objects.filter(pk=position.pk).update(state="open")
    post(scene)
    assert len(scene.gateway.posts) == posts + 1
    go_on(scene)
    assert state_of(signed) == "filled"


@pytest.mark.parametrize("kind", [Action.INCREASE, Action.MARGIN])
def test_what_was_asked_before_a_close_that_waits_does_not_go_before_it(scene: Scene, kind: Action) -> None:
    """A close waits for the one increase that is under way, and never for those behind it: its bound is of one."""
    position = scene.open()
    scene.gateway.faults.never = True
    first = grow(scene, position)
    second = grow(scene, position) if kind is Action.INCREASE else _deposit(position)
    post(scene)
    close = scene.ask(Action.CLOSE)
    post(scene)
    assert (state_of(first), state_of(second), state_of(close)) == (
        "pending_inclusion",
        "pending",
        "pending",
    )
    rpc_call("evm_increaseTime", making.LIFE_S + 1)
    scene.rig.mine()
    scene.rig.track()
    second.refresh_from_db()
    may_go = increases.may_go if kind is Action.INCREASE else margin_changes.may_go
    assert not may_go(second, Verdict.EXECUTE), "though the close is not due yet"
    assert reason_of(second) == ("pending", Reason.WAITS_FOR_EARLIER_CLOSE)
    move_price(100_000)
    scene.gateway.faults.never = False
    for _ in range(3):
        go_on(scene)
    assert (state_of(first), state_of(close), scene.trades()) == ("lapsed", "filled", 0)
    assert reason_of(second) == ("rejected", Reason.NO_POSITION)
    check(scene)


def _deposit(position: Position) -> TxIntent:
    return margin_changes.ask(position, Decimal(1), key="admin:margin:1", by="test")


def test_a_live_position_is_not_increased_by_a_simulation(scene: Scene) -> None:
    position = scene.open()
    control.impose(RestrictionKind.DRY, Origin.COMMAND, reason="test", by="test")
    intent = grow(scene, position)
    post(scene)
    assert reason_of(intent) == ("held", Reason.LIVE_POSITION_IN_DRY)
    TxIntent.objects.filter(pk=intent.pk).update(expires_at=Now())
    post(scene)
    assert (reason_of(intent), len(scene.gateway.posts)) == (("expired", Reason.LAG_EXCEEDED), 1)


def test_in_dry_it_is_filled_as_the_venue_would(scene: Scene) -> None:
    """At the oracle's price and the spread, blended; and what is LIVE again increases no simulated position."""
    control.impose(RestrictionKind.DRY, Origin.COMMAND, reason="test", by="test")
    scene.rig.intent(take_profit=Decimal(130_000))
    post(scene)
    position = Position.objects.get(mode=Mode.DRY)
    move_price(110_000)
    asked: dict[str, Any] = {
        "position": position,
        "is_long": True,
        "collateral_usdc": Decimal(5),
        "leverage_x": Decimal(2),
    }
    intent = scene.rig.intent(Action.INCREASE, **asked)
    post(scene)
    assert state_of(intent) == "simulated"
    position.refresh_from_db()
    assert (position.collateral_usdc, position.leverage_x, position.settled_at is None) == (10, 2, False)
    assert Decimal(104_000) < position.open_price < Decimal(105_000)
    fill = Fill.objects.get(intent=intent)
    assert (fill.price, fill.open_price_after) == (Decimal(110_011), position.open_price)
    assert (held_usdc(), Protection.objects.filter(ended_at=None).get().version) == ([10, 10], 2)
    stakes.check()
    crossed = scene.rig.intent(Action.INCREASE, **asked)
    move_price(131_000)
    post(scene)
    assert reason_of(crossed) == ("rejected", Reason.VENUE_WOULD_CANCEL)
    control.lift(RestrictionKind.DRY, Origin.COMMAND, by="test")
    meant_live = scene.rig.intent(Action.INCREASE, **asked)
    named = scene.rig.intent(Action.INCREASE, **asked, only_position=True)
    move_price(110_000)
    post(scene)
    assert reason_of(meant_live) == ("rejected", Reason.NO_POSITION)
    assert state_of(named) == "simulated"
    assert (len(scene.gateway.posts), held_usdc()) == (0, [10, 10, 10])


def test_its_levels_stay_and_are_watched_anew(scene: Scene) -> None:
    """What had fired closed what there was; the version that follows closes the rest."""
    intent = scene.ask(stop_loss=Decimal(90_000))
    run(scene.rig, scene.gateway)
    position = Position.objects.get(fills__intent=intent)
    grow(scene, position)
    go_on(scene)
    versions = Protection.objects.order_by("version").values_list("version", "stop_loss", "ended_at")
    assert [(number, level, ended is None) for number, level, ended in versions] == [
        (1, Decimal(90_000), False),
        (2, Decimal(90_000), True),
    ]
    position.refresh_from_db()
    assert (
        position.stop_loss
        == Decimal(90_000)
        == scene.gateway.books.trades(scene.rig.trader.address)[0].stop_loss
    )
    Position.objects.filter(pk=position.pk).update(stop_loss=None)  # ours alone
    assert look(89_000).fired == 1
    (close,) = TxIntent.objects.filter(action="close")
    assert close.intent_key == f"tpsl:{position.pk}:2:stop_loss"


def test_what_an_unmined_one_costs_at_the_venue_is_refused_before(scene: Scene) -> None:
    position = scene.open()
    Position.objects.filter(pk=position.pk).update(take_profit=Decimal(100_005))
    intent = grow(scene, position)
    go_on(scene)
    assert reason_of(intent) == ("rejected", Reason.VENUE_WOULD_CANCEL)
    assert held_usdc() == [10]


def test_what_was_taken_for_ended_and_is_there_is_at_stake_again_in_all_its_parts(scene: Scene) -> None:
    position = scene.open()
    grow(scene, position)
    go_on(scene)
    scene.rig.track()
    head = int(rpc_call("eth_blockNumber"), 16)
    assert absence.end(Position.objects.get(pk=position.pk), head), "an endpoint that lied for long"
    assert (ours(position)[3], held_usdc()) == ("closed", [0, 0])
    for _ in range(3):
        drift.compare()
        scene.rig.mine(4)
        scene.rig.track()
    assert (ours(position), held_usdc()) == (theirs(scene), [10, 10])
    check(scene)


@pytest.mark.parametrize("mode", ["LIVE", "DRY"])
def test_its_price_is_compared_as_that_of_an_open(scene: Scene, settings: Any, mode: str) -> None:
    """With a feed it goes where the feed agrees, and waits where that says otherwise; so it does in simulation."""
    if mode == "DRY":
        control.impose(RestrictionKind.DRY, Origin.COMMAND, reason="test", by="test")
        scene.rig.intent()
        post(scene)
        position = Position.objects.get(mode=Mode.DRY)
    else:
        position = scene.open()
    asked: dict[str, Any] = {"position": position, "is_long": True}
    asked |= {"collateral_usdc": Decimal(5), "leverage_x": Decimal(2)}

    def more() -> TxIntent:
        return scene.rig.intent(Action.INCREASE, **asked) if mode == "DRY" else grow(scene, position)

    with served_feed(settings) as source:
        intent = more()
        go_on(scene)
        assert state_of(intent) == ("simulated" if mode == "DRY" else "filled")
        source.faults.core_off_pct = 3.0
        later = more()
        pass_a_minute()
        scene.rig.submit()
        assert reason_of(later) == ("pending", Reason.PRICE_DEVIATES)

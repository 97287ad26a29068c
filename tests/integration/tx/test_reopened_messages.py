"""A reorg takes an opening back that comes again as another row: what was asked of the row before by message is of the new one."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db.models import F

from execution_app.book import protections
from execution_app.engine import level_watch
from execution_app.models import Fill, Position, Protection, TxIntent
from execution_app.states import Action, Reason
from tests.execution.desks.harness import operate
from tests.guarded import move_price
from tests.guards import without_guards
from tests.integration.tx.test_gateway_faults import Scene, scene, state_of
from tests.integration.tx.test_gateway_levels import post, reason_of, theirs
from tests.integration.tx.test_increase import check, go_on, grow, ours
from tests.integration.tx.test_increase import theirs as their_trade
from tests.integration.tx.test_reopened import filled_at, head_s
from tests.integration.tx.test_reorg import reorganise

__all__ = ["scene"]  # the fixture
FIRST, NEARER, NEAREST = Decimal(80_000), Decimal(95_000), Decimal(96_000)


@pytest.fixture
def by_gateway(scene: Scene, settings: Any) -> Scene:
    """Levels follow to the venue."""
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(update={"venue": "gateway"})
    return scene


def opened(scene: Scene, **asked: Any) -> tuple[Position, int]:
    """In a block of its own, and of which second that is."""
    scene.ask(**asked)
    scene.rig.submit()
    operate(scene.gateway)
    scene.rig.mine()
    scene.rig.track()
    moment = head_s() + 60
    filled_at(scene.rig, moment)
    return Position.objects.get(state="open"), moment


def opened_anew(scene: Scene, moment: int, depth: int = 1) -> Position:
    """The newest blocks leave the chain, the opening among them, which comes again in this second."""
    leave(scene, depth)
    filled_at(scene.rig, moment)
    return Position.objects.get(state="open")


def leave(scene: Scene, depth: int = 1) -> None:
    reorganise(depth)
    scene.rig.track()
    assert not Position.objects.exclude(state="void").exists()


def levels_of(position: Position) -> TxIntent:
    return TxIntent.objects.filter(position=position, action=Action.LEVELS).latest("id")


def nearer(position: Position, stop_loss: Decimal = NEARER) -> None:
    protections.change(position.pk, {"stop_loss": stop_loss}, by="ann", reason="another distance")


def look_around(scene: Scene) -> None:
    """What came to nothing is asked for again; then everything happens that can."""
    for _ in range(3):
        with without_guards():
            past = F("settled_at") - timedelta(minutes=2)
            TxIntent.objects.filter(action=Action.LEVELS, settled_at__isnull=False).update(settled_at=past)
        level_watch.watch()
        go_on(scene)


def test_a_close_waits_for_an_increase_that_was_asked_of_the_row_before(scene: Scene) -> None:
    """It renews the trade's time, by which a close names it: one that went first would be dead until it has lapsed."""
    before, moment = opened(scene)
    intent = grow(scene, before)
    post(scene)
    assert state_of(intent) == "pending_inclusion"
    position = opened_anew(scene, moment + 1)
    assert position.pk != before.pk
    close = scene.ask(Action.CLOSE)
    post(scene)
    assert reason_of(close) == ("pending", Reason.WAITS_FOR_EARLIER_ORDER)
    move_price(100_400)
    operate(scene.gateway)
    for _ in range(2):
        go_on(scene)
    assert (state_of(intent), state_of(close), scene.trades()) == ("filled", "filled", 0)
    assert Fill.objects.get(intent=intent).position == position
    assert Fill.objects.get(intent=close).collateral_usdc == 10
    check(scene)


def test_an_increase_of_the_row_before_is_taken_back_as_a_whole(scene: Scene) -> None:
    before, moment = opened(scene)
    intent = grow(scene, before)
    post(scene)
    position = opened_anew(scene, moment + 1)
    as_opened = ours(position)
    move_price(100_400)
    operate(scene.gateway)
    scene.rig.keep()
    scene.rig.track()
    assert (state_of(intent), ours(position)) == ("filled", their_trade(scene))
    reorganise(1)
    scene.rig.track()
    assert (state_of(intent), ours(position)) == ("ordered", as_opened)
    for _ in range(2):
        go_on(scene)
    assert (state_of(intent), ours(position)) == ("filled", their_trade(scene))
    check(scene)


def test_an_increase_is_of_no_void_row(scene: Scene) -> None:
    """Which has the trade's second, where blocks that came in between had it."""
    before, moment = opened(scene)
    leave(scene)
    move_price(100_010)
    filled_at(scene.rig, moment)
    (between,) = Position.objects.filter(state="open")
    position = opened_anew(scene, moment, depth=2)
    assert (position.pk, between.opened_at > position.opened_at) == (before.pk, True)
    intent = grow(scene, position)
    for _ in range(2):
        go_on(scene)
    assert state_of(intent) == "filled"
    assert Fill.objects.get(intent=intent).position == position
    assert ours(position) == their_trade(scene)
    check(scene)


@pytest.mark.parametrize(
    "later_s", [(0,), (1,), (1, 0)], ids=["same row", "another", "another, then the first"]
)
def test_levels_that_had_not_gone_reach_the_venue(by_gateway: Scene, later_s: tuple[int, ...]) -> None:
    scene = by_gateway
    position, moment = opened(scene, stop_loss=FIRST)
    nearer(position)
    for seconds in later_s:
        leave(scene)
        post(scene)
        filled_at(scene.rig, moment + seconds)
        post(scene)
    (position,) = Position.objects.filter(state="open")
    look_around(scene)
    scene.outlive()
    move_price(100_000)
    look_around(scene)
    assert theirs(scene) == (None, NEARER)
    assert ours_levels(position) == (None, NEARER)
    asked = TxIntent.objects.filter(action=Action.LEVELS).count()
    look_around(scene)
    assert TxIntent.objects.filter(action=Action.LEVELS).count() == asked, "nobody asks for what it has"


def ours_levels(position: Position) -> tuple[Decimal | None, Decimal | None]:
    position.refresh_from_db()
    return position.take_profit, position.stop_loss


def test_levels_wait_while_their_trade_may_be_opened_anew(by_gateway: Scene) -> None:
    scene = by_gateway
    position, moment = opened(scene, stop_loss=FIRST)
    nearer(position)
    leave(scene)
    post(scene)
    mine = levels_of(position)
    assert reason_of(mine) == ("pending", Reason.WAITS_FOR_EARLIER_ORDER)
    filled_at(scene.rig, moment)
    go_on(scene)
    assert (state_of(mine), theirs(scene)) == ("changed", (None, NEARER))
    scene.check()


def test_levels_wait_for_those_that_were_asked_of_the_row_before(by_gateway: Scene) -> None:
    """Their message names a slot: the last ones asked for would not be the last ones taken."""
    scene = by_gateway
    before, moment = opened(scene, stop_loss=FIRST)
    nearer(before)
    post(scene)
    first = levels_of(before)
    assert state_of(first) == "pending_inclusion"
    nearer(before, NEAREST)
    position = opened_anew(scene, moment + 1)
    (guard,) = Protection.objects.filter(position=position)
    assert (guard.stop_loss, guard.set_by) == (NEAREST, "ann")
    post(scene)
    last = levels_of(position)
    assert reason_of(last) == ("pending", Reason.WAITS_FOR_EARLIER_ORDER)
    operate(scene.gateway)
    scene.rig.mine()
    scene.rig.track()
    assert (state_of(first), theirs(scene)) == ("changed", (None, NEARER))
    scene.outlive()
    move_price(100_000)
    look_around(scene)
    assert (state_of(last), theirs(scene)) == ("changed", (None, NEAREST))
    assert ours_levels(position) == (None, NEAREST)


def test_the_first_levels_are_asked_for_anew_while_others_are_under_way(by_gateway: Scene) -> None:
    """Those may still become the trade's, whose opening had the ones that are wanted."""
    scene = by_gateway
    before, moment = opened(scene, stop_loss=NEAREST)
    nearer(before, NEAREST + 1_000)
    post(scene)
    first = levels_of(before)
    assert state_of(first) == "pending_inclusion"
    nearer(before, NEAREST)
    position = opened_anew(scene, moment + 1)
    operate(scene.gateway)
    scene.rig.mine()
    scene.rig.track()
    assert (state_of(first), theirs(scene)) == ("changed", (None, NEAREST + 1_000))
    scene.outlive()
    move_price(100_000)
    look_around(scene)
    assert theirs(scene) == ours_levels(position) == (None, NEAREST)

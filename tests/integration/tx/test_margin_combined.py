"""Margin with everything else that changes a trade: increases, parts closed, levels, reorgs, and all of it simulated."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from execution_app.desks.paper import PaperDesk
from execution_app.engine import margin_changes, rounds
from execution_app.gate import cap_rows, control
from execution_app.models import Fill, MarginChange, Position, Reservation, TxIntent
from execution_app.states import Action, CapName, CapScope, Mode, Origin, Reason, RestrictionKind
from execution_app.venues.calls import Margin
from execution_app.venues.interface import CloseRequest, MarginRequest, OpenRequest, Outcome
from tests import invariants, stakes
from tests.guarded import look, move_price
from tests.integration.tx.test_divergences import LEVELS, compared, opened
from tests.integration.tx.test_gateway_faults import Scene, scene, state_of
from tests.integration.tx.test_gateway_levels import post, reason_of
from tests.integration.tx.test_increase import check, go_on, grow, held_usdc, ours, theirs
from tests.integration.tx.test_margins import by_hand
from tests.integration.tx.test_reorg import reorganise
from tests.integration.tx.test_resting import at_stake as stake_usdc
from tests.integration.tx.test_venue_endings import venue_ends
from tests.proxy import Proxy
from tests.rig import Rig, rpc_call

__all__ = ["scene"]  # the fixture


at_stake: Callable[[], Any] = stake_usdc


def ask(position: Position, change_usdc: str, key: str = "admin:margin:1") -> TxIntent:
    return margin_changes.ask(position, Decimal(change_usdc), key=key, by="test")


def size(position: Position) -> tuple[Any, Any]:
    return ours(position)[:2]


def test_before_and_behind_an_increase_and_with_a_part_closed(scene: Scene) -> None:
    """Each is a fold of what the venue told, in the order of the chain; closed at the price it was opened at nothing is gained."""
    position = scene.open()
    ask(position, "5")
    go_on(scene)
    assert (size(position), ours(position)) == ((10, 1), theirs(scene))
    move_price(100_000)
    grow(scene, Position.objects.get(), Decimal(5))
    go_on(scene)
    # The increase had the leverage that the trade has by then.
    assert (size(position), ours(position)) == ((15, 1), theirs(scene))
    assert sum(held_usdc()) == 20, "its notional, and what was put in without leverage"
    out = ask(position, "-6", "admin:margin:2")
    go_on(scene)
    assert (state_of(out), size(position)) == ("changed", (9, Decimal("1.6666666666")))
    move_price(100_000)
    part = scene.ask(Action.CLOSE, reduce_usdc=Decimal(3))
    go_on(scene)
    assert (state_of(part), size(position)) == ("filled", (6, Decimal("1.6666666666")))
    assert ours(position) == theirs(scene)
    check(scene)
    move_price(100_000)
    scene.ask(Action.CLOSE)
    go_on(scene)
    done = Position.objects.get()
    assert (done.state, done.collateral_usdc, scene.trades()) == ("closed", 9, 0)
    assert done.paid_out_usdc is not None
    assert -Decimal("0.1") < done.paid_out_usdc - 9 < 0, "spread and fee"
    assert sum(held_usdc()) == 0
    check(scene)


def test_it_waits_for_an_increase_and_an_increase_waits_for_it(scene: Scene) -> None:
    position = scene.open()
    first = grow(scene, position)
    post(scene)
    assert state_of(first) == "pending_inclusion"
    change = ask(position, "2")
    post(scene)
    assert reason_of(change) == ("pending", Reason.WAITS_FOR_EARLIER_ORDER)
    go_on(scene)
    go_on(scene)
    assert (state_of(first), state_of(change), ours(position)) == ("filled", "changed", theirs(scene))
    later = ask(position, "1", "admin:margin:2")
    scene.rig.submit()
    second = grow(scene, Position.objects.get())
    post(scene)
    assert state_of(later) == "pending_inclusion"
    assert reason_of(second) == ("pending", Reason.WAITS_FOR_EARLIER_ORDER)
    go_on(scene)
    go_on(scene)
    assert (state_of(later), state_of(second), ours(position)) == ("changed", "filled", theirs(scene))
    check(scene)


def test_a_close_by_message_names_the_time_that_it_left(scene: Scene) -> None:
    position = scene.open()
    rpc_call("evm_increaseTime", 60)
    change = ask(position, "5")
    scene.rig.submit()
    close = scene.ask(Action.CLOSE)
    post(scene)
    assert (state_of(change), state_of(close)) == ("pending_inclusion", "pending")
    go_on(scene)
    go_on(scene)
    close.refresh_from_db()
    assert (state_of(close), close.close_usdc, scene.trades()) == ("filled", 10, 0)
    check(scene)


def test_a_reorg_takes_margin_and_increase_back_and_both_come_again(scene: Scene) -> None:
    position = scene.open()
    rpc_call("evm_increaseTime", 60)
    ask(position, "5")
    scene.rig.submit()
    scene.rig.mine()
    scene.rig.track()
    assert size(position) == (10, 1)
    reorganise(1)
    scene.rig.track()
    assert (size(position), MarginChange.objects.count()) == ((5, 2), 0)
    for _ in range(3):
        go_on(scene)
    assert (size(position), ours(position)) == ((10, 1), theirs(scene))
    grow(scene, Position.objects.get())
    go_on(scene)
    assert (size(position), ours(position)) == ((15, 1), theirs(scene))
    check(scene)


def test_its_levels_stay_and_pay_by_what_is_in_it(rig: Rig, node: Proxy) -> None:
    position = opened(rig)
    ask(position, "5")
    rig.finish(2)
    changed = Position.objects.get()
    assert (changed.take_profit, changed.stop_loss) == (LEVELS["take_profit"], LEVELS["stop_loss"])
    too_near = ask(position, "-7.9", "admin:margin:2")
    rig.submit()
    assert (state_of(too_near), reason_of(too_near)[1]) == ("rejected", Reason.VENUE_WOULD_CANCEL)
    too_near.refresh_from_db()
    assert "stop_loss" in too_near.reason_detail
    venue_ends(rig, 80_000)
    ended = compared()
    assert (ended.state, ended.ended_by, ended.collateral_usdc) == ("closed", "stop_loss", 10)
    assert ended.paid_out_usdc is not None
    assert Decimal("7.9") < ended.paid_out_usdc <= 8, "a fifth of 10 USDC"
    assert at_stake() == 0
    invariants.check(node)


def test_what_its_owner_put_in_unseen_is_no_gain_where_the_venue_ends_it(rig: Rig, node: Proxy) -> None:
    opened(rig)
    by_hand(rig, Margin.DEPOSIT, "5")
    venue_ends(rig, 80_000)
    ended = compared()
    assert (ended.ended_by, ended.collateral_usdc) == ("stop_loss", 10)
    assert ended.paid_out_usdc is not None
    assert Decimal("7.9") < ended.paid_out_usdc <= 8
    invariants.check(node)


def test_a_level_of_ours_closes_all_there_is_then(rig: Rig, node: Proxy) -> None:
    rig.intent(stop_loss=Decimal(90_000))
    rig.run()
    position = Position.objects.get()
    ask(position, "5")
    rig.finish(2)
    Position.objects.update(stop_loss=None)  # ours alone
    move_price(89_000)
    assert look().fired == 1
    rig.finish(2)
    close = TxIntent.objects.get(action=Action.CLOSE)
    assert (close.state, close.close_usdc, Position.objects.get().state) == ("filled", 10, "closed")
    invariants.check(node)


def simulated(rig: Rig, action: Action = Action.OPEN, **fields: Any) -> TxIntent:
    intent = rig.intent(action, **fields)
    rig.submit()
    intent.refresh_from_db()
    return intent


def dry_margin(rig: Rig, change_usdc: str, **fields: Any) -> TxIntent:
    asked = margin_changes.size(Position.objects.get(mode=Mode.DRY), Decimal(change_usdc))
    del asked["action"], asked["symbol"]
    return simulated(rig, Action.MARGIN, **asked, **fields)


def test_in_dry_it_is_the_venues_own_sum(rig: Rig, node: Proxy) -> None:
    control.impose(RestrictionKind.DRY, Origin.COMMAND, reason="test", by="test")
    simulated(rig)
    sent = len(node.log)
    assert dry_margin(rig, "5").state == "simulated"
    position = Position.objects.get()
    assert size(position) == (10, 1)
    assert at_stake() == 15
    simulated(rig, Action.CLOSE, reduce_usdc=Decimal(5))
    assert (size(position), at_stake()) == ((5, 1), Decimal("7.5"))
    assert dry_margin(rig, "-3").state == "simulated"
    assert (size(position), at_stake()) == ((2, Decimal("2.5")), 5)
    more = {"position": position, "is_long": True, "collateral_usdc": Decimal(2)}
    simulated(rig, Action.INCREASE, **more, leverage_x=Decimal("2.5"))
    assert (size(position), at_stake()) == ((4, Decimal("2.5")), 10)
    stakes.check()
    refused = dry_margin(rig, "-4")
    assert (refused.state, refused.reason) == ("rejected", Reason.VENUE_WOULD_CANCEL)
    low = dry_margin(rig, "6.1")
    assert (low.state, low.reason) == ("rejected", Reason.VENUE_WOULD_CANCEL)
    cap_rows.set_cap(CapName.LEVERAGE, CapScope.GLOBAL, "", Decimal(3), by="test", reason="test")
    high = dry_margin(rig, "-1")
    assert (high.state, high.reason) == ("rejected", Reason.LEVERAGE_ABOVE_CAP)
    cap_rows.set_cap(CapName.EXPOSURE, CapScope.GLOBAL, "", Decimal(11), by="test", reason="test")
    full = dry_margin(rig, "1.5")
    assert (full.state, full.reason) == ("rejected", Reason.EXPOSURE_ABOVE_CAP)
    simulated(rig, Action.CLOSE)
    done = Position.objects.get()
    # 5 and 2 opened and increased it, 5 went in and 3 out.
    assert (done.state, done.collateral_usdc, at_stake()) == ("closed", 9, 0)
    assert done.paid_out_usdc is not None
    assert -Decimal("0.1") < done.paid_out_usdc - 9 < 0
    assert len(node.log) == sent
    stakes.check_held()


def test_what_is_simulated_is_not_changed_live_unless_it_was_named(rig: Rig, node: Proxy) -> None:
    control.impose(RestrictionKind.DRY, Origin.COMMAND, reason="test", by="test")
    simulated(rig)
    control.lift(RestrictionKind.DRY, Origin.COMMAND, by="test")
    meant_live = dry_margin(rig, "1")
    assert (meant_live.state, meant_live.reason) == ("rejected", Reason.NO_POSITION)
    assert dry_margin(rig, "1", only_position=True).state == "simulated"
    stakes.check()


def test_on_paper_it_is_done_at_once(rig: Rig, node: Proxy) -> None:
    desk = PaperDesk(rig.trader)
    desk.open(OpenRequest("paper:1", "BTC-USD", True, Decimal(5), Decimal(2)))
    position = Position.objects.get()
    assert desk.change_margin(MarginRequest("paper:2", position.pk, Decimal("2.5"))).is_new
    assert not desk.change_margin(MarginRequest("paper:2", position.pk, Decimal("2.5"))).is_new
    assert desk.poll("paper:2").outcome is Outcome.FILLED
    (holding,) = desk.holdings()
    assert (holding.collateral_usdc, holding.leverage_x) == (Decimal("7.5"), Decimal("1.3333333333"))
    desk.close(CloseRequest("paper:3", position.pk))
    assert (desk.holdings(), Fill.objects.count()) == ([], 2)
    late = desk.change_margin(MarginRequest("paper:4", position.pk, Decimal(1)))
    assert (late.is_new, desk.poll("paper:4").outcome) == (True, Outcome.FAILED)
    assert not Reservation.objects.filter(released_at=None).exists()
    stakes.check()
    assert rounds.compare_positions() == 0


@pytest.mark.parametrize("kind", [RestrictionKind.STOP, RestrictionKind.REDUCE_ONLY])
def test_what_stops_an_open_stops_it_simulated_too(rig: Rig, node: Proxy, kind: RestrictionKind) -> None:
    control.impose(RestrictionKind.DRY, Origin.COMMAND, reason="test", by="test")
    simulated(rig)
    control.impose(kind, Origin.COMMAND, reason="test", by="test")
    for change_usdc in ("1", "-1"):
        assert dry_margin(rig, change_usdc).state == "rejected"
    assert not MarginChange.objects.exists()

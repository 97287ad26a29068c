"""Margin with everything else that changes a trade: increases, parts closed, levels, reorgs, and all of it simulated."""

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from execution_app import meters
from execution_app.book import margins
from execution_app.desks.paper import PaperDesk
from execution_app.engine import margin_changes, rounds
from execution_app.gate import cap_rows, control
from execution_app.models import Fill, MarginChange, Position, Reservation, TxIntent
from execution_app.states import Action, CapName, CapScope, Mode, Origin, Reason, RestrictionKind
from execution_app.venues.calls import Margin
from execution_app.venues.interface import CloseRequest, MarginRequest, OpenRequest, Outcome
from ops.bot import trade_news
from tests import invariants, stakes
from tests.guarded import look, move_price
from tests.guards import without_guards
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
from tests.timers import pass_a_minute

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


def taken_back_with_its_opening(rig: Rig, node: Proxy, amount: str) -> TxIntent:
    """A reorg leaves what was opened: by that a close finds its trade again, when it is opened anew."""
    rig.intent()
    rig.submit()
    rig.mine()
    rig.track()
    rig.keep()
    rig.track()
    position = Position.objects.get()
    change = ask(position, amount)
    rig.submit()
    rig.mine()
    rig.track()
    assert (state_of(change), size(position)[0]) == ("changed", 5 + Decimal(amount))
    node.hold()  # until who calls this has decided what comes first
    reorganise(2)
    node.reset_pool()
    rig.track()
    void = Position.objects.get()
    assert (void.state, void.collateral_usdc, void.leverage_x) == ("void", 5, 2)
    assert not MarginChange.objects.exists()
    rpc_call("evm_increaseTime", 30)  # a trade of another second is a row of its own
    return change


def reverts() -> float:
    return float(meters.TX_MINED.labels("reverted")._value.get())


@pytest.mark.parametrize("amount", ["5", "-2"])
def test_one_that_comes_before_its_trade_is_opened_anew_says_why_it_reverted(
    rig: Rig, node: Proxy, amount: str
) -> None:
    """Not asked again: its sender is told at once, and may have done so long before that is final."""
    change = taken_back_with_its_opening(rig, node, amount)
    before = reverts()
    node.release("all")
    pass_a_minute()
    rig.track()
    rig.mine()
    rig.track()
    assert state_of(change) == "mined"
    rig.finish(3)
    (again,) = Position.objects.filter(state="open")
    assert (state_of(change), size(again), at_stake()) == ("final_reverted", (5, 2), 10)
    assert reason_of(change) == ("final_reverted", Reason.NO_POSITION)
    change.refresh_from_db()
    assert "a reorg took its position's opening back" in change.reason_detail
    assert f"position {again.pk}: ask anew there" in change.reason_detail
    assert reverts() == before + 1, "the alert sees it, though it was mined before"
    told = [
        news for _, news in trade_news.moves(0, 10_000, 1_000) if news and news.thread == f"trade {change.pk}"
    ]
    states = [str(news.facts["state"]) for news in told]
    assert states[2:] == ["mined", "margin_changed", "taken_back", "mined_reverted", "final_reverted"]
    assert told[-1].facts["reason"] == Reason.NO_POSITION
    assert TxIntent.objects.filter(action=Action.MARGIN).count() == 1
    assert rounds.compare_positions() == 0
    ask(again, amount, "admin:margin:2")
    rig.finish(2)
    assert size(again)[0] == 5 + Decimal(amount)
    invariants.check(node)
    change = TxIntent.objects.select_related("position").get(pk=change.pk)
    assert change.position is not None
    change.position.state = "open"  # as where it is opened anew in its own second
    told_then = margins.why_reverted(change)
    assert told_then["reason"] == Reason.VENUE_REVERT
    assert "in a block that a reorg took away" in told_then["reason_detail"]


@pytest.mark.parametrize("seen_first", [False, True])
@pytest.mark.parametrize("amount", ["5", "-2"])
def test_one_that_comes_behind_it_is_of_the_trade_that_was_opened_anew(
    rig: Rig, node: Proxy, amount: str, *, seen_first: bool
) -> None:
    change = taken_back_with_its_opening(rig, node, amount)
    before = reverts()
    counted = meters.INVARIANT_VIOLATIONS.labels("event_matches_intent")
    violations = counted._value.get()
    rig.keep()
    rig.track()
    (again,) = Position.objects.filter(state="open")
    node.release("all")
    pass_a_minute()
    rig.track()
    rig.mine()
    if seen_first:
        assert rounds.compare_positions() == 0
    rig.track()
    assert (state_of(change), size(again)[0]) == ("changed", 5 + Decimal(amount))
    row = MarginChange.objects.get()
    assert (row.intent_id, row.position_id) == (change.pk, again.pk)
    rig.finish(2)
    assert (round(at_stake(), 5), rounds.compare_positions()) == (10 + max(Decimal(amount), Decimal(0)), 0)
    assert (reverts(), counted._value.get()) == (before, violations)
    with without_guards():  # what comes instead of blocks that left may have their seconds
        now = Position.objects.get(pk=again.pk)
        later = {"opened_at": now.opened_at + timedelta(seconds=1), "venue_timestamp": now.venue_timestamp}
        Position.objects.filter(state="void").update(**later)
    rig.intent(Action.CLOSE)
    rig.finish(2)
    assert (Position.objects.get(pk=again.pk).state, at_stake()) == ("closed", 0)
    invariants.check(node)


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

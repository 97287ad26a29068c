"""A reorg takes openings back, which come again, in the same second or another: no row of the book is two trades."""

from decimal import Decimal
from typing import Any

import pytest

from execution_app import meters
from execution_app.book import protections
from execution_app.engine import rounds
from execution_app.models import Fill, Position, Protection, TxIntent
from execution_app.states import Action
from ops.rehearsal.keeper import Keeper
from ops.rehearsal.rpc import Node
from tests import invariants, real_parts
from tests.integration.tx.test_reorg import reorganise
from tests.integration.tx.test_resting import price, state
from tests.proxy import Proxy
from tests.rig import Rig, rpc_call


def head_s() -> int:
    return int(rpc_call("eth_getBlockByNumber", "latest", False)["timestamp"], 16)


def filled_at(rig: Rig, moment: int) -> None:
    """The keeper executes what is registered, in one block, which is of this second."""
    rpc_call("evm_setNextBlockTimestamp", moment)
    rig.keep()
    rig.track()


def backwards(rig: Rig, moment: int) -> None:
    """As `filled_at`, the youngest order first: it has the lowest slot."""
    executed(rig, moment, 1, 0)


def registered(rig: Rig) -> int:
    """Orders wait for the keeper; returns the second in which it will come."""
    rig.submit()
    rig.mine()
    rig.track()
    return head_s() + 60


@pytest.mark.parametrize("usd", [100_000, 100_010])
def test_what_fills_again_in_the_same_second_is_what_the_venue_has(rig: Rig, node: Proxy, usd: int) -> None:
    intent = rig.intent()
    moment = registered(rig)
    filled_at(rig, moment)
    before = Position.objects.get()
    reorganise(1)
    rig.track()
    assert (state(intent), Position.objects.get().state) == ("ordered", "void")
    rpc_call("evm_setNextBlockTimestamp", moment - 1)
    price(usd)
    filled_at(rig, moment)
    position = Position.objects.get(state="open")
    assert position.open_price == Fill.objects.get().price
    assert (position.pk == before.pk) == (usd == 100_000), "the same trade is the same row"
    rig.mine(4)
    for _ in range(2):
        rounds.compare_positions()
        rig.track()
        rig.mine(4)
    assert Position.objects.get(pk=position.pk).state == "open"
    close = rig.intent(Action.CLOSE)
    rig.finish(2)
    assert state(close) == "filled"
    invariants.check(node)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"is_long": True}, {"is_long": False}),
        ({"stop_loss": Decimal(90_000)}, {"stop_loss": Decimal(80_000)}),
        ({"stop_loss": Decimal(90_000)}, {}),
        ({}, {"stop_loss": Decimal(90_000)}),
    ],
)
def test_two_that_fill_in_the_other_order_are_guarded_each_by_its_own(
    rig: Rig, node: Proxy, first: dict[str, Any], second: dict[str, Any]
) -> None:
    one, two = rig.intent(**first), rig.intent(**second)
    moment = registered(rig)
    filled_at(rig, moment)
    assert (state(one), state(two)) == ("filled", "filled")
    reorganise(1)
    rig.track()
    assert (state(one), state(two)) == ("ordered", "ordered")
    backwards(rig, moment)
    rig.mine(4)
    rig.track()
    rounds.compare_positions()
    for intent in (one, two):
        position = Fill.objects.select_related("position").get(intent=intent).position
        assert (position.state, position.is_long) == ("open", intent.is_long)
        assert position.stop_loss == intent.stop_loss
        guards = Protection.objects.filter(position=position, ended_at=None)
        stops = [] if intent.stop_loss is None else [intent.stop_loss]
        assert list(guards.values_list("stop_loss", flat=True)) == stops
    assert Position.objects.filter(state="open").count() == 2
    invariants.check(node)


@pytest.mark.parametrize("asked", [{}, {"stop_loss": Decimal(80_000)}])
@pytest.mark.parametrize("later_s", [0, 1])
def test_what_a_person_has_set_since_stays(
    rig: Rig, node: Proxy, later_s: int, asked: dict[str, Any]
) -> None:
    """Blocks may leave the chain for minutes; a stop that was set meanwhile is not forgotten with the row."""
    rig.intent(**asked)
    moment = registered(rig)
    filled_at(rig, moment)
    protections.change(Position.objects.get().pk, {"stop_loss": Decimal(95_000)}, by="test", reason="closer")
    reorganise(1)
    rig.track()
    assert Position.objects.get().state == "void"
    filled_at(rig, moment + later_s)
    position = Position.objects.get(state="open")
    (guard,) = Protection.objects.filter(position=position, ended_at=None)
    assert (guard.stop_loss, guard.set_by, guard.reason) == (95_000, "test", "closer")
    assert list(protections.standing()) == [guard]
    invariants.check(node, drained=False)


def test_another_order_in_the_slot_is_not_guarded_by_it(rig: Rig, node: Proxy) -> None:
    one, two = rig.intent(stop_loss=Decimal(80_000)), rig.intent()
    moment = registered(rig)
    filled_at(rig, moment)
    first = Fill.objects.get(intent=one).position
    protections.change(first.pk, {"stop_loss": Decimal(95_000)}, by="test", reason="closer")
    reorganise(1)
    rig.track()
    backwards(rig, moment + 1)
    (guard,) = protections.standing()
    assert (guard.position, guard.stop_loss) == (Fill.objects.get(intent=one).position, 95_000)
    assert not Protection.objects.filter(position=Fill.objects.get(intent=two).position).exists()
    invariants.check(node, drained=False)


def test_an_exit_finds_its_trade_in_the_row_that_it_had_before(rig: Rig, node: Proxy) -> None:
    """The chain goes back to what it was, and the exit was asked for in between."""
    rig.intent()
    moment = registered(rig)
    filled_at(rig, moment)
    first = Position.objects.get()
    reorganise(1)
    rig.track()
    filled_at(rig, moment + 1)
    second = Position.objects.get(state="open")
    assert second.pk != first.pk
    close = rig.intent(Action.CLOSE, position=second, only_position=True)
    reorganise(1)
    rig.track()
    filled_at(rig, moment)
    assert Position.objects.get(state="open") == first
    rig.finish(3)
    assert state(close) == "no_op"
    assert state(TxIntent.objects.get(intent_key=f"{close.intent_key}#2")) == "filled"
    assert Position.objects.get(pk=first.pk).state == "closed"
    invariants.check(node)


@pytest.mark.parametrize("asked", [{}, {"stop_loss": Decimal(80_000)}])
def test_what_a_person_has_set_in_between_stays_where_the_chain_goes_back(
    rig: Rig, node: Proxy, asked: dict[str, Any]
) -> None:
    rig.intent(**asked)
    moment = registered(rig)
    filled_at(rig, moment)
    first = Position.objects.get()
    protections.change(first.pk, {"take_profit": Decimal(120_000)}, by="test", reason="enough")
    reorganise(1)
    rig.track()
    filled_at(rig, moment + 1)
    protections.change(
        Position.objects.get(state="open").pk, {"stop_loss": Decimal(95_000)}, by="test", reason="closer"
    )
    reorganise(1)
    rig.track()
    filled_at(rig, moment)
    (guard,) = protections.standing()
    assert (guard.position, guard.take_profit, guard.stop_loss) == (first, 120_000, 95_000)
    invariants.check(node, drained=False)


@pytest.mark.parametrize("asked", [{}, {"stop_loss": Decimal(95_000)}])
@pytest.mark.parametrize("later_s", [0, 1])
def test_of_two_alike_each_keeps_what_guards_it(
    rig: Rig, node: Proxy, later_s: int, asked: dict[str, Any]
) -> None:
    """They come again in each other's slot: what a person has set for one is no other's."""
    one, two = rig.intent(**asked), rig.intent()
    moment = registered(rig)
    filled_at(rig, moment)
    second = Fill.objects.get(intent=two).position
    protections.change(second.pk, {"stop_loss": Decimal(80_000)}, by="test", reason="further")
    reorganise(1)
    rig.track()
    backwards(rig, moment + later_s)
    stops = {guard.position_id: guard.stop_loss for guard in protections.standing()}
    assert stops.pop(Fill.objects.get(intent=two).position_id) == 80_000
    own = {Fill.objects.get(intent=one).position_id: one.stop_loss}
    assert stops == {pk: stop for pk, stop in own.items() if stop}
    invariants.check(node, drained=False)


def two_slots(rig: Rig, node: Proxy) -> tuple[TxIntent, TxIntent, int]:
    """The smaller of two trades is being closed, by a call that no node has shown yet, when a reorg takes both openings."""
    rig.intent()
    larger = rig.intent(collateral_usdc=Decimal(7))
    moment = registered(rig)
    filled_at(rig, moment)
    node.hold()
    smaller = Position.objects.get(collateral_usdc=5)
    close = rig.intent(Action.CLOSE, position=smaller, only_position=True)
    rig.submit()
    assert (state(close), smaller.trade_index) == ("pending_inclusion", 0)
    reorganise(1)
    return larger, close, moment


def test_a_close_is_called_off_where_another_trade_has_come_into_its_slot(rig: Rig, node: Proxy) -> None:
    larger, close, moment = two_slots(rig, node)
    rig.track()
    backwards(rig, moment + 5)
    assert Fill.objects.get(intent=larger).position.trade_index == 0
    rig.track()
    assert list(close.sends.order_by("attempt").values_list("kind", flat=True)) == ["exec", "cancel"]
    node.release("all")
    rig.finish(4)
    assert state(close) == "final_cancelled"
    left = Position.objects.get(state="open")
    assert (left.collateral_usdc, left) == (7, Fill.objects.get(intent=larger).position)
    assert Position.objects.get(state="closed").ended_by == "close", "asked again it found its own"
    invariants.check(node)


def test_a_close_that_took_another_trade_is_paged_and_asked_for_again(rig: Rig, node: Proxy) -> None:
    """It was mined before anybody could call it off."""
    larger, close, moment = two_slots(rig, node)
    paged = meters.INVARIANT_VIOLATIONS.labels("event_matches_intent")
    before = paged._value.get()
    executed(rig, moment + 5, 1, 0, looks=False)
    node.release("all")
    rig.mine()
    rig.finish(4)
    assert (state(close), paged._value.get()) == ("filled", before + 1)
    other = Fill.objects.get(intent=larger).position
    assert (other.state, other.collateral_usdc) == ("open", 2), "nobody asked for the rest of that one"
    assert TxIntent.objects.filter(intent_key__startswith=f"{close.intent_key}#", state="filled").count() == 1
    assert Position.objects.get(state="closed").ended_by == "close"
    invariants.check(node)


def test_half_of_a_trade_that_is_another_row_now_is_closed_once(rig: Rig, node: Proxy) -> None:
    """The request's other intent, which waited for a second open, is not for what the first one closes already."""
    one, two = rig.intent(), rig.intent(collateral_usdc=Decimal(7))
    moment = registered(rig)
    executed(rig, moment, 0)
    assert (state(one), state(two)) == ("filled", "ordered")
    node.hold()
    close = rig.intent(Action.CLOSE, reduce_pct=Decimal(50))
    rig.submit()
    assert state(close) == "pending_inclusion"
    reorganise(1)
    rig.track()
    executed(rig, moment + 5, 0)
    rig.submit()
    node.release("all")
    rig.finish(3)
    first = Fill.objects.select_related("position").get(intent=one).position
    second = Fill.objects.select_related("position").get(intent=two).position
    assert (first.state, first.collateral_usdc) == ("open", Decimal("2.5"))
    assert (second.state, second.collateral_usdc) == ("open", Decimal("3.5"))
    assert Fill.objects.filter(action=Action.CLOSE).count() == 2
    invariants.check(node)


def test_what_comes_into_the_slot_of_a_trade_that_was_closed_is_closed_by_the_same_request(
    rig: Rig, node: Proxy
) -> None:
    """Its other intent waits for a second open; that a void row had this slot before tells nothing of that one."""
    one, two = rig.intent(), rig.intent(collateral_usdc=Decimal(7))
    moment = registered(rig)
    executed(rig, moment, 0)
    node.hold()
    close = rig.intent(Action.CLOSE)
    rig.submit()
    assert (state(close), state(two)) == ("pending_inclusion", "ordered")
    reorganise(1)
    rig.track()
    executed(rig, moment + 5, 0)
    node.release("all")
    rig.mine()
    rig.track()
    executed(rig, head_s() + 5, 1)
    assert (state(close), state(two)) == ("filled", "ordered")
    executed(rig, head_s() + 5, 0)
    first, second = (Fill.objects.select_related("position").get(intent=each).position for each in (one, two))
    assert (first.state, second.state) == ("closed", "open")
    assert first.trade_index == second.trade_index
    rig.finish(3)
    assert not Position.objects.filter(state="open").exists()
    invariants.check(node)


def executed(rig: Rig, moment: int, *which: int, looks: bool = True) -> None:
    """As `filled_at`, of these orders alone, by their age."""
    keeper = Keeper(Node(real_parts.anvil.url), real_parts.deployment)
    orders = keeper.pending()
    rpc_call("evm_setNextBlockTimestamp", moment)
    rpc_call("evm_setAutomine", True)
    keeper._execute([orders[number] for number in which])
    rpc_call("evm_setAutomine", False)
    if looks:
        rig.track()

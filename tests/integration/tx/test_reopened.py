"""A reorg takes openings back, which come again, in the same second or another: no row of the book is two trades."""

from decimal import Decimal
from typing import Any

import pytest

from execution_app.book import protections
from execution_app.engine import rounds
from execution_app.models import Fill, Position, Protection
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


def executed(rig: Rig, moment: int, *which: int) -> None:
    """As `filled_at`, of these orders alone, by their age."""
    keeper = Keeper(Node(real_parts.anvil.url), real_parts.deployment)
    orders = keeper.pending()
    rpc_call("evm_setNextBlockTimestamp", moment)
    rpc_call("evm_setAutomine", True)
    keeper._execute([orders[number] for number in which])
    rpc_call("evm_setAutomine", False)
    rig.track()

"""Opens that rest at the venue: taken once, within the caps, filled by the price, taken back once, through reorgs."""

import json
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from execution_app.desks.onchain import OnChainDesk
from execution_app.engine import resting, venue_events
from execution_app.errors import Refused
from execution_app.gate import control
from execution_app.models import AuditEntry, Position, Reservation, TxIntent, VenueOrder
from execution_app.states import Action, OrderType, Origin, Reason, RestrictionKind, Road
from execution_app.venues import onchain
from execution_app.venues.interface import Action as Asked
from execution_app.venues.interface import CancelRequest, OpenRequest, Outcome
from ops.rehearsal import venue
from ops.rehearsal.rpc import Node
from ops.rollout import flattening
from ops.watch import alarms, gauges
from tests import invariants, real_parts
from tests.integration.tx.test_reorg import reorganise
from tests.proxy import Proxy
from tests.rig import Rig, rpc_call
from tests.timers import pass_a_minute

LIMIT: dict[str, Any] = {
    "order_type": OrderType.LIMIT.value,
    "limit_price": Decimal(95_000),
    "road": Road.ONCHAIN.value,
}
ASKED_USDC = 5_000_000


def price(usd: int) -> None:
    rpc_call("evm_setAutomine", True)
    venue.set_price(real_parts.anvil.url, real_parts.deployment, "BTC-USD", Decimal(usd))
    rpc_call("evm_setAutomine", False)


def balance(rig: Rig) -> int:
    node = Node(real_parts.anvil.url)
    return onchain.read_uint(node.call(real_parts.deployment.usdc, onchain.call_balance(rig.trader.address)))


def state(intent: TxIntent) -> str:
    intent.refresh_from_db()
    return str(intent.state)


def place(rig: Rig, **fields: Any) -> TxIntent:
    intent = rig.intent(**{**LIMIT, **fields})
    rig.run()
    assert state(intent) == "ordered"
    return intent


def take_back(order: TxIntent, key: str = "admin:take-back:1") -> TxIntent:
    return resting.ask_to_take_back(order, key=key, by="test")


def at_stake() -> Decimal:
    return sum((row.notional_usdc for row in Reservation.objects.all()), Decimal(0))


def test_an_order_rests_within_the_caps_and_fills_when_its_price_comes(rig: Rig, node: Proxy) -> None:
    before = balance(rig)
    intent = place(rig, take_profit=Decimal(120_000))
    rig.finish(2)
    assert state(intent) == "ordered"
    order = VenueOrder.objects.get(intent=intent)
    assert (order.state, order.limit_index) == ("registered", 0)
    assert (at_stake(), balance(rig)) == (Decimal(10), before - ASKED_USDC)
    assert intent.wanted_price == 95_000
    assert not hasattr(intent, "shadow")
    price(94_900)
    rig.run()
    assert state(intent) == "filled"
    assert intent.settled_at is not None
    position = Position.objects.get()
    assert (position.open_price, position.take_profit) == (Decimal("94909.49"), 120_000)
    assert len(invariants.executions(rig.wallet)) == 1
    invariants.check(node)


def test_what_rests_takes_no_place_from_others(rig: Rig, node: Proxy) -> None:
    rig.wallet.max_in_flight = 1
    rig.wallet.save()
    orders = [place(rig) for _ in range(3)]
    assert [VenueOrder.objects.get(intent=one).limit_index for one in orders] == [0, 1, 2]
    market = rig.intent(symbol="ETH-USD")
    rig.run()
    assert state(market) == "filled"
    close = rig.intent(Action.CLOSE, symbol="ETH-USD")
    rig.run()
    assert state(close) == "filled"
    assert [state(one) for one in orders] == ["ordered"] * 3
    invariants.check(node, drained=False)


def test_it_is_taken_back_once_and_its_money_returns(rig: Rig, node: Proxy) -> None:
    before = balance(rig)
    order = place(rig)
    cancel = take_back(order)
    assert take_back(order).pk == cancel.pk
    second = take_back(order, "admin:take-back:2")
    rig.finish(2)
    assert (state(order), state(cancel), state(second)) == ("venue_cancelled", "changed", "no_op")
    assert second.reason == Reason.NO_ORDER
    assert (balance(rig), at_stake()) == (before, Decimal(0))
    assert cancel.sends.count() == 1
    assert second.nonce is None
    invariants.check(node)


def test_a_fill_that_comes_first_wins_over_the_cancel(rig: Rig, node: Proxy) -> None:
    order = place(rig)
    node.hold()
    cancel = take_back(order)
    rig.submit()
    price(95_000)
    rig.keep()
    node.release("all")
    rig.finish(2)
    assert (state(order), state(cancel)) == ("filled", "final_reverted")
    assert Position.objects.get().state == "open"
    invariants.check(node)


def test_a_cancel_asked_for_after_the_fill_sends_nothing(rig: Rig, node: Proxy) -> None:
    """The chain is ahead of the book: the venue refuses it on trial, and the next look says why."""
    order = place(rig)
    price(95_000)
    rig.keep()
    sent = len(node.log)
    cancel = take_back(order)
    rig.submit()
    assert state(cancel) == "pending"
    rig.finish(2)
    assert (state(order), state(cancel), cancel.nonce) == ("filled", "no_op", None)
    assert len(node.log) == sent
    invariants.check(node)


def test_no_cancel_hits_an_order_that_got_its_slot(rig: Rig, node: Proxy) -> None:
    first = place(rig)
    node.hold()
    second = rig.intent(**LIMIT)
    rig.submit()
    cancel = take_back(first)
    rig.submit()
    assert (state(cancel), cancel.reason) == ("pending", "waits_for_earlier_order")
    price(95_000)
    rig.keep()
    price(100_000)
    node.release("all")
    rig.finish(2)
    assert (state(first), state(second), state(cancel)) == ("filled", "ordered", "no_op")
    assert VenueOrder.objects.get(intent=second).limit_index == 0
    invariants.check(node, drained=False)


def test_a_whole_close_takes_back_what_rests_and_closes_what_fills_first(rig: Rig, node: Proxy) -> None:
    held = rig.intent()
    rig.run()
    rests, fills = place(rig), place(rig)
    node.hold()
    close = rig.intent(Action.CLOSE)
    rig.submit()
    pass_a_minute()
    rig.submit()
    assert TxIntent.objects.filter(action=Action.CANCEL_ORDER).count() == 2
    # One of them fills before its cancel is mined.
    rpc_call("evm_setAutomine", True)
    order_id = VenueOrder.objects.get(intent=fills).order_id
    venue.set_price(real_parts.anvil.url, real_parts.deployment, "BTC-USD", Decimal(95_000))
    rig.keeper._execute([order_id])
    venue.set_price(real_parts.anvil.url, real_parts.deployment, "BTC-USD", Decimal(100_000))
    rpc_call("evm_setAutomine", False)
    node.release("all")
    rig.finish(5)
    assert (state(held), state(rests), state(fills)) == ("filled", "venue_cancelled", "filled")
    assert state(close) == "filled"
    assert not Position.objects.exclude(state="closed").exists()
    invariants.check(node)


def test_a_partial_close_leaves_what_rests(rig: Rig, node: Proxy) -> None:
    rig.intent()
    rig.run()
    rests = place(rig)
    close = rig.intent(Action.CLOSE, reduce_usdc=Decimal(2))
    rig.run()
    assert (state(close), state(rests)) == ("filled", "ordered")
    assert not TxIntent.objects.filter(action=Action.CANCEL_ORDER).exists()
    invariants.check(node, drained=False)


@pytest.mark.parametrize("kind", [RestrictionKind.STOP, RestrictionKind.REDUCE_ONLY])
def test_a_restriction_keeps_new_ones_out(rig: Rig, node: Proxy, kind: RestrictionKind) -> None:
    control.impose(kind, Origin.COMMAND, by="test", reason="")
    intent = rig.intent(**LIMIT)
    rig.submit()
    assert (state(intent), intent.reason) == ("rejected", kind.value)
    assert node.log == []


def test_under_a_stop_what_rests_stays_and_may_fill_and_under_reduce_only_it_is_taken_back(
    rig: Rig, node: Proxy
) -> None:
    order, other = place(rig), place(rig)
    control.impose(RestrictionKind.STOP, Origin.COMMAND, by="test", reason="")
    refused = take_back(order)
    rig.submit()
    assert (state(refused), refused.reason) == ("rejected", "emergency_stop")
    price(95_000)
    rpc_call("evm_setAutomine", True)
    rig.keeper._execute([VenueOrder.objects.get(intent=order).order_id])
    rpc_call("evm_setAutomine", False)
    price(100_000)
    rig.track()
    assert state(order) == "filled"
    control.lift(RestrictionKind.STOP, Origin.COMMAND, by="test", reason="")
    control.impose(RestrictionKind.REDUCE_ONLY, Origin.COMMAND, by="test", reason="")
    cancel = take_back(other, "admin:take-back:2")
    rig.finish(2)
    assert (state(other), state(cancel)) == ("venue_cancelled", "changed")
    invariants.check(node)


def test_in_dry_it_is_refused_by_name(rig: Rig, node: Proxy) -> None:
    control.impose(RestrictionKind.DRY, Origin.COMMAND, by="test", reason="")
    intent = rig.intent(**LIMIT)
    rig.submit()
    assert (state(intent), intent.reason) == ("rejected", "order_type_unsupported")
    assert "not simulated" in intent.reason_detail
    assert not Reservation.objects.exists()
    assert node.log == []


def test_in_dry_a_live_one_is_not_taken_back_and_keeps_no_close_waiting(rig: Rig, node: Proxy) -> None:
    order = place(rig)
    control.impose(RestrictionKind.DRY, Origin.COMMAND, by="test", reason="")
    cancel, close = take_back(order), rig.intent(Action.CLOSE)
    rig.submit()
    assert (state(cancel), cancel.reason) == ("held", "live_position_in_dry")
    assert state(close) == "no_op"
    assert state(order) == "ordered"


def test_a_reorg_places_it_again(rig: Rig, node: Proxy) -> None:
    intent = rig.intent(**LIMIT)
    rig.submit()
    rig.mine()
    rig.track()
    assert state(intent) == "ordered"
    reorganise(1)
    node.reset_pool()
    rig.track()
    assert state(intent) == "pending_inclusion"
    rig.finish(2)
    assert state(intent) == "ordered"
    price(95_000)
    rig.finish()
    assert state(intent) == "filled"
    assert len(invariants.executions(rig.wallet)) == 1
    invariants.check(node)


def test_a_reorg_of_its_trigger_lets_it_rest_again(rig: Rig, node: Proxy) -> None:
    intent = place(rig)
    price(95_000)
    rig.keep()
    rig.track()
    assert state(intent) == "filled"
    reorganise(2)  # the keeper's block and the price's
    node.reset_pool()
    rig.track()
    assert state(intent) == "ordered"
    assert Position.objects.get().state == "void"
    assert at_stake() == 10
    price(95_000)
    rig.finish(2)
    assert state(intent) == "filled"
    invariants.check(node)


def test_a_reorg_of_its_cancel_cancels_it_again(rig: Rig, node: Proxy) -> None:
    order = place(rig)
    cancel = take_back(order)
    rig.submit()
    rig.mine()
    rig.track()
    assert (state(order), state(cancel)) == ("venue_cancelled", "changed")
    assert at_stake() == 10  # a refund that is not final gives nothing back
    reorganise(1)
    node.reset_pool()
    rig.track()
    assert (state(order), state(cancel)) == ("ordered", "pending_inclusion")
    rig.finish(2)
    assert (state(order), state(cancel), at_stake()) == ("venue_cancelled", "changed", Decimal(0))
    invariants.check(node)


def test_its_owner_takes_it_back_by_hand(rig: Rig, node: Proxy) -> None:
    """Nobody asked us, and the book says so all the same."""
    order = place(rig)
    rpc_call("anvil_impersonateAccount", rig.trader.address)
    data = "0xb9b6573a" + f"{1:064x}" + f"{0:064x}"
    call = {"from": rig.trader.address, "to": real_parts.deployment.trading, "data": data}
    rpc_call("eth_sendTransaction", call)
    rig.finish()
    assert (state(order), at_stake()) == ("venue_cancelled", Decimal(0))


def test_what_rests_for_long_is_not_read_from_its_beginning(
    rig: Rig, node: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(venue_events, "LOG_SPAN", 5)
    intent = place(rig)
    placed_at = VenueOrder.objects.get().block_number
    rig.mine(20)
    rig.track()
    rig.track()
    rested_to = VenueOrder.objects.get().rested_to_block
    assert rested_to is not None
    assert rested_to > placed_at + 10
    price(95_000)
    rig.finish()
    assert state(intent) == "filled"


def test_a_desk_places_it_and_takes_it_back(rig: Rig, node: Proxy) -> None:
    desk = OnChainDesk(rig.trader)
    ask = OpenRequest("desk:1", "BTC-USD", True, Decimal(5), Decimal(2), action=Asked.OPEN_LIMIT)
    with pytest.raises(Refused, match="needs a limit_price"):
        desk.open(ask)
    limited = replace(ask, limit_price=Decimal(95_000))
    with pytest.raises(Refused, match="no quote"):
        desk.quote(limited)
    with pytest.raises(Refused, match="no order desk:1 that rests"):
        desk.cancel(CancelRequest("desk:2", "desk:1"))
    assert desk.open(limited).is_new
    assert not desk.open(limited).is_new
    rig.run()
    assert desk.poll("desk:1").outcome is Outcome.PENDING
    assert desk.cancel(CancelRequest("desk:2", "desk:1")).is_new
    rig.finish()
    assert not desk.cancel(CancelRequest("desk:2", "desk:1")).is_new
    assert (desk.poll("desk:1").outcome, desk.poll("desk:2").outcome) == (Outcome.CANCELLED, Outcome.FILLED)
    invariants.check(node)


def said(capsys: pytest.CaptureFixture[str], *words: str) -> list[dict[str, str]]:
    capsys.readouterr()
    call_command("order", *words, "--json")
    found: list[dict[str, str]] = json.loads(capsys.readouterr().out)
    return found


def test_a_command_lists_and_takes_back_and_a_stop_names_it(
    rig: Rig, node: Proxy, capsys: pytest.CaptureFixture[str]
) -> None:
    order = place(rig)
    (row,) = said(capsys, "list")
    assert (row["intent_key"], row["order_type"], row["side"]) == (order.intent_key, "limit", "LONG")
    assert Decimal(row["limit_price"]) == 95_000
    call_command("stop", "--json", "--by", "test")
    assert json.loads(capsys.readouterr().out)["resting"] == [order.intent_key]
    control.lift(RestrictionKind.STOP, Origin.COMMAND, by="test", reason="")
    (asked,) = said(capsys, "take-back", order.intent_key, "--reason", "no longer wanted")
    assert AuditEntry.objects.get(action="pending_cancelled").subject == order.intent_key
    with pytest.raises(CommandError, match="is taking it back already"):
        said(capsys, "take-back", order.intent_key, "--reason", "no longer wanted")
    rig.finish()
    assert state(order) == "venue_cancelled"
    assert TxIntent.objects.get(intent_key=asked["asked"]).state == "changed"
    with pytest.raises(CommandError, match="it is venue_cancelled"):
        said(capsys, "take-back", order.intent_key, "--reason", "no longer wanted")
    assert said(capsys, "list") == []


def test_everything_is_left_and_watchers_do_not_count_it_late(rig: Rig, node: Proxy) -> None:
    order = place(rig)
    rig.intent()
    rig.run()
    ages = {sample.labels["state"]: sample.value for sample in alarms.state_ages()[0].samples}
    assert ages["ordered"] == 0
    oldest, resting_orders = gauges._oldest_unsettled()
    assert (oldest.samples[0].value, resting_orders.samples[0].value) == (0, 1)
    control.impose(RestrictionKind.REDUCE_ONLY, Origin.COMMAND, by="test", reason="")
    assert flattening.flatten(by="test", within_s=1, say=None) > 0
    rig.finish(2)
    assert state(order) == "venue_cancelled"
    assert not Position.objects.filter(state="open").exists()
    assert flattening.flatten(by="test", within_s=1, say=None) == 0
    invariants.check(node)

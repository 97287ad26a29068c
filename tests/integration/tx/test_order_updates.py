"""Other terms for opens that rest at the venue: made once, after the fill never, and gone with the block that had them."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db.models.functions import Now
from eth_account import Account

from execution_app import meters
from execution_app.book import orders
from execution_app.desks.onchain import OnChainDesk
from execution_app.engine import reserve, resting
from execution_app.errors import Refused
from execution_app.gate import control
from execution_app.models import AuditEntry, Position, Protection, TxIntent, VenueOrder
from execution_app.states import Origin, Reason, RestrictionKind
from execution_app.venues import calls, onchain
from execution_app.venues.interface import CancelRequest, ChangeRequest, Outcome
from execution_app.venues.orders import Kind, Terms
from ops.rehearsal import venue
from ops.rehearsal.contracts import artefact
from tests import invariants, real_parts
from tests.guards import without_guards
from tests.integration.tx.test_divergences import BTC, send
from tests.integration.tx.test_reorg import reorganise
from tests.integration.tx.test_resting import LIMIT, at_stake, balance, place, price, state, take_back
from tests.proxy import Proxy
from tests.rig import Rig, rpc_call
from tests.timers import pass_a_minute

OPERATOR = Account.from_key(venue.OPERATOR_KEY).address
AS_ASKED = Terms(Decimal(95_000), Decimal("0.5"), None, None)


def ask(order: TxIntent, key: str = "admin:change:1", **terms: int) -> TxIntent:
    wanted = {name: Decimal(value) for name, value in terms.items()}
    return resting.ask_to_change(order, wanted, key=key, by="test")


def at_venue(order: TxIntent) -> Terms | None:
    call = onchain.call_pending_order(VenueOrder.objects.get(intent=order).order_id)
    raw = rpc_call("eth_call", {"to": real_parts.deployment.storage, "data": "0x" + call.hex()}, "latest")
    return onchain.read_terms(bytes.fromhex(raw[2:]))


def fill_now(order: TxIntent) -> None:
    """The keeper executes this one at 95,000, and the price is where it was afterwards."""
    price(95_000)
    rpc_call("evm_setAutomine", True)
    order_id = VenueOrder.objects.get(intent=order).order_id
    call = artefact("Trading").call("executeMarketOrders", [order_id], [], 0, 0)
    send(OPERATOR, real_parts.deployment.trading, "0x" + call.hex())
    price(100_000)


def test_it_has_its_new_terms_from_then_on(rig: Rig, node: Proxy) -> None:
    before = balance(rig)
    order = place(rig, stop_loss=Decimal(90_000))
    change = ask(order, limit_price=98_000, new_slippage_pct=1, take_profit=120_000, stop_loss=0)
    assert ask(order, limit_price=1).pk == change.pk, "one intent of each key"
    rig.finish(2)
    assert (state(order), state(change)) == ("ordered", "changed")
    assert change.settled_at is not None
    wanted = Terms(Decimal(98_000), Decimal(1), Decimal(120_000), None)
    assert (orders.terms(order), at_venue(order)) == (wanted, wanted)
    assert (at_stake(), balance(rig)) == (Decimal(10), before - 5_000_000), "nothing is paid in or out"
    price(97_900)
    rig.finish(2)
    assert state(order) == "filled"
    position = Position.objects.get()
    assert (position.open_price, position.take_profit, position.stop_loss) == (
        Decimal("97909.79"),
        120_000,
        None,
    )
    guard = Protection.objects.get()
    assert (guard.take_profit, guard.stop_loss) == (120_000, None)
    invariants.check(node)


def test_what_it_does_not_name_stays_as_the_venue_has_it(rig: Rig, node: Proxy) -> None:
    order = place(rig, take_profit=Decimal(120_000))
    by_hand = calls.encode_update_limit(BTC, 0, Decimal(94_000), Decimal(2), take_profit=Decimal(110_000))
    send(rig.trader.address, real_parts.deployment.trading, "0x" + by_hand.hex())
    change = ask(order, limit_price=93_000)
    rig.finish(2)
    assert state(change) == "changed"
    assert (
        at_venue(order) == orders.terms(order) == Terms(Decimal(93_000), Decimal(2), Decimal(110_000), None)
    )
    price(93_000)
    rig.finish(2)
    assert (state(order), Position.objects.get().take_profit) == ("filled", 110_000)
    invariants.check(node)


def test_a_fill_that_comes_first_wins_over_the_change(rig: Rig, node: Proxy) -> None:
    order = place(rig)
    node.hold()
    change = ask(order, limit_price=90_000)
    rig.submit()
    fill_now(order)
    node.release("all")
    rig.finish(2)
    assert (state(order), state(change)) == ("filled", "final_reverted")
    assert orders.terms(order) == AS_ASKED
    invariants.check(node)


@pytest.mark.parametrize("ended", ["filled", "venue_cancelled"])
def test_a_change_asked_for_after_the_end_sends_nothing(rig: Rig, node: Proxy, ended: str) -> None:
    """The chain is ahead of the book: the venue refuses it on trial, and the next look says why."""
    order = place(rig)
    if ended == "filled":
        fill_now(order)
    else:
        by_hand = calls.encode_cancel_limit(BTC, 0)
        send(rig.trader.address, real_parts.deployment.trading, "0x" + by_hand.hex())
    sent = len(node.log)
    change = ask(order, limit_price=94_000)
    rig.submit()
    assert (state(change), change.reason) == ("pending", "waits_for_earlier_order")
    rig.track()
    pass_a_minute()
    rig.submit()
    assert (state(order), state(change), change.reason) == (ended, "no_op", Reason.NO_ORDER)
    assert order.settled_at is None, "it need not be final: nobody wants the change any more"
    assert (change.nonce, len(node.log)) == (None, sent)
    rig.finish()
    invariants.check(node)


@pytest.mark.parametrize(("first", "ends"), [("keeper", "filled"), ("change", "ordered")])
def test_fill_and_change_in_one_block(rig: Rig, node: Proxy, first: str, ends: str) -> None:
    order = place(rig)
    price(95_000)
    change = ask(order, limit_price=90_000)
    rig.submit()
    order_id = VenueOrder.objects.get(intent=order).order_id
    call = artefact("Trading").call("executeMarketOrders", [order_id], [], 0, 0)
    # The node takes the dearer one first.
    base_fee_wei = int(rpc_call("eth_getBlockByNumber", "latest", False)["baseFeePerGas"], 16)
    fee = hex(10**13 if first == "keeper" else 2 * base_fee_wei + 1)
    rpc_call("anvil_impersonateAccount", OPERATOR)
    execution = {"from": OPERATOR, "to": real_parts.deployment.trading, "data": "0x" + call.hex()}
    execution |= {"gas": hex(1_000_000), "maxFeePerGas": fee, "maxPriorityFeePerGas": hex(1)}
    sent = rpc_call("eth_sendTransaction", execution)
    rig.mine()
    receipt = rpc_call("eth_getTransactionReceipt", sent)
    assert (receipt["status"], int(receipt["transactionIndex"], 16)) == ("0x1", 0 if first == "keeper" else 1)
    rig.track()
    rig.mine(4)
    rig.track()
    assert state(order) == ends
    assert state(change) == ("final_reverted" if first == "keeper" else "changed")
    assert orders.terms(order).limit_price == (95_000 if first == "keeper" else 90_000)
    invariants.check(node, drained=first == "keeper")


def test_a_cancel_goes_ahead_of_a_change_that_waits(rig: Rig, node: Proxy) -> None:
    order = place(rig)
    change, cancel = ask(order, limit_price=94_000), take_back(order)
    rig.finish(2)
    assert (state(order), state(cancel), state(change)) == ("venue_cancelled", "changed", "no_op")
    assert change.nonce is None
    invariants.check(node)


def test_a_cancel_goes_behind_a_change_under_way_and_takes_it_back_all_the_same(
    rig: Rig, node: Proxy
) -> None:
    order = place(rig)
    change = ask(order, limit_price=94_000)
    rig.submit()
    cancel = take_back(order)
    rig.submit()
    assert (state(change), state(cancel)) == ("pending_inclusion", "pending")
    assert cancel.reason == "waits_for_earlier_order"
    rig.mine()
    rig.track()
    pass_a_minute()
    rig.submit()
    assert (state(change), state(cancel)) == ("changed", "pending_inclusion"), "not until it is final"
    assert change.settled_at is None
    rig.finish(2)
    assert (state(order), state(cancel), state(change)) == ("venue_cancelled", "changed", "changed")
    assert at_stake() == 0
    invariants.check(node)


def test_of_two_changes_the_later_one_counts_and_a_reorg_takes_back_what_it_took(
    rig: Rig, node: Proxy
) -> None:
    order = place(rig)
    first = ask(order, limit_price=94_000, take_profit=120_000)
    second = ask(order, "admin:change:2", limit_price=93_000)
    rig.submit()
    assert (state(first), state(second)) == ("pending_inclusion", "pending")
    rig.mine()
    rig.track()
    pass_a_minute()
    rig.submit()
    rig.mine()
    rig.track()
    assert (state(first), state(second)) == ("changed", "changed")
    assert orders.terms(order) == Terms(Decimal(93_000), Decimal("0.5"), Decimal(120_000), None)
    reorganise(1)
    node.reset_pool()
    rig.track()
    assert (state(first), state(second)) == ("changed", "pending_inclusion")
    assert orders.terms(order) == Terms(Decimal(94_000), Decimal("0.5"), Decimal(120_000), None)
    reorganise(2)
    node.reset_pool()
    rig.track()
    assert (state(order), state(first), state(second)) == (
        "ordered",
        "pending_inclusion",
        "pending_inclusion",
    )
    assert orders.terms(order) == AS_ASKED
    rig.finish(3)
    assert (state(first), state(second)) == ("changed", "changed")
    assert (
        at_venue(order)
        == orders.terms(order)
        == Terms(Decimal(93_000), Decimal("0.5"), Decimal(120_000), None)
    )
    invariants.check(node, drained=False)


def test_no_change_hits_an_order_that_got_its_slot(rig: Rig, node: Proxy) -> None:
    first = place(rig)
    node.hold()
    second = rig.intent(**LIMIT)
    rig.submit()
    change = ask(first, limit_price=94_000)
    rig.submit()
    assert (state(change), change.reason) == ("pending", "waits_for_earlier_order")
    fill_now(first)
    node.release("all")
    rig.finish(2)
    assert (state(first), state(second), state(change)) == ("filled", "ordered", "no_op")
    assert orders.terms(second) == AS_ASKED
    invariants.check(node, drained=False)


def test_its_owner_gives_the_slot_to_another_order_of_theirs(rig: Rig, node: Proxy) -> None:
    """The one thing that no rule of ours can keep off: it is told, counted, and changes nothing in the book."""
    order = place(rig)
    node.hold()
    change = ask(order, limit_price=90_000)
    rig.submit()
    trading = real_parts.deployment.trading
    send(rig.trader.address, trading, "0x" + calls.encode_cancel_limit(BTC, 0).hex())
    theirs = onchain.OpenOrder(
        *(rig.trader.address, BTC, True, Decimal(5), Decimal(2), Decimal(94_000), Decimal(1)), kind=Kind.LIMIT
    )
    fee = rpc_call("eth_call", {"to": trading, "data": "0x" + onchain.call_execution_fee().hex()}, "latest")
    send(rig.trader.address, trading, "0x" + onchain.encode_open(theirs).hex(), int(fee, 16))
    counted = meters.INVARIANT_VIOLATIONS.labels("event_matches_intent")
    before = counted._value.get()
    node.release("all")
    rig.finish(2)
    assert (state(order), state(change), change.reason) == ("venue_cancelled", "changed", Reason.NO_ORDER)
    assert "which was not meant" in change.transitions.get(to_state="changed").why
    assert counted._value.get() > before
    assert orders.terms(order) == AS_ASKED


def _stop() -> None:
    control.impose(RestrictionKind.STOP, Origin.COMMAND, by="test", reason="")


def _reduce_only() -> None:
    control.impose(RestrictionKind.REDUCE_ONLY, Origin.COMMAND, by="test", reason="")


def _dry() -> None:
    control.impose(RestrictionKind.DRY, Origin.COMMAND, by="test", reason="")


@pytest.mark.parametrize(
    ("restrict", "reason"),
    [
        (_stop, Reason.EMERGENCY_STOP),
        (_reduce_only, Reason.REDUCE_ONLY),
        (_dry, Reason.ORDER_TYPE_UNSUPPORTED),
    ],
)
def test_a_restriction_refuses_it_by_name(
    rig: Rig, node: Proxy, restrict: Callable[[], None], reason: Reason
) -> None:
    order = place(rig)
    sent = len(node.log)
    restrict()
    change = ask(order, limit_price=94_000)
    rig.submit()
    assert (state(change), change.reason, len(node.log)) == ("rejected", reason, sent)
    assert at_venue(order) == AS_ASKED


def too_old(change: TxIntent) -> None:
    with without_guards():
        TxIntent.objects.filter(pk=change.pk).update(expires_at=Now() - timedelta(seconds=1))


def test_a_stop_in_between_parks_it_and_what_is_too_old_then_gives_its_slot_back(
    rig: Rig, node: Proxy
) -> None:
    order = place(rig)
    sent = len(node.log)
    change = ask(order, limit_price=94_000)
    reserve.reserve(rig.wallet.pk)
    assert state(change) == "signed"
    control.impose(RestrictionKind.STOP, Origin.COMMAND, by="test", reason="")
    rig.submit()
    assert (state(change), len(node.log)) == ("signed", sent)
    too_old(change)
    control.lift(RestrictionKind.STOP, Origin.COMMAND, by="test", reason="")
    rig.finish(2)
    assert (state(order), state(change)) == ("ordered", "final_cancelled")
    assert at_venue(order) == AS_ASKED
    invariants.check(node, drained=False)


def test_too_old_before_its_turn_and_terms_that_the_venue_does_not_take(rig: Rig, node: Proxy) -> None:
    order = place(rig)
    sent = len(node.log)
    late = ask(order, limit_price=94_000)
    too_old(late)
    wrong = ask(order, "admin:change:2", take_profit=90_000)
    rig.submit()
    assert (state(late), late.reason) == ("expired", Reason.LAG_EXCEEDED)
    pass_a_minute()
    rig.submit()
    assert (state(wrong), wrong.reason, wrong.reason_detail) == ("rejected", Reason.VENUE_REVERT, "WRONG_TP")
    assert (len(node.log), at_venue(order)) == (sent, AS_ASKED)


def test_a_desk_changes_it(rig: Rig, node: Proxy) -> None:
    order, desk = place(rig), OnChainDesk(rig.trader)
    request = ChangeRequest("desk:1", order.intent_key, limit_price=Decimal(94_000))
    with pytest.raises(Refused, match="names a price"):
        desk.change(replace(request, limit_price=None))
    with pytest.raises(Refused, match="limit_price must be above 0"):
        desk.change(replace(request, limit_price=Decimal(0)))
    with pytest.raises(Refused, match="no order sig:nothing that rests"):
        desk.change(replace(request, order="sig:nothing"))
    assert desk.change(request).is_new
    assert not desk.change(request).is_new
    with pytest.raises(Refused, match="another order already"):
        desk.change(replace(request, limit_price=Decimal(93_000)))
    with pytest.raises(Refused, match="another order already"):
        desk.cancel(CancelRequest("desk:1", order.intent_key))
    rig.finish(2)
    assert (desk.poll("desk:1").outcome, orders.terms(order).limit_price) == (
        Outcome.FILLED,
        Decimal(94_000),
    )
    invariants.check(node, drained=False)


def said(capsys: pytest.CaptureFixture[str], *words: str) -> list[dict[str, Any]]:
    capsys.readouterr()
    call_command("order", *words, "--json")
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return found


def test_a_command_changes_it_and_lists_what_it_is_now(
    rig: Rig, node: Proxy, capsys: pytest.CaptureFixture[str]
) -> None:
    order = place(rig, stop_loss=Decimal(90_000))
    words = ("change", order.intent_key, "--reason", "the market moved")
    with pytest.raises(CommandError, match="names a price"):
        said(capsys, *words)
    with pytest.raises(CommandError, match="not above 0"):
        said(capsys, *words, "--limit-price", "0")
    (asked,) = said(capsys, *words, "--limit-price", "94000", "--stop-loss", "none")
    entry = AuditEntry.objects.get(action="order_changed")
    assert (entry.subject, entry.after) == (
        order.intent_key,
        {"changed_by": asked["asked"], "limit_price": "94000", "stop_loss": "0"},
    )
    rig.finish(2)
    (row,) = said(capsys, "list")
    assert (Decimal(row["limit_price"]), row["stop_loss"]) == (Decimal(94_000), "none")
    take_back(order)
    with pytest.raises(CommandError, match="is taking it back already"):
        said(capsys, *words, "--limit-price", "93000")
    rig.finish(2)
    with pytest.raises(CommandError, match="it is venue_cancelled"):
        said(capsys, *words, "--limit-price", "93000")
    invariants.check(node)

"""Margin through a reorg that takes its trade's opening back, too: before, behind and seen with the opening that comes instead."""

from datetime import timedelta
from decimal import Decimal

import pytest

from execution_app import meters
from execution_app.book import margins
from execution_app.engine import margin_changes, rounds
from execution_app.models import Fill, MarginChange, Position, TxIntent, TxSend
from execution_app.states import Action, Reason
from ops.bot import trade_news
from tests import invariants
from tests.guards import without_guards
from tests.integration.tx.test_gateway_faults import state_of
from tests.integration.tx.test_gateway_levels import reason_of
from tests.integration.tx.test_margin_combined import ask, at_stake, size
from tests.integration.tx.test_reorg import reorganise
from tests.proxy import Proxy
from tests.rig import Rig, rpc_call
from tests.timers import pass_a_minute


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
    assert "a reorg made its position another one" in change.reason_detail
    assert change.reason_detail.endswith(f"ask anew for position {again.pk}")
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


@pytest.mark.parametrize("amount", ["5", "-2"])
def test_one_that_is_seen_with_its_trades_new_opening_is_of_that_one(
    rig: Rig, node: Proxy, amount: str
) -> None:
    """The chain has both again before anybody looks: receipts are read before the venue's events."""
    change = taken_back_with_its_opening(rig, node, amount)
    counted = meters.INVARIANT_VIOLATIONS.labels("event_matches_intent")
    violations = counted._value.get()
    rig.keep()
    rpc_call("eth_sendRawTransaction", "0x" + bytes(TxSend.objects.get(intent=change).raw).hex())
    rig.mine()
    rig.track()
    assert state_of(change) == "mined", "whose it is nobody knows yet"
    rig.track()
    (again,) = Position.objects.filter(state="open")
    assert (state_of(change), size(again)[0]) == ("changed", 5 + Decimal(amount))
    row = MarginChange.objects.get()
    assert (row.intent_id, row.position_id) == (change.pk, again.pk)
    rig.finish(2)
    assert (round(at_stake(), 5), rounds.compare_positions()) == (10 + max(Decimal(amount), Decimal(0)), 0)
    assert counted._value.get() == violations
    assert not MarginChange.objects.filter(settled_at=None).exists()
    invariants.check(node)


def test_a_close_waits_for_margin_that_was_asked_of_the_row_before(rig: Rig, node: Proxy) -> None:
    """Its nonce is the earlier one: a close that went at once would fix how much there is before it."""
    change = taken_back_with_its_opening(rig, node, "5")
    rig.keep()
    rig.track()
    (again,) = Position.objects.filter(state="open")
    close = rig.intent(Action.CLOSE)
    rig.submit()
    close.refresh_from_db()
    assert (close.nonce, state_of(change)) == (None, "pending_inclusion")
    assert not margin_changes.ask(again, Decimal(1), key="admin:margin:2", by="test").nonce
    rig.submit()
    assert TxIntent.objects.get(intent_key="admin:margin:2").nonce is None
    node.release("all")
    pass_a_minute()
    rig.finish(3)
    closed = Position.objects.get(pk=again.pk)
    assert (closed.state, closed.collateral_usdc, at_stake()) == ("closed", 10, 0)
    assert Fill.objects.filter(action=Action.CLOSE).count() == 1, "of all there was"
    invariants.check(node)

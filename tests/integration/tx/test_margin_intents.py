"""Collateral that we put into a position or take out of it: once, within allowance and caps, behind no close, through reorgs."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db.models.functions import Now

from execution_app import meters
from execution_app.desks.onchain import OnChainDesk
from execution_app.engine import margin_changes, reserve, rounds
from execution_app.errors import Refused
from execution_app.gate import cap_rows, control
from execution_app.models import AuditEntry, MarginChange, Position, Reservation, TxIntent
from execution_app.states import Action, CapName, CapScope, Origin, Reason, RestrictionKind
from execution_app.venues import grants, onchain
from execution_app.venues.interface import MarginRequest, Outcome
from tests import invariants, real_parts, stakes
from tests.guards import without_guards
from tests.integration.tx.test_divergences import opened, owner_closes, owner_sends, send
from tests.integration.tx.test_reorg import reorganise
from tests.integration.tx.test_resting import at_stake as stake_usdc
from tests.integration.tx.test_resting import balance, price, state
from tests.proxy import Proxy
from tests.rig import Rig
from tests.timers import pass_a_minute

at_stake: Callable[[], Any] = stake_usdc


def ask(change_usdc: str, key: str = "admin:margin:1") -> TxIntent:
    return margin_changes.ask(Position.objects.get(), Decimal(change_usdc), key=key, by="test")


def held() -> tuple[Any, ...]:
    position = Position.objects.get()
    return position.state, position.collateral_usdc, position.leverage_x


def cap(name: CapName, value: int) -> None:
    cap_rows.set_cap(name, CapScope.GLOBAL, "", Decimal(value), by="test", reason="for the test")


def test_it_goes_in_once_and_counts_against_the_caps_from_its_nonce_on(rig: Rig, node: Proxy) -> None:
    opened(rig)
    before = balance(rig)
    node.hold()
    change = ask("5")
    assert ask("7").pk == change.pk, "one intent of each key"
    rig.submit()
    assert (state(change), at_stake()) == ("pending_inclusion", 15)
    node.release("all")
    rig.mine()
    rig.track()
    assert (state(change), at_stake()) == ("changed", 15), "not twice, though the book has it"
    assert held() == ("open", 10, 1)
    assert rounds.compare_positions() == 0
    rig.finish(2)
    assert (state(change), change.settled_at is None) == ("changed", False)
    assert (at_stake(), Reservation.objects.get(intent=change).state) == (15, "exposed")
    assert MarginChange.objects.get(intent=change).settled_at is not None
    assert (balance(rig), change.sends.count()) == (before - 5_000_000, 1)
    assert stakes.highest() == 15
    invariants.check(node)


def test_it_comes_out_to_the_trader_and_gives_its_stake_back_when_that_is_final(
    rig: Rig, node: Proxy
) -> None:
    opened(rig)
    before = balance(rig)
    ask("5")
    rig.finish(2)
    out = ask("-6", "admin:margin:2")
    rig.submit()
    assert at_stake() == 15
    rig.mine()
    rig.track()
    assert (state(out), held(), at_stake()) == ("changed", ("open", 4, Decimal("2.5")), 15)
    rig.finish(2)
    assert (at_stake(), balance(rig)) == (10, before + 1_000_000)
    rig.intent(Action.CLOSE)
    rig.finish(2)
    position = Position.objects.get()
    assert (position.state, position.collateral_usdc, at_stake()) == ("closed", 4, 0)
    assert position.paid_out_usdc is not None
    assert -Decimal("0.1") < position.paid_out_usdc - 4 < 0, "nothing of it is profit"
    invariants.check(node)


def test_what_the_trader_does_not_permit_waits_and_is_not_sent(rig: Rig, node: Proxy) -> None:
    opened(rig)
    approve = grants.encode_approve(real_parts.deployment.storage, 1_500_000)
    send(rig.trader.address, real_parts.deployment.usdc, "0x" + approve.hex())
    sent = len(node.log)
    change = ask("2")
    rig.submit()
    assert (state(change), change.reason) == ("held", Reason.INSUFFICIENT_ALLOWANCE)
    assert (len(node.log), at_stake()) == (sent, 10)


@pytest.mark.parametrize(
    ("name", "value", "amount", "reason"),
    [
        (CapName.NOTIONAL, 10, "10.5", Reason.NOTIONAL_ABOVE_CAP),
        (CapName.COLLATERAL, 5, "6", Reason.COLLATERAL_ABOVE_CAP),
        (CapName.EXPOSURE, 14, "5", Reason.EXPOSURE_ABOVE_CAP),
        (CapName.LEVERAGE, 3, "-2", Reason.LEVERAGE_ABOVE_CAP),
    ],
)
def test_caps_bind_it(  # noqa: PLR0917
    rig: Rig, node: Proxy, name: CapName, value: int, amount: str, reason: Reason
) -> None:
    opened(rig)
    sent = len(node.log)
    cap(name, value)
    change = ask(amount)
    rig.submit()
    assert (state(change), change.reason, len(node.log)) == ("rejected", reason, sent)
    assert (held(), at_stake()) == (("open", 5, 2), 10)


def test_it_opens_no_position_so_that_cap_lets_it_in(rig: Rig, node: Proxy) -> None:
    opened(rig)
    cap(CapName.OPEN_POSITIONS, 1)
    change = ask("1")
    rig.submit()
    assert state(change) == "pending_inclusion"
    refused = rig.intent(symbol="ETH-USD")
    rig.submit()
    assert (state(refused), refused.reason) == ("rejected", Reason.OPEN_POSITIONS_AT_CAP)
    rig.finish(2)
    invariants.check(node)


def test_two_at_once_do_not_pass_a_cap_together(rig: Rig, node: Proxy) -> None:
    opened(rig)
    cap(CapName.EXPOSURE, 14)
    first, second = ask("3"), ask("2", "admin:margin:2")
    rig.submit()
    assert (state(first), state(second)) == ("pending_inclusion", "pending")
    assert second.reason == "waits_for_earlier_order"
    rig.mine()
    rig.track()
    pass_a_minute()
    rig.submit()
    assert (state(first), state(second), second.reason) == (
        *("changed", "rejected"),
        Reason.EXPOSURE_ABOVE_CAP,
    )
    rig.finish(2)
    assert (at_stake(), stakes.highest()) == (13, Decimal(13))
    invariants.check(node)


@pytest.mark.parametrize(
    ("amount", "oracle", "reason", "words"),
    [
        ("-3.5", 100_000, Reason.VENUE_WOULD_CANCEL, "stop_loss 80000"),
        ("-2.9", 80_100, Reason.VENUE_WOULD_CANCEL, "it would be liquidated at"),
        ("-5", 100_000, Reason.VENUE_WOULD_CANCEL, "the trade has 5.000000 USDC of collateral"),
        ("6", 100_000, Reason.VENUE_WOULD_CANCEL, "less than 1x"),
    ],
)
def test_what_the_venue_does_not_give_out_is_refused_before_anything_is_sent(  # noqa: PLR0917
    rig: Rig, node: Proxy, amount: str, oracle: int, reason: Reason, words: str
) -> None:
    opened(rig)
    price(oracle)
    sent = len(node.log)
    change = ask(amount)
    rig.submit()
    assert (state(change), change.nonce, len(node.log)) == ("rejected", None, sent)
    assert change.reason == reason
    assert words in change.reason_detail


def test_it_waits_for_a_close_under_way_and_finds_nothing_then(rig: Rig, node: Proxy) -> None:
    opened(rig)
    node.hold()
    close = rig.intent(Action.CLOSE)
    rig.submit()
    change = ask("1")
    rig.submit()
    assert (state(change), change.reason) == ("pending", Reason.WAITS_FOR_EARLIER_CLOSE)
    node.release("all")
    rig.finish(2)
    assert (state(close), state(change), change.reason) == ("filled", "rejected", Reason.NO_POSITION)
    assert (change.nonce, at_stake()) == (None, 0)
    invariants.check(node)


@pytest.mark.parametrize("amount", ["3", "-2"])
def test_a_close_waits_for_one_that_has_left_and_closes_all_there_is_then(
    rig: Rig, node: Proxy, amount: str
) -> None:
    opened(rig)
    change = ask(amount)
    rig.submit()
    close = rig.intent(Action.CLOSE)
    rig.submit()
    assert (state(change), state(close)) == ("pending_inclusion", "pending")
    rig.mine()
    rig.track()
    pass_a_minute()
    rig.submit()
    assert (state(change), state(close)) == ("changed", "pending_inclusion"), "not until it is final"
    assert close.close_usdc == 5 + Decimal(amount)
    rig.finish(2)
    assert (state(close), state(change), held()[0], at_stake()) == ("filled", "changed", "closed", 0)
    invariants.check(node)


def test_a_reorg_takes_it_back_and_it_is_made_again_once(rig: Rig, node: Proxy) -> None:
    opened(rig)
    before = balance(rig)
    change = ask("5")
    rig.submit()
    rig.mine()
    rig.track()
    assert (state(change), held()) == ("changed", ("open", 10, 1))
    reorganise(1)
    node.reset_pool()
    rig.track()
    assert (state(change), held(), at_stake()) == ("pending_inclusion", ("open", 5, 2), 15)
    assert not MarginChange.objects.exists()
    rig.finish(3)
    assert (state(change), held(), at_stake()) == ("changed", ("open", 10, 1), 15)
    assert (balance(rig), stakes.highest()) == (before - 5_000_000, Decimal(15))
    invariants.check(node)


def test_one_that_reverts_gives_its_stake_back_when_that_is_final(rig: Rig, node: Proxy) -> None:
    opened(rig)
    node.hold()
    change = ask("1")
    rig.submit()
    owner_closes(rig, 5)
    node.release("all")
    rig.mine()
    rig.track()
    assert at_stake() == 11
    rig.finish(2)
    assert (state(change), Reservation.objects.get(intent=change).state) == ("final_reverted", "released")
    assert change.reason == Reason.VENUE_REVERT
    assert at_stake() == 10
    rounds.compare_positions()
    rig.mine(5)
    rounds.compare_positions()
    assert (held()[0], at_stake()) == ("closed", 0)
    invariants.check(node)


def test_its_owner_opens_another_trade_in_the_slot(rig: Rig, node: Proxy) -> None:
    """The one thing that no rule of ours can keep off: it is told and counted, and the book's position is left as it was."""
    opened(rig)
    node.hold()
    change = ask("1")
    rig.submit()
    owner_closes(rig, 5)
    price(101_000)
    theirs = onchain.OpenOrder(
        rig.trader.address, 1, True, Decimal(7), Decimal(3), Decimal(101_000), Decimal(1)
    )
    owner_sends(rig, onchain.encode_open(theirs))
    counted = meters.INVARIANT_VIOLATIONS.labels("event_matches_intent")
    before = counted._value.get()
    node.release("all")
    rig.finish(2)
    assert (state(change), change.reason) == ("changed", Reason.NO_POSITION)
    assert counted._value.get() > before
    assert not MarginChange.objects.exists()
    assert Reservation.objects.get(intent=change).state == "released"


def _impose(kind: RestrictionKind) -> None:
    control.impose(kind, Origin.COMMAND, by="test", reason="")


@pytest.mark.parametrize("amount", ["1", "-1"])
@pytest.mark.parametrize(
    ("kind", "ends", "reason"),
    [
        (RestrictionKind.STOP, "rejected", Reason.EMERGENCY_STOP),
        (RestrictionKind.REDUCE_ONLY, "rejected", Reason.REDUCE_ONLY),
        (RestrictionKind.DRY, "held", Reason.LIVE_POSITION_IN_DRY),
    ],
)
def test_a_restriction_keeps_it_by_name(  # noqa: PLR0917
    rig: Rig, node: Proxy, kind: RestrictionKind, ends: str, reason: Reason, amount: str
) -> None:
    opened(rig)
    sent = len(node.log)
    _impose(kind)
    change = ask(amount)
    rig.submit()
    assert (state(change), change.reason, len(node.log)) == (ends, reason, sent)


def test_a_stop_in_between_parks_it_and_what_is_too_old_then_gives_slot_and_stake_back(
    rig: Rig, node: Proxy
) -> None:
    opened(rig)
    sent = len(node.log)
    change = ask("1")
    reserve.reserve(rig.wallet.pk)
    assert (state(change), at_stake()) == ("signed", 11)
    _impose(RestrictionKind.STOP)
    rig.submit()
    assert (state(change), len(node.log)) == ("signed", sent)
    with without_guards():
        TxIntent.objects.filter(pk=change.pk).update(expires_at=Now() - timedelta(seconds=1))
    control.lift(RestrictionKind.STOP, Origin.COMMAND, by="test", reason="")
    rig.finish(2)
    assert (state(change), held(), at_stake()) == ("final_cancelled", ("open", 5, 2), 10)
    invariants.check(node)


def test_a_desk_changes_it_and_says_how_it_stands(rig: Rig, node: Proxy) -> None:
    position, desk = opened(rig), OnChainDesk(rig.trader)
    request = MarginRequest("desk:1", position.pk, Decimal("0.5"))
    for wrong in (Decimal(0), Decimal("NaN"), Decimal("0.0000001")):
        with pytest.raises(Refused):
            desk.change_margin(replace(request, change_usdc=wrong))
    with pytest.raises(Refused, match="no position"):
        desk.change_margin(replace(request, position=10**6))
    assert desk.change_margin(request).is_new
    assert not desk.change_margin(request).is_new
    with pytest.raises(Refused, match="another order already"):
        desk.change_margin(replace(request, change_usdc=Decimal(1)))
    rig.finish(2)
    assert desk.poll("desk:1").outcome is Outcome.FILLED
    (holding,) = desk.holdings()
    assert holding.collateral_usdc == Decimal("5.5")
    invariants.check(node)


def said(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    capsys.readouterr()
    call_command("margin", *words, "--reason", "the market moved", "--json")
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_a_command_puts_it_in_and_takes_it_out(
    rig: Rig, node: Proxy, capsys: pytest.CaptureFixture[str]
) -> None:
    number = str(opened(rig).pk)
    with pytest.raises(CommandError, match="not above 0"):
        said(capsys, "deposit", number, "0")
    with pytest.raises(CommandError, match="there is no position"):
        said(capsys, "deposit", "1000000", "1")
    with pytest.raises(CommandError, match="at most 6 decimals"):
        said(capsys, "deposit", number, "0.0000001")
    asked = said(capsys, "deposit", number, "2.5")
    entry = AuditEntry.objects.get(action="margin_asked")
    assert entry.after == {"asked_by": asked["asked"], "change_usdc": "2.5"}
    rig.finish(2)
    assert held()[1] == Decimal("7.5")
    assert Decimal(said(capsys, "withdraw", number, "1.5")["change_usdc"]) == Decimal("-1.5")
    rig.finish(2)
    assert held()[1] == 6
    rig.intent(Action.CLOSE)
    rig.finish(2)
    with pytest.raises(CommandError, match="it is closed"):
        said(capsys, "deposit", number, "1")
    invariants.check(node)

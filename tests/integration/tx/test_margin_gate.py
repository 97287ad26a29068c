"""A change of margin that is signed and has not left: the gate is asked again, and a slot that may not leave is cancelled."""

from decimal import Decimal

import pytest
from django.core.management import CommandError
from pytest_django.fixtures import Settings

from execution_app.engine import reserve, rounds
from execution_app.models import AuditEntry, Position, TxIntent
from execution_app.states import CapName
from execution_app.venues.calls import Margin
from tests import invariants
from tests.integration.tx.remote import finish, signing_remotely
from tests.integration.tx.test_divergences import opened
from tests.integration.tx.test_margin_intents import ask, at_stake, cap, held, said
from tests.integration.tx.test_margins import by_hand
from tests.integration.tx.test_reorg import reorganise
from tests.integration.tx.test_resting import state
from tests.integration.tx.test_unheld import kinds
from tests.proxy import Proxy
from tests.rig import Rig
from tests.timers import pass_a_minute

REFUSALS = {
    "refused": "txpool is full",
    "underpriced": "transaction underpriced: tip needed 1000000",
}
# 5 USDC at 2x: 2 of them less, and it is at 3.33x.
OUT = "-2"


def signed(rig: Rig, amount: str) -> TxIntent:
    change = ask(amount)
    reserve.reserve(rig.wallet.pk)
    assert (state(change), change.sends.get().offered_at) == ("signed", None)
    return change


@pytest.mark.parametrize("how", ["signed", "refused", "underpriced"])
def test_a_leverage_cap_that_is_tightened_before_it_leaves_keeps_it(rig: Rig, node: Proxy, how: str) -> None:
    opened(rig)
    executed = invariants.executions(rig.wallet)
    if how == "signed":
        change = signed(rig, OUT)
    else:
        node.faults.refuse_next, node.faults.refusal = 1, REFUSALS[how]
        change = ask(OUT)
        rig.submit()
        assert state(change) == "sending"
    cap(CapName.LEVERAGE, 3)
    pass_a_minute()
    rig.track()  # a higher fee would be the first to let it leave
    rig.finish(3)
    assert (state(change), kinds(change)) == ("final_cancelled", ["exec", "cancel"])
    assert (invariants.executions(rig.wallet), held(), at_stake()) == (executed, ("open", 5, 2), 10)
    invariants.check(node)


@pytest.mark.parametrize(("name", "value"), [(CapName.LEVERAGE, 4), (CapName.NOTIONAL, 1)])
def test_a_cap_that_lets_it_be_lets_it_leave(rig: Rig, node: Proxy, name: CapName, value: int) -> None:
    """It adds nothing to what is at stake, so no other cap binds it."""
    opened(rig)
    change = signed(rig, OUT)
    cap(name, value)
    rig.finish(2)
    assert (state(change), held()[1], kinds(change)) == ("changed", 3, ["exec"])
    invariants.check(node)


def refused(rig: Rig, node: Proxy, amount: str) -> TxIntent:
    node.faults.refuse_next, node.faults.refusal = 1, REFUSALS["refused"]
    change = ask(amount)
    rig.submit()
    assert state(change) == "sending"
    return change


@pytest.mark.parametrize("amount", ["1", OUT])
def test_it_does_not_leave_for_a_position_whose_opening_a_reorg_took_back(
    rig: Rig, node: Proxy, amount: str
) -> None:
    """It would come before its trade was opened anew, and revert."""
    rig.intent()
    rig.submit()
    rig.mine()
    rig.track()
    rig.keep()
    rig.track()
    change = refused(rig, node, amount)
    reorganise(1)
    node.reset_pool()
    rig.track()
    assert held()[0] == "void"
    rig.finish(3)
    assert (state(change), kinds(change)) == ("final_cancelled", ["exec", "cancel"])
    (again,) = Position.objects.filter(state="open")
    assert (again.collateral_usdc, at_stake()) == (5, 10)
    invariants.check(node)


@pytest.mark.parametrize("known", [{"state": "closed"}, {"collateral_usdc": Decimal(2)}])
def test_it_does_not_leave_where_nothing_would_be_left(
    rig: Rig, node: Proxy, known: dict[str, object]
) -> None:
    opened(rig)
    executed = invariants.executions(rig.wallet)
    change = refused(rig, node, OUT)
    Position.objects.update(**known)
    pass_a_minute()
    rig.submit()
    rig.mine()
    rig.track()
    assert kinds(change) == ["exec", "cancel"]
    assert invariants.executions(rig.wallet) == executed


def test_a_remote_signer_signs_the_cancel_of_one_that_breaks_a_cap_by_then(
    rig: Rig, node: Proxy, settings: Settings
) -> None:
    with signing_remotely(rig, settings) as signer:
        rig.intent()
        rig.run()
        before = len(signer.signed)
        change = ask(OUT)
        reserve.reserve(rig.wallet.pk)
        assert state(change) == "reserved"
        cap(CapName.LEVERAGE, 3)
        finish(rig)
        assert (state(change), kinds(change)) == ("final_cancelled", ["cancel"])
        assert (len(signer.signed), held()) == (before + 1, ("open", Decimal(5), 2))
        invariants.check(node)


def test_what_could_not_leave_is_refused_where_it_is_asked_for(
    rig: Rig, node: Proxy, capsys: pytest.CaptureFixture[str]
) -> None:
    """By what the gate would say of it later, with the most that it lets out; nothing is written down."""
    number = str(opened(rig).pk)
    cap(CapName.LEVERAGE, 3)
    has = f"position {number} has 5 USDC of collateral at 2x"
    before = TxIntent.objects.count(), AuditEntry.objects.count()
    for amount, words in (
        ("5", f"usdc: 5 is not less than that: {has}"),
        ("7.5", f"usdc: 7.5 is not less than that: {has}"),
        (
            "1.666667",
            f"usdc: at most 1.666666 may come out: {has}, and leverage 3.0000003 is above leverage_x ",
        ),
        ("4", f"usdc: at most 1.666666 may come out: {has}, and leverage 10 is above leverage_x "),
    ):
        with pytest.raises(CommandError) as refused:
            said(capsys, "withdraw", number, amount)
        assert str(refused.value).startswith(words)
    assert (TxIntent.objects.count(), AuditEntry.objects.count()) == before
    said(capsys, "withdraw", number, "1.666666")
    rig.finish(2)
    assert held()[1] == Decimal("3.333334")
    with pytest.raises(CommandError, match=r"usdc: at most 0\.000001 may come out"):
        said(capsys, "withdraw", number, "0.000002")  # the venue has rounded the notional down
    cap(CapName.LEVERAGE, 2)
    with pytest.raises(CommandError, match="usdc: at most 0 may come out"):
        said(capsys, "withdraw", number, "0.000001")
    said(capsys, "deposit", number, "1")
    rig.finish(2)
    assert held()[1] == Decimal("4.333334")
    invariants.check(node)


def test_what_its_owner_put_in_may_come_out_as_soon_as_the_book_has_it(
    rig: Rig, node: Proxy, capsys: pytest.CaptureFixture[str]
) -> None:
    number = str(opened(rig).pk)
    by_hand(rig, Margin.DEPOSIT, "5")
    with pytest.raises(CommandError, match=r"usdc: 6 is not less than that: position .* has 5 USDC"):
        said(capsys, "withdraw", number, "6")
    assert rounds.compare_positions() == 0
    said(capsys, "withdraw", number, "6")
    rig.finish(2)
    assert held()[:2] == ("open", 4)
    invariants.check(node)

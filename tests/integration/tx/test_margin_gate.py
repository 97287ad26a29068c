"""A change of margin that is signed and has not left: the gate is asked again, and a slot that may not leave is cancelled."""

from decimal import Decimal

import pytest
from pytest_django.fixtures import Settings

from execution_app.engine import reserve
from execution_app.models import Position, TxIntent
from execution_app.states import CapName
from tests import invariants
from tests.integration.tx.remote import finish, signing_remotely
from tests.integration.tx.test_divergences import opened
from tests.integration.tx.test_margin_intents import ask, at_stake, cap, held
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

"""`wallet adopt` of closes whose trade the book has not as it was when they were sent: plan by plan, each executed once."""

from decimal import Decimal
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from execution_app.book.drift import compare
from execution_app.engine import reconcile
from execution_app.models import Position, TxIntent, Wallet
from execution_app.moves import move
from execution_app.states import Action, IntentState, Reason
from tests import database_copies, invariants
from tests.integration.tx.conftest import node
from tests.integration.tx.test_resting import LIMIT, price
from tests.ops.rollout.test_wallet_adopt import WHY, wallet, whats
from tests.proxy import Proxy
from tests.rig import Rig

__all__ = ["node"]  # the fixture
Capture = pytest.CaptureFixture[str]


def part(rig: Rig, usdc: int) -> TxIntent:
    return rig.intent(Action.CLOSE, reduce_usdc=Decimal(usdc))


def adopt(capsys: Capture) -> dict[str, Any]:
    said: dict[str, Any] = wallet(capsys, "adopt", "123", "--yes", *WHY)
    assert said["adopted"]
    return said


def adopt_all(rig: Rig, capsys: Capture, *, compared: bool = False) -> list[dict[str, Any]]:
    """As an operator does: what there is to tell, and again once the book has followed; then the wallet goes on.

    `compared` says that so much time passes in between that positions are held against the venue, and that is final.
    """
    told = []
    while (said := adopt(capsys))["stops"]:
        told.append(said)
        assert Wallet.objects.get().halted_reason
        with pytest.raises(CommandError, match="adopt comes first"):
            wallet(capsys, "resume", "123", *WHY)
        with pytest.raises(CommandError, match="cannot be told before the book has followed"):
            wallet(capsys, "adopt", "123", "--yes", *WHY)
        rig.track()
        for _ in range(2 * compared):
            compare()
            rig.mine(4)
    wallet(capsys, "resume", "123", *WHY)
    rig.finish(2)
    return [*told, said]


def ends(*intents: TxIntent) -> list[tuple[str, int | None]]:
    for intent in intents:
        intent.refresh_from_db()
    return [(intent.state, intent.nonce) for intent in intents]


def restore(rig: Rig, executed: int) -> None:
    """What the lost database executed is final, and the copy of it before is the database again."""
    assert len(invariants.executions(rig.wallet)) == executed
    rig.mine(4)
    database_copies.give_back()


@pytest.mark.parametrize("compared", [False, True])
def test_two_closes_of_one_position_that_an_old_copy_still_waits_for(
    rig: Rig, node: Proxy, capsys: Capture, *, compared: bool
) -> None:
    rig.intent()
    rig.run()
    first, second = part(rig, 2), part(rig, 1)
    database_copies.take()
    rig.finish(3)
    restore(rig, 3)
    rig.track()
    told = adopt_all(rig, capsys, compared=compared)
    assert [*map(whats, told)] == [{1: "waited"}, {2: "waited"}]
    assert ends(first, second) == [("filled", 1), ("filled", 2)]
    assert Position.objects.get(state="open").collateral_usdc == 2
    assert len(invariants.executions(rig.wallet)) == 3
    invariants.check(node)


def test_a_close_that_ended_its_trade_before_anybody_adopted_it(
    rig: Rig, node: Proxy, capsys: Capture
) -> None:
    """The book has it from the venue by then, and who asked for it takes nothing of another trade instead."""
    beside = rig.intent(), rig.intent()
    rig.run()
    first, second = part(rig, 3), part(rig, 2)
    database_copies.take()
    rig.finish(3)
    mined = second.sends.get().tx_hash
    restore(rig, 4)
    rig.track()
    *_, last = adopt_all(rig, capsys, compared=True)
    assert (whats(last), last["refused"]) == ({3: "foreign"}, [second.intent_key])
    assert ends(*beside) == [("filled", 0), ("filled", 1)]
    assert ends(first, second) == [("filled", 2), ("rejected", None)]
    assert second.reason == Reason.MAY_BE_EXECUTED
    assert Position.objects.get(state="open").collateral_usdc == 5
    assert len(invariants.executions(rig.wallet)) == 4
    invariants.check(node, foreign=[mined])


def test_a_close_that_comes_behind_one_which_an_old_copy_has_under_way(
    rig: Rig, node: Proxy, capsys: Capture
) -> None:
    """Nothing can be adopted before the book has followed, and that is said."""
    rig.intent()
    rig.run()
    node.hold()
    first, second = part(rig, 2), part(rig, 1)
    rig.submit()
    assert ends(first, second) == [("pending_inclusion", 1), ("pending", None)]
    database_copies.take()
    node.release()
    rig.finish(3)
    restore(rig, 3)
    reconcile.halt_wallet(rig.wallet, "for some other reason")
    with pytest.raises(CommandError, match="nonce 2 is a close that cannot be told before"):
        wallet(capsys, "adopt", "123", "--yes", *WHY)
    with pytest.raises(CommandError, match="adopt comes first"):
        wallet(capsys, "resume", "123", *WHY)
    rig.track()
    assert [*map(whats, adopt_all(rig, capsys))] == [{2: "waited"}]
    assert ends(first, second) == [("filled", 1), ("filled", 2)]
    assert len(invariants.executions(rig.wallet)) == 3
    invariants.check(node)


@pytest.mark.parametrize(
    ("usdc", "expired", "compared"),
    [(2, False, False), (2, True, False), (None, False, False), (None, True, False), (2, False, True)],
)
def test_a_close_whose_open_an_old_copy_waits_for_as_well(
    rig: Rig, node: Proxy, capsys: Capture, *, usdc: int | None, expired: bool, compared: bool
) -> None:
    opened = rig.intent()
    close = rig.intent(Action.CLOSE) if usdc is None else part(rig, usdc)
    database_copies.take()
    rig.finish(2)
    restore(rig, 2)
    rig.track()
    if expired:
        move(opened, IntentState.EXPIRED, why="max lag passed", by="test", reason="lag_exceeded")
    told = adopt_all(rig, capsys, compared=compared)
    assert [*map(whats, told)] == [{0: "unasked" if expired else "waited"}, {1: "waited"}]
    assert ends(close) == [("filled", 1)]
    assert len(invariants.executions(rig.wallet)) == 2
    left = list(Position.objects.filter(state="open").values_list("collateral_usdc", flat=True))
    assert left == ([] if usdc is None else [Decimal(5 - usdc)])
    invariants.check(node)


def test_a_close_of_what_rested_where_an_old_copy_has_it_still(
    rig: Rig, node: Proxy, capsys: Capture
) -> None:
    opened = rig.intent(**LIMIT)
    rig.run()
    close = part(rig, 2)
    database_copies.take()
    price(94_900)
    rig.keep()
    rig.track()
    rig.finish(2)
    assert ends(opened, close) == [("filled", 0), ("filled", 1)]
    restore(rig, 2)
    reconcile.halt_wallet(rig.wallet, "for some other reason")
    with pytest.raises(CommandError, match="nonce 1 is a close that cannot be told before"):
        wallet(capsys, "adopt", "123", "--yes", *WHY)
    rig.track()
    assert [*map(whats, adopt_all(rig, capsys))] == [{1: "waited"}]
    assert ends(opened, close) == [("filled", 0), ("filled", 1)]
    assert len(invariants.executions(rig.wallet)) == 2
    invariants.check(node)


def test_an_operator_is_told_to_adopt_again(rig: Rig, node: Proxy, capsys: Capture) -> None:
    rig.intent()
    part(rig, 2)
    database_copies.take()
    rig.finish(2)
    restore(rig, 2)
    rig.track()
    capsys.readouterr()
    call_command("wallet", "adopt", "123", "--yes", *WHY)
    said = capsys.readouterr().out
    assert "next_nonce 0 becomes 1" in said
    assert "nonce 1 is a close that cannot be told before the book has followed what came before it" in said
    assert said.strip().endswith("adopted; next: wallet adopt again, once the book has followed")
    rig.track()
    call_command("wallet", "adopt", "123", "--yes", *WHY)
    assert capsys.readouterr().out.strip().endswith("adopted; next: wallet resume")
    wallet(capsys, "resume", "123", *WHY)
    rig.finish(2)
    invariants.check(node)

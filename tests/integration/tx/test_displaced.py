"""A close that is stuck while its trade ends otherwise and another one comes into its slot: the call names no trade."""

from decimal import Decimal

from execution_app import meters
from execution_app.engine import rounds
from execution_app.gate import control
from execution_app.models import ExternalTrade, Position, TxIntent
from execution_app.states import Action, Origin, RestrictionKind
from execution_app.venues import onchain
from tests import invariants
from tests.integration.tx.test_divergences import owner_sends
from tests.integration.tx.test_resting import place, price, state
from tests.integration.tx.test_venue_surprises import owner_closes
from tests.proxy import Proxy
from tests.rig import Rig, rpc_call


def stuck_close(rig: Rig, node: Proxy) -> TxIntent:
    """Of a trade that its owner ended meanwhile; the node keeps its bytes to itself."""
    rig.intent()
    rig.run()
    rpc_call("evm_increaseTime", 30)  # the second of its opening tells a trade from the next in its slot
    node.hold()
    close = rig.intent(Action.CLOSE, position=Position.objects.get(), only_position=True)
    rig.submit()
    assert state(close) == "pending_inclusion"
    owner_closes(rig)
    return close


def fill_in_its_slot(rig: Rig, order: TxIntent) -> None:
    price(95_000)
    rig.keep()
    price(100_000)
    assert state(order) == "ordered", "the book has not looked yet"


def test_it_is_called_off_once_an_order_that_rested_has_its_slot(rig: Rig, node: Proxy) -> None:
    order = place(rig)
    close = stuck_close(rig, node)
    fill_in_its_slot(rig, order)
    rig.track()
    assert list(close.sends.order_by("attempt").values_list("kind", flat=True)) == ["exec", "cancel"]
    node.release("all")
    rig.finish(3)
    assert (state(order), state(close)) == ("filled", "final_cancelled")
    again = TxIntent.objects.get(intent_key=f"{close.intent_key}#2")
    assert (again.state, again.nonce) == ("no_op", None), "asked again, it finds nothing to close"
    ended, standing = Position.objects.order_by("opened_at")
    assert (ended.ended_by, standing.state, standing.trade_index) == (
        "closed_elsewhere",
        "open",
        ended.trade_index,
    )
    invariants.check(node)


def test_one_that_wins_all_the_same_is_paged_and_told_as_it_was(rig: Rig, node: Proxy) -> None:
    order = place(rig)
    close = stuck_close(rig, node)
    fill_in_its_slot(rig, order)
    paged = meters.INVARIANT_VIOLATIONS.labels("event_matches_intent")
    before = paged._value.get()
    node.release("all")
    rig.finish(2)
    assert (state(order), state(close)) == ("filled", "filled")
    assert paged._value.get() == before + 1
    assert list(Position.objects.order_by("opened_at").values_list("ended_by", flat=True)) == [
        "closed_elsewhere",
        "close",
    ]
    invariants.check(node)


def test_what_it_has_left_of_the_other_one_stays(rig: Rig, node: Proxy) -> None:
    order = place(rig, collateral_usdc=Decimal(15))
    close = stuck_close(rig, node)
    fill_in_its_slot(rig, order)
    node.release("all")
    rig.finish(4)
    assert (state(order), state(close)) == ("filled", "filled")
    assert not TxIntent.objects.filter(intent_key__startswith=f"{close.intent_key}#").exists()
    other = Position.objects.order_by("opened_at").last()
    assert other is not None
    close.refresh_from_db()
    assert close.close_usdc == 5
    assert (other.state, other.collateral_usdc) == ("open", 10)
    invariants.check(node)


def test_it_is_called_off_once_its_owner_has_a_trade_in_its_slot(rig: Rig, node: Proxy) -> None:
    close = stuck_close(rig, node)
    order = onchain.OpenOrder(
        rig.trader.address, 1, False, Decimal(7), Decimal(3), Decimal(100_000), Decimal(1)
    )
    owner_sends(rig, onchain.encode_open(order))
    rounds.compare_positions()
    rig.track()
    assert list(close.sends.order_by("attempt").values_list("kind", flat=True)) == ["exec", "cancel"]
    node.release("all")
    rig.finish(3)
    rounds.compare_positions()
    rig.finish(2)
    assert state(close) == "final_cancelled"
    assert Position.objects.get().ended_by in {"closed_elsewhere", "owner"}, "by the event, where it is found"
    rounds.compare_positions()
    assert ExternalTrade.objects.get().collateral_usdc == 7, "and theirs stands"
    invariants.check(node, drained=False)


def test_under_a_stop_nothing_leaves_for_one_that_never_left(rig: Rig, node: Proxy) -> None:
    """Called off, it is parked like everything else; a cancel that a person asked for is another matter."""
    rig.intent()
    rig.run()
    order = place(rig)
    rpc_call("evm_increaseTime", 30)
    node.faults.refuse_next, node.faults.refusal = 1, "txpool is full"
    close = rig.intent(Action.CLOSE, position=Position.objects.get(), only_position=True)
    rig.submit()
    assert state(close) == "sending"
    control.impose(RestrictionKind.STOP, Origin.COMMAND, by="test", reason="")
    owner_closes(rig)
    fill_in_its_slot(rig, order)
    sent = len(node.log)
    for _ in range(2):
        rig.track()
        rig.finish()
    close.refresh_from_db()
    assert close.cancel_asked_at is not None
    assert (close.state, len(node.log)) == ("sending", sent)
    control.lift(RestrictionKind.STOP, Origin.COMMAND, by="test", reason="")
    rig.finish(3)
    assert (state(close), state(order)) == ("final_cancelled", "filled")
    invariants.check(node)

"""When an order that rests may be taken back or changed, and what it waits for; its own tests walk it on a chain."""

import pytest

from execution_app.engine import order_changes
from execution_app.gate.admission import Verdict
from execution_app.models import TxIntent, VenueOrder, Wallet
from execution_app.states import TERMINAL, UNMINED, Action, Reason
from tests.execution import rows, staged
from tests.execution.staged import waits_for
from tests.guards import without_guards

pytestmark = pytest.mark.usefixtures("database")
CANCEL, UPDATE = Action.CANCEL_ORDER, Action.UPDATE_ORDER
EARLIER_ORDER = Reason.WAITS_FOR_EARLIER_ORDER
UNDER_WAY = "this order is being taken back or changed already"
MAY_CHANGE_HANDS = "another order may be in its slot by now"
SLOT, NUMBER = 3, 500


@pytest.fixture
def wallets() -> list[Wallet]:
    """One before and one after the one that is looked at, each with an order that rests in the same slot."""
    found = [staged.a_wallet() for _ in range(3)]
    for one, number in ((found[0], NUMBER - 9), (found[2], NUMBER + 9)):
        registered(limit(one), SLOT, number)
    return found


@pytest.fixture
def wallet(wallets: list[Wallet]) -> Wallet:
    return wallets[1]


@pytest.fixture
def order(wallet: Wallet) -> TxIntent:
    return registered(limit(wallet), SLOT, NUMBER)


def limit(of: Wallet, state: str = "ordered", **fields: object) -> TxIntent:
    sound: dict[str, object] = {"order_type": "limit", "limit_price": 5, "road": "onchain"}
    return staged.intent(of, Action.OPEN, state, **(sound | fields))


def registered(order: TxIntent, slot: int, number: int) -> TxIntent:
    with without_guards():
        rows.order(intent_id=order.pk, limit_index=slot, order_id=number)
    return order


def change(action: Action, order: TxIntent, state: str = "pending", **fields: object) -> TxIntent:
    assert order.wallet is not None
    return staged.intent(order.wallet, action, state, target_id=order.pk, **fields)


def may_go(intent: TxIntent, verdict: Verdict = Verdict.EXECUTE) -> bool:
    goes = order_changes.may_go(intent, verdict)
    assert isinstance(goes, bool)
    return goes


# When it may go


@pytest.mark.parametrize("action", [CANCEL, UPDATE])
def test_it_goes_while_its_order_rests(order: TxIntent, action: Action) -> None:
    mine = change(action, order)
    assert may_go(mine)
    assert staged.untouched(mine)


@pytest.mark.parametrize("action", [CANCEL, UPDATE])
def test_no_simulation_does_it(order: TxIntent, action: Action) -> None:
    mine = change(action, order)
    assert not may_go(mine, Verdict.SIMULATE)
    detail = "an order that rests is not taken back by a simulation"
    assert staged.told(mine) == ("held", "live_position_in_dry", detail)


@pytest.mark.parametrize("state", ["filled", "venue_cancelled"])
def test_once_it_rests_no_more_a_change_is_over_and_taking_it_back_waits_until_that_is_final(
    wallet: Wallet, state: str
) -> None:
    """A reorg may let it rest again, and then it is to be taken back all the same."""
    order = limit(wallet, state)
    update, cancel = change(UPDATE, order), change(CANCEL, order)
    assert not may_go(update)
    gone = f"{order.intent_key} is {state}: it rests no more"
    assert staged.told(update) == ("no_op", "no_order", gone)
    assert not may_go(cancel)
    assert waits_for(cancel, EARLIER_ORDER, f"{order.intent_key} is {state}, not finally")
    TxIntent.objects.filter(pk=order.pk).update(settled_at=staged.SETTLED)
    cancel = TxIntent.objects.get(pk=cancel.pk)
    assert not may_go(cancel)
    assert staged.told(cancel) == ("no_op", "no_order", gone)


@pytest.mark.parametrize("action", [CANCEL, UPDATE])
@pytest.mark.parametrize("state", sorted(TERMINAL - {"simulated", "lapsed"}))
def test_nothing_is_done_to_what_never_rested(wallet: Wallet, action: Action, state: str) -> None:
    order = limit(wallet, state)
    mine = change(action, order)
    assert not may_go(mine)
    assert staged.told(mine) == ("no_op", "no_order", f"{order.intent_key} is {state}: it rests no more")


@pytest.mark.parametrize("action", [CANCEL, UPDATE])
@pytest.mark.parametrize("state", ["pending_inclusion", "mined"])
def test_what_may_rest_again_is_waited_for(wallet: Wallet, action: Action, state: str) -> None:
    order = limit(wallet, state)
    mine = change(action, order)
    assert not may_go(mine)
    assert waits_for(mine, EARLIER_ORDER, f"{order.intent_key} is {state}, not finally")


# Other changes of the same order: what is asked, what is there already, in which state, who asked first, whether it waits.
OLDER, YOUNGER = True, False
OTHERS = [
    (CANCEL, CANCEL, "pending", OLDER, True),
    (CANCEL, CANCEL, "held", OLDER, True),
    (CANCEL, CANCEL, "pending", YOUNGER, False),
    (CANCEL, CANCEL, "held", YOUNGER, False),
    (CANCEL, CANCEL, "mined", OLDER, True),
    (CANCEL, CANCEL, "changed", OLDER, True),
    (CANCEL, CANCEL, "final_reverted", OLDER, False),
    *((CANCEL, CANCEL, state, YOUNGER, True) for state in sorted(UNMINED)),
    (CANCEL, UPDATE, "pending", OLDER, False),
    (CANCEL, UPDATE, "held", OLDER, False),
    (CANCEL, UPDATE, "mined", OLDER, False),
    (CANCEL, UPDATE, "changed", OLDER, False),
    (CANCEL, UPDATE, "pending", YOUNGER, False),
    *((CANCEL, UPDATE, state, YOUNGER, True) for state in sorted(UNMINED)),
    (UPDATE, CANCEL, "pending", OLDER, True),
    (UPDATE, CANCEL, "pending", YOUNGER, False),
    (UPDATE, CANCEL, "signed", YOUNGER, True),
    (UPDATE, CANCEL, "mined", YOUNGER, True),
    (UPDATE, UPDATE, "pending", OLDER, True),
    (UPDATE, UPDATE, "held", OLDER, True),
    (UPDATE, UPDATE, "pending", YOUNGER, False),
    (UPDATE, UPDATE, "mined", OLDER, True),
    (UPDATE, UPDATE, "mined", YOUNGER, True),
    (UPDATE, UPDATE, "changed", OLDER, False),
    (UPDATE, UPDATE, "final_reverted", OLDER, False),
    *((UPDATE, UPDATE, state, YOUNGER, True) for state in sorted(UNMINED)),
]


@pytest.mark.parametrize("case", OTHERS, ids=lambda case: "-".join(map(str, case)))
def test_of_two_changes_one_goes_first(order: TxIntent, case: tuple[Action, Action, str, bool, bool]) -> None:
    asked, there, state, is_older, waits = case
    first = change(there if is_older else asked, order, state if is_older else "pending")
    second = change(asked if is_older else there, order, "pending" if is_older else state)
    mine = second if is_older else first
    assert may_go(mine) is not waits
    assert waits_for(mine, EARLIER_ORDER, UNDER_WAY) if waits else staged.untouched(mine)


@pytest.mark.parametrize("action", [CANCEL, UPDATE])
def test_changes_of_another_order_and_settled_ones_are_in_nobodys_way(
    wallet: Wallet, order: TxIntent, action: Action
) -> None:
    beside = registered(limit(wallet), SLOT + 1, NUMBER + 1)
    for other in (CANCEL, UPDATE):
        change(other, beside)
        change(other, beside, "signed")
        change(other, order, "changed", settled_at=staged.SETTLED)
        change(other, order, "signed", settled_at=staged.SETTLED)
    assert may_go(change(action, order))


# Whether its slot may have changed hands


@pytest.mark.parametrize("state", sorted({*UNMINED, "mined"}))
@pytest.mark.parametrize("kind", ["limit", "stop_limit"])
def test_an_order_whose_slot_is_not_known_yet_may_come_into_it(
    wallet: Wallet, order: TxIntent, state: str, kind: str
) -> None:
    limit(wallet, state, order_type=kind)
    mine = change(CANCEL, order)
    assert not may_go(mine)
    assert waits_for(mine, EARLIER_ORDER, MAY_CHANGE_HANDS)


def test_a_later_order_in_its_slot_has_taken_it(wallet: Wallet, order: TxIntent) -> None:
    registered(limit(wallet), SLOT, NUMBER + 1)
    mine = change(CANCEL, order)
    assert not may_go(mine)
    assert waits_for(mine, EARLIER_ORDER, MAY_CHANGE_HANDS)


def test_without_a_slot_in_the_book_nobody_knows(order: TxIntent) -> None:
    VenueOrder.objects.filter(intent=order).delete()
    mine = change(UPDATE, order)
    assert not may_go(mine)
    assert waits_for(mine, EARLIER_ORDER, MAY_CHANGE_HANDS)


def test_no_other_order_takes_its_slot(wallets: list[Wallet], wallet: Wallet, order: TxIntent) -> None:
    registered(limit(wallet), SLOT, NUMBER - 1)
    registered(limit(wallet), SLOT + 1, NUMBER + 1)
    for number, ended in enumerate(("filled", "venue_cancelled"), start=NUMBER + 2):
        registered(limit(wallet, ended), SLOT, number)
    registered(limit(wallet, settled_at=staged.SETTLED), SLOT, NUMBER + 4)
    for waiting in ("pending", "held"):
        limit(wallet, waiting)
    limit(wallet, "signed", settled_at=staged.SETTLED)
    limit(wallet, "signed", symbol="ETH-USD")
    registered(limit(wallet, symbol="ETH-USD"), SLOT, NUMBER + 5)
    limit(wallets[0], "signed")
    limit(wallets[2], "mined")
    staged.intent(wallet, Action.OPEN, "signed")
    staged.intent(wallet, Action.OPEN, "mined")
    mine = change(CANCEL, order)
    assert may_go(mine)
    assert staged.untouched(mine)

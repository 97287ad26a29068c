"""When new levels of a position may go, and which messages keep a symbol's slots; their own tests walk them on a chain."""

from collections.abc import Iterable
from typing import Any

import pytest

from execution_app.engine import level_changes
from execution_app.gate.admission import Verdict
from execution_app.gate.modes import Ruling
from execution_app.models import Position, TxIntent, Wallet
from execution_app.states import IN_FLIGHT, UNMINED, Action, IntentState, Mode, Reason
from tests.execution import rows, staged
from tests.execution.staged import trade, waits_for, wallet, wallets

__all__ = ["wallet", "wallets"]  # the fixtures
pytestmark = pytest.mark.usefixtures("database")
LIVE = Ruling(Mode.LIVE, Mode.LIVE, False, False, "")
REDUCE_ONLY = Ruling(Mode.LIVE, Mode.LIVE, False, True, "")
NOW_S = 1_800_000_000
EARLIER_CLOSE, EARLIER_ORDER = Reason.WAITS_FOR_EARLIER_CLOSE, Reason.WAITS_FOR_EARLIER_ORDER


@pytest.fixture
def position(wallet: Wallet) -> Position:
    return trade(wallet, stop_loss=59_000, take_profit=65_000)


def levels(of: Wallet, position: Position, state: str = "pending", **fields: object) -> TxIntent:
    """Without a deadline, a stop that limits as much as the one the position has."""
    sound: dict[str, object] = {"position_id": position.pk, "stop_loss": 59_000}
    return staged.intent(of, Action.LEVELS, state, **(sound | fields))


def messaged(intent: TxIntent, deadline_s: int = NOW_S, **fields: object) -> TxIntent:
    staged.message(intent, **({"deadline_ms": deadline_s * 1000} | fields))
    return intent


def may_go(
    intent: TxIntent,
    ruling: Ruling = LIVE,
    verdict: Verdict = Verdict.EXECUTE,
    chain_at: int | None = NOW_S,
) -> bool:
    goes = level_changes.may_go(intent, ruling, verdict, chain_at)
    assert isinstance(goes, bool)
    return goes


# When they may go


def test_they_go_where_nothing_is_in_their_way(wallet: Wallet, position: Position) -> None:
    mine = levels(wallet, position)
    assert may_go(mine)
    assert may_go(mine, chain_at=None)
    assert staged.untouched(mine)


def test_a_close_that_is_not_final_is_waited_for(wallet: Wallet) -> None:
    position = trade(wallet, state="closed")
    mine = levels(wallet, position)
    assert not may_go(mine)
    assert waits_for(mine, EARLIER_CLOSE, f"position {position.pk} is closed, not finally yet")


@pytest.mark.parametrize(
    "ended",
    [
        {"state": "closed", "settled_at": staged.SETTLED},
        {"state": "void", "settled_at": staged.SETTLED},
        {"state": "void"},
    ],
)
def test_of_what_has_ended_there_are_no_levels(wallet: Wallet, ended: dict[str, Any]) -> None:
    position = trade(wallet, **ended)
    mine = levels(wallet, position)
    assert not may_go(mine)
    assert staged.told(mine) == ("no_op", "no_position", f"position {position.pk} is {ended['state']}")


@pytest.mark.parametrize(("state", "waits"), [("ordered", True), ("filled", False)])
def test_what_a_reorg_took_back_may_have_them_yet(wallet: Wallet, state: str, *, waits: bool) -> None:
    opening = staged.intent(wallet, Action.OPEN, state)
    position = trade(wallet, state="void", opened_by_id=opening.pk)
    if not waits:
        rows.fill(intent_id=opening.pk)
    mine = levels(wallet, position)
    assert not may_go(mine)
    if waits:
        assert waits_for(mine, EARLIER_ORDER, f"position {position.pk} is opened anew after a reorg")
    else:
        assert staged.told(mine)[0] == "no_op"


@pytest.mark.parametrize("waiting", [False, True])
def test_they_wait_for_what_has_left_for_the_row_before(
    wallet: Wallet, position: Position, *, waiting: bool
) -> None:
    before = trade(wallet, state="void", opened_at="2025-12-31T00:00:00Z")
    first = levels(wallet, before, "pending" if waiting else "signed")
    if not waiting:
        messaged(first)
    mine = levels(wallet, position)
    assert may_go(mine) is waiting
    assert may_go(mine, chain_at=NOW_S + 1)


def test_they_are_changed_by_no_simulation(wallet: Wallet, position: Position) -> None:
    mine = levels(wallet, position)
    assert not may_go(mine, verdict=Verdict.SIMULATE)
    detail = "levels of a live position are not changed by a simulation"
    assert staged.told(mine) == ("held", "live_position_in_dry", detail)


LOOSER = {"lower": 58_999, "gone": None}


@pytest.mark.parametrize("stop_loss", LOOSER.values(), ids=LOOSER)
def test_under_reduce_only_no_loss_is_limited_less(
    wallet: Wallet, position: Position, stop_loss: int | None
) -> None:
    mine = levels(wallet, position, stop_loss=stop_loss)
    assert may_go(mine)
    assert not may_go(mine, REDUCE_ONLY)
    detail = "reduce-only is set, and these levels limit a loss less than those it has"
    assert staged.told(mine) == ("rejected", "reduce_only", detail)


@pytest.mark.parametrize("stop_loss", [59_000, 59_001])
def test_under_reduce_only_a_loss_may_be_limited_more(
    wallet: Wallet, position: Position, stop_loss: int
) -> None:
    mine = levels(wallet, position, stop_loss=stop_loss, take_profit=70_000)
    assert may_go(mine, REDUCE_ONLY)
    assert staged.untouched(mine)


def test_of_a_short_the_higher_stop_is_the_looser(wallet: Wallet) -> None:
    position = trade(wallet, is_long=False, stop_loss=61_000)
    assert level_changes.loosens(levels(wallet, position, stop_loss=61_001), position) is True
    assert level_changes.loosens(levels(wallet, position, stop_loss=60_999), position) is False


@pytest.mark.parametrize(
    "close", [{"state": state} for state in sorted(IN_FLIGHT)] + [{"holds_position": True}]
)
def test_they_wait_for_a_close_that_works_on_it(
    wallet: Wallet, position: Position, close: dict[str, Any]
) -> None:
    mine = levels(wallet, position)
    staged.intent(wallet, Action.CLOSE, position_id=position.pk, **close)
    assert not may_go(mine)
    assert waits_for(mine, EARLIER_CLOSE, "a close of this position is not finished")


def test_they_wait_for_opens_that_may_take_the_slot(wallet: Wallet, position: Position) -> None:
    mine = levels(wallet, position)
    staged.intent(wallet, Action.OPEN, "mined")
    assert not may_go(mine)
    assert waits_for(mine, EARLIER_ORDER, "an open on this symbol is under way")


EARLIER = "earlier levels of this position may still be taken"


@pytest.mark.parametrize("state", ["pending", "held"])
def test_they_wait_for_earlier_ones_that_wait(wallet: Wallet, position: Position, state: str) -> None:
    first = levels(wallet, position, state)
    mine = levels(wallet, position)
    assert not may_go(mine)
    assert waits_for(mine, EARLIER_ORDER, EARLIER)
    assert may_go(first)


def test_they_wait_for_earlier_ones_until_their_deadline(wallet: Wallet, position: Position) -> None:
    messaged(levels(wallet, position, "signed"))
    mine = levels(wallet, position)
    assert not may_go(mine)
    assert waits_for(mine, EARLIER_ORDER, EARLIER)
    assert may_go(mine, chain_at=NOW_S + 1)
    assert may_go(mine, chain_at=None), "without the chain's clock no deadline is judged"


def test_what_is_of_others_is_in_nobodys_way(
    wallets: list[Wallet], wallet: Wallet, position: Position
) -> None:
    beside = trade(wallet, trade_index=1)
    levels(wallet, beside)
    messaged(levels(wallet, beside, "signed"))
    staged.intent(wallet, Action.CLOSE, "signed", position_id=beside.pk)
    staged.intent(wallet, Action.CLOSE, position_id=position.pk)
    staged.intent(wallet, Action.CLOSE, "filled", position_id=position.pk)
    staged.intent(wallet, Action.CLOSE, "mined", position_id=position.pk, settled_at=staged.SETTLED)
    staged.intent(wallet, Action.MARGIN, "mined", position_id=position.pk)
    staged.intent(wallet, Action.MARGIN, position_id=position.pk)
    messaged(levels(wallet, position, "lapsed"))
    mine = levels(wallet, position)
    levels(wallet, position)
    messaged(levels(wallet, position, "signed"))
    assert may_go(mine)
    assert staged.untouched(mine)


def test_a_settled_close_holds_nothing(wallet: Wallet, position: Position) -> None:
    over = {"holds_position": True, "settled_at": staged.SETTLED}
    staged.intent(wallet, Action.CLOSE, "rejected", position_id=position.pk, **over)
    assert may_go(levels(wallet, position))


# What keeps them from leaving once they are signed


def test_reduce_only_forbids_looser_ones_to_leave(wallet: Wallet, position: Position) -> None:
    looser = levels(wallet, position, "signed", stop_loss=58_000)
    assert level_changes.is_forbidden(looser, LIVE) is False
    assert level_changes.is_forbidden(looser, REDUCE_ONLY) is True
    assert level_changes.is_forbidden(levels(wallet, position, "signed"), REDUCE_ONLY) is False


def test_it_forbids_nothing_else(wallet: Wallet, position: Position) -> None:
    for action in (Action.CLOSE, Action.INCREASE, Action.MARGIN):
        other = staged.intent(wallet, action, position_id=position.pk)
        assert level_changes.is_forbidden(other, REDUCE_ONLY) is False
    assert level_changes.is_forbidden(staged.intent(wallet, Action.OPEN), REDUCE_ONLY) is False
    assert level_changes.is_forbidden(TxIntent(action=Action.LEVELS), REDUCE_ONLY) is False


# Opens that may take the slot


def opens(intent: TxIntent) -> list[TxIntent]:
    return list(level_changes.opens_under_way(intent).order_by("pk"))


def test_opens_of_its_symbol_are_under_way_until_the_venue_has_answered(
    wallets: list[Wallet], wallet: Wallet, position: Position
) -> None:
    mine = levels(wallet, position)
    under_way = [staged.intent(wallet, Action.OPEN, state) for state in sorted(IN_FLIGHT)]
    for state in ("pending", "held", "filled", "venue_cancelled", "final_reverted"):
        staged.intent(wallet, Action.OPEN, state)
    staged.intent(wallet, Action.OPEN, "signed", settled_at=staged.SETTLED)
    staged.intent(wallet, Action.OPEN, "signed", symbol="ETH-USD")
    for other in (wallets[0], wallets[2]):
        staged.intent(other, Action.OPEN, "signed")
    staged.intent(wallet, Action.INCREASE, "signed", position_id=position.pk)
    staged.intent(wallet, Action.CLOSE, "signed", position_id=position.pk)
    assert opens(mine) == under_way


def test_an_open_whose_message_was_seen_unused_opens_nothing(wallet: Wallet, position: Position) -> None:
    mine = levels(wallet, position)
    by_message = messaged(staged.intent(wallet, Action.OPEN, "signed", road="gateway"))
    assert opens(mine) == [by_message]
    unused: dict[str, Any] = {"unused_at_block": 7, "unused_at_hash": f"0x{7:064x}"}
    messaged(staged.intent(wallet, Action.OPEN, "signed", road="gateway"), **unused)
    assert opens(mine) == [by_message]


# Which messages may still be taken


def of_each_state(wallet: Wallet, position: Position, action: Action, states: Iterable[str]) -> None:
    for state in states:
        messaged(staged.intent(wallet, action, state, position_id=position.pk))


def unexpired(chain_at: int = NOW_S) -> set[str]:
    found = level_changes.unexpired(chain_at)
    return set(found.values_list("intent__state", flat=True))


def test_new_levels_may_be_taken_until_their_deadline_and_a_reorg_may_take_them_anew(
    wallet: Wallet, position: Position
) -> None:
    states = {*UNMINED, IntentState.CHANGED}
    of_each_state(wallet, position, Action.LEVELS, [*states, "mined", "pending", "held", "lapsed"])
    of_each_state(wallet, position, Action.INCREASE, sorted(UNMINED))
    messaged(levels(wallet, position, "signed", settled_at=staged.SETTLED))
    assert unexpired() == states
    assert level_changes.unexpired(NOW_S).count() == len(states)
    assert unexpired(NOW_S + 1) == set()


def test_a_deadline_is_in_milliseconds(wallet: Wallet, position: Position) -> None:
    messaged(levels(wallet, position, "signed"), deadline_ms=NOW_S * 1000 - 1)
    assert unexpired() == set()
    messaged(levels(wallet, position, "sending"), deadline_ms=NOW_S * 1000)
    assert unexpired() == {"sending"}


@pytest.mark.parametrize("state", sorted(IN_FLIGHT | {IntentState.FILLED}))
def test_an_increase_keeps_its_symbol_until_its_deadline(
    wallet: Wallet, position: Position, state: str
) -> None:
    of_each_state(wallet, position, Action.INCREASE, [state])
    assert level_changes.symbols_kept(wallet, NOW_S) == frozenset({"BTC-USD"})
    assert level_changes.symbols_kept(wallet, NOW_S + 1) == frozenset()


def test_nothing_else_keeps_a_symbol(wallets: list[Wallet], wallet: Wallet, position: Position) -> None:
    of_each_state(wallet, position, Action.INCREASE, ["pending", "held", "venue_cancelled", "lapsed"])
    of_each_state(wallet, position, Action.LEVELS, ["mined", "lapsed"])
    for action in (Action.INCREASE, Action.LEVELS):
        for one in (wallets[0], wallets[2]):
            messaged(staged.intent(one, action, "signed", position_id=position.pk))
        over = {"settled_at": staged.SETTLED, "position_id": position.pk}
        messaged(staged.intent(wallet, action, "signed", **over))
        early = staged.intent(wallet, action, "signed", position_id=position.pk)
        messaged(early, deadline_ms=NOW_S * 1000 - 1)
    for kind in ({"action": Action.OPEN}, {"action": Action.CLOSE, "position_id": position.pk}):
        messaged(staged.intent(wallet, state="signed", road="gateway", **kind))
    assert level_changes.symbols_kept(wallet, NOW_S) == frozenset()


def test_each_symbol_of_levels_and_increases_is_kept(wallet: Wallet, position: Position) -> None:
    messaged(levels(wallet, position, "signed", symbol="ETH-USD"))
    messaged(staged.intent(wallet, Action.INCREASE, "signed", position_id=position.pk))
    messaged(levels(wallet, position, "changed", symbol="SOL-USD"))
    kept = level_changes.symbols_kept(wallet, NOW_S)
    assert kept == frozenset({"BTC-USD", "ETH-USD", "SOL-USD"})

"""When more of a position may go, and what counts as a close of it; its own tests walk it on a chain."""

from decimal import Decimal
from typing import Any

import pytest

from execution_app.engine import increases
from execution_app.gate.admission import Verdict
from execution_app.models import Position, TxIntent, Wallet
from execution_app.states import IN_FLIGHT, Action, Reason
from tests.execution import rows, staged
from tests.execution.staged import trade, waits_for, wallet, wallets

__all__ = ["wallet", "wallets"]  # the fixtures
pytestmark = pytest.mark.usefixtures("database")
EARLIER_CLOSE, EARLIER_ORDER = Reason.WAITS_FOR_EARLIER_CLOSE, Reason.WAITS_FOR_EARLIER_ORDER
CLOSE_NOT_FINISHED = "a close of this position is not finished"


@pytest.fixture
def position(wallet: Wallet) -> Position:
    return trade(wallet)


def increase(of: Wallet, position: Position, state: str = "pending", **fields: object) -> TxIntent:
    return staged.intent(of, Action.INCREASE, state, position_id=position.pk, **fields)


def close(of: Wallet, position: Position | None, state: str = "pending", **fields: object) -> TxIntent:
    bound = position.pk if position else None
    return staged.intent(of, Action.CLOSE, state, **({"position_id": bound} | fields))


def may_go(intent: TxIntent, verdict: Verdict = Verdict.EXECUTE) -> bool:
    goes = increases.may_go(intent, verdict)
    assert isinstance(goes, bool)
    return goes


# What is asked for


@pytest.mark.parametrize(("mode", "road"), [("LIVE", "gateway"), ("DRY", "")])
def test_it_is_of_the_trade_at_its_own_leverage(wallet: Wallet, mode: str, road: str) -> None:
    position = trade(wallet, mode=mode, leverage_x="2.34569", is_long=False, symbol="ETH-USD")
    assert increases.size(position, Decimal("7.5")) == {
        "action": "increase",
        "symbol": "ETH-USD",
        "position": position,
        "is_long": False,
        "collateral_usdc": Decimal("7.5"),
        "leverage_x": Decimal("2.3456"),
        "road": road,
    }


@pytest.mark.parametrize(
    ("mode", "venue", "field", "problem"),
    [
        ("LIVE", "gateway", "", ""),
        ("LIVE", "onchain", "", "onchain does not support increase"),
        ("LIVE", "onchain", "side", "onchain does not support increase (field side)"),
        ("DRY", "onchain", "", ""),
    ],
)
def test_on_chain_no_call_for_it_is_known(
    wallet: Wallet, mode: str, venue: str, field: str, problem: str
) -> None:
    assert increases.unsupported(trade(wallet, mode=mode), venue, field) == problem


def test_one_intent_a_key_in_the_wallet_of_its_trader(wallet: Wallet, position: Position) -> None:
    asked = increases.ask(position, Decimal(7), key="more:1", by="ann", slippage_pct=Decimal("0.5"))
    again = increases.ask(position, Decimal(9), key="more:1", by="bob", slippage_pct=Decimal("0.5"))
    assert asked is not None
    assert asked == again
    intent = TxIntent.objects.get()
    assert (intent.intent_key, intent.wallet, intent.trader) == ("more:1", wallet, wallet.trader)
    assert (intent.action, intent.position, intent.only_position) == ("increase", position, True)
    assert (intent.collateral_usdc, intent.slippage_pct) == (7, Decimal("0.5"))
    assert intent.tg_user_id == wallet.trader.tg_user_id
    assert intent.transitions.get().by == "ann"


def test_who_has_no_wallet_asks_for_nothing(wallets: list[Wallet]) -> None:
    position = Position.objects.get(pk=rows.position())
    assert increases.ask(position, Decimal(7), key="more:1", by="ann") is None
    assert not TxIntent.objects.exists()


# When it may go


def test_it_goes_where_nothing_is_in_its_way(wallet: Wallet, position: Position) -> None:
    mine = increase(wallet, position)
    assert may_go(mine)
    assert staged.untouched(mine)


@pytest.mark.parametrize("state", ["closed", "void"])
def test_an_end_that_may_be_taken_back_is_waited_for(wallet: Wallet, state: str) -> None:
    position = trade(wallet, state=state)
    mine = increase(wallet, position)
    assert not may_go(mine)
    assert waits_for(mine, EARLIER_CLOSE, f"position {position.pk} is {state}, not finally")


@pytest.mark.parametrize("ended", [{"mode": "LIVE", "settled_at": staged.SETTLED}, {"mode": "DRY"}])
@pytest.mark.parametrize("verdict", [Verdict.EXECUTE, Verdict.SIMULATE])
def test_what_has_ended_is_not_increased(wallet: Wallet, ended: dict[str, Any], verdict: Verdict) -> None:
    position = trade(wallet, state="closed", **ended)
    mine = increase(wallet, position)
    assert not may_go(mine, verdict)
    assert staged.told(mine) == ("rejected", "no_position", f"position {position.pk} is closed")


def test_a_simulated_position_is_increased_by_a_simulation_alone(wallet: Wallet) -> None:
    position = trade(wallet, mode="DRY")
    mine = increase(wallet, position, road="")
    close(wallet, position)
    assert may_go(mine, Verdict.SIMULATE)
    assert staged.untouched(mine)
    assert not may_go(mine)
    detail = f"position {position.pk} is simulated, and this would go LIVE"
    assert staged.told(mine) == ("rejected", "no_position", detail)


def test_a_live_position_is_increased_by_no_simulation(wallet: Wallet, position: Position) -> None:
    mine = increase(wallet, position)
    assert not may_go(mine, Verdict.SIMULATE)
    detail = "a live position is not increased by a simulation"
    assert staged.told(mine) == ("held", "live_position_in_dry", detail)


def test_it_waits_for_closes(wallet: Wallet, position: Position) -> None:
    mine = increase(wallet, position)
    close(wallet, None)
    assert not may_go(mine)
    assert waits_for(mine, EARLIER_CLOSE, CLOSE_NOT_FINISHED)


def test_it_waits_for_opens_that_may_take_the_slot(wallet: Wallet, position: Position) -> None:
    mine = increase(wallet, position)
    staged.intent(wallet, Action.OPEN, "signed")
    assert not may_go(mine)
    assert waits_for(mine, EARLIER_ORDER, "an open on this symbol is under way")


@pytest.mark.parametrize("state", ["reserved", "mined"])
def test_it_waits_for_margin_that_has_left(wallet: Wallet, position: Position, state: str) -> None:
    mine = increase(wallet, position)
    staged.intent(wallet, Action.MARGIN, state, position_id=position.pk)
    assert not may_go(mine)
    assert waits_for(mine, EARLIER_ORDER, "a change of this position's margin is under way")


SECOND = "an earlier increase of this position is under way"


@pytest.mark.parametrize("state", ["pending", "held"])
def test_one_goes_at_a_time_the_oldest_first(wallet: Wallet, position: Position, state: str) -> None:
    first = increase(wallet, position, state)
    mine = increase(wallet, position)
    assert not may_go(mine)
    assert waits_for(mine, EARLIER_ORDER, SECOND)
    assert may_go(first)


def test_it_waits_for_one_that_has_left(wallet: Wallet, position: Position) -> None:
    mine = increase(wallet, position)
    staged.message(increase(wallet, position, "signed"))
    assert not may_go(mine)
    assert waits_for(mine, EARLIER_ORDER, SECOND)


def test_other_increases_are_in_nobodys_way(
    wallets: list[Wallet], wallet: Wallet, position: Position
) -> None:
    beside = trade(wallet, trade_index=1)
    for other in (increase(wallet, beside), increase(wallet, beside, "signed")):
        staged.message(other)
    staged.intent(wallet, Action.MARGIN, position_id=position.pk)
    staged.intent(wallet, Action.LEVELS, position_id=position.pk)
    increase(wallet, position, "filled")  # its block may be final yet
    increase(wallet, position, "expired")
    increase(wallet, position, settled_at=staged.SETTLED)
    staged.intent(wallet, Action.OPEN, "held")
    mine = increase(wallet, position)
    increase(wallet, position)
    assert may_go(mine)
    assert staged.untouched(mine)


# What keeps it from leaving once it is signed


def test_what_ended_or_is_being_closed_forbids_it_to_leave(wallet: Wallet, position: Position) -> None:
    mine = increase(wallet, position, "signed")
    assert increases.is_forbidden(mine) is False
    close(wallet, position)  # which waits for this one
    assert increases.is_forbidden(mine) is False
    close(wallet, position, holds_position=True)
    assert increases.is_forbidden(mine) is True
    ended = trade(wallet, trade_index=1, state="void")
    assert increases.is_forbidden(increase(wallet, ended, "signed")) is True


def test_it_forbids_nothing_else(wallet: Wallet) -> None:
    ended = trade(wallet, state="closed", settled_at=staged.SETTLED)
    close(wallet, ended, holds_position=True)
    for action in (Action.MARGIN, Action.CLOSE, Action.LEVELS):
        other = staged.intent(wallet, action, position_id=ended.pk)
        assert increases.is_forbidden(other) is False
    assert increases.is_forbidden(staged.intent(wallet, Action.INCREASE, "rejected")) is False
    assert increases.is_forbidden(staged.intent(wallet, Action.OPEN)) is False


# What a close of it is


@pytest.mark.parametrize("state", sorted(IN_FLIGHT))
def test_a_close_in_flight_works_on_its_position(wallet: Wallet, position: Position, state: str) -> None:
    close(wallet, position, state)
    assert increases.is_being_closed(position) is True
    assert increases.is_to_be_closed(position) is True


@pytest.mark.parametrize("state", ["pending", "held"])
def test_a_close_that_has_the_position_works_on_it(wallet: Wallet, position: Position, state: str) -> None:
    close(wallet, position, state, holds_position=True)
    assert increases.is_being_closed(position) is True
    assert increases.is_to_be_closed(position) is True


@pytest.mark.parametrize("state", ["pending", "held"])
@pytest.mark.parametrize("bound", [False, True])
def test_a_close_that_waits_is_to_come(wallet: Wallet, position: Position, state: str, bound: bool) -> None:
    close(wallet, position if bound else None, state)
    assert increases.is_being_closed(position) is False
    assert increases.is_to_be_closed(position) is True


def test_no_other_row_is_a_close_of_it(wallets: list[Wallet], wallet: Wallet, position: Position) -> None:
    beside = trade(wallet, trade_index=1)
    close(wallet, beside)
    close(wallet, beside, holds_position=True)
    close(wallet, beside, "mined")
    for ended in ("filled", "rejected", "no_op", "venue_cancelled"):
        close(wallet, position, ended)
    for holds in (True, False):
        close(wallet, position, settled_at=staged.SETTLED, holds_position=holds)
    staged.intent(wallet, Action.MARGIN, "mined", position_id=position.pk)
    staged.intent(wallet, Action.LEVELS, "signed", position_id=position.pk)
    increase(wallet, position, "signed")
    increase(wallet, position)
    staged.intent(wallet, Action.OPEN)
    for other in (wallets[0], wallets[2]):
        close(other, None)
        close(other, position)
    close(wallet, None, symbol="ETH-USD")
    close(wallet, position, symbol="ETH-USD")
    assert increases.is_being_closed(position) is False
    assert increases.is_to_be_closed(position) is False


@pytest.mark.parametrize("other", ["trader", "symbol"])
def test_what_holds_it_for_another_is_none_either(
    wallets: list[Wallet], wallet: Wallet, position: Position, other: str
) -> None:
    if other == "trader":
        close(wallets[0], position, "signed")
    else:
        close(wallet, position, "signed", symbol="ETH-USD")
    assert increases.is_being_closed(position) is False

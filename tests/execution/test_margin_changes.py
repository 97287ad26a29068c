"""When margin may be changed, by how much, and what is written of the wish; its own tests walk it on a chain."""

import logging
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import transaction
from pytest_django.fixtures import Settings

from execution_app.audit_words import AuditOrigin
from execution_app.engine import margin_changes
from execution_app.errors import Refused
from execution_app.gate.admission import Verdict
from execution_app.models import AuditEntry, Position, TxIntent, Wallet
from execution_app.states import Action, Reason
from tests.execution import rows, staged
from tests.execution.staged import trade, waits_for, wallet, wallets

__all__ = ["wallet", "wallets"]  # the fixtures
pytestmark = pytest.mark.usefixtures("database")
EARLIER = "an earlier change of this position's margin or size is under way"
CEILINGS = ("notional_usdc", "collateral_usdc", "leverage", "open_positions", "exposure_usdc",
            "orders_per_minute", "daily_loss_usdc", "gas_per_day_wei")  # fmt: skip


@pytest.fixture(autouse=True)
def venue(settings: Settings) -> None:
    """One cap alone, which must be set for any margin to come out."""
    unset = dict.fromkeys(f"max_{name}" for name in CEILINGS)
    set_up(settings, venue="onchain", **(unset | {"max_leverage": Decimal(10**9)}))


def set_up(settings: Settings, **values: Any) -> None:
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(update=values)


@pytest.fixture
def position(wallet: Wallet) -> Position:
    """Among others of its trader."""
    return [trade(wallet, trade_index=index, collateral_usdc=10, leverage_x=5) for index in range(3)][1]


def wish(of: Wallet, position: Position, state: str = "pending", **fields: object) -> TxIntent:
    return staged.intent(of, Action.MARGIN, state, position_id=position.pk, **fields)


def may_go(intent: TxIntent, verdict: Verdict = Verdict.EXECUTE) -> bool:
    goes = margin_changes.may_go(intent, verdict)
    assert isinstance(goes, bool)
    return goes


def change(position: Position, change_usdc: str, key: str = "margin:1", **more: Any) -> TxIntent:
    return margin_changes.change(position.pk, Decimal(change_usdc), key=key, by="ann", reason="why", **more)


# What is asked for


@pytest.mark.parametrize(("mode", "road"), [("LIVE", "onchain"), ("DRY", "")])
def test_it_is_of_one_position(wallet: Wallet, mode: str, road: str) -> None:
    position = trade(wallet, mode=mode, symbol="ETH-USD")
    assert margin_changes.size(position, Decimal(-7)) == {
        "action": "margin",
        "symbol": "ETH-USD",
        "position": position,
        "margin_usdc": Decimal(-7),
        "slippage_pct": Decimal("0.5"),
        "road": road,
    }


@pytest.mark.parametrize(
    ("mode", "venue", "field", "problem"),
    [
        ("LIVE", "onchain", "", ""),
        ("LIVE", "gateway", "", "gateway does not support change_margin"),
        ("LIVE", "gateway", "deposit", "gateway does not support change_margin (field deposit)"),
        ("DRY", "gateway", "", ""),
    ],
)
def test_by_message_there_is_no_request_for_it(
    wallet: Wallet, mode: str, venue: str, field: str, problem: str
) -> None:
    assert margin_changes.unsupported(trade(wallet, mode=mode), venue, field) == problem


def test_a_wish_is_written_with_its_limits(wallet: Wallet, position: Position) -> None:
    asked = margin_changes.ask(position, Decimal(-2), key="margin:1", by="ann")
    intent = TxIntent.objects.get()
    assert asked == intent
    assert (intent.intent_key, intent.wallet, intent.trader) == ("margin:1", wallet, wallet.trader)
    assert (intent.action, intent.position, intent.only_position) == ("margin", position, True)
    assert (intent.margin_usdc, intent.tg_user_id) == (-2, wallet.trader.tg_user_id)
    assert intent.expires_at is not None
    assert intent.expires_at - intent.accepted_at == timedelta(seconds=60)
    assert intent.transitions.get().by == "ann"


def test_a_wish_is_said_once(position: Position, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        first = margin_changes.ask(position, Decimal(2), key="margin:1", by="ann")
        assert margin_changes.ask(position, Decimal(9), key="margin:1", by="bob") == first
    told = [record.msg for record in caplog.records if isinstance(record.msg, dict)]
    assert [one["by"] for one in told if one["event"] == "margin is to be changed"] == ["ann"]


def test_who_has_no_wallet_is_refused(wallets: list[Wallet]) -> None:
    position = Position.objects.get(pk=rows.position(trader_id=rows.trader(label="Eve")))
    with pytest.raises(Refused, match=r"^Eve has no wallet$"):
        margin_changes.ask(position, Decimal(2), key="margin:1", by="ann")
    assert not TxIntent.objects.exists()


# When it may go


@pytest.mark.parametrize("state", ["pending", "reserved"])
def test_it_goes_where_nothing_is_in_its_way(wallet: Wallet, position: Position, state: str) -> None:
    """Nor is what has its nonce already in its own way."""
    assert may_go(wish(wallet, position, state))
    assert staged.told(TxIntent.objects.get()) == (state, "", "")


@pytest.mark.parametrize("state", ["closed", "void"])
@pytest.mark.parametrize("mode", ["LIVE", "DRY"])
@pytest.mark.parametrize("verdict", [Verdict.EXECUTE, Verdict.SIMULATE])
def test_of_what_has_ended_nobody_wants_it_any_more(
    wallet: Wallet, state: str, mode: str, verdict: Verdict
) -> None:
    position = trade(wallet, state=state, mode=mode)
    mine = wish(wallet, position)
    assert not may_go(mine, verdict)
    assert staged.told(mine) == ("rejected", "no_position", f"position {position.pk} is {state}")


def test_a_simulated_position_is_changed_by_a_simulation_alone(wallet: Wallet) -> None:
    position = trade(wallet, mode="DRY")
    mine = wish(wallet, position, road="")
    staged.intent(wallet, Action.CLOSE, position_id=position.pk)
    assert may_go(mine, Verdict.SIMULATE)
    assert staged.untouched(mine)
    assert not may_go(mine)
    detail = f"position {position.pk} is simulated, and this would go LIVE"
    assert staged.told(mine) == ("rejected", "no_position", detail)


def test_a_live_position_is_changed_by_no_simulation(wallet: Wallet, position: Position) -> None:
    mine = wish(wallet, position)
    assert not may_go(mine, Verdict.SIMULATE)
    detail = "margin of a live position is not changed by a simulation"
    assert staged.told(mine) == ("held", "live_position_in_dry", detail)


def test_it_waits_for_closes(wallet: Wallet, position: Position) -> None:
    mine = wish(wallet, position)
    staged.intent(wallet, Action.CLOSE)
    assert not may_go(mine)
    detail = "a close of this position is not finished"
    assert waits_for(mine, Reason.WAITS_FOR_EARLIER_CLOSE, detail)


@pytest.mark.parametrize("action", [Action.MARGIN, Action.INCREASE])
@pytest.mark.parametrize("state", ["pending", "held"])
def test_they_go_in_the_order_in_which_they_were_asked_for(
    wallet: Wallet, position: Position, action: Action, state: str
) -> None:
    staged.intent(wallet, action, state, position_id=position.pk)
    mine = wish(wallet, position)
    assert not may_go(mine)
    assert waits_for(mine, Reason.WAITS_FOR_EARLIER_ORDER, EARLIER)


@pytest.mark.parametrize(("action", "state"), [(Action.MARGIN, "mined"), (Action.INCREASE, "signed")])
def test_it_waits_for_what_has_left_whoever_asked_first(
    wallet: Wallet, position: Position, action: Action, state: str
) -> None:
    mine = wish(wallet, position)
    staged.message(staged.intent(wallet, action, state, position_id=position.pk))
    assert not may_go(mine)
    assert waits_for(mine, Reason.WAITS_FOR_EARLIER_ORDER, EARLIER)


def test_other_changes_are_in_nobodys_way(wallet: Wallet, position: Position) -> None:
    beside = trade(wallet, trade_index=7)
    for action in (Action.MARGIN, Action.INCREASE):
        staged.intent(wallet, action, position_id=beside.pk)
        staged.message(staged.intent(wallet, action, "signed", position_id=beside.pk))
    staged.intent(wallet, Action.LEVELS, position_id=position.pk)
    staged.intent(wallet, Action.OPEN)
    staged.intent(wallet, Action.OPEN, "signed")
    wish(wallet, position, "changed")  # its block may be final yet
    staged.intent(wallet, Action.INCREASE, "filled", position_id=position.pk)
    mine = wish(wallet, position)
    wish(wallet, position)
    staged.intent(wallet, Action.INCREASE, position_id=position.pk)
    assert may_go(mine)
    assert staged.untouched(mine)


# What speaks against it before it is asked for


@pytest.mark.parametrize("state", ["closed", "void"])
def test_what_has_ended_has_no_margin(wallet: Wallet, state: str) -> None:
    assert margin_changes.obstacle(trade(wallet, state=state)) == f"it is {state}"


def test_the_road_of_this_stack_and_a_close_speak_against_it(
    wallet: Wallet, position: Position, settings: Settings
) -> None:
    staged.intent(wallet, Action.CLOSE, position_id=position.pk)
    assert margin_changes.obstacle(position) == ""
    staged.intent(wallet, Action.CLOSE, position_id=position.pk, holds_position=True)
    assert margin_changes.obstacle(position) == "a close of it is under way"
    set_up(settings, venue="gateway")
    assert margin_changes.obstacle(position) == "gateway does not support change_margin"
    assert margin_changes.obstacle(trade(wallet, mode="DRY")) == ""


# A person's wish


def test_a_wish_leaves_an_entry_in_its_own_commit(position: Position) -> None:
    with transaction.atomic(), pytest.raises(RuntimeError, match="durable"):
        change(position, "-2.50")
    asked = change(position, "-2.50")
    assert asked == TxIntent.objects.get()
    assert (asked.position, asked.margin_usdc, asked.intent_key) == (position, Decimal("-2.5"), "margin:1")
    entry = AuditEntry.objects.get()
    assert (entry.action, entry.actor, entry.origin) == ("margin_asked", "ann", "command")
    assert (entry.subject, entry.reason, entry.before) == (f"position {position.pk}", "why", None)
    assert entry.after == {"asked_by": "margin:1", "change_usdc": "-2.50"}
    change(position, "1", key="margin:2", origin=AuditOrigin.TELEGRAM)
    assert AuditEntry.objects.latest("seq").origin == "telegram"


def test_the_same_key_again_is_the_same_wish(position: Position) -> None:
    first, second = change(position, "1"), change(position, "1", key="margin:2")
    assert first != second
    Position.objects.filter(pk=position.pk).update(state="closed")
    assert change(position, "5", key="margin:2") == second
    assert change(position, "5") == first
    assert AuditEntry.objects.count() == 2


def test_a_wish_of_another_position_is_not_that_one(wallet: Wallet, position: Position) -> None:
    change(position, "1")
    ended = trade(wallet, trade_index=7, state="closed")
    with pytest.raises(Refused, match=f"^position {ended.pk}: it is closed$"):
        change(ended, "1")


def test_what_cannot_be_is_refused_and_nothing_is_written(wallets: list[Wallet], position: Position) -> None:
    with pytest.raises(Refused, match=r"^there is no position 4711$"):
        margin_changes.change(4711, Decimal(1), key="margin:1", by="ann", reason="why")
    for change_usdc, problem in (
        ("0", "an amount of USDC is not zero"),
        ("-10", f"usdc: 10 is not less than that: position {position.pk} has 10 USDC of collateral at 5x"),
    ):
        with pytest.raises(Refused, match=f"^{problem}$"):
            change(position, change_usdc)
    assert not TxIntent.objects.exists()
    assert not AuditEntry.objects.exists()


NOTHING, TOO_FINE = "an amount of USDC is not zero", "USDC has at most 6 decimals"


@pytest.mark.parametrize(
    ("amount", "problem"),
    [
        ("0", NOTHING),
        ("NaN", NOTHING),
        ("Infinity", NOTHING),
        ("-Infinity", NOTHING),
        ("1000000000000", NOTHING),
        ("-1000000000000", NOTHING),
        ("999999999999.999999", ""),
        ("-999999999999.999999", ""),
        ("0.000001", ""),
        ("1.10000000", ""),
        ("0.0000001", TOO_FINE),
        ("-1.0000001", TOO_FINE),
    ],
)
def test_an_amount_is_what_the_venue_can_hold(amount: str, problem: str) -> None:
    if not problem:
        margin_changes.check_amount(Decimal(amount))
        return
    with pytest.raises(Refused, match=f"^{problem}$"):
        margin_changes.check_amount(Decimal(amount))


# How much may come out


def test_without_a_cap_on_leverage_nothing_may_come_out(position: Position, settings: Settings) -> None:
    set_up(settings, max_leverage=None, max_collateral_usdc=Decimal(3))
    with pytest.raises(Refused, match=r"^usdc: at most 0 may come out: .* above MAX_LEVERAGE \(unset\)$"):
        change(position, "-1")


def test_all_but_nothing_may_come_out(position: Position) -> None:
    with pytest.raises(Refused, match=r"^usdc: 10\.000001 is not less than that"):
        change(position, "-10.000001")
    assert change(position, "-9.999999")


@pytest.mark.parametrize(
    ("held", "cap", "most"),
    [
        (("10", "5"), 10, "5"),
        (("10", "0.5"), 1, "5"),
        # 33.0000033 of notional are 33.000003 at the venue, and a seventh of that is 4.714286 and a little.
        (("10.000001", "3.3"), 7, "5.285714"),
    ],
)
def test_a_cap_on_leverage_says_how_much_may_come_out(
    wallet: Wallet, settings: Settings, held: tuple[str, str], cap: int, most: str
) -> None:
    set_up(settings, max_leverage=Decimal(cap), max_collateral_usdc=Decimal(3))
    position = trade(wallet, collateral_usdc=held[0], leverage_x=held[1])
    has = f"position {position.pk} has {held[0]} USDC of collateral at {held[1]}x"
    above = f"^usdc: at most {most} may come out: {has}, and leverage .* is above MAX_LEVERAGE"
    with pytest.raises(Refused, match=above):
        change(position, str(-Decimal(most) - Decimal("0.000001")))
    assert change(position, f"-{most}")
    assert change(position, "1", key="margin:2"), "what goes in breaks no cap on leverage"


def test_the_lowest_cap_binds_and_one_below_the_trades_own_lets_nothing_out(
    position: Position, settings: Settings
) -> None:
    set_up(settings, max_leverage=Decimal(10))
    tg_user_id = position.trader.tg_user_id
    rows.cap(scope="trader", scope_value=str(tg_user_id), name="leverage_x", value=8)
    with pytest.raises(Refused, match=r"^usdc: at most 3\.75 may come out"):
        change(position, "-4")
    rows.cap(name="leverage_x", value=4)
    with pytest.raises(Refused, match=r"^usdc: at most 0 may come out"):
        change(position, "-1")
    rows.cap(scope="symbol", scope_value="BTC-USD", name="leverage_x", value=0)
    with pytest.raises(Refused, match=r"^usdc: at most 0 may come out"):
        change(position, "-1")

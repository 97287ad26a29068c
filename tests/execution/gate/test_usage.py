"""What counts as used, and from when to when: a UTC day ends at midnight, a minute after 60 seconds."""

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest

from execution_app.gate import usage
from execution_app.gate.caps import Limit
from execution_app.states import CapName, CapScope, IntentState, Mode
from tests.execution import rows
from tests.execution.test_increase_guards import increase

MIDNIGHT = datetime(2026, 3, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)
NOON = MIDNIGHT + timedelta(hours=12)
GLOBAL = (CapScope.GLOBAL, "")


def used(
    name: CapName, scope: tuple[CapScope, str] = GLOBAL, now: datetime = NOON, mode: Mode = Mode.LIVE
) -> Decimal:
    found = usage.used(Limit(name, Decimal(1), scope[0], scope[1]), mode, now)
    if scope == GLOBAL:
        assert usage.of_house(now)[name, mode] == found, "a page is told what the gate counts"
    return found


def trader_of(intent: int) -> tuple[CapScope, str]:
    return CapScope.TRADER, str(rows.one("SELECT tg_user_id FROM tx_intents WHERE id = %s", intent))


def closed(at: datetime, collateral: object, paid: object, mode: str = "LIVE", source: str = "drill") -> None:
    """A position that a close ended or reduced at that moment, opened by `source` and closed by nobody of note."""
    position = rows.position(mode=mode, opened_at=at)
    opener = rows.intent(source=source, tg_user_id=7)
    rows.fill(intent_id=opener, position_id=position, mode=mode, filled_at=at - 30 * SECOND)
    rows.fill(
        position_id=position, action="close", mode=mode, collateral_usdc=collateral,
        sent_to_trader_usdc=paid, filled_at=at,
    )  # fmt: skip


def test_a_loss_is_of_the_utc_day_on_which_it_was_realised(database: None) -> None:
    closed(MIDNIGHT - SECOND, 5, 2)
    closed(MIDNIGHT, 5, 1)
    assert used(CapName.DAILY_LOSS, now=MIDNIGHT - SECOND + timedelta(microseconds=1)) == 7
    assert used(CapName.DAILY_LOSS, now=MIDNIGHT) == 4
    assert used(CapName.DAILY_LOSS, now=MIDNIGHT + timedelta(hours=23, minutes=59)) == 4
    assert used(CapName.DAILY_LOSS, now=MIDNIGHT + timedelta(days=1)) == 0
    elsewhere = datetime(2026, 3, 2, 1, tzinfo=timezone(timedelta(hours=2)))
    assert used(CapName.DAILY_LOSS, now=elsewhere) == 4, "whatever the zone of the clock"
    late = MIDNIGHT + timedelta(hours=12, minutes=34, seconds=56, microseconds=789)
    assert used(CapName.DAILY_LOSS, now=late) == 4, "from the first microsecond of the day"


def test_profits_and_losses_of_a_day_are_one_sum_and_never_below_zero(database: None) -> None:
    closed(NOON, 5, "2.5")
    closed(NOON, 5, "6.000001")
    assert used(CapName.DAILY_LOSS) == Decimal("1.499999")
    closed(NOON, 5, 50)
    assert used(CapName.DAILY_LOSS) == 0


def test_a_loss_is_of_its_openers_scope_and_of_its_mode(database: None) -> None:
    closed(NOON, 5, 2)
    closed(NOON, 5, 1, mode="DRY")
    closed(NOON, 5, 0, source="other")
    assert used(CapName.DAILY_LOSS) == 8
    assert used(CapName.DAILY_LOSS, mode=Mode.DRY) == 4
    assert used(CapName.DAILY_LOSS, (CapScope.SOURCE, "drill")) == 3
    assert used(CapName.DAILY_LOSS, (CapScope.TRADER, "7")) == 8
    assert used(CapName.DAILY_LOSS, (CapScope.TRADER, "8")) == 0
    assert used(CapName.DAILY_LOSS, (CapScope.SYMBOL, "BTC-USD")) == 8
    assert used(CapName.DAILY_LOSS, (CapScope.SYMBOL, "ETH-USD")) == 0


def test_what_ended_elsewhere_counts_as_lost_but_for_what_was_closed_before(database: None) -> None:
    position = rows.position(state="closed", ended_by="closed_elsewhere", collateral_usdc=5)
    opener = rows.intent()
    rows.fill(intent_id=opener, position_id=position)
    rows.fill(position_id=position, action="close", collateral_usdc=2, sent_to_trader_usdc=2, filled_at=NOON)
    rows.reservation(intent_id=opener, state="released", notional_usdc=0, released_at=NOON)
    assert used(CapName.DAILY_LOSS) == 3
    assert used(CapName.DAILY_LOSS, now=NOON + timedelta(days=1)) == 0


def test_gas_is_what_mined_transactions_of_the_day_cost_and_those_under_way_may(database: None) -> None:
    yesterday = rows.send(intent_id=rows.intent_in(IntentState.MINED))
    rows.receipt(send_id=yesterday, gas_used=1000, effective_gas_price_wei=7, seen_at=MIDNIGHT - SECOND)
    today = rows.send(intent_id=rows.intent_in(IntentState.MINED))
    rows.receipt(send_id=today, gas_used=1000, effective_gas_price_wei=3, seen_at=MIDNIGHT)
    gone = rows.send(intent_id=rows.intent_in(IntentState.MINED))
    rows.receipt(send_id=gone, gas_used=10**6, effective_gas_price_wei=3, seen_at=NOON, canonical=False)
    assert used(CapName.GAS_PER_DAY, now=MIDNIGHT - SECOND) == 10_000
    assert used(CapName.GAS_PER_DAY) == 3000
    assert used(CapName.GAS_PER_DAY, mode=Mode.DRY) == 0
    pending = rows.intent_in(IntentState.PENDING_INCLUSION, tg_user_id=9)
    rows.send(intent_id=pending, max_fee_wei=10)
    rows.send(intent_id=pending, attempt=1, kind="bump", max_fee_wei=20)
    assert used(CapName.GAS_PER_DAY) == 3000 + 21_000 * 20
    assert used(CapName.GAS_PER_DAY, trader_of(pending)) == 21_000 * 20


def worth(intent: int, value_wei: int) -> None:
    """An execution fee, which a slot is given when it is reserved and keeps."""
    rows.execute("ALTER TABLE tx_intents DISABLE TRIGGER guard_intent")
    rows.execute("UPDATE tx_intents SET value_wei = %s WHERE id = %s", value_wei, intent)
    rows.execute("ALTER TABLE tx_intents ENABLE TRIGGER guard_intent")


def test_execution_fees_are_spent_where_the_order_was_mined(database: None) -> None:
    for status, kind, value_wei in (
        (1, "exec", 500),
        (1, "bump", 70),
        (0, "exec", 9_000),
        (1, "cancel", 80_000),
    ):
        intent = rows.intent_in(IntentState.MINED)
        worth(intent, value_wei)
        rows.receipt(send_id=rows.send(intent_id=intent, kind=kind), status=status, seen_at=NOON)
    assert used(CapName.GAS_PER_DAY) == 570 + 4


def test_an_execution_fee_under_way_may_be_spent(database: None) -> None:
    intent = rows.intent_in(IntentState.SIGNED)
    worth(intent, 500)
    rows.send(intent_id=intent, max_fee_wei=10)
    assert used(CapName.GAS_PER_DAY) == 21_000 * 10 + 500


@pytest.mark.parametrize("name", [CapName.OPEN_POSITIONS, CapName.EXPOSURE, CapName.ORDERS_PER_MINUTE])
def test_reservations_count_in_every_scope_they_are_of(database: None, name: CapName) -> None:
    trader = rows.trader(tg_user_id=55)
    rows.reservation(trader_id=trader, source="drill", notional_usdc=3, reserved_at=NOON)
    rows.reservation(trader_id=trader, symbol="ETH-USD", state="exposed", notional_usdc=4, reserved_at=NOON)
    rows.reservation(mode="DRY", notional_usdc=100, reserved_at=NOON)
    rows.reservation(
        state="released", notional_usdc=0, released_at=NOON, reserved_at=NOON - timedelta(seconds=60)
    )
    usdc = name is CapName.EXPOSURE
    assert used(name) == (7 if usdc else 2)
    assert used(name, (CapScope.TRADER, "55")) == (7 if usdc else 2)
    assert used(name, (CapScope.SOURCE, "drill")) == (3 if usdc else 1)
    assert used(name, (CapScope.SYMBOL, "ETH-USD")) == (4 if usdc else 1)
    assert used(name, mode=Mode.DRY) == (100 if usdc else 1)


def test_an_increase_adds_to_the_exposure_and_is_no_position_of_its_own(database: None) -> None:
    rows.reservation(state="exposed", notional_usdc=10)
    rows.reservation(intent_id=increase(), notional_usdc=4)
    rows.reservation(intent_id=increase(), mode="DRY", notional_usdc=5)
    assert used(CapName.OPEN_POSITIONS) == 1
    assert used(CapName.EXPOSURE) == 14
    assert used(CapName.OPEN_POSITIONS, mode=Mode.DRY) == 0
    assert used(CapName.EXPOSURE, mode=Mode.DRY) == 5


def test_a_minute_ends_after_60_seconds_and_counts_what_has_ended(database: None) -> None:
    rows.reservation(
        state="released", notional_usdc=0, released_at=NOON, reserved_at=NOON - timedelta(seconds=59)
    )
    assert used(CapName.ORDERS_PER_MINUTE) == 1
    assert used(CapName.ORDERS_PER_MINUTE, now=NOON + SECOND) == 0


def ended_elsewhere(at: datetime, collateral: int, mode: str = "LIVE", **opener: object) -> None:
    """A position of which nobody knows what it paid, its reservation released at that moment."""
    position = rows.position(
        state="closed", ended_by="closed_elsewhere", mode=mode, opened_at=at, collateral_usdc=collateral
    )
    intent = rows.intent(**opener)
    rows.fill(intent_id=intent, position_id=position, mode=mode, collateral_usdc=collateral)
    rows.reservation(intent_id=intent, mode=mode, state="released", notional_usdc=0, released_at=at)


def test_what_ended_elsewhere_is_of_its_day_its_mode_and_its_openers_scope(database: None) -> None:
    ended_elsewhere(MIDNIGHT, 3, source="drill", tg_user_id=7)
    ended_elsewhere(MIDNIGHT - SECOND, 100, source="drill", tg_user_id=7)
    ended_elsewhere(NOON, 20, mode="DRY", source="drill", tg_user_id=7)
    ended_elsewhere(NOON + SECOND, 5, source="other", tg_user_id=8, symbol="ETH-USD")
    still_open = rows.intent(source="drill", tg_user_id=7)
    rows.fill(intent_id=still_open, position_id=rows.position(opened_at=NOON))
    rows.reservation(intent_id=still_open, state="exposed")
    assert used(CapName.DAILY_LOSS) == 8
    assert used(CapName.DAILY_LOSS, mode=Mode.DRY) == 20
    assert used(CapName.DAILY_LOSS, (CapScope.SOURCE, "drill")) == 3
    assert used(CapName.DAILY_LOSS, (CapScope.TRADER, "8")) == 5
    assert used(CapName.DAILY_LOSS, (CapScope.SYMBOL, "BTC-USD")) == 3


def test_what_ended_by_a_close_lost_what_its_closes_lost(database: None) -> None:
    """However much of it they say they took out."""
    position = rows.position(state="closed", ended_by="close", opened_at=NOON)
    intent = rows.intent()
    rows.fill(intent_id=intent, position_id=position)
    rows.fill(position_id=position, action="close", collateral_usdc=4, sent_to_trader_usdc=3, filled_at=NOON)
    rows.reservation(intent_id=intent, state="released", notional_usdc=0, released_at=NOON)
    assert used(CapName.DAILY_LOSS) == 1


def test_a_close_that_paid_nothing_known_took_out_all_of_it(database: None) -> None:
    closed(NOON, 5, None)
    assert used(CapName.DAILY_LOSS) == 5


def test_data_fees_are_spent_with_the_gas_and_asked_for_with_the_rest(database: None) -> None:
    mined = rows.send(intent_id=rows.intent_in(IntentState.MINED, l1_fee_wei=900))
    rows.receipt(send_id=mined, gas_used=10, effective_gas_price_wei=3, l1_fee_wei=40, seen_at=NOON)
    assert used(CapName.GAS_PER_DAY) == 10 * 3 + 40
    pending = rows.intent_in(IntentState.PENDING_INCLUSION, l1_fee_wei=600)
    rows.send(intent_id=pending, max_fee_wei=10)
    assert used(CapName.GAS_PER_DAY) == 70 + 21_000 * 10 + 600


def test_gas_is_of_the_scope_of_its_intent_and_counts_what_a_younger_one_does_not(database: None) -> None:
    for source, user, price in (("drill", 7, 3), ("other", 8, 5)):
        intent = rows.intent_in(IntentState.MINED, source=source, tg_user_id=user)
        rows.receipt(send_id=rows.send(intent_id=intent), effective_gas_price_wei=price, seen_at=NOON)
    assert used(CapName.GAS_PER_DAY, (CapScope.SOURCE, "drill")) == 3
    assert used(CapName.GAS_PER_DAY, (CapScope.TRADER, "8")) == 5
    held = []
    for fee in (10, 100):
        intent = rows.intent_in(IntentState.PENDING_INCLUSION, source="third")
        rows.send(intent_id=intent, max_fee_wei=fee)
        held.append(rows.reservation(intent_id=intent, source="third", notional_usdc=fee))
    others = rows.intent_in(IntentState.PENDING_INCLUSION, source="fourth", tg_user_id=9)
    rows.send(intent_id=others, max_fee_wei=7)
    assert used(CapName.GAS_PER_DAY, (CapScope.TRADER, "9")) == 21_000 * 7
    closing = rows.intent_in(IntentState.PENDING_INCLUSION, action="close", is_long=None, source="third")
    rows.send(intent_id=closing, max_fee_wei=1_000)
    scope = (CapScope.SOURCE, "third")
    assert used(CapName.GAS_PER_DAY, scope) == 21_000 * 1_110
    assert used_upto(CapName.GAS_PER_DAY, held[0]) == 21_000 * 1_010, (
        "a close has no reservation, and is paid"
    )
    assert used_upto(CapName.GAS_PER_DAY, held[1]) == 21_000 * 1_110
    assert [used_upto(CapName.EXPOSURE, one) for one in held] == [10, 110]
    assert [used_upto(CapName.OPEN_POSITIONS, one) for one in held] == [1, 2]


def used_upto(name: CapName, upto: int) -> Decimal:
    return usage.used(Limit(name, Decimal(1), CapScope.SOURCE, "third"), Mode.LIVE, NOON, upto)


@pytest.mark.parametrize("name", [CapName.NOTIONAL, CapName.COLLATERAL, CapName.LEVERAGE, CapName.BANNED])
def test_a_cap_of_one_order_sums_nothing(name: CapName) -> None:
    with pytest.raises(ValueError, match="cap of one order"):
        used(name)

"""The gate as a table: every action under every ruling, before it has a nonce and before its bytes leave; and caps in between."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from pytest_django.fixtures import Settings

from execution_app.gate import admission, approval
from execution_app.gate.admission import Admission, Departure, Verdict, admit, may_leave
from execution_app.gate.caps import Breach
from execution_app.gate.modes import Ruling
from execution_app.models import Position, TxIntent
from execution_app.states import Action, CapName, Mode, OrderType, Reason
from tests.execution import rows

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
EXECUTE, SIMULATE, HOLD, REFUSE = Verdict
LEAVE, PARK, CANCEL = Departure
# What adds to what is at stake, and what changes it without being an exit.
GROW = {Action.OPEN, Action.INCREASE}
CHANGE = {Action.UPDATE_ORDER, Action.MARGIN}
# What an old wish for is nobody's any more; an exit, and taking an order back, is wanted however late.
PERISHABLE = {*GROW, *CHANGE, Action.LEVELS}


def ruling(mode: Mode = Mode.LIVE, requested: Mode = Mode.LIVE, **fields: Any) -> Ruling:
    sound = {"emergency_stop": False, "reduce_only": False, "reason": "because"}
    return Ruling(requested, mode, **{**sound, **fields})


LIVE, DEGRADED, DRY = ruling(), ruling(Mode.DRY), ruling(Mode.DRY, Mode.DRY)
RULINGS = {"LIVE": LIVE, "degraded": DEGRADED, "DRY": DRY}


def asked(action: Action = Action.OPEN, **fields: Any) -> TxIntent:
    sound = {"collateral_usdc": Decimal(5), "leverage_x": Decimal(2), "margin_usdc": None}
    who = {"tg_user_id": 123, "source": "drill", "symbol": "BTC-USD"}
    return TxIntent(action=action, **who, **{**sound, **fields})


def margin(change_usdc: object, **fields: Any) -> TxIntent:
    """Of a position of 5 USDC at leverage 2, unless another one is named."""
    position = {"mode": "LIVE", "state": "open", "collateral_usdc": Decimal(5), "leverage_x": Decimal(2)}
    held = Position(**{**position, **fields})
    change = None if change_usdc is None else Decimal(str(change_usdc))
    return asked(Action.MARGIN, position=held, margin_usdc=change, collateral_usdc=None, leverage_x=None)


@pytest.fixture
def capped(settings: Settings) -> None:
    """Nothing of the environment but what a test sets."""
    unset = ("max_collateral_usdc", "max_open_positions", "max_exposure_usdc", "max_orders_per_minute")
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(
        update={
            **dict.fromkeys((*unset, "max_daily_loss_usdc", "max_gas_per_day_wei")),
            "max_notional_usdc": Decimal(1_000),
            "max_leverage": Decimal(10),
        }
    )


@pytest.mark.parametrize("action", Action)
@pytest.mark.parametrize("mode", RULINGS)
def test_what_may_take_a_nonce(database: None, capped: None, action: Action, mode: str) -> None:
    wanted = {"LIVE": (EXECUTE, Reason.ACCEPTED), "degraded": (HOLD, Reason.MODE_DEGRADED)}.get(
        mode, (SIMULATE, Reason.ACCEPTED)
    )
    if mode == "DRY" and action is Action.UPDATE_ORDER:
        wanted = (REFUSE, Reason.ORDER_TYPE_UNSUPPORTED)
    found = admit(asked(action), RULINGS[mode])
    assert (found.verdict, found.reason) == wanted
    assert found.mode is (Mode.LIVE if found.verdict is EXECUTE else Mode.DRY)
    if found.verdict is HOLD:
        assert found.detail == "because"
    for kind in (OrderType.LIMIT, OrderType.STOP_LIMIT):
        resting = admit(asked(action, order_type=kind), RULINGS[mode])
        if mode == "DRY" and action in GROW:
            assert (resting.verdict, resting.reason) == (REFUSE, Reason.ORDER_TYPE_UNSUPPORTED)
            assert str(kind) in resting.detail
        else:
            assert (resting.verdict, resting.reason) == wanted


@pytest.mark.parametrize("action", Action)
@pytest.mark.parametrize("mode", RULINGS)
def test_a_stop_refuses_all_and_reduce_only_all_but_exits(
    database: None, capped: None, action: Action, mode: str
) -> None:
    restricted = {"requested": RULINGS[mode].requested, "mode": RULINGS[mode].mode}
    stopped = admit(asked(action), ruling(**restricted, emergency_stop=True))
    assert (stopped.verdict, stopped.reason) == (REFUSE, Reason.EMERGENCY_STOP)
    assert "stop" in stopped.detail
    reduced = admit(asked(action), ruling(**restricted, reduce_only=True))
    if action in GROW | CHANGE:
        assert (reduced.verdict, reduced.reason) == (REFUSE, Reason.REDUCE_ONLY)
        assert reduced.detail
    else:
        assert reduced == admit(asked(action), RULINGS[mode])


@pytest.mark.parametrize("mode", RULINGS)
def test_caps_are_asked_of_what_raises_the_stake_in_every_mode(
    database: None, capped: None, mode: str
) -> None:
    for raising in (asked(leverage_x=Decimal("10.1")), asked(Action.INCREASE, leverage_x=Decimal("10.1"))):
        found = admit(raising, RULINGS[mode])
        assert (found.verdict, found.reason) == (REFUSE, Reason.LEVERAGE_ABOVE_CAP)
    found = admit(margin("1000.000001"), RULINGS[mode])
    assert (found.verdict, found.reason) == (REFUSE, Reason.NOTIONAL_ABOVE_CAP)
    for other in (margin(1_000), margin("-4.9"), asked(Action.CLOSE, leverage_x=Decimal(99))):
        assert admit(other, RULINGS[mode]).verdict is not REFUSE


def test_a_simulation_stays_one(capped: None, database: None) -> None:
    """Whatever the mode has become meanwhile; and what is for a simulated position alone is simulated."""
    dry, live = Position(mode="DRY"), Position(mode="LIVE")
    for intent, verdict in (
        (asked(Action.CLOSE, mode="DRY"), SIMULATE),
        (asked(Action.CLOSE, mode="LIVE"), EXECUTE),
        (asked(Action.CLOSE, position=dry, only_position=True), SIMULATE),
        (asked(Action.CLOSE, position=dry), EXECUTE),
        (asked(Action.CLOSE, position=live, only_position=True), EXECUTE),
        (asked(Action.CLOSE, only_position=True), EXECUTE),
    ):
        assert admit(intent, LIVE) == Admission(verdict)


def test_what_a_person_approved_goes_without_the_mode_and_not_past_a_stop(
    database: None, capped: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    close = asked(Action.CLOSE)
    assert may_leave(close, DEGRADED, NOW, expired=False) is PARK
    monkeypatch.setattr(approval, "counts", lambda intent, _: intent is close)
    assert admit(close, DEGRADED).verdict is EXECUTE
    assert may_leave(close, DEGRADED, NOW, expired=False) is LEAVE
    assert admit(asked(Action.CLOSE), DEGRADED).verdict is HOLD
    stopped = ruling(Mode.DRY, emergency_stop=True)
    assert admit(close, stopped).reason is Reason.EMERGENCY_STOP
    assert may_leave(close, stopped, NOW, expired=False) is PARK


@pytest.mark.parametrize("action", Action)
def test_what_may_leave(database: None, capped: None, action: Action) -> None:
    def leaves(how: Ruling = LIVE, *, expired: bool = False) -> Departure:
        return may_leave(asked(action), how, NOW, expired=expired)

    assert leaves() is LEAVE
    assert leaves(DEGRADED) is leaves(DRY) is leaves(ruling(emergency_stop=True)) is PARK
    assert leaves(ruling(emergency_stop=True, reduce_only=True), expired=True) is PARK
    assert leaves(expired=True) is (CANCEL if action in PERISHABLE else LEAVE)
    assert leaves(ruling(reduce_only=True)) is (CANCEL if action in GROW | CHANGE else LEAVE)


def test_an_open_that_breaks_a_cap_by_now_does_not_leave(database: None, capped: None) -> None:
    assert may_leave(asked(), LIVE, NOW, expired=False) is LEAVE
    rows.cap(name="leverage_x", value="1.9")
    assert may_leave(asked(), LIVE, NOW, expired=False) is CANCEL
    assert may_leave(asked(Action.CLOSE), LIVE, NOW, expired=False) is LEAVE


@pytest.mark.parametrize(
    ("change", "fields", "departure"),
    [
        ("-4", {}, LEAVE),  # the cap of 10, exactly
        ("-4.000001", {}, CANCEL),
        ("-5", {"leverage_x": Decimal(0)}, CANCEL),
        ("-6", {"leverage_x": Decimal(0)}, CANCEL),
        ("-4.5", {"leverage_x": Decimal("0.1")}, LEAVE),
        ("-1", {"state": "closed"}, CANCEL),
        ("1", {"state": "closed"}, CANCEL),
        ("1", {"state": "void"}, CANCEL),
        ("1", {}, LEAVE),
        ("0.5", {"collateral_usdc": Decimal("0.5"), "leverage_x": Decimal(50)}, LEAVE),
        (None, {}, LEAVE),
    ],
)
def test_margin_leaves_while_its_position_bears_it(
    database: None, capped: None, change: object, fields: dict[str, Any], departure: Departure
) -> None:
    assert may_leave(margin(change, **fields), LIVE, NOW, expired=False) is departure


def test_of_a_close_no_margin_is_asked(database: None, capped: None) -> None:
    close = asked(Action.CLOSE, position=Position(state="closed", collateral_usdc=0, leverage_x=2))
    assert may_leave(close, LIVE, NOW, expired=False) is LEAVE
    assert may_leave(asked(Action.MARGIN, margin_usdc=Decimal(-1)), LIVE, NOW, expired=False) is LEAVE


def test_what_raises_the_stake_and_by_how_much() -> None:
    who = (123, "drill", "BTC-USD")
    cases: list[tuple[TxIntent, object, tuple[object, ...]]] = [
        (asked(), 5, (*who, 5, 2)),
        (asked(Action.INCREASE), 5, (*who, 5, 2)),
        (margin("0.000001"), Decimal("0.000001"), (*who, Decimal("0.000001"), 1)),
        (margin(0), None, (*who, 0, 1)),
        (margin(None), None, (*who, 0, 1)),
        (margin(-3), None, (*who, -3, 1)),
        (asked(Action.CLOSE, margin_usdc=Decimal(3)), None, (*who, 5, 2)),
        (asked(Action.CLOSE, collateral_usdc=None, leverage_x=None), None, (*who, 0, 0)),
    ]
    for intent, taken, order in cases:
        assert admission.raises(intent) is (taken is not None)
        assert admission.put_in_usdc(intent) == taken
        found = admission.order_of(intent)
        assert (
            found.tg_user_id,
            found.source,
            found.symbol,
            found.collateral_usdc,
            found.leverage_x,
        ) == order


def test_leverage_that_is_left_is_asked_of_margin_taken_out_alone(database: None, capped: None) -> None:
    """Of caps on leverage alone: neither collateral nor a ban keeps anybody from their own margin."""
    rows.cap(name="banned", value=0)
    rows.cap(name="collateral_usdc", value=0)
    out = margin(-1)
    (broken,) = admission.leverage_breaches(out, Decimal("10.000001"))
    assert broken.reason is Reason.LEVERAGE_ABOVE_CAP
    assert admission.leverage_breaches(out, Decimal(10)) == []
    for other in (margin(1), asked(), asked(Action.CLOSE)):
        assert admission.leverage_breaches(other, Decimal(99)) == []


def reserved(**fields: object) -> TxIntent:
    """An open that has its place, of 10 USDC."""
    pk = rows.intent()
    rows.reservation(intent_id=pk, **fields)
    return TxIntent.objects.get(pk=pk)


def room(intent: TxIntent | None = None, mode: Mode = Mode.LIVE, cost_wei: int = 0) -> str:
    found = admission.room(intent or asked(), mode, datetime.now(UTC), cost_wei)
    assert found is None or found.verdict is REFUSE
    return "" if found is None else found.reason


ROOM: list[tuple[CapName, object, Reason]] = [
    (CapName.OPEN_POSITIONS, 1, Reason.OPEN_POSITIONS_AT_CAP),
    (CapName.EXPOSURE, 10, Reason.EXPOSURE_ABOVE_CAP),
    (CapName.ORDERS_PER_MINUTE, 1, Reason.ORDERS_PER_MINUTE_AT_CAP),
]


@pytest.mark.parametrize(("name", "value", "reason"), ROOM)
def test_there_is_room_for_as_much_as_a_cap_leaves(
    database: None, capped: None, name: CapName, value: int, reason: Reason
) -> None:
    assert not admission.counts_rows(asked())
    rows.cap(name=name.value, value=value)
    assert admission.counts_rows(asked())
    assert room() == ""
    reserved(mode="DRY")
    assert (room(), room(mode=Mode.DRY)) == ("", reason), "LIVE and DRY are counted apart"
    reserved()
    assert room() == reason
    grown = room(asked(Action.INCREASE))
    assert grown == ("" if name is CapName.OPEN_POSITIONS else reason), "an increase is no position more"


def test_gas_of_a_day_has_room_for_the_most_that_it_may_cost(database: None, capped: None) -> None:
    rows.cap(name="gas_per_day_wei", value=1_000)
    assert (room(cost_wei=1_000), room(cost_wei=1_001)) == ("", Reason.GAS_PER_DAY_ABOVE_CAP)
    rows.cap(name="daily_loss_usdc", value=0)
    assert room() == Reason.DAILY_LOSS_AT_CAP, "nothing may be lost any more"


def test_all_that_is_full_is_named(database: None, capped: None) -> None:
    for name, value in (("exposure_usdc", 9), ("open_positions", 0), ("leverage_x", 1)):
        rows.cap(name=name, value=value)
    found = admission.room(asked(), Mode.LIVE, NOW)
    assert found is not None
    assert found.reason is Reason.EXPOSURE_ABOVE_CAP
    assert [part.split(" ")[0] for part in found.detail.split("; ") if "would be" in part] == [
        "exposure_usdc",
        "open_positions",
    ]
    assert admission.refusal([Breach(Reason.BANNED, "one"), Breach(Reason.NOTIONAL_ABOVE_CAP, "two")]) == (
        Admission(REFUSE, Reason.BANNED, "one; two")
    )


def test_of_a_cap_that_was_tightened_what_came_first_stays_within_it(database: None, capped: None) -> None:
    first, second = reserved(), reserved()
    simulated = reserved(mode="DRY")

    def departures() -> list[Departure]:
        now = datetime.now(UTC)
        return [may_leave(intent, LIVE, now, expired=False) for intent in (first, second)]

    assert departures() == [LEAVE, LEAVE]
    rows.cap(name="gas_per_day_wei", value=0)
    rows.cap(name="orders_per_minute", value=0)
    assert departures() == [LEAVE, LEAVE], "no gas is used, and each was counted in its minute"
    rows.cap(name="open_positions", value=1)
    assert departures() == [LEAVE, CANCEL]
    rows.execute("UPDATE caps SET lifted_at = now(), lifted_by = 'x', lifted_reason = 'y' WHERE value = 1")
    rows.cap(name="exposure_usdc", value=10)
    assert departures() == [LEAVE, CANCEL]
    rows.cap(name="exposure_usdc", value="9.999999", scope="symbol", scope_value="BTC-USD")
    assert departures() == [CANCEL, CANCEL]
    assert may_leave(simulated, LIVE, NOW, expired=True) is CANCEL


def test_the_mode_is_asked_within_the_transaction_that_it_guards(database: None) -> None:
    with pytest.raises(RuntimeError, match="inside the transaction"):
        admission.ruling_now()

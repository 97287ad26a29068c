"""The gate's two questions with caps and approvals answered by the test: one table each, without a database."""

import itertools
from decimal import Decimal
from typing import Any

import pytest

from execution_app.gate import admission, approval
from execution_app.gate.admission import Admission, Departure, Verdict, admit, may_leave
from execution_app.gate.caps import Breach, Order
from execution_app.gate.modes import Ruling
from execution_app.models import Position, TxIntent
from execution_app.states import Action, Mode, OrderType, Reason
from tests.execution.gate.test_admission import NOW, asked, margin

EXECUTE, SIMULATE, HOLD, REFUSE = Verdict
LEAVE, PARK, CANCEL = Departure
FULL = [Breach(Reason.LEVERAGE_ABOVE_CAP, "one"), Breach(Reason.NOTIONAL_ABOVE_CAP, "two")]
GROW = (Action.OPEN, Action.INCREASE)
CHANGE = (Action.UPDATE_ORDER, Action.MARGIN)


class Answers:
    """What caps and people say."""

    breaches: list[Breach]
    approved = False
    lost_its_place = False


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Answers:
    made = Answers()
    made.breaches = []
    monkeypatch.setattr(admission, "order_breaches", lambda _: made.breaches)
    monkeypatch.setattr(admission, "_has_lost_its_place", lambda *_: made.lost_its_place)
    monkeypatch.setattr(approval, "counts", lambda *_: made.approved)
    return made


def every_ruling() -> list[Ruling]:
    modes = ((Mode.LIVE, Mode.LIVE), (Mode.LIVE, Mode.DRY), (Mode.DRY, Mode.DRY))
    return [
        Ruling(requested, mode, stop, reduce_only, "because")
        for (requested, mode), stop, reduce_only in itertools.product(modes, (False, True), (False, True))
    ]


def wish(action: Action, **fields: Any) -> TxIntent:
    return margin(1, **fields) if action is Action.MARGIN else asked(action, **fields)


def test_what_is_let_in_becomes_live_where_it_is_executed() -> None:
    assert {verdict: Admission(verdict).mode for verdict in Verdict} == {
        EXECUTE: Mode.LIVE,
        SIMULATE: Mode.DRY,
        HOLD: Mode.DRY,
        REFUSE: Mode.DRY,
    }


def test_every_answer_before_a_nonce(answers: Answers) -> None:
    kinds = (OrderType.MARKET, OrderType.LIMIT, OrderType.STOP_LIMIT)
    everything = itertools.product(Action, kinds, every_ruling(), (False, True), (False, True))
    for action, kind, ruling, full, answers.approved in everything:
        answers.breaches = FULL if full else []
        intent = wish(action)
        intent.order_type = kind
        rests = action is Action.UPDATE_ORDER or (action in GROW and kind is not OrderType.MARKET)
        if ruling.emergency_stop:
            expected = Admission(REFUSE, Reason.EMERGENCY_STOP, "emergency stop is set")
        elif ruling.reduce_only and action in (*GROW, *CHANGE):
            expected = Admission(REFUSE, Reason.REDUCE_ONLY, "only orders that lower exposure pass")
        elif full and action in (*GROW, Action.MARGIN):
            expected = Admission(REFUSE, Reason.LEVERAGE_ABOVE_CAP, "one; two")
        elif ruling.mode is Mode.LIVE or answers.approved:
            expected = Admission(EXECUTE)
        elif ruling.requested is Mode.LIVE:
            expected = Admission(HOLD, Reason.MODE_DEGRADED, "because")
        elif rests:
            what = f"a {kind} order" if action in GROW else "a change of an order that rests"
            words = f"{what} is not simulated: in DRY it is refused"
            expected = Admission(REFUSE, Reason.ORDER_TYPE_UNSUPPORTED, words)
        else:
            expected = Admission(SIMULATE)
        assert admit(intent, ruling) == expected, (action, kind, ruling, full, answers.approved)


def test_what_is_simulated_already_goes_on_being_so(answers: Answers) -> None:
    answers.approved = True
    live = Ruling(Mode.LIVE, Mode.LIVE, False, False, "")
    for mode, only, position, verdict in (
        ("DRY", False, None, SIMULATE),
        ("LIVE", False, None, EXECUTE),
        ("", True, "DRY", SIMULATE),
        ("", True, "LIVE", EXECUTE),
        ("", True, None, EXECUTE),
        ("", False, "DRY", EXECUTE),
    ):
        held = None if position is None else Position(mode=position)
        intent = asked(Action.CLOSE, mode=mode, only_position=only, position=held)
        assert admit(intent, live) == Admission(verdict), (mode, only, position)


def test_every_answer_before_bytes_leave(answers: Answers) -> None:
    either = (False, True)
    everything = itertools.product(Action, every_ruling(), either, either, either)
    for action, ruling, expired, answers.lost_its_place, answers.approved in everything:
        if ruling.emergency_stop or not (ruling.mode is Mode.LIVE or answers.approved):
            expected = PARK
        elif (
            (expired and action in (*GROW, *CHANGE, Action.LEVELS))
            or (ruling.reduce_only and action in (*GROW, *CHANGE))
            or (answers.lost_its_place and action in (*GROW, Action.MARGIN))
        ):
            expected = CANCEL
        else:
            expected = LEAVE
        found = may_leave(wish(action), ruling, NOW, expired=expired)
        assert found is expected, (action, ruling, expired, answers.lost_its_place, answers.approved)


def test_a_margin_leaves_while_its_position_is_there_and_bears_it(answers: Answers) -> None:
    live = Ruling(Mode.LIVE, Mode.LIVE, False, False, "")
    too_high = [Breach(Reason.LEVERAGE_ABOVE_CAP, "one")]
    for change, fields, breaches, expected in (
        ("-1", {}, [], LEAVE),
        ("-1", {}, too_high, CANCEL),
        ("-1", {}, [Breach(Reason.COLLATERAL_ABOVE_CAP, "two")], LEAVE),
        ("-4.999999", {}, [], LEAVE),
        ("-5", {}, [], CANCEL),
        (None, {"collateral_usdc": Decimal(0)}, [], CANCEL),
        ("-1", {"state": "closed"}, [], CANCEL),
    ):
        answers.breaches = breaches
        assert may_leave(margin(change, **fields), live, NOW, expired=False) is expected, (change, fields)
    answers.breaches = too_high
    unbound = margin("-1")
    unbound.position = None
    assert may_leave(unbound, live, NOW, expired=False) is LEAVE
    assert (
        may_leave(asked(Action.CLOSE, position=Position(state="closed")), live, NOW, expired=False) is LEAVE
    )


def test_leverage_that_is_left_is_what_caps_are_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    orders: list[Order] = []

    def breaches(order: Order) -> list[Breach]:
        orders.append(order)
        return FULL

    monkeypatch.setattr(admission, "order_breaches", breaches)
    out = margin("-1")
    assert admission.leverage_breaches(out, Decimal("7.5")) == FULL[:1]
    assert orders[0].leverage_x == Decimal("7.5")
    for other in (margin("1"), asked(), asked(Action.CLOSE)):
        assert admission.leverage_breaches(other, Decimal(99)) == []
    assert len(orders) == 1


def test_what_raises_the_stake() -> None:
    for action in Action:
        assert admission.raises(asked(action)) is (action in GROW)
    assert [admission.raises(margin(change)) for change in ("0.000001", "0", "-1", None)] == [
        True,
        False,
        False,
        False,
    ]

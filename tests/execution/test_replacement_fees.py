"""What bounds the fee of a replacement: the environment, the order's own cost, and the room that a cancel needs."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from pytest_django.fixtures import Settings

from execution_app.engine import replace
from execution_app.models import TxIntent, TxSend
from execution_app.node import fees
from execution_app.states import Action, SendKind

GWEI = 10**9
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
def environment(settings: Settings) -> None:
    set_ceiling(settings, gwei=90)


def set_ceiling(settings: Settings, gwei: float, at_fee_ceiling: str = "hold") -> None:
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(
        update={"max_fee_per_gas_gwei": gwei, "at_fee_ceiling": at_fee_ceiling}
    )


def order(action: Action = Action.OPEN, **fields: object) -> TxIntent:
    return TxIntent(action=action.value, **fields)


def test_without_a_cost_of_its_own_an_order_pays_what_the_environment_allows() -> None:
    assert replace.ceiling_wei(order()) == 90 * GWEI


def test_an_orders_own_cost_is_what_is_left_of_it_for_each_gas() -> None:
    bounded = order(
        max_cost_wei=Decimal(1_000_000), value_wei=Decimal(90_000), gas_limit=100, l1_fee_wei=Decimal(10_000)
    )
    assert replace.ceiling_wei(bounded) == 9_000
    assert replace.ceiling_wei(order(max_cost_wei=Decimal(7))) == 7, (
        "nothing is sent along, nothing is known of its gas"
    )
    assert replace.ceiling_wei(order(max_cost_wei=Decimal(10) ** 30, gas_limit=1)) == 90 * GWEI


def test_where_opens_are_cancelled_at_their_ceiling_they_leave_room_for_that(settings: Settings) -> None:
    set_ceiling(settings, 90, "cancel")
    room_wei = 80 * GWEI - 1
    assert replace.ceiling_wei(order()) == room_wei
    assert fees.raised(fees.Fee(room_wei, 1), fees.Market(0, 0), 90 * GWEI) is not None
    assert replace.ceiling_wei(order(max_cost_wei=Decimal(7))) == 7
    assert replace.ceiling_wei(order(Action.CLOSE)) == 90 * GWEI, "an exit is never cancelled for its fee"


@pytest.mark.parametrize(
    ("kind", "gwei", "has_room"),
    [
        (SendKind.EXEC, 71, True),
        (SendKind.EXEC, 72, False),
        (SendKind.BUMP, 72, False),
        (SendKind.CANCEL, 72, True),
        (SendKind.CANCEL, 80, True),
        (SendKind.CANCEL, 81, False),
    ],
)
def test_a_cancel_has_the_room_that_an_open_leaves(
    settings: Settings, kind: SendKind, gwei: int, *, has_room: bool
) -> None:
    set_ceiling(settings, 90, "cancel")
    send = TxSend(kind=kind, max_fee_wei=gwei * GWEI, tip_wei=GWEI)
    assert replace.has_room(order(), send) is has_room


def test_who_wants_it_sooner_is_heard_until_something_was_signed_since() -> None:
    send = TxSend(signed_at=NOW)
    moment = timedelta(microseconds=1)
    assert not replace.is_hurried(order(), send)
    assert replace.is_hurried(order(speed_up_asked_at=NOW + moment), send)
    assert not replace.is_hurried(order(speed_up_asked_at=NOW), send), "that send is what it asked for"
    assert not replace.is_hurried(order(speed_up_asked_at=NOW - moment), send)

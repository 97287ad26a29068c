"""Rows of caps in the order of their age, read now or once: nobody is told two different ones of the same age."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from decimal import Decimal

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from execution_app.gate import limits
from execution_app.gate.caps import Order
from tests.execution import rows

READINGS: dict[str, Callable[[], AbstractContextManager[None]]] = {
    "now": nullcontext,
    "once": limits.read_once,
}
SCOPES = [("global", ""), ("trader", "123"), ("source", "drill"), ("symbol", "BTC-USD")]
ORDER = Order(123, "drill", "BTC-USD", Decimal(5), Decimal(2))
OTHERS = [
    Order(9, "drill", "BTC-USD", Decimal(5), Decimal(2)),
    Order(123, "drum", "BTC-USD", Decimal(5), Decimal(2)),
    Order(123, "drill", "ETH-USD", Decimal(5), Decimal(2)),
]


def origins(order: Order) -> list[str]:
    return [limit.origin for limit in limits.active(order) if limit.origin.startswith("cap ")]


@pytest.mark.parametrize("reading", READINGS)
def test_the_caps_of_an_order_come_by_age_and_are_those_of_its_scopes(database: None, reading: str) -> None:
    lifted = {"lifted_at": "2100-01-01T00:00:00Z", "lifted_by": "test", "lifted_reason": "over"}
    rows.update("caps", rows.cap(name="open_positions"), lifted)
    held = [1_000 + number for number in range(len(SCOPES))]
    for pk, (scope, value) in reversed(list(zip(held, SCOPES, strict=True))):  # they lie in another order
        rows.cap(id=pk, scope=scope, scope_value=value, name="banned", value=0)
    with READINGS[reading]():
        assert origins(ORDER) == [f"cap {pk}" for pk in held]
        for number, other in enumerate(OTHERS):
            assert origins(other) == [f"cap {pk}" for at, pk in enumerate(held) if at != number + 1]


def test_rows_that_were_read_once_are_asked_for_once(database: None) -> None:
    rows.cap()
    with CaptureQueriesContext(connection) as asked, limits.read_once():
        for order in (ORDER, *OTHERS, ORDER):
            assert len(origins(order)) == 1
            assert limits.active(order) is limits.active(order)
    assert len(asked) == 1
    with CaptureQueriesContext(connection) as asked:
        for _ in range(2):
            limits.active(ORDER)
    assert len(asked) == 2, "outside of it nothing is kept"


def test_what_was_read_once_is_forgotten_where_it_fails(database: None) -> None:
    with pytest.raises(ZeroDivisionError), limits.read_once():
        _ = 1 / 0
    rows.cap()
    assert len(origins(ORDER)) == 1

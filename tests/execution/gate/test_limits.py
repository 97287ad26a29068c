"""Which caps hold for an order: the environment's by their names, and of the rows those of its scopes that nobody lifted."""

from collections.abc import Callable
from contextlib import nullcontext
from decimal import Decimal
from typing import Any

import pytest
from pytest_django.fixtures import Settings

from execution_app.gate import limits
from execution_app.gate.caps import Limit, Order
from execution_app.states import CapName, CapScope
from tests.execution import rows

ORDER = Order(123, "drill", "BTC-USD", Decimal(5), Decimal(2))
VARIABLES = {
    "max_notional_usdc": CapName.NOTIONAL,
    "max_collateral_usdc": CapName.COLLATERAL,
    "max_leverage": CapName.LEVERAGE,
    "max_open_positions": CapName.OPEN_POSITIONS,
    "max_exposure_usdc": CapName.EXPOSURE,
    "max_orders_per_minute": CapName.ORDERS_PER_MINUTE,
    "max_daily_loss_usdc": CapName.DAILY_LOSS,
    "max_gas_per_day_wei": CapName.GAS_PER_DAY,
}


def set_ceilings(settings: Settings, **values: Any) -> None:
    unset = dict.fromkeys(VARIABLES)
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(update=unset | values)


def test_each_ceiling_is_of_its_own_variable(settings: Settings) -> None:
    for number, (variable, name) in enumerate(VARIABLES.items()):
        set_ceilings(settings, **{variable: number})
        assert limits.ceilings() == {name: Decimal(number)}, "what is not set is no ceiling"
        assert isinstance(limits.ceilings()[name], Decimal)


READINGS: dict[str, Callable[[], Any]] = {"now": nullcontext, "once": limits.read_once}


@pytest.mark.parametrize("reading", READINGS)
def test_the_caps_of_an_order_are_those_of_its_scopes(
    database: None, settings: Settings, reading: str
) -> None:
    """A trader's number is no source's name, and what was lifted holds for nobody."""
    set_ceilings(settings, max_leverage=Decimal(9))
    mine = [("global", ""), ("trader", "123"), ("source", "drill"), ("symbol", "BTC-USD")]
    others = [("trader", "9"), ("source", "123"), ("source", "BTC-USD"), ("symbol", "ETH-USD")]
    held = [rows.cap(scope=scope, scope_value=value) for scope, value in mine]
    for scope, value in others:
        rows.cap(scope=scope, scope_value=value)
    lifted = {"lifted_at": "2100-01-01T00:00:00Z", "lifted_by": "test", "lifted_reason": "over"}
    rows.update("caps", rows.cap(name="notional_usdc"), lifted)
    with READINGS[reading]():
        found = limits.active(ORDER)
        assert found[0] == Limit(CapName.LEVERAGE, Decimal(9))
        assert found[1:] == [
            Limit(CapName.EXPOSURE, Decimal(100), CapScope(scope), value, f"cap {pk}")
            for pk, (scope, value) in zip(held, mine, strict=True)
        ]
        assert limits.active(ORDER) == found
        other = limits.active(Order(9, "123", "ETH-USD", Decimal(5), Decimal(2)))
        assert [one.scope_value for one in other[1:]] == ["", "9", "123", "ETH-USD"]


def test_caps_that_were_read_once_are_those_of_then_and_of_no_longer(database: None) -> None:
    def held() -> list[CapName]:
        return [limit.name for limit in limits.active(ORDER) if limit.origin.startswith("cap ")]

    with limits.read_once():
        rows.cap()
        assert held() == []
        with limits.read_once():
            assert held() == [CapName.EXPOSURE]
        assert held() == []
    assert held() == [CapName.EXPOSURE]

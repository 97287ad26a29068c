"""What a signal asks beside side and size reaches the intent as it was asked."""

from decimal import Decimal

import pytest

from signals_app.models import SourceGrant
from tests.execution import rows
from tests.signals.test_rules import CLOSE, TRADER_ID, decide


@pytest.fixture(autouse=True)
def trader(database: None) -> None:
    rows.wallet(trader_id=rows.trader(tg_user_id=TRADER_ID))
    SourceGrant.objects.create(source="drill", tg_user_id=TRADER_ID)


def test_levels_come_with_an_open() -> None:
    _, intent = decide(take_profit=120_000, stop_loss="90000.5")
    assert (intent.state, intent.take_profit, intent.stop_loss) == (
        "pending",
        Decimal(120_000),
        Decimal("90000.5"),
    )


def test_levels_that_are_watched_here_come_with_an_open() -> None:
    _, intent = decide(trailing_stop_pct="2.5", break_even_pct=1, time_stop_s=3600)
    assert (intent.state, intent.trailing_stop_pct, intent.break_even_pct, intent.time_stop_s) == (
        "pending",
        Decimal("2.5"),
        Decimal(1),
        3600,
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [("trailing_stop_pct", 1), ("break_even_pct", 1), ("time_stop_s", 1), ("take_profit", 1)],
)
def test_a_close_takes_none(name: str, value: int) -> None:
    _, intent = decide(**CLOSE, **{name: value})
    assert (intent.state, intent.reason) == ("rejected", "trigger_price_unsupported")
    assert name in intent.reason_detail


@pytest.mark.parametrize(("name", "value"), [("reduce_pct", "12.5"), ("reduce_usdc", "1.500001")])
def test_a_close_may_be_of_a_part(name: str, value: str) -> None:
    _, intent = decide(**CLOSE, **{name: value})
    assert (intent.state, getattr(intent, name), intent.close_usdc) == ("pending", Decimal(value), None)

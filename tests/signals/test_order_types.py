"""Orders that rest: taken where the road to the venue has them, refused by name where it has not."""

from typing import Any

import pytest

from execution_app.models import Trader
from execution_app.states import Reason
from tests.signals.test_rules import assert_nothing_was_sent, decide, trader

__all__ = ["trader"]  # the fixture


@pytest.mark.parametrize("order_type", ["limit", "stop_limit"])
def test_an_order_that_rests_is_refused_where_the_road_has_none(
    trader: Trader, settings: Any, order_type: str
) -> None:
    signal, intent = decide(order_type=order_type, limit_price=60_000)
    assert (signal.decision, intent.order_type, intent.limit_price) == ("accepted", order_type, 60_000)
    assert intent.road == "onchain"
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(update={"venue": "gateway"})
    signal, intent = decide(signal_id="second", order_type=order_type, limit_price=60_000)
    assert (signal.decision, signal.reasons) == ("rejected", [Reason.ORDER_TYPE_UNSUPPORTED])
    assert intent.reason_detail == f"gateway does not support open_{order_type} (field order_type)"
    assert_nothing_was_sent()

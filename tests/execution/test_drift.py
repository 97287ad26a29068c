"""Every open position is compared with the venue, however many there are."""

import pytest

from execution_app.book import drift
from execution_app.models import Position
from tests import invariants
from tests.execution.test_orders import opened
from tests.integration.tx.test_venue_surprises import owner_closes
from tests.rig import Rig


def test_what_one_request_does_not_reach_is_compared_by_the_next(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened(rig, symbol="ETH-USD")
    rig.intent()
    rig.run()
    owner_closes(rig)  # of the younger one, on BTC-USD
    monkeypatch.setattr(drift, "BATCH", 1)
    assert drift.compare() == 1
    rig.mine(4)
    drift.compare()
    ended = dict(Position.objects.values_list("symbol", "ended_by"))
    assert ended == {"ETH-USD": "", "BTC-USD": "owner"}
    invariants.check()

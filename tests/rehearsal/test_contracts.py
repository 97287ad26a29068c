"""The committed artefacts are what the sources compile to."""

import json

import pytest

from execution_app.venues import events, margin_events
from ops.rehearsal.contracts import ARTEFACTS, CONTRACTS, artefact
from ops.rehearsal.contracts.compilation import compile_contract


@pytest.mark.parametrize("name", CONTRACTS)
def test_the_artefact_is_of_this_source(name):
    stored = json.loads((ARTEFACTS / f"{name}.json").read_text("utf-8"))
    assert stored == compile_contract(name), "run python -m ops.rehearsal.contracts"


@pytest.mark.parametrize(
    ("function", "selector"),
    [
        ("openTrade", "19cde9a1"),
        ("cancelOpenLimitOrder", "b9b6573a"),
        ("updateOpenLimitOrder", "c641558e"),
        ("updateMargin", "b9fe2af3"),
        ("closeTradeMarket", "e5a97c92"),
        ("delegatedAction", "9a10cc32"),
        ("setDelegate", "d6a510d9"),
        ("removeDelegate", "67e7646f"),
        ("executeMarketOrders", "53e8840c"),
    ],
)
def test_selectors_are_the_venues(function, selector):
    assert artefact("Trading").selector(function).hex() == selector


def test_the_decoder_knows_the_order_events():
    names = (
        *("MarketOrderInitiated", "MarketExecuted", "MarketOpenCanceled"),
        *("OpenLimitPlaced", "OpenLimitUpdated", "OpenLimitCanceled", "LimitExecuted"),
        *("IncreasePositionRequested", "PositionSizeIncreased"),
    )
    assert {artefact("Trading").topic(name) for name in names} == set(events.TOPICS["rehearsal-v2"])
    assert artefact("Trading").topic("MarginUpdated") == margin_events.TOPICS["rehearsal-v2"]

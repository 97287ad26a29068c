"""What the venue's catalogue says of a market decides about opens, and about nothing else."""

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db.models import F
from pytest_django.fixtures import Settings

from execution_app.book import market_hours
from execution_app.desks.paper import PaperDesk
from execution_app.engine import rounds
from execution_app.errors import Refused
from execution_app.gate import control
from execution_app.models import MarketState, Position, TxIntent, TxSend
from execution_app.node import feed
from execution_app.states import Action, Origin, Reason, RestrictionKind
from ops.rehearsal.gateway.server import Gateway
from tests.feeds import scripted, served_feed, set_market
from tests.integration.tx.test_prices_compared import again, assert_goes, assert_waits, open_
from tests.rig import Rig

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture
def venue_says(rig: Rig, settings: Settings) -> Iterator[Gateway]:
    with served_feed(settings, allowed_symbols="BTC-USD,EUR-USD") as gateway:
        yield gateway
    feed.breaker.cache_clear()


@pytest.fixture(params=["LIVE", "DRY"])
def mode(rig: Rig, request: pytest.FixtureRequest) -> str:
    if request.param == "DRY":
        control.impose(RestrictionKind.DRY, Origin.HTTP, by="test", reason="drill")
    return str(request.param)


def assert_refused(intent: TxIntent, reason: Reason, *words: str) -> None:
    assert (intent.state, intent.reason, intent.nonce) == ("rejected", reason, None)
    for word in words:
        assert word in intent.reason_detail, intent.reason_detail
    assert not TxSend.objects.filter(intent=intent).exists()


def test_an_open_market_opens(rig: Rig, venue_says: Gateway, mode: str) -> None:
    assert_goes(open_(rig, symbol="EUR-USD"), mode)


def test_a_closed_market_opens_nothing_and_says_until_when(rig: Rig, venue_says: Gateway, mode: str) -> None:
    opens_s = int(time.time()) + 3600
    set_market("EUR-USD", closed=True, next_open_s=opens_s)
    until = datetime.fromtimestamp(opens_s, UTC).strftime("%Y-%m-%d %H:%M UTC")
    assert_refused(open_(rig, symbol="EUR-USD"), Reason.MARKET_CLOSED, "EUR-USD", f"until {until}")
    assert not Position.objects.exists()
    assert_goes(open_(rig, symbol="BTC-USD"), mode)


def test_close_only_takes_closes_only(rig: Rig, venue_says: Gateway, mode: str) -> None:
    open_(rig)
    rig.run()
    set_market("BTC-USD", close_only=True)
    assert_refused(open_(rig), Reason.MARKET_CLOSE_ONLY, "BTC-USD", "closed only")
    close = rig.intent(Action.CLOSE)
    rig.run()
    assert again(close).state == ("simulated" if mode == "DRY" else "filled")


def test_a_close_in_closed_hours_is_the_venues_to_judge(rig: Rig, venue_says: Gateway, mode: str) -> None:
    open_(rig)
    rig.run()
    set_market("BTC-USD", closed=True)
    close = rig.intent(Action.CLOSE)
    rig.run()
    assert again(close).state == ("simulated" if mode == "DRY" else "filled")


def test_paper_is_refused_as_well(rig: Rig, venue_says: Gateway) -> None:
    set_market("BTC-USD", closed=True)
    desk = PaperDesk(rig.trader)
    with pytest.raises(Refused, match="the market of BTC-USD is closed"):
        desk._take_down("paper:1", **_asked())
    assert not TxIntent.objects.exists()


def _asked() -> dict[str, Any]:
    return {
        "action": "open",
        "symbol": "BTC-USD",
        "is_long": True,
        "collateral_usdc": 5,
        "leverage_x": 2,
        "slippage_pct": 1,
    }


def test_a_word_that_is_old_is_asked_for_anew_and_without_it_nothing_is_opened(
    rig: Rig, venue_says: Gateway, settings: Settings
) -> None:
    rounds.keep_feed()
    MarketState.objects.update(seen_at=F("seen_at") - timedelta(seconds=61))
    set_market("BTC-USD", closed=True)
    assert_refused(open_(rig), Reason.MARKET_CLOSED)
    with scripted() as nobody:
        url = nobody.url
    feed.breaker.cache_clear()
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(update={"veranta_data_api_url": url})
    assert_waits(open_(rig), Reason.PRICE_UNAVAILABLE, "the catalogue does not say", "away")


def test_a_number_that_is_another_pairs_opens_nothing(
    rig: Rig, venue_says: Gateway, settings: Settings, mode: str
) -> None:
    swapped = {"1": {"index": 1, "from": "ETH", "to": "USD"}, "0": {"index": 0, "from": "BTC", "to": "USD"}}
    with scripted() as catalogue:
        catalogue.body = json.dumps({"pairInfos": swapped}).encode()
        settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(update={"veranta_data_api_url": catalogue.url})
        assert_waits(open_(rig), Reason.PRICE_UNAVAILABLE, "pair 1 is ETH-USD at the venue, not BTC-USD")
        catalogue.body = b'{"pairInfos": {}}'
        assert_waits(
            open_(rig), Reason.PRICE_UNAVAILABLE, "does not say whether the market of BTC-USD is open"
        )


def test_the_bell_asks_for_hours_now_and_then(rig: Rig, venue_says: Gateway) -> None:
    rounds.keep_feed()
    (before,) = MarketState.objects.filter(symbol="EUR-USD").values()
    assert (before["pair_name"], before["is_open"], before["closes_only"]) == ("EUR-USD", True, False)
    set_market("EUR-USD", close_only=True)
    rounds.keep_feed()
    assert list(MarketState.objects.filter(symbol="EUR-USD").values()) == [before], "a moment ago"
    MarketState.objects.update(seen_at=F("seen_at") - timedelta(seconds=16))
    rounds.keep_feed()
    assert MarketState.objects.get(pk="EUR-USD").closes_only


def hours(**fields: Any) -> MarketState:
    usual = {"pair_name": "EUR-USD", "is_listed": True, "is_open": True, "closes_only": False}
    return MarketState(symbol="EUR-USD", seen_at=NOON, **{**usual, **fields})


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, None),
        ({"next_open_at": NOON - HOUR, "next_close_at": NOON + HOUR}, None),
        ({"next_close_at": NOON}, "closed at 2026-01-01 12:00 UTC; the venue does not say when"),
        ({"next_close_at": NOON - HOUR, "next_open_at": NOON + HOUR}, "until 2026-01-01 13:00 UTC"),
        ({"is_open": False, "next_open_at": NOON}, None),
        ({"is_open": False, "next_open_at": NOON + HOUR}, "is closed until 2026-01-01 13:00 UTC"),
        ({"is_open": False}, "is closed; the venue does not say when"),
        ({"is_listed": False}, "no more"),
        ({"closes_only": True}, "closed only"),
    ],
)
def test_the_schedule_counts_between_two_looks(fields: dict[str, Any], words: str | None) -> None:
    found = market_hours.refusal("EUR-USD", hours(**fields), NOON)
    assert (found is None) is (words is None)
    assert words is None or words in found[1]  # type: ignore[index]

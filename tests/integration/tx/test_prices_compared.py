"""Nothing is opened at a price that a second source does not share; an exit never waits for a comparison."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db.models import F
from pytest_django.fixtures import Settings

from execution_app.book import feed as book_feed
from execution_app.book import prices
from execution_app.engine import rounds
from execution_app.errors import Retryable
from execution_app.gate import control
from execution_app.models import FeedPrice, Position, TxIntent, TxSend
from execution_app.node import feed
from execution_app.states import Action, Origin, Reason, RestrictionKind
from ops.rehearsal.gateway.server import Gateway
from tests import invariants
from tests.execution.test_quotes import head_s, publish
from tests.feeds import lead_to, scripted, served_feed
from tests.proxy import Proxy
from tests.rig import Rig
from tests.timers import pass_a_minute

LONGER = (
    12  # than the product has it: what the feed published is good for a minute, and a minute stands for 5 s
)


@pytest.fixture
def source(rig: Rig, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gateway]:
    """A machine that stands still ages no price."""
    assert book_feed.FRESH == book_feed.FUTURE == timedelta(seconds=5)
    monkeypatch.setattr(book_feed, "FRESH", LONGER * book_feed.FRESH)
    with served_feed(settings) as gateway:
        yield gateway
    feed.breaker.cache_clear()


@pytest.fixture(params=["LIVE", "DRY"])
def mode(rig: Rig, request: pytest.FixtureRequest) -> str:
    if request.param == "DRY":
        control.impose(RestrictionKind.DRY, Origin.HTTP, by="test", reason="drill")
    return str(request.param)


def open_(rig: Rig, **fields: Any) -> TxIntent:
    intent = rig.intent(**fields)
    rig.submit()
    return again(intent)


def again(intent: TxIntent) -> TxIntent:
    return TxIntent.objects.get(pk=intent.pk)


def assert_waits(intent: TxIntent, reason: Reason, *words: str) -> None:
    assert (intent.state, intent.reason, intent.nonce) == ("pending", reason, None)
    for word in words:
        assert word in intent.reason_detail, intent.reason_detail
    assert not TxSend.objects.filter(intent=intent).exists()
    assert not Position.objects.exists()


def assert_goes(intent: TxIntent, mode: str = "LIVE") -> None:
    assert intent.state == ("simulated" if mode == "DRY" else "pending_inclusion"), intent.reason_detail


def grow_old(seconds: float) -> None:
    """The database's clock goes on: what the feed published moves into the past."""
    FeedPrice.objects.update(published_at=F("published_at") - LONGER * timedelta(seconds=seconds))


def test_sources_that_agree_open(rig: Rig, source: Gateway, mode: str) -> None:
    assert_goes(open_(rig), mode)


@pytest.mark.parametrize("leg", ["core", "pro"])
@pytest.mark.parametrize("off_pct", [1.2, -1.2])
def test_sources_that_differ_open_nothing_until_they_agree(
    rig: Rig, source: Gateway, mode: str, leg: str, off_pct: float
) -> None:
    source.faults.set({f"{leg}_off_pct": off_pct})
    intent = open_(rig)
    figure = f"{100_000 * (1 + off_pct / 100):.0f}"
    assert_waits(
        intent, Reason.PRICE_DEVIATES, "BTC-USD", leg, figure, "100000", "MAX_PRICE_DEVIATION_PCT is 1"
    )
    source.faults.set({f"{leg}_off_pct": 0.0})
    pass_a_minute()
    rig.submit()
    assert_goes(again(intent), mode)


@pytest.mark.parametrize(("off_pct", "limit_pct"), [(1.0, "1"), (1.9, "2"), (0.04, "0.05")])
def test_up_to_the_limit_they_agree(
    rig: Rig, source: Gateway, settings: Settings, off_pct: float, limit_pct: str
) -> None:
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(
        update={"max_price_deviation_pct": Decimal(limit_pct)}
    )
    source.faults.core_off_pct = off_pct
    assert_goes(open_(rig))


def test_what_differs_until_the_max_lag_expires(rig: Rig, source: Gateway) -> None:
    source.faults.core_off_pct = 3.0
    intent = open_(rig)
    TxIntent.objects.filter(pk=intent.pk).update(expires_at=F("accepted_at"))
    pass_a_minute()
    rig.submit()
    assert (again(intent).state, again(intent).reason) == ("expired", Reason.LAG_EXCEEDED)
    assert "price_deviates" in again(intent).reason_detail
    assert not TxSend.objects.exists()


def test_a_source_that_is_old_is_not_compared_and_the_other_is(rig: Rig, source: Gateway) -> None:
    source.faults.set({"core_late_s": LONGER * 20.0, "core_off_pct": 50.0})
    assert_goes(open_(rig))
    source.faults.pro_off_pct = 2.0
    waits = open_(rig)
    assert (waits.state, waits.reason) == ("pending", Reason.PRICE_DEVIATES)
    assert "core" not in waits.reason_detail


@pytest.mark.parametrize("late_s", [LONGER * 6.5, 3600.0, -20.0, -3600.0])
def test_no_second_price_of_now_opens_nothing(rig: Rig, source: Gateway, mode: str, late_s: float) -> None:
    source.faults.set({"core_late_s": late_s, "pro_late_s": late_s})
    assert_waits(open_(rig), Reason.PRICE_UNAVAILABLE, "no second source", "core is", "pro is", "s old")


def test_one_of_the_feeds_two_is_enough_and_none_is_not(rig: Rig, source: Gateway) -> None:
    source.faults.core_gone = True
    assert_goes(open_(rig))
    source.faults.pro_gone = True
    waits = open_(rig)
    assert (waits.state, waits.reason) == ("pending", Reason.PRICE_UNAVAILABLE)


def test_another_symbols_price_is_noticed(rig: Rig, source: Gateway) -> None:
    """As where the feed's pairs are numbered otherwise: ether's price under bitcoin's number."""
    source.faults.set({"core_off_pct": -96.5, "pro_off_pct": -96.5})
    assert_waits(open_(rig), Reason.PRICE_DEVIATES, "3500", "100000")


@pytest.mark.parametrize("fault", [{"feed_hang_s": 30.0}, {"feed_status": 429}, {"feed_status": 500}])
def test_a_feed_that_fails_keeps_opens_waiting_and_no_exit(
    rig: Rig, node: Proxy, source: Gateway, fault: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.intent()
    rig.run()
    source.faults.set(fault)
    grow_old(10)
    waits, close = rig.intent(), rig.intent(Action.CLOSE, position=Position.objects.get())
    with monkeypatch.context() as hurried:
        hurried.setattr(feed, "ANSWER_S", 0.3)
        hurried.setattr(feed, "WITHIN_S", 0.6)
        hurried.setattr(feed, "RULES", replace(feed.RULES, slow_s=0.2))
        feed.breaker.cache_clear()
        rig.submit()
        assert again(close).state == "pending_inclusion"
        assert (again(waits).state, again(waits).nonce) == ("pending", None)
        rig.run()
    assert again(waits).reason in {Reason.PRICE_UNAVAILABLE, Reason.WAITS_FOR_EARLIER_ORDER}
    source.faults.set({"feed_hang_s": 0.0, "feed_status": 200})
    feed.breaker.cache_clear()
    rig.finish()
    assert (again(close).state, again(waits).state) == ("filled", "filled")
    invariants.check(node)


def test_a_close_goes_whatever_the_sources_say(rig: Rig, source: Gateway, mode: str) -> None:
    open_(rig)
    rig.run()
    source.faults.set({"core_off_pct": 40.0, "pro_gone": True})
    close = rig.intent(Action.CLOSE)
    rig.run()
    assert again(close).state == ("simulated" if mode == "DRY" else "filled")


@pytest.mark.parametrize("action", [Action.OPEN, Action.CLOSE])
def test_a_price_of_the_chain_from_the_future_is_none(rig: Rig, mode: str, action: Action) -> None:
    if action is Action.CLOSE:
        open_(rig)
        rig.run()
    publish(100_000, published_at=head_s() + 600)
    intent = open_(rig, action=action)
    assert (intent.state, intent.reason, intent.nonce) == ("pending", Reason.PRICE_UNAVAILABLE, None)
    assert "in the future" in intent.reason_detail


def test_what_was_kept_is_good_for_some_seconds_and_no_longer(
    rig: Rig, source: Gateway, settings: Settings
) -> None:
    rounds.keep_feed()
    with scripted() as away:
        url = away.url
    lead_to(settings, url)
    grow_old(2)
    assert_goes(open_(rig))
    grow_old(4)
    waits = open_(rig)
    assert (waits.state, waits.reason) == ("pending", Reason.PRICE_UNAVAILABLE)
    assert "away" in waits.reason_detail


def test_a_look_that_was_not_compared_opens_nothing(rig: Rig, source: Gateway) -> None:
    """No path goes round it by forgetting it."""
    market = prices.look(["BTC-USD"], rig.wallet.address)
    problem = market.problem("BTC-USD", Action.OPEN)
    assert problem is not None
    assert "not asked" in problem.detail
    assert market.problem("BTC-USD", Action.CLOSE) is None
    assert prices.compare(market, ["BTC-USD"]).problem("BTC-USD", Action.OPEN) is None


def test_a_bell_writes_down_what_is_newer_and_says_what_is_missing(rig: Rig, source: Gateway) -> None:
    rounds.keep_feed()
    rows = {(row.symbol, row.source): row for row in FeedPrice.objects.all()}
    assert {symbol for symbol, _ in rows} == {"BTC-USD", "ETH-USD", "SOL-USD"}
    assert rows["BTC-USD", "core"].price == rows["BTC-USD", "pro"].price == 100_000
    source.faults.set({"core_late_s": 600.0, "core_off_pct": 1.0, "pro_late_s": -600.0})
    rounds.keep_feed()
    assert {(row.symbol, row.source): row for row in FeedPrice.objects.all()} == rows, "older, or of no clock"
    source.faults.set({"core_gone": True, "pro_gone": True})
    with pytest.raises(Retryable, match="no price of BTC-USD"):
        rounds.keep_feed()


def test_a_row_from_a_clock_that_was_set_back_is_replaced(
    rig: Rig, source: Gateway, settings: Settings
) -> None:
    rounds.keep_feed()
    grow_old(-3600)
    rounds.keep_feed()
    with scripted() as away:
        url = away.url
    lead_to(settings, url)
    assert_goes(open_(rig))

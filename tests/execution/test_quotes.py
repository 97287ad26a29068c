"""The newest prices as rows: fresh by whatever clock the chain has, and old when nothing new comes."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db.models import F

from execution_app.book import quotes
from execution_app.engine import rounds
from execution_app.models import Price
from execution_app.node import rpc
from ops.rehearsal import venue
from tests import real_parts
from tests.proxy import Proxy
from tests.rig import Rig, rpc_call

SYMBOLS = {"BTC-USD", "ETH-USD", "SOL-USD"}


@pytest.fixture(autouse=True)
def endpoints_anew() -> Iterator[None]:
    rpc.endpoints.cache_clear()
    yield
    rpc.endpoints.cache_clear()


def head_s() -> int:
    return int(rpc_call("eth_getBlockByNumber", "latest", False)["timestamp"], 16)


def next_block(rig: Rig, after_s: int = 2) -> None:
    """Several blocks of one second would carry the same time."""
    rpc_call("evm_setNextBlockTimestamp", head_s() + after_s)
    rig.mine()


def publish(price: int, published_at: int = 0, symbol: str = "BTC-USD") -> None:
    """With 0 the venue publishes it anew in every block."""
    rpc_call("evm_setAutomine", True)
    venue.set_price(real_parts.anvil.url, real_parts.deployment, symbol, Decimal(price), published_at)
    rpc_call("evm_setAutomine", False)


def pass_seconds(seconds: int) -> None:
    """The database's clock goes on: what was seen moves into the past."""
    past = timedelta(seconds=seconds)
    Price.objects.update(seen_at=F("seen_at") - past, first_seen_at=F("first_seen_at") - past)


def stale(after_s: float | None = None) -> set[str]:
    """Now, or exactly so long after the first look, by the database's clock."""
    rows = quotes.rows_by_symbol()
    for row in rows.values():
        if after_s is None:
            break
        row.now = row.first_seen_at + timedelta(seconds=after_s)  # type: ignore[attr-defined]
    return {symbol for symbol, age_s in quotes.ages_s(rows).items() if age_s > quotes.STALE_AFTER_S}


def change(settings: Any, **fields: Any) -> None:
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(update=fields)


def test_the_periodic_look_keeps_a_price_of_every_allowed_symbol(rig: Rig) -> None:
    assert quotes.ages_s() == dict.fromkeys(SYMBOLS, quotes.NEVER_SEEN_S)
    publish(61_000)
    rounds.compare_positions()
    rows = {row.symbol: row for row in Price.objects.all()}
    assert set(rows) == SYMBOLS
    assert rows["BTC-USD"].price == Decimal(61_000)
    assert int(rows["BTC-USD"].published_at.timestamp()) == head_s()
    assert stale() == set()


def test_all_symbols_are_read_in_one_request(rig: Rig, settings: Any) -> None:
    with Proxy(real_parts.anvil.url) as proxy:
        change(settings, base_rpc_url=proxy.url)
        rpc.endpoints.cache_clear()
        rpc.read("eth_chainId")  # a new connection is asked first who is there
        asked = proxy.requests
        quotes.keep()
        assert stale() == set()
        assert proxy.requests == asked + 1


def test_looks_that_stop_grow_stale_although_the_venue_goes_on(rig: Rig) -> None:
    quotes.keep()
    assert stale(30) == set()
    assert stale(30.001) == SYMBOLS
    pass_seconds(31)
    assert stale() == SYMBOLS
    next_block(rig)
    quotes.keep()
    assert stale() == set()


def test_a_price_that_the_venue_does_not_renew_is_as_old_as_the_chain_says(rig: Rig) -> None:
    at = head_s()
    publish(61_000, published_at=at)
    next_block(rig, at + 40 - head_s())
    quotes.keep()
    assert 40 <= quotes.ages_s()["BTC-USD"] < 70
    assert stale() == {"BTC-USD"}
    pass_seconds(10)
    assert quotes.ages_s()["BTC-USD"] >= 50


def test_a_chain_that_stands_still_makes_prices_old_however_often_one_looks(rig: Rig) -> None:
    quotes.keep()
    for _ in range(4):
        pass_seconds(10)
        quotes.keep()
    assert stale() == SYMBOLS, "by its own clock the chain's price is 0 s old for ever"
    next_block(rig)
    quotes.keep()
    assert stale() == set()


@pytest.mark.parametrize("ahead_s", [3600, -3600])
def test_a_chain_whose_clock_is_not_ours_has_fresh_prices(rig: Rig, ahead_s: int) -> None:
    """As after a restart of the rehearsal node: its clock jumps, also back."""
    quotes.keep()
    if ahead_s > 0:
        next_block(rig, ahead_s)
    else:  # a chain cannot be told to go back, so what was seen of it moves ahead
        jump = timedelta(seconds=-ahead_s)
        Price.objects.update(published_at=F("published_at") + jump, head_at=F("head_at") + jump)
    pass_seconds(31)
    quotes.keep()
    assert stale() == set()
    pass_seconds(31)
    assert stale() == SYMBOLS


def test_a_symbol_without_a_price_keeps_the_others_fresh(rig: Rig, settings: Any) -> None:
    change(settings, allowed_symbols="BTC-USD,XRP-USD,NOBODY-KNOWS")
    quotes.keep()
    publish(0, symbol="XRP-USD")
    next_block(rig)
    pass_seconds(31)
    quotes.keep()
    assert stale() == {"XRP-USD", "NOBODY-KNOWS"}


def test_without_a_venue_nothing_is_asked_and_nothing_is_fresh(database: None, settings: Any) -> None:
    change(settings, venue_price_aggregator_address="", base_rpc_url="http://127.0.0.1:1")
    quotes.keep()
    assert stale() == SYMBOLS


def test_a_node_that_is_away_is_a_fault_and_changes_nothing(rig: Rig, settings: Any) -> None:
    quotes.keep()
    before = list(Price.objects.order_by("symbol").values())
    change(settings, base_rpc_url="http://127.0.0.1:1")
    rpc.endpoints.cache_clear()
    with pytest.raises(rpc.RpcFault):
        quotes.keep()
    assert list(Price.objects.order_by("symbol").values()) == before


def test_an_older_look_that_ends_later_takes_nobodys_place(rig: Rig) -> None:
    quotes.keep()
    newest: datetime = Price.objects.get(pk="BTC-USD").seen_at
    quotes._store("BTC-USD", Decimal(1), 1, newest, look_age_s=60)
    row = Price.objects.get(pk="BTC-USD")
    assert (row.seen_at, row.price) == (newest, Decimal(100_000))


@pytest.mark.parametrize("published_at_s", [2**255, 10**12])
def test_a_time_that_no_calendar_knows_is_no_price(rig: Rig, published_at_s: int) -> None:
    quotes._store("BTC-USD", Decimal(1), published_at_s, datetime.now().astimezone(), look_age_s=0)
    assert not Price.objects.exists()

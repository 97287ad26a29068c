"""Gauges of prices: how old they are, how many sources have one, how far these lie apart, and which markets are open."""

from collections.abc import Collection

from django.conf import settings
from prometheus_client.core import GaugeMetricFamily, Metric

from execution_app.book import feed, quotes
from execution_app.book.deviation import widest
from execution_app.states import PriceSource

Families = list[Metric]


def ages() -> Families:
    family = GaugeMetricFamily(
        "vanta_price_age_seconds",
        "Age of the newest price of an allowed symbol; +Inf where none was ever seen.",
        labels=["symbol"],
    )
    for symbol, age_s in quotes.ages_s().items():
        family.add_metric([symbol], age_s)
    return [family]


def sources() -> Families:
    """What the next open would find, by the same rows and the same rules."""
    deviation = GaugeMetricFamily(
        "vanta_price_deviation_pct",
        "How far the fresh prices of a symbol lie apart, in percent of the lowest; NaN with fewer than two.",
        labels=["symbol"],
    )
    count = GaugeMetricFamily(
        "vanta_price_sources", "How many sources have a fresh price of a symbol.", labels=["symbol"]
    )
    is_open = GaugeMetricFamily(
        "vanta_market_open",
        "0 while the venue's catalogue calls a market closed, else 1.",
        labels=["symbol"],
    )
    symbols = sorted(settings.ENVIRONMENT.symbols)
    by_chain = quotes.newest(symbols).fresh
    seen = feed.known(symbols)
    closed = feed.closed(seen)
    for symbol, one in seen.items():
        prices = {PriceSource.CHAIN: by_chain[symbol]} if symbol in by_chain else {}
        prices |= one.fresh
        count.add_metric([symbol], len(prices))
        gap = widest(prices)
        deviation.add_metric([symbol], float("nan") if gap is None else float(gap.pct))
        is_open.add_metric([symbol], float(symbol not in closed))
    return [deviation, count, is_open, *_limits()]


def _limits() -> Families:
    """What the alerts hold the others against."""
    return [
        GaugeMetricFamily(
            "vanta_price_deviation_limit_pct",
            "MAX_PRICE_DEVIATION_PCT: above it nothing is opened and no level fires.",
            float(settings.ENVIRONMENT.max_price_deviation_pct),
        ),
        GaugeMetricFamily(
            "vanta_price_sources_wanted",
            "How many sources an open asks for: 2 where VERANTA_FEED_URL is set, else 1.",
            2.0 if feed.has_prices() else 1.0,
        ),
    ]


def one_source_only(symbols: Collection[str]) -> list[str]:
    """Of these symbols those for which a second source is wanted and has no fresh price, though their market is open."""
    if not feed.has_prices():
        return []
    seen = feed.known(symbols)
    closed = feed.closed(seen)
    return [symbol for symbol, one in seen.items() if not one.fresh and symbol not in closed]

"""What the venue's feed and catalogue say of symbols: kept as rows by a bell, asked for where no row is young enough.

All of it is for comparison and for market hours: orders are made by the chain's
price. Whoever looks judges the ages anew, by the database's clock, which a
publication's time is held against since both are the world's.
"""

import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from django.conf import settings
from django.db import connection

from execution_app.book import market_hours
from execution_app.book.deviation import widest
from execution_app.errors import Retryable
from execution_app.models import FeedPrice, MarketState
from execution_app.node import feed
from execution_app.states import PriceSource, Reason
from execution_app.venues import onchain
from execution_app.venues.feed import Leg, Listing

# A price counts for so long after its publication, for opens and for the watch alike: an older one says nothing of now,
# and held against a new one in a fast market it would keep a stop from firing.
FRESH = timedelta(seconds=5)
# Clocks may differ by so much; what was published later than that is from no clock of this world.
FUTURE = timedelta(seconds=5)
HOURS_FRESH = timedelta(seconds=60)
HOURS_EVERY = timedelta(seconds=15)

_KEEP = """
INSERT INTO feed_prices (symbol, source, price, published_at)
SELECT %(symbol)s, %(source)s, %(price)s, %(at)s::timestamptz WHERE %(at)s::timestamptz <= clock_timestamp() + make_interval(secs => %(future_s)s)
ON CONFLICT (symbol, source) DO UPDATE SET price = EXCLUDED.price, published_at = EXCLUDED.published_at
WHERE feed_prices.published_at < EXCLUDED.published_at
    OR feed_prices.published_at > clock_timestamp() + make_interval(secs => %(future_s)s)
"""
_KEEP_HOURS = """
INSERT INTO market_states (symbol, pair_name, is_listed, is_open, closes_only, next_open_at, next_close_at, seen_at)
VALUES (%s, %s, %s, %s, %s, %s, %s, clock_timestamp() - make_interval(secs => %s))
ON CONFLICT (symbol) DO UPDATE SET pair_name = EXCLUDED.pair_name, is_listed = EXCLUDED.is_listed,
    is_open = EXCLUDED.is_open, closes_only = EXCLUDED.closes_only, next_open_at = EXCLUDED.next_open_at,
    next_close_at = EXCLUDED.next_close_at, seen_at = EXCLUDED.seen_at
WHERE market_states.seen_at < EXCLUDED.seen_at OR market_states.seen_at > clock_timestamp()
"""
Told = Mapping[PriceSource, tuple[Decimal, datetime]]  # price in USD, time of publication


@dataclass(frozen=True)
class Seen:
    """What is known of one symbol at one moment of the database's clock.

    `told` is what the feed said last, however old; `hours` the catalogue's last word, None
    where that is older than HOURS_FRESH; `problem` why nothing newer could be asked.
    """

    at: datetime
    told: Told = field(default_factory=dict)
    hours: MarketState | None = None
    problem: str = ""

    @property
    def fresh(self) -> dict[PriceSource, Decimal]:
        """Prices that say something of now."""
        return {
            source: price
            for source, (price, published_at) in self.told.items()
            if -FUTURE <= self.at - published_at <= FRESH
        }

    def why_not_fresh(self) -> str:
        """In words, for where there is no fresh price."""
        ages = [
            f"{source.value} is {(self.at - published_at).total_seconds():.0f} s old"
            for source, (_, published_at) in sorted(self.told.items())
        ]
        return "; ".join([*ages, *([self.problem] if self.problem else [])]) or "the feed has none"


def has_prices() -> bool:
    return bool(settings.ENVIRONMENT.veranta_feed_url)


def has_hours() -> bool:
    return bool(settings.ENVIRONMENT.veranta_data_api_url)


def known(symbols: Collection[str]) -> dict[str, Seen]:
    """What the rows have of these symbols; asks nobody."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        (at,) = cursor.fetchone()
    told: dict[str, dict[PriceSource, tuple[Decimal, datetime]]] = {symbol: {} for symbol in symbols}
    for row in FeedPrice.objects.filter(symbol__in=symbols) if has_prices() else ():
        told[row.symbol][PriceSource(row.source)] = (row.price, row.published_at)
    states = MarketState.objects.filter(symbol__in=symbols) if has_hours() else ()
    hours = {row.symbol: row for row in states if abs(at - row.seen_at) <= HOURS_FRESH}
    return {symbol: Seen(at, told[symbol], hours.get(symbol)) for symbol in symbols}


def look(symbols: Collection[str]) -> dict[str, Seen]:
    """The same, with the feed and the catalogue asked about what no row is young enough for.

    Bounded in time, and never from inside of a transaction. It writes nothing down: not everybody who looks may.
    """
    begun_s = time.monotonic()
    found = known(symbols)
    bare = sorted(symbol for symbol, seen in found.items() if has_prices() and not seen.fresh)
    for symbol, answer in feed.prices(bare).items():
        if isinstance(answer, str):
            found[symbol] = replace(found[symbol], problem=answer)
        else:
            told = {source: (leg.price, _published(leg)) for source, leg in answer.items()}
            found[symbol] = replace(found[symbol], told=_newer(found[symbol], told))
    if has_hours() and any(seen.hours is None for seen in found.values()):
        found = _with_hours(found)
    took = timedelta(seconds=time.monotonic() - begun_s)
    return {symbol: replace(seen, at=seen.at + took) for symbol, seen in found.items()}


def _newer(seen: Seen, told: Told) -> Told:
    """By source the later publication: who answers may be behind who was asked before, but not behind the future."""
    return {
        **told,
        **{
            source: (price, published_at)
            for source, (price, published_at) in seen.told.items()
            if source not in told or told[source][1] < published_at <= seen.at + FUTURE
        },
    }


def _with_hours(found: Mapping[str, Seen]) -> dict[str, Seen]:
    try:
        listings = feed.catalogue()
    except Retryable as problem:
        said = str(problem)
        return {
            symbol: replace(seen, problem="; ".join([*filter(None, [seen.problem]), said]))
            for symbol, seen in found.items()
        }
    return {
        symbol: replace(seen, hours=seen.hours or _state(symbol, listings, seen.at))
        for symbol, seen in found.items()
    }


def closed(seen: Mapping[str, Seen]) -> set[str]:
    """Those that the catalogue calls closed, so that nobody publishes a price; not those that are to be closed only."""
    found = set()
    for symbol, one in seen.items():
        refusal = None if one.hours is None else market_hours.refusal(symbol, one.hours, one.at)
        if refusal is not None and refusal[0] is Reason.MARKET_CLOSED:
            found.add(symbol)
    return found


def deviating(prices: Mapping[str, Decimal], seen: Mapping[str, Seen] | None = None) -> dict[str, str]:
    """Of the chain's prices by symbol those that lie too far from what the feed says now, and in words how far.

    Where the feed says nothing of now nothing deviates: a level must not stay unwatched because a second source is
    away. `seen` is of all these symbols, where somebody has it already.
    """
    if not has_prices() or not prices:
        return {}
    limit_pct = settings.ENVIRONMENT.max_price_deviation_pct
    found = {}
    for symbol, one in (known(list(prices)) if seen is None else seen).items():
        gap = widest({PriceSource.CHAIN: prices[symbol], **one.fresh})
        if gap is not None and gap.exceeds(limit_pct):
            found[symbol] = gap.words(symbol, limit_pct)
    return found


def keep(also: Iterable[str] = ()) -> None:
    """Write down what the feed says of all allowed symbols and of others that are asked for; every HOURS_EVERY the catalogue, too.

    Raises Retryable where one of them tells less than that; what the other tells is kept.
    """
    symbols = {*settings.ENVIRONMENT.symbols, *also} & onchain.PAIRS.keys()
    problems = _keep_prices(sorted(symbols)) if has_prices() else []
    if has_hours() and symbols and _hours_are_due(symbols):
        begun_s = time.monotonic()
        try:
            _store_hours(symbols, feed.catalogue(), begun_s)
        except Retryable as problem:
            problems.append(str(problem))
    if problems:
        raise Retryable("; ".join(dict.fromkeys(problems)))


def _keep_prices(symbols: Collection[str]) -> list[str]:
    problems = []
    rows: list[dict[str, str | float | Decimal | datetime]] = []
    for symbol, answer in feed.prices(symbols).items():
        if isinstance(answer, str):
            problems.append(answer)
        elif not answer:
            problems.append(f"the feed has no price of {symbol}")
        else:
            rows += [
                {
                    "symbol": symbol,
                    "source": source.value,
                    "price": leg.price,
                    "at": _published(leg),
                    "future_s": FUTURE.total_seconds(),
                }
                for source, leg in answer.items()
            ]
    with connection.cursor() as cursor:
        cursor.executemany(_KEEP, rows)
    return problems


def _hours_are_due(symbols: Collection[str]) -> bool:
    seen = known(symbols)
    return any(one.hours is None or abs(one.at - one.hours.seen_at) >= HOURS_EVERY for one in seen.values())


def _store_hours(symbols: Iterable[str], listings: Mapping[int, Listing], begun_s: float) -> None:
    """A pair that the catalogue has no sound entry for is not written down, so that its last word grows old."""
    took_s = time.monotonic() - begun_s
    with connection.cursor() as cursor:
        for symbol in sorted(symbols):
            state = _state(symbol, listings, datetime.now(UTC))
            if state is not None:
                times = (state.next_open_at, state.next_close_at)
                flags = (state.is_listed, state.is_open, state.closes_only)
                cursor.execute(_KEEP_HOURS, [symbol, state.pair_name, *flags, *times, took_s])


def _state(symbol: str, listings: Mapping[int, Listing], at: datetime) -> MarketState | None:
    index = onchain.PAIRS.get(symbol)
    listing = None if index is None else listings.get(index)
    return None if listing is None else market_hours.state(symbol, listing, at)


def _published(leg: Leg) -> datetime:
    return datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=leg.published_ms)

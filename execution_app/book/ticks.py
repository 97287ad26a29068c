"""The history of prices: one row a symbol and STEP_S, for charts and for replays; nobody trades by it.

Only what was fresh is written down, so a hole in it is a hole in what was known.
"""

from collections.abc import Iterator
from datetime import datetime

from django.conf import settings
from django.db import connection

from execution_app.book import feed, quotes
from execution_app.models import PriceTick

# How often `compare_positions` looks; a day of it is 17,280 rows a symbol.
STEP_S = 5
CHUNK = 2_000

_KEEP = """
INSERT INTO price_ticks (symbol, at, price, core, pro)
SELECT p.symbol, date_bin(make_interval(secs => %(step_s)s), clock_timestamp(), 'epoch'), p.price, core.price, pro.price
FROM prices p
LEFT JOIN feed_prices core ON core.symbol = p.symbol AND core.source = 'core'
    AND clock_timestamp() - core.published_at BETWEEN make_interval(secs => -%(future_s)s) AND make_interval(secs => %(fresh_s)s)
LEFT JOIN feed_prices pro ON pro.symbol = p.symbol AND pro.source = 'pro'
    AND clock_timestamp() - pro.published_at BETWEEN make_interval(secs => -%(future_s)s) AND make_interval(secs => %(fresh_s)s)
WHERE p.symbol = ANY(%(symbols)s) AND clock_timestamp() - p.seen_at < make_interval(secs => %(step_s)s)
    AND p.head_at - p.published_at <= make_interval(secs => %(stale_s)s)
    AND clock_timestamp() - p.first_seen_at <= make_interval(secs => %(stale_s)s)
ON CONFLICT (symbol, at) DO NOTHING
"""


def keep() -> None:
    """Write down what the rows have of all allowed symbols now; a second time within STEP_S does nothing."""
    with connection.cursor() as cursor:
        cursor.execute(
            _KEEP,
            {
                "step_s": STEP_S,
                "stale_s": quotes.STALE_AFTER_S,
                "fresh_s": feed.FRESH.total_seconds(),
                "future_s": feed.FUTURE.total_seconds(),
                "symbols": sorted(settings.ENVIRONMENT.symbols),
            },
        )


def between(symbol: str, since: datetime, until: datetime) -> Iterator[PriceTick]:
    """In their order, `until` not among them; read in chunks, however many there are."""
    rows = PriceTick.objects.filter(symbol=symbol, at__gte=since, at__lt=until).order_by("at")
    yield from rows.iterator(chunk_size=CHUNK)

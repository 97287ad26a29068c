"""The newest price of every allowed symbol, kept as rows so that anybody can tell how old it is.

For watching only. Trading decisions look at the venue themselves, in `prices.look`.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from django.conf import settings
from django.db import connection
from django.db.models import Case, F, Q, When
from django.db.models.functions import Now

from execution_app.book.prices import FUTURE_S, price_calls, read_prices
from execution_app.models import Price
from execution_app.node import rpc

# Also how long a look may fail before its prices count as gone.
STALE_AFTER_S = 30
NEVER_SEEN_S = float("inf")
PRICE_LIMIT = Decimal(10**20)


@dataclass(frozen=True)
class Newest:
    """Prices by symbol as they are known at one moment of the database's clock.

    `fresh` has those that are at most STALE_AFTER_S old, `ages_s` the age of every
    other symbol that was asked for, infinite where no price was ever seen.
    """

    at: datetime
    fresh: dict[str, Decimal]
    ages_s: dict[str, float]


def newest(symbols: Sequence[str]) -> Newest:
    """What the rows have of these symbols; asks no node."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        (at,) = cursor.fetchone()
    rows = {row.symbol: row for row in Price.objects.filter(symbol__in=symbols).annotate(now=Now())}
    ages_s = {symbol: _age_s(rows[symbol]) if symbol in rows else NEVER_SEEN_S for symbol in symbols}
    fresh = {symbol: rows[symbol].price for symbol, age_s in ages_s.items() if age_s <= STALE_AFTER_S}
    return Newest(at, fresh, {symbol: age_s for symbol, age_s in ages_s.items() if symbol not in fresh})


def keep(also: Iterable[str] = ()) -> None:
    """Read all allowed symbols, and others that are asked for, in one batch and store what the venue has a price for.

    Raises RpcFault or NodeError when no node says what its head is; nothing is stored then.
    """
    environment = settings.ENVIRONMENT
    if not environment.venue_price_aggregator_address:
        return
    begun_s = time.monotonic()
    symbols, calls = price_calls({*environment.symbols, *also})
    block, *answers = rpc.read_batch([("eth_getBlockByNumber", ("latest", False)), *calls])
    if isinstance(block, rpc.NodeError):
        raise block
    if block is None:
        raise rpc.RpcFault("the node knows no latest block")
    head_at = datetime.fromtimestamp(int(block["timestamp"], 16), UTC)
    for symbol, (price, published_at_s) in read_prices(symbols, answers).items():
        if price < PRICE_LIMIT and published_at_s <= head_at.timestamp() + FUTURE_S:
            _store(symbol, price, published_at_s, head_at, time.monotonic() - begun_s)


def _store(symbol: str, price: Decimal, published_at_s: int, head_at: datetime, look_age_s: float) -> None:
    try:
        published_at = datetime.fromtimestamp(published_at_s, UTC)
    except (ValueError, OverflowError, OSError):
        return  # no time that a calendar knows: as good as no price
    # When the look began, since that is what it is about; it may have waited long for its answer.
    seen_at = Now() - timedelta(seconds=look_age_s)
    same = When(published_at=published_at, first_seen_at__lte=Now(), then=F("first_seen_at"))
    fields = {"price": price, "published_at": published_at, "head_at": head_at, "seen_at": seen_at}
    Price.objects.bulk_create([Price(symbol=symbol, **fields, first_seen_at=seen_at)], ignore_conflicts=True)
    # An older look that was answered late must not take a newer one's place. What was seen later than now was seen
    # before the clock was set back: it would stay, and be fresh, until that has caught up.
    older = Q(seen_at__lt=seen_at) | Q(seen_at__gt=Now())
    Price.objects.filter(older, symbol=symbol).update(**fields, first_seen_at=Case(same, default=seen_at))


def rows_by_symbol() -> dict[str, Price]:
    """The newest price of each symbol that has one, with the database's time as `now`."""
    return {row.symbol: row for row in Price.objects.annotate(now=Now())}


def ages_s(rows: Mapping[str, Price] | None = None) -> dict[str, float]:
    """How old the newest price of each allowed symbol is, in seconds; infinite where none was ever seen.

    The age at the look is told by the chain's clock alone, the time since by the database's alone: on a
    chain whose clock is not ours (a rehearsal chain that was restarted may even go back) a fresh price is
    fresh. A publication that does not change grows old by the database's clock, also while the chain's
    own stands still. `rows` are those of `rows_by_symbol`, where somebody has read them already.
    """
    rows = rows_by_symbol() if rows is None else rows
    return {
        symbol: _age_s(rows[symbol]) if symbol in rows else NEVER_SEEN_S
        for symbol in sorted(settings.ENVIRONMENT.symbols)
    }


def _age_s(row: Price) -> float:
    now: datetime = row.now  # type: ignore[attr-defined]
    by_chain = (row.head_at - row.published_at) + (now - row.seen_at)
    return max(by_chain, now - row.first_seen_at).total_seconds()

"""What the venue asks, as last seen, and what its feed says to compare it with; and the history of both."""

from django.db import models

from execution_app.models.columns import listed, one_of
from execution_app.models.columns import price as usd
from execution_app.states import PriceSource


class Price(models.Model):
    """The newest price of a symbol, for whoever watches; one row a symbol.

    `published_at` and `head_at` are the chain's time: when the venue published the price, and the head it
    was read at. `seen_at` and `first_seen_at` are the database's: the last look that succeeded, and the
    first that met this publication. The two clocks are never subtracted from one another.
    """

    symbol = models.CharField(max_length=32, primary_key=True)
    price = usd()
    published_at = models.DateTimeField()
    head_at = models.DateTimeField()
    seen_at = models.DateTimeField()
    first_seen_at = models.DateTimeField()

    class Meta:
        db_table = "prices"
        constraints = [
            models.CheckConstraint(
                condition=models.Q(price__gt=0, price__lt=10**20),
                name="ck_prices_price",
            )
        ]

    def __str__(self) -> str:
        return self.symbol


class FeedPrice(models.Model):
    """The newest price of a symbol by each of the feed's sources, to compare the chain's with; no order is made by it.

    `published_at` is the feed's clock, which is the world's; a publication never goes back.
    """

    symbol = models.CharField(max_length=32)
    source = one_of(PriceSource)
    price = usd()
    published_at = models.DateTimeField()

    class Meta:
        db_table = "feed_prices"
        constraints = [
            models.UniqueConstraint(fields=["symbol", "source"], name="uq_feed_prices_source"),
            listed("feed_prices", "source", PriceSource),
            models.CheckConstraint(
                condition=models.Q(price__gt=0, price__lt=10**20), name="ck_feed_prices_price"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.symbol} {self.source}"


class MarketState(models.Model):
    """Whether a symbol may be opened, as the venue's catalogue said at `seen_at` by the database's clock.

    `pair_name` is what the venue calls the pair that we take for this symbol. The next
    times are the catalogue's, blank where it tells none.
    """

    symbol = models.CharField(max_length=32, primary_key=True)
    pair_name = models.CharField(max_length=96)
    is_listed = models.BooleanField()
    is_open = models.BooleanField()
    closes_only = models.BooleanField()
    next_open_at = models.DateTimeField(null=True, blank=True)
    next_close_at = models.DateTimeField(null=True, blank=True)
    seen_at = models.DateTimeField()

    class Meta:
        db_table = "market_states"

    def __str__(self) -> str:
        return self.symbol


class PriceTick(models.Model):
    """The prices of a symbol at one of the moments that are kept, by the database's clock; written once.

    `price` is the chain's; `core` and `pro` are the feed's, blank where they were not fresh then.
    """

    symbol = models.CharField(max_length=32)
    at = models.DateTimeField()
    price = usd()
    core = usd(null=True, blank=True)
    pro = usd(null=True, blank=True)

    class Meta:
        db_table = "price_ticks"
        constraints = [
            models.UniqueConstraint(fields=["symbol", "at"], name="uq_price_ticks_at"),
            models.CheckConstraint(
                condition=models.Q(price__gt=0, price__lt=10**20)
                & (models.Q(core=None) | models.Q(core__gt=0, core__lt=10**20))
                & (models.Q(pro=None) | models.Q(pro__gt=0, pro__lt=10**20)),
                name="ck_price_ticks_price",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.symbol} {self.at.isoformat()}"

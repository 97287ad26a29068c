"""What the venue asks, as last seen; nobody trades on it."""

from django.db import models

from execution_app.models.columns import price


class Price(models.Model):
    """The newest price of a symbol, for whoever watches; one row a symbol.

    `published_at` and `head_at` are the chain's time: when the venue published the price, and the head it
    was read at. `seen_at` and `first_seen_at` are the database's: the last look that succeeded, and the
    first that met this publication. The two clocks are never subtracted from one another.
    """

    symbol = models.CharField(max_length=32, primary_key=True)
    price = price()
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

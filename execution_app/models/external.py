"""Trades in our traders' names that are not ours."""

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from execution_app.models.columns import leverage, price, usdc
from execution_app.models.traders import Trader


class ExternalTrade(models.Model):
    """A trade in a trader's name that no order of ours opened: seen at the venue, shown, and never touched by signals.

    `gone_at` is when the venue had it no more. What it is worth to whom is its owner's affair, so it is in no sum.
    """

    trader = models.ForeignKey(Trader, models.PROTECT, related_name="external_trades")
    venue = models.CharField(max_length=42)
    symbol = models.CharField(max_length=32)
    pair_index = models.PositiveIntegerField()
    trade_index = models.PositiveIntegerField()
    is_long = models.BooleanField()
    collateral_usdc = usdc()
    leverage_x = leverage()
    open_price = price()
    venue_timestamp = models.DateTimeField()
    seen_at = models.DateTimeField(db_default=Now())
    gone_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        db_table = "external_trades"
        constraints = [
            models.UniqueConstraint(
                fields=["trader", "venue", "pair_index", "trade_index"],
                condition=Q(gone_at__isnull=True),
                name="uq_external_trades_slot",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.symbol} #{self.trade_index} of trader {self.trader_id}"

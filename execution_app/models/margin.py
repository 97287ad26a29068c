"""Collateral that went into open trades, or out of them, by a call of its own."""

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from execution_app.models.book import Position
from execution_app.models.columns import leverage, usdc
from execution_app.models.intents import TxIntent
from execution_app.models.kinds import BEYOND


class MarginChange(models.Model):
    """USDC that went into an open trade, or out of it, by a call of its own: its leverage and its time follow, its notional stays.

    `change_usdc` is above zero where it went in; the rest is the trade afterwards, at which its fold begins. A LIVE row
    goes with its block until that is final. A simulated one has no place on a chain: it came after the fill `after_fill`.
    """

    position = models.ForeignKey(Position, models.PROTECT, related_name="margin_changes")
    # Blank where its owner did it by hand.
    intent = models.OneToOneField(
        TxIntent, models.PROTECT, null=True, blank=True, related_name="margin_change"
    )
    change_usdc = usdc()
    collateral_usdc = usdc()
    leverage_x = leverage()
    venue_timestamp = models.DateTimeField(null=True, blank=True)
    tx_hash = models.CharField(max_length=66)
    log_index = models.PositiveIntegerField()
    block_number = models.BigIntegerField(null=True, blank=True)
    block_hash = models.CharField(max_length=66, blank=True)
    after_fill = models.BigIntegerField(null=True, blank=True)
    seen_at = models.DateTimeField(db_default=Now(), editable=False)
    settled_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        db_table = "margin_changes"
        constraints = [
            models.UniqueConstraint(fields=["tx_hash", "log_index"], name="uq_margin_changes_event"),
            # PostgreSQL sorts NaN above every number, so an upper bound keeps it out.
            models.CheckConstraint(
                condition=~Q(change_usdc=0) & Q(change_usdc__gt=-BEYOND, change_usdc__lt=BEYOND),
                name="ck_margin_changes_change",
            ),
            models.CheckConstraint(
                condition=Q(collateral_usdc__gt=0, collateral_usdc__lt=BEYOND),
                name="ck_margin_changes_collateral",
            ),
            models.CheckConstraint(
                condition=Q(leverage_x__gt=0, leverage_x__lt=10**6), name="ck_margin_changes_leverage"
            ),
            models.CheckConstraint(
                condition=Q(
                    block_number__isnull=False, venue_timestamp__isnull=False, after_fill__isnull=True
                )
                | Q(
                    block_number__isnull=True,
                    venue_timestamp__isnull=True,
                    after_fill__isnull=False,
                    intent__isnull=False,
                    settled_at__isnull=False,
                ),
                name="ck_margin_changes_place",
            ),
        ]
        indexes = [
            models.Index(
                fields=["id"], condition=Q(settled_at__isnull=True), name="ix_margin_changes_unsettled"
            ),
        ]

    def __str__(self) -> str:
        return f"position {self.position_id}: {self.change_usdc} USDC"

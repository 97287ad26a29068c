"""What a simulation would have made of a LIVE order, estimated before it left, and how far its fill was from that."""

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from execution_app.models.columns import price, usdc
from execution_app.models.intents import TxIntent
from execution_app.models.protection import HIGHEST_PRICE


class Shadow(models.Model):
    """The estimate of one LIVE order, and the gap to its fill; prices in USD.

    Gaps are what LIVE was worse by: `price_gap_pct` in percent of the estimated
    price, `fee_gap_usdc`, and `delay_ms` from the estimate, at which a simulation
    fills, to the moment the fill was read. All blank until there is a fill, and
    again where it left the chain. `refusal` is why a simulation would not have filled.
    """

    intent = models.OneToOneField(TxIntent, models.PROTECT, related_name="shadow")
    oracle_price = price()
    price = price()
    fee_usdc = usdc()
    refusal = models.CharField(max_length=200, blank=True, default="", db_default="")
    estimated_at = models.DateTimeField(db_default=Now(), editable=False)
    price_gap_pct = models.DecimalField(max_digits=16, decimal_places=6, null=True, blank=True)
    fee_gap_usdc = usdc(null=True, blank=True)
    delay_ms = models.BigIntegerField(null=True, blank=True)

    class Meta:
        db_table = "shadow_fills"
        constraints = [
            models.CheckConstraint(
                condition=Q(
                    oracle_price__gt=0, oracle_price__lt=HIGHEST_PRICE, price__gt=0, price__lt=HIGHEST_PRICE
                ),
                name="ck_shadow_fills_price",
            ),
            models.CheckConstraint(
                condition=Q(fee_usdc__gte=0, fee_usdc__lt=10**18), name="ck_shadow_fills_fee"
            ),
            # A gap is whole or not there, and NaN is no gap.
            models.CheckConstraint(
                condition=Q(price_gap_pct__isnull=True, fee_gap_usdc__isnull=True, delay_ms__isnull=True)
                | Q(
                    price_gap_pct__isnull=False,
                    price_gap_pct__lt=10**10,
                    fee_gap_usdc__isnull=False,
                    fee_gap_usdc__lt=10**18,
                    delay_ms__isnull=False,
                    delay_ms__gte=0,
                ),
                name="ck_shadow_fills_gap",
            ),
        ]
        indexes = [
            models.Index(
                fields=["estimated_at"], condition=Q(delay_ms__isnull=False), name="ix_shadow_fills_filled"
            )
        ]

    def __str__(self) -> str:
        return f"shadow of {self.intent_id}"

"""What guards a position beside the venue: levels as versions that never change, and what fired."""

from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now

from execution_app.models.book import Position
from execution_app.models.columns import factor, listed, one_of, price
from execution_app.models.intents import TxIntent
from execution_app.states import TriggerKind

HIGHEST_PRICE = 10**20
# PostgreSQL sorts NaN above every number, so an upper bound keeps it out.
_PRICES = ("take_profit", "stop_loss", "trailing_stop_usd", "watermark")


class Protection(models.Model):
    """One version of a position's levels, in USD; a newer one takes its place, and one without levels is none.

    `watermark` is the best price seen since it began, kept only where a trailing
    stop or a break-even needs it; it never gets worse (a trigger refuses it).
    `native_crossed_at` is since when a level is crossed that the venue itself should
    have closed at. `closes_at` is by the database's clock.
    """

    position = models.ForeignKey(Position, models.PROTECT, related_name="protections")
    version = models.PositiveIntegerField()
    is_long = models.BooleanField()
    take_profit = price(null=True, blank=True)
    stop_loss = price(null=True, blank=True)
    trailing_stop_pct = factor(null=True, blank=True)
    trailing_stop_usd = price(null=True, blank=True)
    break_even_pct = factor(null=True, blank=True)
    closes_at = models.DateTimeField(null=True, blank=True)
    set_by = models.CharField(max_length=150)
    reason = models.CharField(max_length=400, blank=True, default="", db_default="")
    set_at = models.DateTimeField(db_default=Now(), editable=False)
    ended_at = models.DateTimeField(null=True, blank=True)
    watermark = price(null=True, blank=True)
    native_crossed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        db_table = "protections"
        constraints = [
            models.UniqueConstraint(fields=["position", "version"], name="uq_protections_version"),
            # One version counts; also what the watch reads, however long the history.
            models.UniqueConstraint(
                fields=["position"], condition=Q(ended_at__isnull=True), name="uq_protections_current"
            ),
            models.CheckConstraint(condition=Q(version__gte=1), name="ck_protections_version"),
            *(
                models.CheckConstraint(
                    condition=Q(**{f"{name}__isnull": True})
                    | Q(**{f"{name}__gt": 0, f"{name}__lt": HIGHEST_PRICE}),
                    name=f"ck_protections_{name}",
                )
                for name in _PRICES
            ),
            models.CheckConstraint(
                condition=Q(trailing_stop_pct__isnull=True)
                | Q(trailing_stop_pct__gt=0, trailing_stop_pct__lte=100, trailing_stop_usd__isnull=True),
                name="ck_protections_trailing_stop_pct",
            ),
            models.CheckConstraint(
                condition=Q(break_even_pct__isnull=True) | Q(break_even_pct__gt=0, break_even_pct__lte=100),
                name="ck_protections_break_even_pct",
            ),
            models.CheckConstraint(
                condition=Q(take_profit__isnull=True)
                | Q(stop_loss__isnull=True)
                | Q(is_long=True, stop_loss__lt=F("take_profit"))
                | Q(is_long=False, stop_loss__gt=F("take_profit")),
                name="ck_protections_sides",
            ),
            models.CheckConstraint(condition=~Q(set_by=""), name="ck_protections_set_by"),
        ]

    def __str__(self) -> str:
        return f"version {self.version} of position {self.position_id}"


class ProtectionTrigger(models.Model):
    """The one time that a version fired, with the close that it asked for; append-only (a trigger refuses more)."""

    protection = models.OneToOneField(Protection, models.PROTECT, related_name="trigger")
    intent = models.OneToOneField(TxIntent, models.PROTECT, related_name="protection_trigger")
    kind = one_of(TriggerKind)
    level = price(null=True, blank=True)
    # Both blank for a time stop: what the price was did not matter.
    price = price(null=True, blank=True)
    detail = models.CharField(max_length=200, blank=True, default="", db_default="")
    at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        db_table = "protection_triggers"
        constraints = [
            listed("protection_triggers", "kind", TriggerKind),
            models.CheckConstraint(
                condition=Q(kind=TriggerKind.TIME_STOP.value, level__isnull=True)
                | Q(price__isnull=False, level__isnull=False, level__gt=0, level__lt=HIGHEST_PRICE),
                name="ck_protection_triggers_level",
            ),
            models.CheckConstraint(
                condition=Q(price__isnull=True) | Q(price__gt=0, price__lt=HIGHEST_PRICE),
                name="ck_protection_triggers_price",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} of {self.protection}"

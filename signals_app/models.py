"""Signals as they came in, who may send them, and what was decided."""

from enum import StrEnum

from django.db import models
from django.db.models.functions import Now

from execution_app.models.columns import factor, listed, one_of, price, usdc

# A source may send this much at once and this much a minute for ever, unless its row says less.
DEFAULT_BURST = 1_000
DEFAULT_PER_MINUTE = 3_000


class Source(models.Model):
    """What an operator has laid down about one source of signals; closes have a limit of their own."""

    name = models.CharField(max_length=64, primary_key=True)
    open_burst = models.PositiveIntegerField(default=DEFAULT_BURST)
    opens_per_minute = models.PositiveIntegerField(default=DEFAULT_PER_MINUTE)
    close_burst = models.PositiveIntegerField(default=DEFAULT_BURST)
    closes_per_minute = models.PositiveIntegerField(default=DEFAULT_PER_MINUTE)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        db_table = "sources"
        constraints = [
            # At zero nothing would ever pass, and for an exit that must not be possible.
            models.CheckConstraint(
                condition=models.Q(
                    open_burst__gte=1, opens_per_minute__gte=1, close_burst__gte=1, closes_per_minute__gte=1
                ),
                name="ck_sources_limits",
            )
        ]

    def __str__(self) -> str:
        return self.name


class SourceSecret(models.Model):
    """A secret of one source, sealed (see seals). A source with a row here is never served by the default."""

    source = models.ForeignKey(Source, on_delete=models.PROTECT, db_column="source", related_name="secrets")
    sealed = models.BinaryField()
    active = models.BooleanField(default=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    retired_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        db_table = "source_secrets"
        constraints = [
            models.CheckConstraint(
                condition=models.Q(active=True, retired_at__isnull=True)
                | models.Q(active=False, retired_at__isnull=False),
                name="ck_source_secrets_retired",
            )
        ]
        indexes = [
            models.Index(fields=["id"], condition=models.Q(active=True), name="ix_source_secrets_active")
        ]

    def __str__(self) -> str:
        return f"secret {self.pk} of {self.source_id}"


class SourceBucket(models.Model):
    """How much a source may still send at once; the blank one is shared by all that nobody granted anything."""

    source = models.CharField(max_length=64, blank=True)
    kind = models.CharField(max_length=5)
    tokens = models.FloatField()
    refilled_at = models.DateTimeField()

    class Meta:
        db_table = "source_buckets"
        constraints = [
            models.UniqueConstraint(fields=["source", "kind"], name="uq_source_buckets"),
            models.CheckConstraint(condition=models.Q(kind__in=["close", "open"]), name="ck_buckets_kind"),
        ]

    def __str__(self) -> str:
        return f"{self.kind}s of {self.source or 'all others'}"


class SourceGrant(models.Model):
    """Permission for a source to trade for a trader (by Telegram id)."""

    source = models.CharField(max_length=64)
    tg_user_id = models.BigIntegerField()
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        db_table = "source_grants"
        constraints = [models.UniqueConstraint(fields=["source", "tg_user_id"], name="uq_source_grants")]

    def __str__(self) -> str:
        return f"{self.source} for {self.tg_user_id}"


class Signal(models.Model):
    """One accepted request; its content never changes (a trigger refuses it).

    `body_sha256` is over the validated, canonical payload, so key order and
    number spelling do not matter.
    """

    source = models.CharField(max_length=64)
    signal_id = models.CharField(max_length=128)
    body_sha256 = models.CharField(max_length=64)
    tg_user_id = models.BigIntegerField()
    symbol = models.CharField(max_length=32)
    side = models.CharField(max_length=8)
    collateral_usdc = usdc(null=True, blank=True)
    leverage_x = factor(null=True, blank=True)
    slippage_pct = factor(null=True, blank=True)
    reduce_usdc = usdc(null=True, blank=True)
    reduce_pct = factor(null=True, blank=True)
    take_profit = price(null=True, blank=True)
    stop_loss = price(null=True, blank=True)
    trailing_stop_pct = factor(null=True, blank=True)
    break_even_pct = factor(null=True, blank=True)
    time_stop_s = models.PositiveIntegerField(null=True, blank=True)
    order_type = models.CharField(max_length=16, default="market")
    limit_price = price(null=True, blank=True)
    # The signal_id of this source whose order is changed.
    changes = models.CharField(max_length=128, null=True, blank=True)  # noqa: DJ001  (NULL is "not given", as beside it)
    # Into the trader's one position on the symbol, or out of it.
    deposit_usdc = usdc(null=True, blank=True)
    withdraw_usdc = usdc(null=True, blank=True)
    max_lag_s = models.PositiveIntegerField(null=True, blank=True)
    ts = models.DateTimeField(null=True, blank=True)
    meta = models.JSONField(default=dict, blank=True)
    received_at = models.DateTimeField(db_default=Now())
    decided_at = models.DateTimeField(null=True, blank=True)
    decision = models.CharField(max_length=16, blank=True, default="")
    reasons = models.JSONField(default=list, blank=True)
    # Of Standard Webhooks; kept as long as the signal, so an id is never forgotten.
    webhook_id = models.CharField(max_length=128, blank=True, default="", db_default="")
    # The secret that verified; NULL for the default one.
    secret = models.ForeignKey(
        SourceSecret, on_delete=models.PROTECT, null=True, blank=True, db_index=False, related_name="+"
    )

    class Meta:
        db_table = "signals"
        constraints = [
            models.UniqueConstraint(fields=["source", "signal_id"], name="uq_signals_source_signal_id"),
            models.UniqueConstraint(
                fields=["source", "webhook_id"],
                condition=~models.Q(webhook_id=""),
                name="uq_signals_source_webhook_id",
            ),
            models.CheckConstraint(
                condition=models.Q(side__in=["CHANGE", "CLOSE", "INCREASE", "LONG", "MARGIN", "SHORT"]),
                name="ck_signals_side",
            ),
            # Only of what is changed a blank says "as it is"; margin has no price.
            models.CheckConstraint(
                condition=models.Q(side="CHANGE", changes__isnull=False)
                | models.Q(side="MARGIN", changes__isnull=True, slippage_pct__isnull=True)
                | (
                    ~models.Q(side__in=["CHANGE", "MARGIN"])
                    & models.Q(changes__isnull=True, slippage_pct__isnull=False)
                ),
                name="ck_signals_changes",
            ),
            models.CheckConstraint(
                condition=models.Q(side="MARGIN", deposit_usdc__isnull=False, withdraw_usdc__isnull=True)
                | models.Q(side="MARGIN", deposit_usdc__isnull=True, withdraw_usdc__isnull=False)
                | (
                    ~models.Q(side="MARGIN") & models.Q(deposit_usdc__isnull=True, withdraw_usdc__isnull=True)
                ),
                name="ck_signals_margin",
            ),
            models.CheckConstraint(
                condition=models.Q(decision__in=["", "accepted", "rejected"]), name="ck_signals_decision"
            ),
        ]
        indexes = [
            models.Index(
                fields=["id"], condition=models.Q(decided_at__isnull=True), name="ix_signals_undecided"
            ),
            models.Index(
                fields=["secret", "id"],
                condition=models.Q(secret__isnull=False),
                name="ix_signals_secret",
            ),
        ]

    def __str__(self) -> str:
        return self.intent_key

    @property
    def intent_key(self) -> str:
        return f"sig:{self.source}:{self.signal_id}"


class TokenScope(StrEnum):
    READ = "read"  # traces; nothing that changes anything


class ApiToken(models.Model):
    """Who may read over HTTP. Of the token itself only its SHA-256 is kept; rows stay, so a name stands for one token."""

    name = models.CharField(max_length=64)
    sha256 = models.CharField(max_length=64)
    scope = one_of(TokenScope, default=TokenScope.READ.value)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    # Written once a minute at most.
    last_used_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        db_table = "api_tokens"
        constraints = [
            models.UniqueConstraint(fields=["name"], name="uq_api_tokens_name"),
            models.UniqueConstraint(fields=["sha256"], name="uq_api_tokens_sha256"),
            # A token written here by mistake, rather than its hash, does not get in.
            models.CheckConstraint(
                condition=models.Q(sha256__regex=r"^[0-9a-f]{64}$"), name="ck_api_tokens_sha256"
            ),
            models.CheckConstraint(
                condition=models.Q(expires_at__isnull=True) | models.Q(expires_at__gt=models.F("created_at")),
                name="ck_api_tokens_expires_later",
            ),
            listed("api_tokens", "scope", TokenScope),
        ]

    def __str__(self) -> str:
        return self.name

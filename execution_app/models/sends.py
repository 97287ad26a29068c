"""Signed bytes and what the chain did with them. Sends are append-only and cannot be deleted."""

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from execution_app.models.columns import listed, one_of, wei
from execution_app.models.intents import TxIntent
from execution_app.models.kinds import MOST_WEI
from execution_app.states import SendKind, SendOutcome


class TxSend(models.Model):
    """One signed transaction of an intent's slot. The bytes are stored before any node sees them."""

    intent = models.ForeignKey(TxIntent, models.PROTECT, related_name="sends")
    attempt = models.PositiveIntegerField()
    kind = one_of(SendKind)
    tx_hash = models.CharField(max_length=66, unique=True)
    raw = models.BinaryField()
    max_fee_wei = wei()
    tip_wei = wei()
    signed_at = models.DateTimeField(db_default=Now())
    # Announced here before each network call that may be the first to reach a node.
    leased_at = models.DateTimeField(null=True, blank=True)
    offered_at = models.DateTimeField(null=True, blank=True)
    last_offered_at = models.DateTimeField(null=True, blank=True)
    offers = models.PositiveIntegerField(default=0)
    # When a node first said, or a receipt showed, that it holds these bytes: only then have they left for sure.
    held_at = models.DateTimeField(null=True, blank=True)
    # When it was first found unmined past the bump timer at the lowest nonce.
    stuck_at = models.DateTimeField(null=True, blank=True)
    outcome = one_of(SendOutcome, default=SendOutcome.UNOFFERED.value)

    class Meta:
        db_table = "tx_sends"
        constraints = [
            models.UniqueConstraint(fields=["intent", "attempt"], name="uq_tx_sends_attempt"),
            # One order is signed once for a slot; what follows replaces or cancels it.
            models.UniqueConstraint(
                fields=["intent"], condition=Q(kind=SendKind.EXEC.value), name="uq_tx_sends_exec"
            ),
            models.CheckConstraint(condition=Q(tip_wei__lte=models.F("max_fee_wei")), name="ck_tx_sends_tip"),
            models.CheckConstraint(condition=Q(tip_wei__gte=0), name="ck_tx_sends_tip_positive"),
            listed("tx_sends", "kind", SendKind),
            listed("tx_sends", "outcome", SendOutcome),
        ]
        indexes = [
            # Few, and asked for beside every receipt of a day.
            models.Index(fields=["id"], condition=Q(kind=SendKind.CANCEL.value), name="ix_tx_sends_cancels"),
        ]

    def __str__(self) -> str:
        return self.tx_hash


class SignRequest(models.Model):
    """A transaction that a remote signer has still to sign; gone as soon as its bytes are stored.

    Kept from a commit before the signer is asked to the commit of its answer, so
    that a crash, or a signer that is away, loses nothing: the same slot is signed
    again. `lease` names whoever asks just now; an answer under another is not used.
    """

    intent = models.OneToOneField(TxIntent, models.PROTECT, related_name="sign_request")
    attempt = models.PositiveIntegerField()
    kind = one_of(SendKind)
    max_fee_wei = wei()
    tip_wei = wei()
    asked_at = models.DateTimeField(db_default=Now())
    leased_at = models.DateTimeField(null=True, blank=True)
    lease = models.UUIDField(null=True, blank=True)
    tries = models.PositiveIntegerField(default=0)
    next_try_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        db_table = "sign_requests"
        constraints = [
            listed("sign_requests", "kind", SendKind),
            models.CheckConstraint(
                condition=Q(tip_wei__gte=0, tip_wei__lte=models.F("max_fee_wei")),
                name="ck_sign_requests_fee",
            ),
            models.CheckConstraint(
                condition=Q(leased_at__isnull=True, lease__isnull=True)
                | Q(leased_at__isnull=False, lease__isnull=False),
                name="ck_sign_requests_lease",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} of intent {self.intent_id}"


class TxReceipt(models.Model):
    """A receipt as last seen; `canonical` says whether its block still is."""

    send = models.OneToOneField(TxSend, models.PROTECT, related_name="receipt")
    intent = models.ForeignKey(TxIntent, models.PROTECT, related_name="receipts")
    block_number = models.BigIntegerField()
    block_hash = models.CharField(max_length=66)
    status = models.PositiveSmallIntegerField()
    gas_used = models.BigIntegerField()
    effective_gas_price_wei = wei()
    # What the chain below charged for the data; OP chains say it, others charge nothing.
    l1_fee_wei = wei(default=0, db_default=0)
    canonical = models.BooleanField(default=True)
    seen_at = models.DateTimeField(db_default=Now())

    class Meta:
        db_table = "tx_receipts"
        constraints = [
            # At most one canonical execution per intent.
            models.UniqueConstraint(
                fields=["intent"], condition=Q(canonical=True), name="uq_tx_receipts_canonical"
            ),
            models.CheckConstraint(condition=Q(status__in=[0, 1]), name="ck_tx_receipts_status"),
            models.CheckConstraint(
                condition=Q(l1_fee_wei__gte=0, l1_fee_wei__lt=MOST_WEI), name="ck_tx_receipts_l1_fee"
            ),
        ]
        # What was spent today.
        indexes = [models.Index(fields=["seen_at"], name="ix_tx_receipts_seen_at")]

    def __str__(self) -> str:
        return f"receipt in block {self.block_number}"

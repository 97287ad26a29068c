"""Signed messages for the venue's gateway. Append-only; their bytes are stored before the gateway sees them."""

from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now

from execution_app.models.columns import listed, one_of
from execution_app.models.intents import TxIntent
from execution_app.states import SendOutcome

# 2001 and 2286 in unix milliseconds.
FIRST_MS, BEYOND_MS = 10**12, 10**13


class VenueMessage(models.Model):
    """The one message of an intent: the same bytes however often they are posted.

    The venue executes a nonce of a signer once; it is made of the intent's key.
    """

    intent = models.OneToOneField(TxIntent, models.PROTECT, related_name="message")
    signer = models.CharField(max_length=42)
    nonce = models.CharField(max_length=66)  # a uint256, 0x and 64 hex digits
    digest = models.CharField(max_length=66, unique=True)
    content = models.BinaryField()  # the struct as the contract takes it
    deadline_ms = models.BigIntegerField()  # unix milliseconds of the chain's clock
    from_block = models.BigIntegerField()  # it was not signed before this block
    signature = models.BinaryField()  # r, s, v; nothing until a signer over a network has signed
    made_at = models.DateTimeField(db_default=Now())
    # A signer over a network is asked for its signature: announced before each time, with the lease's name.
    sign_leased_at = models.DateTimeField(null=True, blank=True)
    sign_lease = models.UUIDField(null=True, blank=True)
    sign_tries = models.PositiveIntegerField(default=0, db_default=0)
    sign_after = models.DateTimeField(null=True, blank=True)
    # Announced here before each request that may be the first to reach the gateway.
    leased_at = models.DateTimeField(null=True, blank=True)
    posted_at = models.DateTimeField(null=True, blank=True)
    last_posted_at = models.DateTimeField(null=True, blank=True)
    posts = models.PositiveIntegerField(default=0)
    # When the gateway first said, or the chain showed, that it has these bytes.
    held_at = models.DateTimeField(null=True, blank=True)
    outcome = one_of(SendOutcome, default=SendOutcome.UNOFFERED.value)
    # What the gateway calls it; blank while nothing is known there, so that it is posted again.
    tracking_id = models.CharField(max_length=64, blank=True, default="", db_default="")
    last_seq = models.IntegerField(default=-1, db_default=-1)  # of the events that were read
    said = models.CharField(
        max_length=200, blank=True, default="", db_default=""
    )  # the last of them; proves nothing
    asked_at = models.DateTimeField(null=True, blank=True)  # for its status
    # The block, behind its deadline, at which a majority of endpoints showed it unused.
    unused_at_block = models.BigIntegerField(null=True, blank=True)
    unused_at_hash = models.CharField(max_length=66, blank=True, default="", db_default="")
    # Of new levels, which register no order: the block at which their nonce was seen spent.
    spent_at_block = models.BigIntegerField(null=True, blank=True)
    spent_at_hash = models.CharField(max_length=66, blank=True, default="", db_default="")

    class Meta:
        db_table = "venue_messages"
        constraints = [
            models.UniqueConstraint(fields=["signer", "nonce"], name="uq_venue_messages_nonce"),
            models.CheckConstraint(
                condition=Q(signer__regex=r"^0x[0-9a-fA-F]{40}$", nonce__regex=r"^0x[0-9a-f]{64}$"),
                name="ck_venue_messages_nonce",
            ),
            models.CheckConstraint(
                condition=Q(deadline_ms__gte=FIRST_MS, deadline_ms__lt=BEYOND_MS),
                name="ck_venue_messages_deadline",
            ),
            # What was never announced has not left by us.
            models.CheckConstraint(
                condition=Q(posted_at__isnull=True)
                | Q(leased_at__isnull=False, posted_at__lte=F("last_posted_at")),
                name="ck_venue_messages_leased_first",
            ),
            models.CheckConstraint(
                condition=Q(spent_at_block__isnull=True, spent_at_hash="")
                | Q(spent_at_block__gte=0, spent_at_hash__regex=r"^0x[0-9a-fA-F]{64}$"),
                name="ck_venue_messages_spent_at",
            ),
            # Nothing leaves unsigned, and what is signed is not signed again.
            models.CheckConstraint(
                condition=Q(signature=b"", leased_at__isnull=True)
                | (~Q(signature=b"") & Q(sign_leased_at__isnull=True, sign_lease__isnull=True)),
                name="ck_venue_messages_signed_first",
            ),
            listed("venue_messages", "outcome", SendOutcome),
        ]

    def __str__(self) -> str:
        return self.digest

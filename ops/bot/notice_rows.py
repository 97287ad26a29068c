"""What is told without being asked: to whom, how loudly, how far it has got, and up to where everything was told."""

from enum import StrEnum

from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now

from execution_app.models.columns import listed, one_of


class Event(StrEnum):
    """What somebody may be told of; each is set apart by `/notify`."""

    ACCEPTED = "accepted"  # an order was taken, or waits
    REFUSED = "refused"  # it ended without having been sent, and why
    SENT = "sent"  # a node has it
    REPLACED = "replaced"  # sent anew with a higher fee, or cancelled in its slot
    MINED = "mined"  # in a block, or no longer in one
    FILLED = "filled"
    REVERTED = "reverted"  # it was sent and came to nothing
    LEVEL = "level"  # a take-profit, a stop or another level of ours was hit
    LIQUIDATED = "liquidated"  # the venue has the trade no more, by no close of ours
    DRIFT = "drift"  # the venue has another trade than the book
    MODE = "mode"  # stop, reduce-only, DRY and LIVE
    GAS = "gas"  # a wallet runs out of gas money
    DELEGATE = "delegate"  # a delegation ends
    BOUND = "bound"  # what came of the page of /bind
    ROLE = "role"  # what somebody may do here has become less
    DAILY = "daily"  # what the UTC day brought


class Level(StrEnum):
    """How loudly."""

    ON = "on"
    SILENT = "silent"  # without a sound
    OFF = "off"


class TelegramChat(models.Model):
    """One person's chat: in which language, and whether Telegram lets us write there.

    `asked_language` is what they chose, `language` what their Telegram is set to; both may be blank.
    """

    tg_user_id = models.BigIntegerField(primary_key=True)
    asked_language = models.CharField(max_length=8, blank=True, default="", db_default="")
    language = models.CharField(max_length=35, blank=True, default="", db_default="")
    # Since when nothing can be delivered there; what they write next opens it again.
    closed_at = models.DateTimeField(null=True, blank=True)
    closed_why = models.CharField(max_length=200, blank=True, default="", db_default="")

    class Meta:
        db_table = "telegram_chats"
        constraints = [
            models.CheckConstraint(condition=Q(tg_user_id__gt=0), name="ck_telegram_chats_id"),
            models.CheckConstraint(
                condition=Q(closed_at__isnull=True, closed_why="")
                | (Q(closed_at__isnull=False) & ~Q(closed_why="")),
                name="ck_telegram_chats_closed",
            ),
        ]

    def __str__(self) -> str:
        return f"chat {self.tg_user_id}"


class NoticeLevel(models.Model):
    """How loudly one person wants to be told of one kind of event; without a row it is the default."""

    tg_user_id = models.BigIntegerField()
    event = one_of(Event)
    level = one_of(Level)

    class Meta:
        db_table = "telegram_levels"
        constraints = [
            models.UniqueConstraint(fields=["tg_user_id", "event"], name="uq_telegram_levels"),
            listed("telegram_levels", "event", Event),
            listed("telegram_levels", "level", Level),
        ]

    def __str__(self) -> str:
        return f"{self.event} {self.level}"


class Tally(models.Model):
    """A number that only grows, by name: up to which row a table was told, and how much was delivered."""

    name = models.CharField(max_length=64, primary_key=True)
    number = models.BigIntegerField(default=0)

    class Meta:
        db_table = "telegram_tallies"
        constraints = [models.CheckConstraint(condition=Q(number__gte=0), name="ck_telegram_tallies_number")]

    def __str__(self) -> str:
        return f"{self.name} {self.number}"


class Condition(models.Model):
    """Something that lasts, as it was last told: a drift, a low balance. `times` is how often it has begun."""

    name = models.CharField(max_length=120, primary_key=True)
    state = models.CharField(max_length=200, blank=True, default="")
    times = models.PositiveIntegerField(default=0)

    class Meta:
        db_table = "telegram_conditions"

    def __str__(self) -> str:
        return f"{self.name}: {self.state}"


class Notice(models.Model):
    """One message to one person, and what it tells so far; a trade has one, which is edited as it advances.

    `about` and `steps` hold all that is told, so that the text is the same however often it is made. `wanted` counts the
    steps, `delivered` those that the message shows, and `due_at` is since when it shows too few. `begun_at` is
    committed before Telegram is asked and taken back with its answer: where it stands after a death, nobody knows
    whether the message came out, and `doubted` says so of the next one.
    """

    tg_user_id = models.BigIntegerField()
    thread = models.CharField(max_length=120)
    urgent = models.BooleanField(default=False)
    silent = models.BooleanField(default=False)
    about = models.JSONField(default=dict)
    steps = models.JSONField(default=list)
    wanted = models.PositiveIntegerField(default=0)
    delivered = models.PositiveIntegerField(default=0)
    due_at = models.DateTimeField(null=True, blank=True)
    begun_at = models.DateTimeField(null=True, blank=True)
    doubted = models.BooleanField(default=False)
    message_id = models.BigIntegerField(null=True, blank=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    sent_at = models.DateTimeField(null=True, blank=True)
    failed_at = models.DateTimeField(null=True, blank=True)
    failed_why = models.CharField(max_length=200, blank=True, default="", db_default="")

    class Meta:
        db_table = "telegram_notices"
        constraints = [
            # The same trade, or the same alarm, is one message for one person, however often its rows are read.
            models.UniqueConstraint(fields=["tg_user_id", "thread"], name="uq_telegram_notices_thread"),
            models.CheckConstraint(
                condition=Q(delivered__lte=F("wanted")), name="ck_telegram_notices_delivered"
            ),
            models.CheckConstraint(
                condition=Q(message_id__isnull=True, delivered=0)
                | Q(message_id__isnull=False, delivered__gte=1, sent_at__isnull=False),
                name="ck_telegram_notices_message",
            ),
            # Nothing is forgotten: what is not shown is due, or was given up with a reason.
            models.CheckConstraint(
                condition=Q(due_at__isnull=True, delivered=F("wanted"))
                | Q(due_at__isnull=False, delivered__lt=F("wanted"), failed_at__isnull=True)
                | (Q(due_at__isnull=True, failed_at__isnull=False) & ~Q(failed_why="")),
                name="ck_telegram_notices_due",
            ),
        ]
        indexes = [
            models.Index(
                fields=["tg_user_id", "-urgent", "due_at", "id"],
                condition=Q(due_at__isnull=False),
                name="ix_telegram_notices_due",
            ),
            models.Index(fields=["created_at"], name="ix_telegram_notices_created"),
        ]

    def __str__(self) -> str:
        return f"{self.thread} for {self.tg_user_id}"

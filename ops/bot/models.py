"""Who may talk to the bot, and which updates it has taken."""

from enum import StrEnum

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from execution_app import people
from execution_app.models.columns import listed, one_of
from execution_app.states import RestrictionKind
from ops.bot.notice_rows import Condition, Event, Level, Notice, NoticeLevel, Tally, TelegramChat

__all__ = [
    "Condition",
    "Event",
    "Level",
    "Notice",
    "NoticeLevel",
    "Role",
    "Tally",
    "TelegramChat",
    "TelegramPage",
    "TelegramUpdate",
    "TelegramUser",
]


class Role(StrEnum):
    """What somebody may do; each may all that stands before it."""

    VIEWER = "viewer"  # look at everything
    TRADER = "trader"  # trade for the trader of the same id, and look at what is theirs
    OPERATOR = "operator"  # look at everything, stop it, decide what is held


class Step(StrEnum):
    """What a conversation asks for next; all but the last are answers that make an opening order."""

    SYMBOL = "symbol"
    SIDE = "side"
    COLLATERAL = "collateral"
    LEVERAGE = "leverage"
    SLIPPAGE = "slippage"
    TAKE_PROFIT = "take_profit"
    STOP_LOSS = "stop_loss"
    CODE = "code"  # a one-time code for the quote that was just shown


class TelegramUser(models.Model):
    """Somebody who may talk to the bot; everybody else may not. Roles that were are in the audit log."""

    tg_user_id = models.BigIntegerField(unique=True)
    role = one_of(Role)
    # Their name on the admin site, whose one-time codes are asked for; blank: no code of theirs is known.
    account = models.CharField(max_length=150, blank=True, default="", db_default="")
    label = models.CharField(max_length=64, blank=True, default="", db_default="")
    allowed_by = models.CharField(max_length=150)
    allowed_at = models.DateTimeField(db_default=Now())

    class Meta:
        db_table = "telegram_users"
        constraints = [
            # Groups and channels have negative ids: those are nobody.
            models.CheckConstraint(condition=Q(tg_user_id__gt=0), name="ck_telegram_users_id"),
            listed("telegram_users", "role", Role),
        ]

    def __str__(self) -> str:
        return f"{self.role} {self.tg_user_id}"

    @property
    def name(self) -> str:
        """By which the history knows them, also once nobody can tell who they were."""
        return self.account or f"telegram {people.pseudonym_of(self.tg_user_id)}"


class TelegramUpdate(models.Model):
    """An update that was taken, under Telegram's number for it; what it said is forgotten once it is handled."""

    update_id = models.BigIntegerField(primary_key=True)
    tg_user_id = models.BigIntegerField(db_index=True)
    body = models.JSONField(default=dict)
    received_at = models.DateTimeField(db_default=Now())
    handled_at = models.DateTimeField(null=True, blank=True)
    # Kept when the rest is forgotten: what lifts a restriction has to be said after the last word that sets it.
    restricts = one_of(RestrictionKind, blank=True, default="", db_default="")

    class Meta:
        db_table = "telegram_updates"
        constraints = [
            models.CheckConstraint(
                condition=Q(restricts__in=["", *sorted(kind.value for kind in RestrictionKind)]),
                name="ck_telegram_updates_restricts",
            ),
            # One-time codes are among what people write.
            models.CheckConstraint(
                condition=Q(handled_at__isnull=True) | Q(body={}), name="ck_telegram_updates_forgotten"
            ),
        ]
        indexes = [
            models.Index(
                fields=["update_id"], condition=Q(handled_at__isnull=True), name="ix_telegram_updates_open"
            )
        ]

    def __str__(self) -> str:
        return f"update {self.update_id}"


class TelegramConfirmation(models.Model):
    """An order that was quoted and waits for one tap; its token becomes the order's key.

    Good once, for one person, under one message, for a minute. `message_id` is blank until the quote was shown.
    """

    token = models.CharField(max_length=32, primary_key=True)
    tg_user_id = models.BigIntegerField()
    message_id = models.BigIntegerField(null=True, blank=True)
    asked = models.JSONField()
    expires_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        db_table = "telegram_confirmations"
        constraints = [
            # Eight random bytes at least, in the alphabet of a key.
            models.CheckConstraint(
                condition=Q(token__regex=r"^[A-Za-z0-9_-]{16,32}$"),  # noqa: S106  (a pattern, not a token)
                name="ck_telegram_confirmations_token",
            ),
            models.CheckConstraint(
                condition=Q(expires_at__gt=models.F("created_at")), name="ck_telegram_confirmations_expiry"
            ),
        ]

    def __str__(self) -> str:
        return f"confirmation of {self.tg_user_id}"


class TelegramFlow(models.Model):
    """Where a person's one conversation stands; the next answer is for `step`, a button's only under `message_id`.

    It carries no order: what it ends in is a quote, whose token is a TelegramConfirmation.
    """

    tg_user_id = models.BigIntegerField(primary_key=True)
    step = one_of(Step)
    answers = models.JSONField(default=dict)
    message_id = models.BigIntegerField(null=True, blank=True)
    updated_at = models.DateTimeField(db_default=Now())

    class Meta:
        db_table = "telegram_flows"
        constraints = [listed("telegram_flows", "step", Step)]

    def __str__(self) -> str:
        return f"conversation with {self.tg_user_id}"


class TelegramBinding(models.Model):
    """That somebody holds an address: a challenge, its proof by a signature, and its end.

    The text that was signed is made of these fields alone. Good once: what is proved is not proved again.
    """

    tg_user_id = models.BigIntegerField()
    address = models.CharField(max_length=42)
    nonce = models.CharField(max_length=32, unique=True)
    domain = models.CharField(max_length=255)
    chain_id = models.BigIntegerField()
    expires_at = models.DateTimeField()
    issued_at = models.DateTimeField(db_default=Now(), editable=False)
    proved_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        db_table = "telegram_bindings"
        constraints = [
            models.CheckConstraint(
                condition=Q(address__regex=r"^0x[0-9a-fA-F]{40}$"), name="ck_telegram_bindings_address"
            ),
            models.CheckConstraint(
                condition=Q(nonce__regex=r"^[0-9a-f]{32}$"), name="ck_telegram_bindings_nonce"
            ),
            models.CheckConstraint(
                condition=Q(proved_at__isnull=True) | Q(proved_at__lte=models.F("expires_at")),
                name="ck_telegram_bindings_in_time",
            ),
            # One address a person, one person an address.
            models.UniqueConstraint(
                fields=["tg_user_id"],
                condition=Q(proved_at__isnull=False, ended_at__isnull=True),
                name="uq_telegram_bindings_person",
            ),
            models.UniqueConstraint(
                fields=["address"],
                condition=Q(proved_at__isnull=False, ended_at__isnull=True),
                name="uq_telegram_bindings_holder",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.address} of {self.tg_user_id}"


class TelegramPage(models.Model):
    """A link to the page where somebody signs: good once, for minutes, for one person; only its token's hash is kept.

    What was signed there is taken down by the web process, and judged by the bot alone: until it is `settled_at` it
    proves nothing. The text is made of these fields and of the address.
    """

    token_sha256 = models.CharField(max_length=64, primary_key=True)
    tg_user_id = models.BigIntegerField(db_index=True)
    language = models.CharField(max_length=8)
    nonce = models.CharField(max_length=32, unique=True)
    domain = models.CharField(max_length=255)
    chain_id = models.BigIntegerField()
    expires_at = models.DateTimeField()
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    address = models.CharField(max_length=42, blank=True, default="", db_default="")
    signature = models.CharField(max_length=8_194, blank=True, default="", db_default="")
    answered_at = models.DateTimeField(null=True, blank=True)
    settled_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        db_table = "telegram_pages"
        constraints = [
            models.CheckConstraint(
                condition=Q(token_sha256__regex=r"^[0-9a-f]{64}$"),  # noqa: S106  (a pattern, not a token)
                name="ck_telegram_pages_token",
            ),
            models.CheckConstraint(
                condition=Q(answered_at__isnull=True, address="", signature="", settled_at__isnull=True)
                | Q(
                    answered_at__isnull=False,
                    answered_at__lte=models.F("expires_at"),
                    address__regex=r"^0x[0-9a-fA-F]{40}$",
                    signature__regex=r"^0x([0-9a-f]{2})+$",
                ),
                name="ck_telegram_pages_answer",
            ),
        ]
        indexes = [
            models.Index(
                fields=["answered_at"],
                condition=Q(answered_at__isnull=False, settled_at__isnull=True),
                name="ix_telegram_pages_answered",
            )
        ]

    def __str__(self) -> str:
        return f"page {self.token_sha256[:8]}"

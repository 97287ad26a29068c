"""Who may talk to the bot, and which updates it has taken."""

from enum import StrEnum

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from execution_app.models.columns import listed, one_of
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
    "TelegramUpdate",
    "TelegramUser",
]


class Role(StrEnum):
    """What somebody may do; each may all that stands before it."""

    VIEWER = "viewer"  # look at everything
    TRADER = "trader"  # trade for the trader of the same id, and look at what is theirs
    OPERATOR = "operator"  # look at everything, stop it, decide what is held


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
        """By which the history knows them."""
        return self.account or f"telegram {self.tg_user_id}"


class TelegramUpdate(models.Model):
    """An update that was taken, under Telegram's number for it; what it said is forgotten once it is handled."""

    update_id = models.BigIntegerField(primary_key=True)
    tg_user_id = models.BigIntegerField(db_index=True)
    body = models.JSONField(default=dict)
    received_at = models.DateTimeField(db_default=Now())
    handled_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        db_table = "telegram_updates"
        constraints = [
            # One-time codes are among what people write.
            models.CheckConstraint(
                condition=Q(handled_at__isnull=True) | Q(body={}), name="ck_telegram_updates_forgotten"
            )
        ]
        indexes = [
            models.Index(
                fields=["update_id"], condition=Q(handled_at__isnull=True), name="ix_telegram_updates_open"
            )
        ]

    def __str__(self) -> str:
        return f"update {self.update_id}"

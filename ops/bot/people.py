"""Who may talk to the bot: told by commands, kept in the audit log, asked at every update."""

from collections.abc import Iterable
from typing import Any

import structlog
from django.db import transaction
from django.db.models.functions import Now

from execution_app import audit
from execution_app.audit_words import AuditAction
from execution_app.engine.waiting import database_now
from execution_app.errors import Refused
from execution_app.models import TxIntent
from execution_app.states import IntentState
from ops.bot.models import Event, Level, Notice, NoticeLevel, Role, TelegramUser

log = structlog.get_logger(__name__)

MOST_ID = 2**63 - 1
_RANKS = {role: rank for rank, role in enumerate(Role)}


def at_least(person: TelegramUser, role: Role) -> bool:
    """Whether they may do what this role may."""
    return _RANKS[Role(person.role)] >= _RANKS[role]


def find(tg_user_id: int) -> TelegramUser | None:
    """Asked anew each time, so that a word taken back counts at once. Raises django.db.Error."""
    return TelegramUser.objects.filter(tg_user_id=tg_user_id).first()


def known(ids: Iterable[int]) -> set[int]:
    return set(TelegramUser.objects.filter(tg_user_id__in=set(ids)).values_list("tg_user_id", flat=True))


def allow(tg_user_id: int, role: Role, *, account: str = "", label: str = "", by: str) -> bool:
    """Let somebody in, or give them another role; False where nothing changes. Raises Refused."""
    if not 0 < tg_user_id <= MOST_ID:
        raise Refused("a person's Telegram id is a number above zero; groups have other ones")
    if account and not _may_log_in(account):
        raise Refused(f"nobody who may log in is called {account}: manage.py create_admin {account}")
    fields = {"role": role.value, "account": account, "label": label[:64]}
    with transaction.atomic():
        row = TelegramUser.objects.select_for_update().filter(tg_user_id=tg_user_id).first()
        before = _told(row)
        if row is not None and all(getattr(row, name) == value for name, value in fields.items()):
            return False
        if row is not None and row.role != role:
            _tell_of_less(tg_user_id, Role(row.role), role)
        fields |= {"allowed_by": by[:150]}
        row, _ = TelegramUser.objects.update_or_create(
            tg_user_id=tg_user_id, defaults={**fields, "allowed_at": Now()}
        )
        row.refresh_from_db()
        audit.record(AuditAction.TELEGRAM_ALLOWED, f"telegram {tg_user_id}", before=before, after=_told(row))
    log.warning("telegram user allowed", tg_user_id=tg_user_id, role=role.value, by=by)
    return True


def revoke(tg_user_id: int, *, by: str) -> bool:
    """Let somebody in no more, from their next update on; False where they were not."""
    with transaction.atomic():
        row = TelegramUser.objects.select_for_update().filter(tg_user_id=tg_user_id).first()
        if row is None:
            return False
        before = _told(row)
        row.delete()
        _tell_nothing_more(tg_user_id)
        audit.record(AuditAction.TELEGRAM_REVOKED, f"telegram {tg_user_id}", before=before)
    log.warning("telegram user revoked", tg_user_id=tg_user_id, by=by)
    return True


def _tell_nothing_more(tg_user_id: int) -> int:
    """What waits for somebody was made for what they might see then: other people's trades, too. Returns how much."""
    untold, _ = Notice.objects.filter(tg_user_id=tg_user_id, due_at__isnull=False).delete()
    return untold


def _tell_of_less(tg_user_id: int, was: Role, now: Role) -> None:
    """One line to whoever may see or do less from now on, in place of what waited for them; nothing where it is more."""
    sees_less = now is Role.TRADER
    untold = _tell_nothing_more(tg_user_id) if sees_less else 0
    if not sees_less and _RANKS[now] > _RANKS[was]:
        return
    chosen = NoticeLevel.objects.filter(tg_user_id=tg_user_id, event=Event.ROLE).first()
    if chosen is not None and chosen.level == Level.OFF:
        return
    at = database_now()
    step: dict[str, Any] = {"key": "role", "event": Event.ROLE.value, "at": at.isoformat(), "role": now.value}
    if sees_less:
        step["untold"] = untold
    if was is Role.OPERATOR:
        step["held"] = TxIntent.objects.filter(state=IntentState.HELD).count()
    silent = chosen is not None and chosen.level == Level.SILENT
    Notice.objects.create(
        tg_user_id=tg_user_id,
        thread=f"role {at.isoformat()}",
        silent=silent,
        steps=[step],
        wanted=1,
        due_at=at,
    )


def _told(row: TelegramUser | None) -> dict[str, str] | None:
    return None if row is None else {"role": row.role, "account": row.account, "label": row.label}


def _may_log_in(account: str) -> bool:
    from django.contrib.auth.models import User

    return User.objects.filter(username=account, is_active=True, is_staff=True).exists()

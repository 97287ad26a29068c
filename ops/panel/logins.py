"""Logins, logouts and failed logins, in the audit log; failed ones so few a minute that nobody can flood it."""

from datetime import timedelta
from typing import Any

import structlog
from django.contrib.auth.models import AbstractUser, User
from django.contrib.auth.signals import user_logged_in, user_logged_out, user_login_failed
from django.db import transaction
from django.db.models.functions import Now

from execution_app import audit
from execution_app.audit_words import AuditAction, AuditOrigin
from execution_app.models import AuditEntry

log = structlog.get_logger(__name__)

FAILED_PER_MINUTE = 10
_LAST = "further ones within this minute are only in the process's log"


def listen() -> None:
    """Begin to write; again changes nothing."""
    user_logged_in.connect(_logged_in, dispatch_uid="vanta-audit")
    user_logged_out.connect(_logged_out, dispatch_uid="vanta-audit")
    user_login_failed.connect(_failed, dispatch_uid="vanta-audit")


def _logged_in(user: AbstractUser, **_: Any) -> None:
    _record(AuditAction.LOGIN, user.get_username())


def _logged_out(user: AbstractUser | None, **_: Any) -> None:
    if user is not None:
        _record(AuditAction.LOGOUT, user.get_username())


def _record(action: AuditAction, name: str) -> None:
    with transaction.atomic():
        audit.record(action, f"user {name}", who=audit.by(name, AuditOrigin.ADMIN))


def _failed(credentials: dict[str, Any], **_: Any) -> None:
    """Tell of it, by a name that exists: what was typed otherwise may be somebody's password."""
    typed = str(credentials.get("username", ""))
    # An odd name, such as one with a NUL, cannot even be asked for.
    known = typed.isprintable() and User.objects.filter(username=typed).exists()
    name = typed if known else "unknown"
    recorded = _record_failed(name)
    log.warning("login failed", name=name, address=audit.current().address, recorded=recorded)


def _record_failed(name: str) -> bool:
    """Append it unless the last minute has enough of them; asked before the lock, so that a flood takes none."""
    left = FAILED_PER_MINUTE - _recent()
    if left <= 0:
        return False
    with transaction.atomic():
        who = audit.by(name, AuditOrigin.ADMIN)
        audit.record(AuditAction.LOGIN_FAILED, f"user {name}", reason=_LAST if left == 1 else "", who=who)
        # The lock of the log is held now, so the count is true; the entry itself is among them.
        if _recent() > FAILED_PER_MINUTE:
            transaction.set_rollback(True)
            return False
    return True


def _recent() -> int:
    minute = AuditEntry.objects.filter(action=AuditAction.LOGIN_FAILED, at__gt=Now() - timedelta(minutes=1))
    return minute.count()

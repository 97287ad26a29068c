"""Tokens with which programs read traces: told once, and from then on known by their SHA-256 alone."""

import hmac
import re
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog
from django.db import IntegrityError, transaction
from django.db.models import BooleanField, ExpressionWrapper, Q
from django.db.models.functions import Now

from execution_app import audit
from execution_app.audit_words import AuditAction
from execution_app.errors import Refused
from signals_app import signatures
from signals_app.models import ApiToken, TokenScope
from signals_app.payloads import SOURCE

log = structlog.get_logger(__name__)

PREFIX = "vanta_"  # by which people and scanners of leaked secrets recognise one
TOKEN_BYTES = 32
MAX_DAYS = 3_650
USE_NOTED_EVERY = timedelta(seconds=60)

# 32 bytes in the alphabet of URLs. What has another form is refused without asking the database.
_FORM = re.compile(PREFIX + r"[A-Za-z0-9_-]{43}")


@dataclass(frozen=True, slots=True)
class Issued:
    """A new token; from here on nobody can say it again."""

    token: str
    row: ApiToken


@dataclass(frozen=True, slots=True)
class TokenState:
    """`state` is active, expired or revoked, by the database's clock."""

    name: str
    scope: str
    state: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None


def create(name: str, days: int | None = None) -> Issued:
    """Make a token that reads, for so many days or until it is revoked. Raises Refused."""
    if not SOURCE.fullmatch(name):
        raise Refused("a token is named by 1 to 64 characters of A-Z a-z 0-9 . _ -")
    if days is not None and not 1 <= days <= MAX_DAYS:
        raise Refused(f"a token is for 1 to {MAX_DAYS} days, or for ever when none are given")
    token = PREFIX + secrets.token_urlsafe(TOKEN_BYTES)
    expires_at: Any = None if days is None else Now() + timedelta(days=days)
    try:
        with transaction.atomic():
            row = ApiToken.objects.create(
                name=name, sha256=signatures.sha256(token), scope=TokenScope.READ, expires_at=expires_at
            )
            told = {"scope": TokenScope.READ.value, "days": days}
            audit.record(AuditAction.TOKEN_ISSUED, f"API access of {name}", after=told)
    except IntegrityError:
        raise Refused(f"there is or was a token {name}: a name stands for one token for ever") from None
    row.refresh_from_db()
    log.info("token created", name=name, scope=row.scope, expires_at=row.expires_at)
    return Issued(token, row)


def revoke(name: str) -> bool:
    """End a token at once and for ever; False when it had been revoked already. Raises Refused."""
    if not ApiToken.objects.filter(name=name).exists():
        raise Refused(f"no token {name}")
    with transaction.atomic():
        changed = bool(ApiToken.objects.filter(name=name, revoked_at=None).update(revoked_at=Now()))
        if changed:
            audit.record(AuditAction.TOKEN_REVOKED, f"API access of {name}")
    if changed:
        log.info("token revoked", name=name)
    return changed


def states() -> list[TokenState]:
    """Every token there ever was, by name."""
    return [
        TokenState(
            name=row.name,
            scope=row.scope,
            state="revoked" if row.revoked_at else "expired" if row.over else "active",
            created_at=row.created_at,
            expires_at=row.expires_at,
            revoked_at=row.revoked_at,
            last_used_at=row.last_used_at,
        )
        for row in ApiToken.objects.annotate(over=_truth(Q(expires_at__lte=Now()))).order_by("name")
    ]


def offered(header: str) -> str:
    """The SHA-256 of the token in an `Authorization` header; blank when it cannot be one of ours."""
    token = signatures.bearer(header)
    return signatures.sha256(token) if _FORM.fullmatch(token) else ""


def may_read(sha256: str) -> bool:
    """Whether a token with this hash may read now; notes its use, once a minute at most. Raises django.db.Error."""
    noted_lately = _truth(Q(last_used_at__gt=Now() - USE_NOTED_EVERY))
    row = (
        ApiToken.objects.filter(sha256=sha256, scope=TokenScope.READ, revoked_at=None)
        .filter(Q(expires_at=None) | Q(expires_at__gt=Now()))
        .annotate(noted=noted_lately)
        .first()
    )
    if row is None or not hmac.compare_digest(row.sha256, sha256):
        return False
    if not row.noted:
        old = Q(last_used_at=None) | Q(last_used_at__lte=Now() - USE_NOTED_EVERY)
        ApiToken.objects.filter(old, pk=row.pk).update(last_used_at=Now())
    return True


def _truth(condition: Q) -> "ExpressionWrapper[Q]":
    return ExpressionWrapper(condition, output_field=BooleanField())

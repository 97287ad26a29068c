"""What an operator does about sources: their secrets, for whom they may trade, how fast they may send."""

import base64
import contextlib
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

import structlog
from django.conf import settings
from django.db import connection, transaction
from django.db.models.functions import Now

from execution_app import audit
from execution_app.audit_words import AuditAction
from execution_app.errors import Refused
from execution_app.models import Trader
from signals_app import seals
from signals_app.keyring import MAX_ACTIVE
from signals_app.models import Signal, Source, SourceGrant, SourceSecret
from signals_app.payloads import MAX_INT64, SOURCE
from signals_app.webhooks import PREFIX

log = structlog.get_logger(__name__)

MAX_PER_SOURCE = 8
SECRET_BYTES = 32
MIN_SECRET_CHARS, MAX_SECRET_CHARS = 24, 256
LIMITS = ("open_burst", "opens_per_minute", "close_burst", "closes_per_minute")
MAX_LIMIT = 1_000_000
# Any number of ours; it keeps two commands from counting the active secrets at the same time.
_LOCK = 7_302_114


@dataclass(frozen=True, slots=True)
class Issued:
    """A new secret, told once: from here on it is only kept sealed."""

    secret_id: int
    secret: str
    others_active: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class SecretState:
    """`last_signal_at` tells whether anybody still signs with it; `readable` whether this SECRET_KEY opens it."""

    secret_id: int
    active: bool
    readable: bool
    created_at: datetime
    retired_at: datetime | None
    last_signal_at: datetime | None


def add(name: str, secret: str | None = None) -> Issued:
    """Give a source its first secret of its own; from then on the default one does not serve it. Raises Refused."""
    with _changing():
        if SourceSecret.objects.filter(source=_named(name)).exists():
            raise Refused(f"source {name} has secrets already; a further one comes by rotate")
        return _issue(name, secret)


def rotate(name: str, secret: str | None = None) -> Issued:
    """Give a source a further secret; the others stay valid until they are retired. Raises Refused."""
    with _changing():
        if not SourceSecret.objects.filter(source=_named(name)).exists():
            raise Refused(f"source {name} has no secret of its own yet; the first one comes by add")
        return _issue(name, secret)


def retire(name: str, secret_id: int) -> int:
    """End a secret at once and for ever; return how many the source has left. Raises Refused.

    A source without any is shut out, rather than served by the default secret.
    """
    with _changing():
        mine = SourceSecret.objects.filter(source=_named(name), active=True)
        if not mine.filter(pk=secret_id).update(active=False, retired_at=Now()):
            raise Refused(f"source {name} has no active secret {secret_id}")
        left = mine.count()
        audit.record(
            AuditAction.SOURCE_SECRET_RETIRED,
            f"source {name}",
            before={"secret_id": secret_id, "secrets_active": left + 1},
            after={"secret_id": secret_id, "secrets_active": left},
        )
        log.info("secret retired", source=name, secret=secret_id)
        return left


def secret_states(name: str) -> list[SecretState]:
    """Every secret the source ever had, without the secrets."""
    return [
        SecretState(
            secret_id=row.pk,
            active=row.active,
            readable=_read(row) is not None,
            created_at=row.created_at,
            retired_at=row.retired_at,
            last_signal_at=Signal.objects.filter(secret=row)
            .order_by("-pk")
            .values_list("received_at", flat=True)
            .first(),
        )
        for row in SourceSecret.objects.filter(source=name).order_by("pk")
    ]


def names() -> list[str]:
    """Every source an operator has ever spoken of."""
    granted = SourceGrant.objects.values_list("source", flat=True)
    return sorted({*granted, *Source.objects.values_list("name", flat=True)})


def limits(name: str) -> dict[str, int]:
    """What holds for the source, by its row or by default."""
    row = Source.objects.filter(pk=name).first() or Source(name=name)
    return {limit: getattr(row, limit) for limit in LIMITS}


def limit(name: str, **wanted: int) -> dict[str, int]:
    """Set some of LIMITS and return all. Raises Refused."""
    for title, value in wanted.items():
        if title not in LIMITS or not 1 <= value <= MAX_LIMIT:
            raise Refused(f"{title} must be one of {', '.join(LIMITS)}, from 1 to {MAX_LIMIT}")
    _named(name)
    with transaction.atomic():
        Source.objects.get_or_create(pk=name)
        Source.objects.select_for_update().get(pk=name)
        before = limits(name)
        Source.objects.filter(pk=name).update(**wanted)
        audit.record(AuditAction.SOURCE_LIMITED, f"source {name}", before=before, after=limits(name))
    log.info("source limited", source=name, **wanted)
    return limits(name)


def grant(name: str, tg_user_id: int) -> bool:
    """Let the source trade for a trader; False when it may already. Raises Refused."""
    if not 1 <= tg_user_id <= MAX_INT64 or not Trader.objects.filter(tg_user_id=tg_user_id).exists():
        raise Refused(f"no trader has tg_user_id {tg_user_id}")
    with transaction.atomic():
        _, new = SourceGrant.objects.get_or_create(source=_named(name), tg_user_id=tg_user_id)
        if new:
            audit.record(AuditAction.SOURCE_GRANTED, f"source {name}", after={"tg_user_id": tg_user_id})
    log.info("granted", source=name, tg_user_id=tg_user_id, new=new)
    return new


def revoke(name: str, tg_user_id: int) -> None:
    """End a grant; signals that are decided already go their way. Raises Refused."""
    with transaction.atomic():
        deleted, _ = SourceGrant.objects.filter(source=name, tg_user_id=tg_user_id).delete()
        if not deleted:
            raise Refused(f"source {name} may not trade for {tg_user_id} anyway")
        audit.record(AuditAction.SOURCE_REVOKED, f"source {name}", before={"tg_user_id": tg_user_id})
    log.info("revoked", source=name, tg_user_id=tg_user_id)


@contextlib.contextmanager
def _changing() -> Iterator[None]:
    """One change of secrets at a time, over all processes."""
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
        yield


def _named(name: str) -> str:
    if not SOURCE.fullmatch(name):
        raise Refused("a source is named by 1 to 64 characters of A-Z a-z 0-9 . _ -")
    return name


def _issue(name: str, given: str | None) -> Issued:
    active = list(SourceSecret.objects.filter(active=True))
    others = tuple(row.pk for row in active if row.source_id == name)
    if len(others) >= MAX_PER_SOURCE:
        raise Refused(f"source {name} has {MAX_PER_SOURCE} active secrets, which is the limit; retire one")
    if len(active) >= MAX_ACTIVE:
        raise Refused(
            f"all sources together have {MAX_ACTIVE} active secrets, which is the limit; retire one"
        )
    secret = (
        given if given is not None else PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()
    )
    if not MIN_SECRET_CHARS <= len(secret) <= MAX_SECRET_CHARS or not secret.isprintable() or " " in secret:
        raise Refused(f"a secret has {MIN_SECRET_CHARS} to {MAX_SECRET_CHARS} printable characters, no space")
    # Whose signature it is must be certain.
    taken = {settings.ENVIRONMENT.webhook_hmac_secret.get_secret_value(), *map(_read, active)}
    if secret in taken:
        raise Refused("this secret is in use already")
    Source.objects.get_or_create(pk=name)
    row = SourceSecret.objects.create(source_id=name, sealed=seals.seal(secret, name, settings.SECRET_KEY))
    audit.record(
        AuditAction.SOURCE_SECRET_ISSUED,
        f"source {name}",
        before={"secrets_active": len(others)},
        after={"secret_id": row.pk, "secrets_active": len(others) + 1},
    )
    log.info("secret issued", source=name, secret=row.pk)
    return Issued(row.pk, secret, others)


def _read(row: SourceSecret) -> str | None:
    try:
        return seals.unseal(bytes(row.sealed), row.source_id, settings.SECRET_KEY)
    except seals.Unreadable:
        return None

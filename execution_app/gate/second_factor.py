"""One-time codes (TOTP, RFC 6238) of those who may loosen something. A code is good once, wrong ones are slowed down.

A passkey of theirs, shown to the admin site with the same request, counts as much.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial

from django.conf import settings
from django.db import models, transaction
from django_otp.plugins.otp_totp.models import TOTPDevice

from execution_app import audit
from execution_app.audit_words import AuditAction
from execution_app.errors import Refused
from execution_app.models import Passkey

NAME = "authenticator"
# The library writes whole rows. Written like this, no role needs the right to change somebody's key.
CHANGED_BY_A_CHECK = (
    "drift",
    "last_t",
    "last_used_at",
    "throttling_failure_count",
    "throttling_failure_timestamp",
)

_shown: ContextVar[str] = ContextVar("vanta_passkey_shown", default="")


@contextmanager
def shown_by(username: str) -> Iterator[None]:
    """Whoever it is has shown a passkey with the request that is answered meanwhile, in this thread."""
    token = _shown.set(username)
    try:
        yield
    finally:
        _shown.reset(token)


def is_needed(username: str) -> bool:
    """Whether a second factor is asked for: always, but for those on the rehearsal chain who never enrolled."""
    return bool(not settings.REHEARSAL or _devices(username).exists() or has_passkey(username))


def has_passkey(username: str) -> bool:
    return Passkey.objects.filter(user__username=username, user__is_active=True).exists()


def verify(username: str, code: str) -> None:
    """Check a code of this person and use it up, unless they have shown a passkey. Raises Refused."""
    if not is_needed(username) or (username and _shown.get() == username):
        return
    if not _devices(username).exists():
        if has_passkey(username):
            raise Refused(f"{username} has passkeys alone: use one, on the admin site")
        raise Refused(
            f"{username or 'nobody'} has no second factor: manage.py second_factor enrol {username}"
        )
    accepted = False
    # The outcome is committed either way: a used code stays used, and wrong ones slow the next down.
    with transaction.atomic():
        for device in _devices(username).select_for_update(of=("self",)):
            device.save = partial(device.save, update_fields=CHANGED_BY_A_CHECK)
            accepted = accepted or device.verify_token(code.strip())
    if not accepted:
        with transaction.atomic():
            audit.record(AuditAction.SECOND_FACTOR_REFUSED, f"user {username}")
        raise Refused("the code is wrong, used already, or comes too soon after a wrong one")


def enrol(username: str) -> TOTPDevice:
    """A new device that counts once it was confirmed; unconfirmed older ones are dropped."""
    from django.contrib.auth.models import User

    user = User.objects.filter(username=username, is_active=True, is_staff=True).first()
    if user is None:
        raise Refused(f"nobody who may log in is called {username}")
    with transaction.atomic():
        TOTPDevice.objects.filter(user=user, confirmed=False).delete()
        if TOTPDevice.objects.filter(user=user, confirmed=True).exists():
            raise Refused(f"{username} has a second factor already; remove it first")
        device: TOTPDevice = TOTPDevice.objects.create(user=user, name=NAME, confirmed=False)
        return device


def confirm(username: str, code: str) -> None:
    """The first code shows that the secret arrived. Raises Refused."""
    with transaction.atomic():
        device = (
            TOTPDevice.objects.select_for_update().filter(user__username=username, confirmed=False).first()
        )
        accepted = device is not None and device.verify_token(code.strip())
        if device is not None and accepted:
            device.confirmed = True
            device.save(update_fields=["confirmed"])
            audit.record(AuditAction.SECOND_FACTOR_SET, f"user {username}", after={"confirmed": True})
    if not accepted:
        raise Refused(f"that is no code of the device that {username} enrolled")


def remove(username: str) -> None:
    """Forget every device of this person. Raises Refused."""
    with transaction.atomic():
        removed, _ = TOTPDevice.objects.filter(user__username=username).delete()
        removed += Passkey.objects.filter(user__username=username).delete()[0]
        if removed:
            audit.record(AuditAction.SECOND_FACTOR_SET, f"user {username}", after={"confirmed": False})
    if not removed:
        raise Refused(f"{username} has no second factor")


def _devices(username: str) -> models.QuerySet[TOTPDevice]:
    devices: models.QuerySet[TOTPDevice] = TOTPDevice.objects.filter(
        user__username=username, user__is_active=True, confirmed=True
    ).order_by("id")
    return devices

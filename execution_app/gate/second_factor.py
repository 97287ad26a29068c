"""One-time codes (TOTP, RFC 6238) of those who may loosen something. A code is good once, wrong ones are slowed down."""

from functools import partial

from django.conf import settings
from django.db import models, transaction
from django_otp.plugins.otp_totp.models import TOTPDevice

from execution_app import audit
from execution_app.audit_words import AuditAction
from execution_app.errors import Refused

NAME = "authenticator"
# The library writes whole rows. Written like this, no role needs the right to change somebody's key.
CHANGED_BY_A_CHECK = (
    "drift",
    "last_t",
    "last_used_at",
    "throttling_failure_count",
    "throttling_failure_timestamp",
)


def is_needed(username: str) -> bool:
    """Whether a code is asked for: always, but for those on the rehearsal chain who never enrolled."""
    return bool(not settings.REHEARSAL or _devices(username).exists())


def verify(username: str, code: str) -> None:
    """Check a code of this person and use it up. Raises Refused."""
    if not is_needed(username):
        return
    if not _devices(username).exists():
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
        if removed:
            audit.record(AuditAction.SECOND_FACTOR_SET, f"user {username}", after={"confirmed": False})
    if not removed:
        raise Refused(f"{username} has no second factor")


def _devices(username: str) -> models.QuerySet[TOTPDevice]:
    devices: models.QuerySet[TOTPDevice] = TOTPDevice.objects.filter(
        user__username=username, user__is_active=True, confirmed=True
    ).order_by("id")
    return devices

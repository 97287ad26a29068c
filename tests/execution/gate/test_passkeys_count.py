"""A passkey counts as much as a code for whom it is, while the request with which it was shown is answered, and no longer."""

from collections.abc import Callable

import pytest
from django_otp.plugins.otp_totp.models import TOTPDevice
from pytest_django.fixtures import Settings

from execution_app.audit_words import AuditAction
from execution_app.errors import Refused
from execution_app.gate import second_factor
from execution_app.models import Passkey
from tests.execution.gate.test_second_factor import ann, code, entries, person, wrong

__all__ = ["ann"]  # a fixture


@pytest.fixture
def dora(database: None, settings: Settings) -> Passkey:
    """Of somebody who has a passkey alone."""
    settings.REHEARSAL = False
    return passkey("dora")


def passkey(name: str, **fields: bool) -> Passkey:
    key = name.encode()
    made: Passkey = Passkey.objects.create(
        user=person(name, **fields), name="key", credential_id=key, public_key=key
    )
    return made


def test_whose_passkeys_count(dora: Passkey, settings: Settings) -> None:
    passkey("gone", is_active=False)
    person("eve")
    assert [second_factor.has_passkey(name) for name in ("dora", "gone", "eve", "")] == [
        True,
        False,
        False,
        False,
    ]
    settings.REHEARSAL = True
    assert [second_factor.is_needed(name) for name in ("dora", "gone", "eve")] == [True, False, False]


def test_whoever_has_shown_one_needs_no_code_meanwhile(dora: Passkey, ann: TOTPDevice) -> None:
    with pytest.raises(Refused, match="dora has passkeys alone: use one, on the admin site"):
        second_factor.verify("dora", "")
    with second_factor.shown_by("dora"):
        second_factor.verify("dora", "")
        with second_factor.shown_by("bob"), pytest.raises(Refused, match="passkeys alone"):
            second_factor.verify("dora", "")
        second_factor.verify("dora", "")
        with pytest.raises(Refused, match="wrong"):
            second_factor.verify("ann", wrong(ann))
    with pytest.raises(Refused, match="passkeys alone"):
        second_factor.verify("dora", "")


def test_nobody_has_shown_none(dora: Passkey) -> None:
    """A name that is blank is not that of a request with which no passkey came."""
    with pytest.raises(Refused, match=r"^nobody has no second factor"):
        second_factor.verify("", "")


def test_with_a_device_beside_it_either_will_do(ann: TOTPDevice, settings: Settings) -> None:
    settings.REHEARSAL = False
    Passkey.objects.create(user=ann.user, name="key", credential_id=b"1", public_key=b"2")
    with second_factor.shown_by("ann"):
        second_factor.verify("ann", "no code")
    assert entries(AuditAction.SECOND_FACTOR_REFUSED) == []
    second_factor.verify("ann", code(ann))


@pytest.mark.parametrize("tried", ["", "one", "12345678"])
def test_what_is_no_code_is_refused_and_kept(ann: TOTPDevice, settings: Settings, tried: str) -> None:
    settings.REHEARSAL = False
    with pytest.raises(Refused, match="the code is wrong"):
        second_factor.verify("ann", tried)
    assert entries(AuditAction.SECOND_FACTOR_REFUSED) == [("user ann", None)]


def test_passkeys_are_removed_with_the_devices_and_nobody_elses(dora: Passkey, ann: TOTPDevice) -> None:
    Passkey.objects.create(user=ann.user, name="key", credential_id=b"1", public_key=b"2")
    remove: Callable[[str], None] = second_factor.remove
    remove("dora")
    assert list(Passkey.objects.values_list("user__username", flat=True)) == ["ann"]
    remove("ann")
    assert not Passkey.objects.exists()
    assert list(TOTPDevice.objects.values_list("user__username", flat=True)) == ["bob"]
    assert entries(AuditAction.SECOND_FACTOR_SET) == [
        ("user dora", {"confirmed": False}),
        ("user ann", {"confirmed": False}),
    ]
    with pytest.raises(Refused, match="dora has no second factor"):
        remove("dora")

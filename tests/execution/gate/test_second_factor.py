"""Codes of those who may loosen something: whose, how often, and what is left behind."""

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.db.models.functions import Now
from django_otp.oath import TOTP
from django_otp.plugins.otp_totp.models import TOTPDevice
from pytest_django.fixtures import Settings

from execution_app.audit_words import AuditAction
from execution_app.errors import Refused
from execution_app.gate import second_factor
from execution_app.models import AuditEntry


def code(device: TOTPDevice, steps: int = 0) -> str:
    made = TOTP(device.bin_key, device.step, device.t0, device.digits, device.drift)
    made.time = time.time() + steps * device.step
    return f"{made.token():06d}"


def wrong(device: TOTPDevice) -> str:
    """Of an hour ago."""
    return code(device, -120)


def forgive() -> None:
    TOTPDevice.objects.update(throttling_failure_count=0, throttling_failure_timestamp=None)


def person(name: str, *, is_active: bool = True) -> User:
    return User.objects.create_user(name, is_staff=True, is_active=is_active)


def device_of(user: User, *, confirmed: bool = True) -> TOTPDevice:
    device: TOTPDevice = TOTPDevice.objects.create(user=user, name="app", confirmed=confirmed)
    return device


def entries(action: AuditAction) -> list[tuple[str, object]]:
    rows = AuditEntry.objects.filter(action=action).order_by("seq")
    return list(rows.values_list("subject", "after"))


@pytest.fixture
def ann(database: None) -> TOTPDevice:
    """Ann's, beside a device of somebody else that must never count as hers."""
    bob = device_of(person("bob"))
    ann = device_of(person("ann"))
    assert bob.key != ann.key
    return ann


def test_a_code_is_asked_for_everywhere_but_on_the_rehearsal_of_who_never_enrolled(
    ann: TOTPDevice, settings: Settings
) -> None:
    carol = person("carol")
    device_of(carol, confirmed=False)
    assert settings.REHEARSAL
    assert second_factor.is_needed("ann")
    assert not second_factor.is_needed("carol"), "a device counts once it was confirmed"
    assert not second_factor.is_needed("nobody")
    second_factor.verify("carol", "")
    User.objects.filter(username="ann").update(is_active=False)
    assert not second_factor.is_needed("ann"), "nor does that of somebody who has left"
    settings.REHEARSAL = False
    assert all(map(second_factor.is_needed, ("ann", "bob", "carol", "nobody", "")))


@pytest.mark.parametrize(
    ("name", "named"), [("ann", "ann"), ("carol", "carol"), ("nobody", "nobody"), ("", "nobody")]
)
def test_outside_the_rehearsal_nobody_passes_without_a_device_of_their_own(
    ann: TOTPDevice, settings: Settings, name: str, named: str
) -> None:
    settings.REHEARSAL = False
    device = device_of(person("carol"), confirmed=False)
    User.objects.filter(username="ann").update(is_active=False)
    for tried in (code(ann), code(device), ""):
        with pytest.raises(Refused, match=f"^{named} has no second factor"):
            second_factor.verify(name, tried)


def test_a_code_is_good_once(ann: TOTPDevice) -> None:
    now = code(ann)
    second_factor.verify("ann", f" {now} ")
    assert entries(AuditAction.SECOND_FACTOR_REFUSED) == []
    for _ in range(2):
        forgive()
        with pytest.raises(Refused, match="used already"):
            second_factor.verify("ann", now)
    assert entries(AuditAction.SECOND_FACTOR_REFUSED) == [("user ann", None)] * 2


def test_a_wrong_code_slows_the_right_one_down(ann: TOTPDevice) -> None:
    with pytest.raises(Refused, match="wrong"):
        second_factor.verify("ann", wrong(ann))
    # Of a second, however long this process loses the machine.
    TOTPDevice.objects.update(throttling_failure_timestamp=Now() + timedelta(hours=1))
    with pytest.raises(Refused, match="too soon"):
        second_factor.verify("ann", code(ann))
    assert len(entries(AuditAction.SECOND_FACTOR_REFUSED)) == 2
    forgive()
    second_factor.verify("ann", code(ann))


def test_any_device_of_the_person_will_do_and_nobody_elses(ann: TOTPDevice) -> None:
    second = device_of(ann.user)
    second_factor.verify("ann", code(second))
    forgive()
    second_factor.verify("ann", code(ann))
    forgive()
    bobs = TOTPDevice.objects.get(user__username="bob")
    with pytest.raises(Refused):
        second_factor.verify("ann", code(bobs))


def test_only_who_may_log_in_enrols(database: None) -> None:
    person("gone", is_active=False)
    User.objects.create_user("guest")
    for name in ("gone", "guest", "nobody"):
        with pytest.raises(Refused, match=f"called {name}"):
            second_factor.enrol(name)
    assert not TOTPDevice.objects.exists()


def test_enrolling_again_drops_what_was_not_confirmed_and_nothing_else(ann: TOTPDevice) -> None:
    others = device_of(User.objects.get(username="bob"), confirmed=False)
    carol = person("carol")
    first = second_factor.enrol("carol")
    second = second_factor.enrol("carol")
    assert (second.user, second.name, second.confirmed) == (carol, "authenticator", False)
    assert first.key != second.key
    assert list(TOTPDevice.objects.filter(user=carol)) == [second]
    assert TOTPDevice.objects.filter(pk=others.pk).exists()
    with pytest.raises(Refused, match="ann has a second factor already"):
        second_factor.enrol("ann")
    assert list(TOTPDevice.objects.filter(user=ann.user)) == [ann]


def test_a_refused_enrolment_changes_nothing(ann: TOTPDevice) -> None:
    unconfirmed = device_of(ann.user, confirmed=False)
    with pytest.raises(Refused, match="already"):
        second_factor.enrol("ann")
    assert set(TOTPDevice.objects.filter(user=ann.user)) == {ann, unconfirmed}


def test_many_at_once_use_a_code_once(ann: TOTPDevice) -> None:
    good, together = code(ann), Barrier(6)

    def verify(_: int) -> bool:
        together.wait(60)
        try:
            second_factor.verify("ann", good)
        except Refused:
            return False
        finally:
            connection.close()
        return True

    with ThreadPoolExecutor(6) as pool:
        assert sorted(pool.map(verify, range(6))) == [False] * 5 + [True]


def test_a_device_counts_once_a_code_of_it_arrived(ann: TOTPDevice) -> None:
    others = device_of(User.objects.get(username="bob"), confirmed=False)
    person("carol")
    device = second_factor.enrol("carol")
    with pytest.raises(Refused):
        second_factor.confirm("carol", code(others))
    forgive()
    with pytest.raises(Refused, match="no code of the device that carol"):
        second_factor.confirm("carol", wrong(device))
    device.refresh_from_db()
    assert not device.confirmed
    assert device.throttling_failure_count == 1, "the wrong code is kept, though it is refused"
    assert entries(AuditAction.SECOND_FACTOR_SET) == []
    forgive()
    second_factor.confirm("carol", f" {code(device)} ")
    device.refresh_from_db()
    assert device.confirmed
    assert entries(AuditAction.SECOND_FACTOR_SET) == [("user carol", {"confirmed": True})]
    forgive()
    for name, tried in (("carol", code(device, 1)), ("ann", code(ann)), ("nobody", code(device, 1))):
        with pytest.raises(Refused, match=f"that {name} enrolled"):
            second_factor.confirm(name, tried)


def test_a_persons_devices_are_removed_together_and_nobody_elses(ann: TOTPDevice) -> None:
    device_of(ann.user, confirmed=False)
    second_factor.remove("ann")
    assert list(TOTPDevice.objects.values_list("user__username", flat=True)) == ["bob"]
    assert entries(AuditAction.SECOND_FACTOR_SET) == [("user ann", {"confirmed": False})]
    with pytest.raises(Refused, match="ann has no second factor"):
        second_factor.remove("ann")
    assert len(entries(AuditAction.SECOND_FACTOR_SET)) == 1

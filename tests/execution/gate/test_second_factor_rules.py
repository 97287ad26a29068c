"""Who is asked for a second factor, what a check locks and writes, and what a passkey is worth."""

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django_otp.plugins.otp_totp.models import TOTPDevice
from pytest_django.fixtures import Settings

from execution_app.errors import Refused
from execution_app.gate import second_factor
from tests.execution.gate.test_second_factor import ann, code, device_of, person, wrong

__all__ = ["ann"]  # a fixture


@pytest.mark.parametrize("rehearsal", [True, False])
def test_who_is_asked_for_a_second_factor(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, ann: TOTPDevice, rehearsal: bool
) -> None:
    settings.REHEARSAL = rehearsal
    passkeys = {"carol"}
    monkeypatch.setattr(second_factor, "has_passkey", lambda name: name in passkeys)
    asked = {name: second_factor.is_needed(name) for name in ("ann", "carol", "dan", "")}
    assert asked == {"ann": True, "carol": True, "dan": not rehearsal, "": not rehearsal}


def test_a_check_locks_the_device_alone_and_writes_what_it_changed(ann: TOTPDevice) -> None:
    """No role has the right to change a person, or somebody's key."""
    other = device_of(ann.user)
    with CaptureQueriesContext(connection) as asked:
        second_factor.verify("ann", f" {code(other)} ")
    statements = [query["sql"] for query in asked]
    (locking,) = (one for one in statements if "FOR UPDATE" in one)
    assert locking.endswith('FOR UPDATE OF "otp_totp_totpdevice"')
    written = [one for one in statements if one.startswith("UPDATE")]
    assert written
    for one in written:
        changed = one.split(" WHERE ")[0]
        assert '"last_t"' in changed or '"throttling_failure_count"' in changed
        for kept in ('"key"', '"user_id"', '"name"', '"confirmed"', '"digits"'):
            assert kept not in changed


def test_a_passkey_that_was_shown_is_worth_a_code_to_its_owner_alone(
    settings: Settings, ann: TOTPDevice
) -> None:
    settings.REHEARSAL = False
    with second_factor.shown_by("ann"):
        second_factor.verify("ann", "")
        with pytest.raises(Refused, match="the code is wrong"):
            second_factor.verify("bob", wrong(ann))
        with second_factor.shown_by("bob"):
            second_factor.verify("bob", "")
            with pytest.raises(Refused, match="the code is wrong"):
                second_factor.verify("ann", wrong(ann))
        second_factor.verify("ann", "")
    for name in ("ann", "bob"):
        with pytest.raises(Refused):
            second_factor.verify(name, wrong(ann))
    with second_factor.shown_by(""), pytest.raises(Refused, match=r"^nobody has no second factor"):
        second_factor.verify("", "")


def test_a_device_is_its_persons_while_they_may_log_in_and_once_it_was_confirmed(ann: TOTPDevice) -> None:
    second = device_of(ann.user)
    device_of(ann.user, confirmed=False)
    device_of(person("gone", is_active=False))
    assert set(second_factor._devices("ann")) == {ann, second}
    assert not second_factor._devices("gone").exists()
    User.objects.filter(username="ann").update(is_active=False)
    assert not second_factor._devices("ann").exists()

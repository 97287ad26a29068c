"""Accounts, groups and passwords: what gives more takes a reason and a second factor, what takes away is done at once."""

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.test import Client
from django.urls import reverse
from django_otp.oath import totp
from django_otp.plugins.otp_totp.models import TOTPDevice

from execution_app.models import AuditEntry
from ops.panel import roles
from tests.ops.panel.authenticator import Authenticator
from tests.ops.panel.test_deeds import WHY
from tests.ops.panel.test_passkeys import add as add_passkey
from tests.ops.panel.test_passkeys import asked

PASSWORD, OTHER = "correct-horse-battery", "staple-horse-correct-9"
Form = dict[str, Any]


@pytest.fixture
def device(admin: Client) -> TOTPDevice:
    return TOTPDevice.objects.create(user=User.objects.get(username="root"), name="app", confirmed=True)


@pytest.fixture
def bob(admin: Client) -> User:
    """An operator."""
    user = User.objects.create_user("bob", password=PASSWORD, is_staff=True)
    user.groups.add(roles.group(roles.SiteRole.OPERATOR))
    roles.group(roles.SiteRole.ADMIN)
    return user


def code_of(device: TOTPDevice) -> str:
    """A code is good for one use, and a wrong one makes the next wait."""
    TOTPDevice.objects.update(throttling_failure_count=0, throttling_failure_timestamp=None, last_t=-1)
    return f"{totp(device.bin_key):06d}"


def page_of(user: User) -> str:
    return reverse("admin:auth_user_change", args=[user.pk])


def form_of(user: User, **changed: Any) -> Form:
    """As the page of this account sends it, with these fields otherwise; a box that is not ticked is not sent."""
    form: Form = {
        "username": user.username,
        "date_joined_0": "2026-01-01",
        "date_joined_1": "00:00:00",
        "email": "",
    }
    form |= {name: "on" for name in ("is_active", "is_staff", "is_superuser") if getattr(user, name)}
    form |= {"groups": [row.pk for row in user.groups.all()], "user_permissions": []} | changed
    return {name: value for name, value in form.items() if value is not None}


def named(role: roles.SiteRole) -> int:
    return Group.objects.get(name=role.value).pk


MORE: dict[str, Callable[[User], Form]] = {
    "another role": lambda user: {"groups": [*form_of(user)["groups"], named(roles.SiteRole.ADMIN)]},
    "one role for another": lambda _: {"groups": [named(roles.SiteRole.ADMIN)]},
    "above all": lambda _: {"is_superuser": "on"},
    "a right by itself": lambda _: {"user_permissions": [Permission.objects.get(codename="change_cap").pk]},
    "another name": lambda _: {"username": "ann"},
}
LESS: dict[str, Callable[[User], Form]] = {
    "no role": lambda _: {"groups": []},
    "deactivated": lambda _: {"is_active": None},
    "no way into the site": lambda _: {"is_staff": None},
    "an address": lambda _: {"email": "bob@example.com"},
}


@pytest.mark.parametrize("what", MORE)
def test_what_gives_more_takes_a_reason_and_a_code(
    admin: Client, device: TOTPDevice, bob: User, what: str
) -> None:
    form, before = form_of(bob, **MORE[what](bob)), User.objects.filter(pk=bob.pk).values().get()
    for given, words in (
        ({}, "at least 8 characters"),
        ({"reason": WHY}, "the code is wrong"),
        ({"reason": WHY, "code": "000000"}, "the code is wrong"),
        ({"reason": "no", "code": code_of(device)}, "at least 8 characters"),
    ):
        answer = admin.post(page_of(bob), form | given)
        assert answer.status_code == 200
        assert words in answer.content.decode()
        assert "gives more than before" in answer.content.decode()
    assert User.objects.filter(pk=bob.pk).values().get() == before
    assert [row.name for row in bob.groups.all()] == ["operator"]
    assert not bob.user_permissions.exists()
    assert admin.post(page_of(bob), form | {"reason": WHY, "code": code_of(device)}).status_code == 302
    entry = AuditEntry.objects.filter(action="admin_changed").get()
    assert (entry.reason, entry.actor, entry.before == entry.after) == (WHY, "root", False)


@pytest.mark.parametrize("what", LESS)
def test_what_takes_away_is_done_at_once(admin: Client, device: TOTPDevice, bob: User, what: str) -> None:
    assert admin.post(page_of(bob), form_of(bob, **LESS[what](bob))).status_code == 302
    bob.refresh_from_db()
    if what == "deactivated":
        # And back: what the page says is held against the row as it is now.
        again = form_of(bob) | {"is_active": "on"}
        assert admin.post(page_of(bob), again).status_code == 200
        assert not User.objects.get(pk=bob.pk).is_active
        assert admin.post(page_of(bob), again | {"reason": WHY, "code": code_of(device)}).status_code == 302
        assert User.objects.get(pk=bob.pk).is_active


def test_a_new_account_takes_it_and_uses_no_code_up_for_what_is_refused_anyway(
    admin: Client, device: TOTPDevice
) -> None:
    page, code = reverse("admin:auth_user_add"), code_of(device)
    form = {"username": "ann", "password1": PASSWORD, "password2": PASSWORD, "usable_password": "true"}
    for refused in (form, form | {"reason": WHY}, form | {"password2": OTHER, "reason": WHY, "code": code}):
        assert admin.post(page, refused).status_code == 200
        assert not User.objects.filter(username="ann").exists()
        TOTPDevice.objects.update(throttling_failure_count=0, throttling_failure_timestamp=None)
    assert admin.post(page, form | {"reason": WHY, "code": code}).status_code == 302
    assert AuditEntry.objects.get(action="admin_created").reason == WHY


def test_somebodys_password_takes_it_and_to_take_it_away_does_not(
    admin: Client, device: TOTPDevice, bob: User
) -> None:
    page = reverse("admin:auth_user_password_change", args=[bob.pk])
    form = {"password1": OTHER, "password2": OTHER}
    shown = admin.get(page).content.decode()
    assert 'name="code"' in shown
    assert "usable_password" not in shown
    for refused in (form, form | {"reason": WHY}, form | {"code": code_of(device)}):
        assert admin.post(page, refused).status_code == 200
        bob.refresh_from_db()
        assert bob.check_password(PASSWORD)
    assert admin.post(page, form | {"reason": WHY, "code": code_of(device)}).status_code == 302
    bob.refresh_from_db()
    assert bob.check_password(OTHER)
    assert AuditEntry.objects.get(action="admin_changed").reason == f"password changed: {WHY}"
    assert admin.post(page, {"usable_password": "false", "unset-password": ""}).status_code == 302
    bob.refresh_from_db()
    assert not bob.has_usable_password()


def test_a_group_that_may_more_takes_it_and_one_that_may_less_does_not(
    admin: Client, device: TOTPDevice
) -> None:
    known = roles.group(roles.SiteRole.VIEWER)
    has = list(known.permissions.values_list("pk", flat=True))
    page = reverse("admin:auth_group_change", args=[known.pk])
    new = Permission.objects.get(codename="change_cap").pk
    for form in ({"name": known.name, "permissions": [*has, new]}, {"name": "operator", "permissions": has}):
        assert admin.post(page, form).status_code == 200
        known.refresh_from_db()
        assert (known.name, list(known.permissions.values_list("pk", flat=True))) == ("viewer", has)
    assert admin.post(reverse("admin:auth_group_add"), {"name": "trader"}).status_code == 200
    assert Group.objects.count() == 1, "its name alone is a right"
    more = {"name": known.name, "permissions": [*has, new], "reason": WHY, "code": code_of(device)}
    assert admin.post(page, more).status_code == 302
    assert admin.post(page, {"name": known.name, "permissions": has[:1]}).status_code == 302
    assert known.permissions.count() == 1
    gone = reverse("admin:auth_group_delete", args=[known.pk])
    assert admin.post(gone, {"post": "yes"}).status_code == 302


def test_whoever_manages_accounts_gives_nobody_more_without_it(
    database: None, admin: Client, bob: User
) -> None:
    """An admin by role, whose session somebody has got hold of, and who may be given no more either."""
    ann = User.objects.create_user("ann", is_staff=True)
    ann.groups.add(roles.group(roles.SiteRole.ADMIN))
    device = TOTPDevice.objects.create(user=ann, name="app", confirmed=True)
    client = Client()
    client.force_login(ann)
    form = form_of(ann, groups=[*form_of(ann)["groups"], named(roles.SiteRole.OPERATOR)])
    assert client.post(page_of(ann), form | {"reason": WHY}).status_code == 200
    assert ann.groups.count() == 1
    assert client.post(page_of(ann), form | {"reason": WHY, "code": code_of(device)}).status_code == 302
    assert ann.groups.count() == 2
    viewed = client.get(
        reverse("admin:auth_group_change", args=[named(roles.SiteRole.ADMIN)])
    ).content.decode()
    assert 'name="code"' not in viewed, "who may only look is asked for nothing"


def test_a_passkey_counts_for_the_change_that_it_was_shown_for(admin: Client, bob: User) -> None:
    phone = Authenticator()
    assert add_passkey(admin, phone).status_code == 302
    path = page_of(bob)
    wanted = form_of(bob, is_superuser="on", reason=WHY)
    assert 'data-passkey="' in admin.get(path).content.decode()
    other = phone.get(asked(admin, "shown", path, form_of(bob, email="bob@example.com", reason=WHY)))
    assert admin.post(path, wanted | {"passkey": other}).status_code == 200
    assert not User.objects.get(pk=bob.pk).is_superuser
    shown = phone.get(asked(admin, "shown", path, wanted))
    assert admin.post(path, wanted | {"passkey": shown}).status_code == 302
    assert User.objects.get(pk=bob.pk).is_superuser
    User.objects.filter(pk=bob.pk).update(is_superuser=False)
    assert admin.post(path, wanted | {"passkey": shown}).status_code == 200, "once"

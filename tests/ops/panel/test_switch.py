"""Stop and Resume on the site: who may, with what reason, and what they leave alone."""

from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse
from django_otp.oath import totp
from django_otp.plugins.otp_totp.models import TOTPDevice
from pytest_django.fixtures import Settings

from execution_app.gate import control
from execution_app.models import Restriction
from execution_app.states import Origin, RestrictionKind

HOME = "/admin/"
STOP = "/admin/execution_app/control/stop/"
RESUME = "/admin/execution_app/control/resume/"


def stops() -> set[str]:
    return {row.origin for row in control.active() if row.kind == RestrictionKind.STOP}


def test_the_addresses_are_stable() -> None:
    assert reverse("admin:execution_app_control_stop") == STOP
    assert reverse("admin:execution_app_control_resume") == RESUME


def test_asking_changes_nothing_and_confirming_stops(admin: Client) -> None:
    page = admin.get(STOP)
    assert page.status_code == 200
    assert b"csrfmiddlewaretoken" in page.content
    assert stops() == set()
    response = admin.post(STOP, {"reason": "fills look wrong"}, follow=True)
    row = Restriction.objects.get(lifted_at=None)
    assert (row.origin, row.set_by, row.reason) == ("admin", "root", "fills look wrong")
    text = response.content.decode()
    assert "vanta-banner vanta-stop" in text
    assert "fills look wrong" in text
    assert RESUME in text


def test_a_stop_needs_no_reason_and_twice_is_once(admin: Client) -> None:
    admin.post(STOP, {})
    admin.post(STOP, {})
    assert Restriction.objects.filter(kind=RestrictionKind.STOP).count() == 1


def test_resume_needs_a_reason(admin: Client) -> None:
    admin.post(STOP, {})
    for reason in ("", "   ", "short"):
        assert admin.post(RESUME, {"reason": reason}).status_code == 200
        assert stops() == {"admin"}
    response = admin.post(RESUME, {"reason": "checked by two"}, follow=True)
    assert "Resumed." in response.content.decode()
    assert stops() == set()
    assert Restriction.objects.get().lifted_by == "root"


def test_resume_asks_who_has_a_second_factor_for_its_code(admin: Client) -> None:
    device = TOTPDevice.objects.create(user=User.objects.get(username="root"), name="app", confirmed=True)
    admin.post(STOP, {})
    assert "One-time code" in admin.get(RESUME).content.decode()
    for code in ("", "000000"):
        page = admin.post(RESUME, {"reason": "checked by two", "code": code}).content.decode()
        assert "the code is wrong" in page
        assert stops() == {"admin"}
    TOTPDevice.objects.update(throttling_failure_count=0, throttling_failure_timestamp=None)
    good = f"{totp(device.bin_key):06d}"
    admin.post(RESUME, {"reason": "checked by two", "code": good})
    assert stops() == set()


def test_resume_outside_the_rehearsal_needs_a_second_factor(admin: Client, settings: Settings) -> None:
    admin.post(STOP, {})
    settings.REHEARSAL = False
    page = admin.post(RESUME, {"reason": "checked by two", "code": "123456"}).content.decode()
    assert "no second factor" in page
    assert stops() == {"admin"}


def test_resume_lifts_only_its_own_and_says_what_still_holds(admin: Client) -> None:
    control.impose(RestrictionKind.STOP, Origin.REDIS, by="redis", reason="drill")
    admin.post(STOP, {})
    text = admin.get(RESUME).content.decode()
    assert "redis" in text
    response = admin.post(RESUME, {"reason": "checked by two"}, follow=True)
    assert stops() == {"redis"}
    assert "a stop of another origin still holds" in response.content.decode()
    assert "vanta-banner vanta-stop" in response.content.decode()


def test_resume_without_a_stop_here_offers_no_button(admin: Client) -> None:
    control.impose(RestrictionKind.STOP, Origin.HTTP, by="http", reason="drill")
    assert "Resume now" not in admin.get(RESUME).content.decode()
    admin.post(RESUME, {"reason": "try"})
    assert stops() == {"http"}


def test_a_viewer_sees_the_mode_but_no_switch(viewer: Client) -> None:
    text = viewer.get(HOME).content.decode()
    assert "vanta-banner" in text
    assert STOP not in text
    for path in (STOP, RESUME):
        assert viewer.get(path).status_code == 403
        assert viewer.post(path, {"reason": "x"}).status_code == 403
    assert stops() == set()


def test_the_permission_alone_is_enough_for_staff(database: None) -> None:
    user = User.objects.create_user("operator", password="not-used-here", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename="change_control"))
    client = Client()
    client.force_login(user)
    client.post(STOP, {"reason": "mine"})
    assert stops() == {"admin"}


def test_without_a_csrf_token_nothing_happens(admin: Client) -> None:
    strict = Client(enforce_csrf_checks=True)
    strict.cookies = admin.cookies
    assert strict.post(STOP, {}).status_code == 403
    assert stops() == set()

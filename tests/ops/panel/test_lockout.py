"""Wrong passwords shut out a name and an address, each by itself; sessions are short."""

from datetime import timedelta

import pytest
from django.conf import settings as live_settings
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.test import Client
from django.utils import timezone
from pytest_django.fixtures import Settings

from ops.panel import sessions

LOGIN, HOME = "/admin/login/", "/admin/live/banner/"
PASSWORD, WRONG = "correct-horse-battery-staple", "incorrect-horse"


@pytest.fixture
def people(database: None) -> None:
    for name in ("ada", "bea"):
        User.objects.create_superuser(name, password=PASSWORD)


def try_to(name: str, password: str = WRONG, address: str = "192.0.2.1", forwarded: str = "") -> int:
    headers = {"x-forwarded-for": forwarded} if forwarded else {}
    told = {"username": name, "password": password}
    return int(Client(REMOTE_ADDR=address, headers=headers).post(LOGIN, told).status_code)


@pytest.fixture
def few(settings: Settings) -> int:
    """Hashing passwords is slow by design."""
    settings.AXES_FAILURE_LIMIT = 3
    return 3


def test_a_name_is_shut_out_from_everywhere_and_others_are_not(people: None, few: int) -> None:
    answers = [try_to("ada", address=f"192.0.2.{number}") for number in range(1, few + 2)]
    assert answers[0] == 200
    assert answers[-1] == 429
    assert try_to("ada", PASSWORD, "192.0.2.99") == 429
    assert try_to("bea", PASSWORD, "192.0.2.99") == 302


def test_an_address_is_shut_out_whatever_names_it_tries(people: None, few: int) -> None:
    for number in range(few):
        try_to(f"nobody-{number}", address="192.0.2.7")
    assert try_to("bea", PASSWORD, "192.0.2.7") == 429
    assert try_to("bea", PASSWORD, "192.0.2.8") == 302


def test_the_address_is_the_one_that_the_known_proxies_saw(
    people: None, few: int, settings: Settings
) -> None:
    settings.ENVIRONMENT = live_settings.ENVIRONMENT.model_copy(update={"trusted_proxies": 1})
    for number in range(few):
        # What stands further left was written by the client, another each time.
        try_to(f"nobody-{number}", address="10.0.0.1", forwarded=f"203.0.113.{number}, 198.51.100.9")
    assert try_to("ada", PASSWORD, "10.0.0.1", "198.51.100.9") == 429
    assert try_to("ada", PASSWORD, "10.0.0.1", "198.51.100.10") == 302


def test_what_was_typed_for_a_name_is_stored_nowhere(people: None) -> None:
    from axes.models import AccessAttempt

    try_to("my-password-by-mistake", "another-one")
    (attempt,) = AccessAttempt.objects.values()
    assert "my-password-by-mistake" not in str(attempt)
    assert "another-one" not in str(attempt)
    assert attempt["username"] == "unknown"


def test_a_right_password_forgets_the_wrong_ones(people: None, few: int) -> None:
    for _ in range(few - 1):
        try_to("ada")
    assert try_to("ada", PASSWORD) == 302
    assert try_to("ada") == 200


def log_in() -> Client:
    client = Client()
    assert client.post(LOGIN, {"username": "ada", "password": PASSWORD}).status_code == 302
    return client


def test_a_session_ends_half_an_hour_after_what_was_last_done(people: None) -> None:
    client = log_in()
    session = Session.objects.get()
    assert live_settings.SESSION_COOKIE_AGE == 30 * 60
    client.get("/admin/")
    client.get(HOME)
    assert Session.objects.get().expire_date == session.expire_date, "looking on is not doing"
    data = client.session
    data[sessions.DID] -= 120
    data.save()
    before = Session.objects.get().expire_date
    client.get(HOME)
    assert Session.objects.get().expire_date == before
    client.get("/admin/export/")
    assert Session.objects.get().expire_date > before


def test_nobody_stays_logged_in_for_longer_than_a_working_day(people: None) -> None:
    client = log_in()
    data = client.session
    data[sessions.SINCE] -= sessions.AT_MOST_S - 60
    data[sessions.DID] -= 120
    data.save()
    assert client.get("/admin/export/").status_code == 200
    left = Session.objects.get().expire_date - timezone.now()
    assert timedelta(seconds=0) < left <= timedelta(seconds=60)
    Session.objects.update(expire_date=timezone.now() - timedelta(seconds=1))
    assert client.get(HOME).status_code == 302


def test_no_writing_keeps_a_session_past_its_day(people: None) -> None:
    """Each question for a passkey is written into the session, which would last as long again from there."""
    client = log_in()
    data = client.session
    data[sessions.SINCE] -= sessions.AT_MOST_S - 60
    data.save()
    ask = "/admin/passkeys/options/shown/"
    assert client.post(ask).status_code == 200
    assert Session.objects.get().expire_date - timezone.now() <= timedelta(seconds=60)
    data = client.session
    data[sessions.SINCE] -= 60
    data.save()
    client.post(ask)
    assert not Session.objects.exists()
    assert client.post(ask).status_code == 302, "to the login"

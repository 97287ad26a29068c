"""What no view answers is JSON with the mode, too; the admin site's pages stay pages."""

import pytest
from django.contrib.auth.models import User
from django.test import Client
from pytest_django import Settings

from ops.api import refusals


@pytest.fixture
def faulty(settings: Settings) -> Client:
    settings.ROOT_URLCONF = "tests.ops.api.faulty_urls"
    return Client(raise_request_exception=False)


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "BREW"])
@pytest.mark.parametrize(
    "path", ["/", "/signals/", "/signals/a", "/signals/a/b/c", "/health/", "/nobody", "/static/none", "/api/"]
)
def test_an_unknown_address_is_404_in_json(path: str, method: str) -> None:
    answer = Client(enforce_csrf_checks=True).generic(method, path)
    assert (answer.status_code, answer["Content-Type"]) == (404, "application/json")
    assert answer.json() == {"status": "error", "error": refusals.NOT_FOUND, "mode": "DRY"}


@pytest.mark.parametrize(
    "path", ["/signals", "/signals/a/b", "/health", "/metrics", "/nobody", "/admin/emergency-stop"]
)
def test_a_strange_host_is_400_in_json(path: str) -> None:
    answer = Client().post(path, headers={"Host": "evil.example"})
    assert (answer.status_code, answer["Content-Type"]) == (400, "application/json")
    assert answer.json() == {"status": "error", "error": refusals.UNKNOWN_HOST, "mode": "DRY"}
    assert b"evil" not in answer.content


@pytest.mark.parametrize(
    ("path", "status", "error"),
    [
        ("/fail", 500, refusals.FAULT),
        ("/forbid", 403, refusals.FORBIDDEN),
        ("/suspect", 400, refusals.BAD_REQUEST),
    ],
)
def test_a_view_that_fails_tells_no_secret(faulty: Client, path: str, status: int, error: str) -> None:
    answer = faulty.get(path)
    assert answer.status_code == status
    assert answer.json() == {"status": "error", "error": error, "mode": "DRY"}
    assert answer["X-Request-Id"]


@pytest.mark.parametrize(("path", "status"), [("fail", 500), ("forbid", 403), ("suspect", 400)])
def test_under_the_admin_site_it_is_a_page(faulty: Client, path: str, status: int) -> None:
    answer = faulty.get(f"/admin/{path}")
    assert answer.status_code == status
    assert answer["Content-Type"].startswith("text/html")
    assert b"secret" not in answer.content


def _admin() -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("root", password="not-used-here"))
    return client


def test_the_admin_sites_own_404_and_bad_host_are_pages(database: None) -> None:
    for answer in (_admin().get("/admin/nobody/"), Client().get("/admin/", headers={"Host": "evil.example"})):
        assert answer.status_code in {400, 404}
        assert answer["Content-Type"].startswith("text/html")


def test_the_way_to_the_admin_site_is_still_shown() -> None:
    assert Client().get("/admin")["Location"] == "/admin/"

"""API tokens: what they open, what they never open, and what is left of them here."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connection, connections
from django.db.models import F
from django.db.models.functions import Now
from django.test import Client
from django.test.utils import CaptureQueriesContext

from execution_app.errors import Refused
from execution_app.gate import control
from execution_app.states import Origin, RestrictionKind
from signals_app import tokens
from signals_app.models import ApiToken
from tests.signals.sender import Elsewhere, get_trace, open_body, post

pytestmark = pytest.mark.usefixtures("database")

STRANGER = "vanta_" + "A" * 43
DAY = timedelta(days=1)


@pytest.fixture
def path() -> str:
    """The trace of a signal that is stored."""
    body = open_body()
    assert post(body).status_code == 202
    return f"/signals/{body['source']}/{body['signal_id']}"


def used_at(name: str) -> datetime | None:
    return ApiToken.objects.values_list("last_used_at", flat=True).get(name=name)


def make_older(name: str, by: timedelta) -> None:
    """As if all that is known of the token lay so far back."""
    moved = {column: F(column) - by for column in ("created_at", "expires_at", "last_used_at")}
    ApiToken.objects.filter(name=name).update(**moved)


def test_a_token_reads_a_trace_beside_the_admin_token(path: str) -> None:
    token = tokens.create("grafana").token
    assert get_trace(path, token).json()["signal"]["source"] == "drill"
    assert get_trace(path, token, method="HEAD").status_code == 200
    assert get_trace(path).status_code == 200, "ADMIN_TOKEN"
    assert get_trace("/signals/drill/none", token).status_code == 404


@pytest.mark.parametrize("form", ["Bearer {}", "bearer {}", "BEARER  {}", "Bearer {} "])
def test_the_scheme_is_read_as_the_standard_says(form: str, path: str) -> None:
    header = form.format(tokens.create("grafana").token)
    assert Client().get(path, HTTP_AUTHORIZATION=header).status_code == 200


@pytest.mark.parametrize("form", ["{}", "Basic {}", "Bearer{}", "Bearer x{}", "Bearer {}x", "Bearer {0} {0}"])
def test_anything_else_is_401_and_costs_no_query(form: str, path: str) -> None:
    header = form.format(tokens.create("grafana").token)
    with CaptureQueriesContext(connection) as queries:
        answer = Client().get(path, HTTP_AUTHORIZATION=header)
    assert (answer.status_code, answer.json()["status"]) == (401, "unauthorized")
    assert answer.json()["mode"] in {"DRY", "LIVE"}
    assert len(queries) == 0


def test_a_token_in_the_address_opens_nothing(path: str) -> None:
    token = tokens.create("grafana").token
    assert Client().get(f"{path}?token={token}&access_token={token}").status_code == 401


@pytest.mark.parametrize("asked", ["signal", "nothing"])
def test_a_stranger_is_told_the_same_whatever_is_asked(asked: str, path: str) -> None:
    answer = get_trace(path if asked == "signal" else "/signals/drill/none", STRANGER)
    assert answer.status_code == 401
    assert answer["WWW-Authenticate"].startswith("Bearer")
    assert "signal" not in answer.json()


def test_a_revoked_token_is_401_at_once_and_for_ever(path: str) -> None:
    token = tokens.create("grafana").token
    assert get_trace(path, token).status_code == 200
    assert tokens.revoke("grafana") is True
    assert get_trace(path, token).status_code == 401
    assert tokens.revoke("grafana") is False
    with pytest.raises(Refused, match="for ever"):
        tokens.create("grafana")
    assert get_trace(path, tokens.create("grafana-2").token).status_code == 200


def test_a_token_ends_by_itself(path: str) -> None:
    token = tokens.create("grafana", days=2).token
    make_older("grafana", DAY)
    assert get_trace(path, token).status_code == 200
    make_older("grafana", DAY)
    assert get_trace(path, token).status_code == 401
    assert [state.state for state in tokens.states()] == ["expired"]


def test_it_stops_nothing_and_releases_nothing() -> None:
    control.impose(RestrictionKind.STOP, Origin.HTTP, by="test", reason="")
    bearer = f"Bearer {tokens.create('grafana').token}"
    for method in ("POST", "DELETE"):
        answer = Client().generic(method, "/admin/emergency-stop", HTTP_AUTHORIZATION=bearer)
        assert answer.status_code == 401
    assert [row.kind for row in control.active()] == ["emergency_stop"]
    assert used_at("grafana") is None


def test_its_use_is_noted_once_a_minute(path: str) -> None:
    token = tokens.create("grafana").token
    assert used_at("grafana") is None
    get_trace(path, STRANGER)
    assert used_at("grafana") is None
    get_trace(path, token)
    first = used_at("grafana")
    assert first is not None
    with CaptureQueriesContext(connection) as queries:
        get_trace(path, token)
    assert not [query["sql"] for query in queries if "UPDATE" in query["sql"]]
    assert used_at("grafana") == first
    make_older("grafana", timedelta(seconds=61))
    get_trace(path, token)
    second = used_at("grafana")
    assert second is not None
    assert second > first


def test_only_the_hash_is_left(path: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    with CaptureQueriesContext(connection) as queries:
        token = tokens.create("grafana", days=1).token
        get_trace(path, token)
        get_trace(path, STRANGER)
        tokens.revoke("grafana")
    said = caplog.text + str(queries.captured_queries) + str(ApiToken.objects.values())
    assert "grafana" in caplog.text
    for secret in (token, token.removeprefix("vanta_"), STRANGER):
        assert secret not in said


def test_no_two_tokens_are_alike() -> None:
    made = {tokens.create(f"t{number}").token for number in range(20)}
    assert len(made) == 20
    assert all(tokens.offered(f"Bearer {token}") for token in made), "each has the form that is looked up"


@pytest.mark.parametrize("name", ["", "a b", "a" * 65, "\u0661", "a\n", "a/b"])
def test_a_name_that_cannot_be_one(name: str) -> None:
    with pytest.raises(Refused, match="1 to 64 characters"):
        tokens.create(name)


@pytest.mark.parametrize("days", [0, -1, tokens.MAX_DAYS + 1])
def test_a_life_that_cannot_be_one(days: int) -> None:
    with pytest.raises(Refused, match="days"):
        tokens.create("grafana", days)
    assert not ApiToken.objects.exists()


def test_without_a_database_a_token_is_not_called_wrong(
    elsewhere: Elsewhere, closed_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(connections.settings["default"], "PORT", closed_port)
    answer: Any = elsewhere(lambda: get_trace("/signals/drill/a", STRANGER))
    assert (answer.status_code, answer.json()["status"]) == (503, "unavailable")
    assert int(answer["Retry-After"]) > 0
    assert elsewhere(lambda: get_trace("/signals/drill/a", "wrong")).status_code == 401


def test_the_clock_is_the_databases(path: str) -> None:
    """A token that ends in this very moment has ended."""
    token = tokens.create("grafana").token
    ApiToken.objects.update(expires_at=Now() + timedelta(milliseconds=1), created_at=Now() - DAY)
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_sleep(0.002)")
    assert get_trace(path, token).status_code == 401

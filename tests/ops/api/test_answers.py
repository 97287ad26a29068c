"""Real answers of the running views, one for every status that the document names, held against its schemas."""

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from execution_app.moves import open_intent
from ops.api import refusals
from ops.api.document import document
from signals_app import sources, tokens
from signals_app.models import Signal
from tests.ops.api.judge import check
from tests.ops.panel.rows import one_of_each
from tests.ops.panel.test_emergency_stop import call
from tests.signals.sender import get_trace, open_body, post

SIGNALS, TRACE, STOP = "/signals", "/signals/{source}/{signal_id}", "/admin/emergency-stop"
Case = Callable[[], Any]


def repeated() -> Any:
    body = open_body()
    post(body)
    return post(body)


def conflicting() -> Any:
    body = open_body()
    post(body)
    return post(body | {"leverage_x": 3})


def of_another_source() -> Any:
    sources.add("alpha")
    return post(open_body(source="alpha"))


def too_fast() -> Any:
    sources.limit("drill", open_burst=1, opens_per_minute=1)
    post(open_body())
    return post(open_body())


def traced() -> Any:
    """A filled trade, whose signal has a sibling that waits."""
    intent = one_of_each()
    open_intent(
        key=f"{intent.intent_key}#2",
        by="test",
        trader=intent.trader,
        wallet=intent.wallet,
        tg_user_id=123,
        action="close",
        symbol="BTC-USD",
        slippage_pct=1,
    )
    answer = get_trace("/signals/drill/page-001")
    assert answer.json()["fill"]
    assert answer.json()["position"]
    assert answer.json()["siblings"]
    return answer


def traced_undecided() -> Any:
    body = open_body(meta={"a": [1]}, ts="2026-01-02T03:04:05Z", max_lag_s=5, take_profit="70000")
    post(body)
    return get_trace(f"/signals/drill/{body['signal_id']}", tokens.create("reader").token)


def traced_refused() -> Any:
    body = open_body()
    post(body)
    Signal.objects.update(
        decision="rejected", reasons=["unknown_trader", "no_wallet"], decided_at="2026-01-02T03:04:05Z"
    )
    return get_trace(f"/signals/drill/{body['signal_id']}")


def released_with(body: bytes) -> Any:
    return call(Client(), "DELETE", body)


def get(path: str, **headers: str) -> Any:
    return Client().get(path, headers=headers)


# path, method, the response's name in the document, how to get it
CASES: list[tuple[str, str, str, Case]] = [
    (SIGNALS, "post", "202", lambda: post(open_body())),
    (SIGNALS, "post", "200", repeated),
    (SIGNALS, "post", "400", lambda: post(b'{"a":1,"a":2}')),
    (SIGNALS, "post", "400", lambda: post(open_body(), HTTP_HOST="evil.example")),
    (SIGNALS, "post", "401", lambda: post(open_body(), HTTP_X_SIGNATURE="0" * 64)),
    (SIGNALS, "post", "401", of_another_source),
    (SIGNALS, "post", "409", conflicting),
    (SIGNALS, "post", "413", lambda: post(b" " * 65_537)),
    (SIGNALS, "post", "415", lambda: post(open_body(), CONTENT_TYPE="text/plain")),
    (SIGNALS, "post", "422", lambda: post(open_body(leverage_x=0, colour="red"))),
    (SIGNALS, "post", "422", lambda: post(b"[]")),
    (SIGNALS, "post", "429", too_fast),
    (SIGNALS, "post", "default", lambda: get(SIGNALS)),
    (TRACE, "get", "200", traced),
    (TRACE, "get", "200", traced_undecided),
    (TRACE, "get", "200", traced_refused),
    (TRACE, "get", "401", lambda: get_trace("/signals/a/b", "wrong")),
    (TRACE, "get", "404", lambda: get_trace("/signals/a/b")),
    (TRACE, "get", "default", lambda: get_trace("/signals/a/b", method="PUT")),
    (TRACE, "get", "default", lambda: get("/signals/a/b", Host="evil.example")),
    ("/health", "get", "200", lambda: get("/health")),
    ("/health", "get", "default", lambda: Client().post("/health")),
    ("/health/live", "get", "200", lambda: get("/health/live")),
    ("/health/live", "get", "default", lambda: Client().post("/health/live")),
    ("/health/ready", "get", "200", lambda: get("/health/ready")),
    ("/health/ready", "get", "default", lambda: Client().post("/health/ready")),
    ("/metrics", "get", "200", lambda: get("/metrics")),
    ("/metrics", "get", "default", lambda: Client().post("/metrics")),
    (STOP, "post", "200", lambda: call(Client(), "POST", {"reason": "drill"})),
    (STOP, "post", "200", lambda: call(Client(), "POST", b"not json")),
    (STOP, "post", "401", lambda: call(Client(), "POST", headers={})),
    (STOP, "post", "default", lambda: call(Client(), "PUT")),
    (STOP, "delete", "200", lambda: call(Client(), "DELETE")),
    (STOP, "delete", "400", lambda: released_with(b"not json")),
    (STOP, "delete", "401", lambda: call(Client(), "DELETE", headers={"Authorization": "Bearer x"})),
    (STOP, "delete", "413", lambda: released_with(b" " * 5_000)),
    (STOP, "delete", "422", lambda: released_with(b"[]")),
    (STOP, "delete", "default", lambda: get(STOP)),
    ("/api/openapi.json", "get", "200", lambda: get("/api/openapi.json")),
    ("/api/openapi.json", "get", "default", lambda: Client().post("/api/openapi.json")),
    ("/api/docs", "get", "200", lambda: get("/api/docs")),
    ("/api/docs", "get", "default", lambda: get("/api/docs", Host="evil.example")),
]
# The same while no database is there.
WITHOUT_A_DATABASE: list[tuple[str, str, str, Case]] = [
    (SIGNALS, "post", "503", lambda: post(open_body())),
    (SIGNALS, "post", "503", lambda: post(open_body(), HTTP_X_SIGNATURE="0" * 64)),
    (TRACE, "get", "503", lambda: get_trace("/signals/a/b")),
    ("/health", "get", "503", lambda: get("/health")),
    ("/health/ready", "get", "503", lambda: get("/health/ready")),
    (STOP, "post", "503", lambda: call(Client(), "POST")),
    (STOP, "delete", "503", lambda: call(Client(), "DELETE")),
]


def titled(cases: list[tuple[str, str, str, Case]]) -> list[str]:
    return [f"{method} {path} {name}" for path, method, name, _ in cases]


@pytest.mark.parametrize(("path", "method", "name", "ask"), CASES, ids=titled(CASES))
def test_an_answer_is_what_the_document_says(
    database: None, path: str, method: str, name: str, ask: Case
) -> None:
    answer = ask()
    assert check(answer, path, method) == name
    if answer["Content-Type"] == "application/json" and (path, name) != ("/api/openapi.json", "200"):
        body = answer.json()
        assert body.get("execution_mode", body)["mode"] == "DRY"


@pytest.mark.parametrize(
    ("path", "method", "name", "ask"), WITHOUT_A_DATABASE, ids=titled(WITHOUT_A_DATABASE)
)
def test_an_answer_without_a_database_is_what_the_document_says(
    database_away: None, path: str, method: str, name: str, ask: Case
) -> None:
    assert check(ask(), path, method) == name


def test_every_status_of_the_document_was_seen() -> None:
    named = {
        (path, method, name)
        for path, item in document()["paths"].items()
        for method, operation in item.items()
        for name in operation["responses"]
    }
    assert {case[:3] for case in CASES + WITHOUT_A_DATABASE} == named


def test_the_words_for_what_no_view_answers_are_the_ones_in_the_document() -> None:
    about = document()["components"]["schemas"]["Problem"]["description"]
    assert refusals.UNKNOWN_HOST in about
    assert refusals.NOT_FOUND in about
    assert check(get("/nobody"), "/health/live", "get") == "default"

"""`POST /signals` over HTTP against a real PostgreSQL: what is answered, and what is stored."""

import io
import json
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pytest
from django.conf import settings
from django.db import connection, connections
from django.test import Client
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from execution_app.gate.watch import effective_mode
from execution_app.models import Trader
from execution_app.moves import open_intent
from signals_app import decisions, meters
from signals_app.body import MAX_BODY_BYTES
from signals_app.models import Signal, SourceGrant
from tests.execution import rows
from tests.signals.sender import Elsewhere, open_body, post, sign
from tests.signals.test_rules import store, trader
from vanta.celery import app as _celery  # noqa: F401  (tasks find their broker through it)

__all__ = ["trader"]  # the fixture
COPIES = 50

pytestmark = pytest.mark.usefixtures("database")


def rejected(reason: str) -> float:
    return REGISTRY.get_sample_value("vanta_signals_rejected_total", {"reason": reason}) or 0


def test_a_signal_is_stored_exactly_as_it_was_sent() -> None:
    body = open_body(collateral_usdc="5.1", take_profit=61000.5, ts="2026-01-02T03:04:05Z", meta={"n": 1.10})
    answer = post(body)
    key = f"sig:drill:{body['signal_id']}"
    assert answer.status_code == 202
    assert answer.json() == {"status": "queued", "intent_key": key, "mode": effective_mode()}
    signal = Signal.objects.get()
    assert signal.intent_key == key
    assert (signal.collateral_usdc, signal.take_profit) == (Decimal("5.1"), Decimal("61000.5"))
    assert (signal.slippage_pct, signal.order_type, signal.stop_loss) == (Decimal("0.5"), "market", None)
    assert (signal.decision, signal.decided_at, signal.reasons) == ("", None, [])
    assert signal.meta == {"n": 1.1}
    assert signal.ts is not None
    assert signal.ts.isoformat() == "2026-01-02T03:04:05+00:00"


def test_the_largest_values_are_stored_exactly() -> None:
    post(
        open_body(
            source="a" * 64,
            signal_id="b" * 128,
            tg_user_id=2**63 - 1,
            symbol="ABCDEFGHIJKLMNO-USDCE",
            collateral_usdc="999999999.999999",
            leverage_x="999.9999",
            stop_loss="999999999999.9999999999",
            order_type="stop_limit",
            limit_price="0.0000000001",
            max_lag_s=86_400,
        )
    )
    signal = Signal.objects.get()
    assert signal.stop_loss == Decimal("999999999999.9999999999")
    assert signal.limit_price == Decimal("0.0000000001")
    assert len(signal.intent_key) == 197


def test_the_same_signal_again_is_a_duplicate_however_it_is_spelled() -> None:
    body = open_body()
    post(body)
    again = {name: body[name] for name in reversed(body)} | {"collateral_usdc": "5.00", "side": "long"}
    answer = post(again)
    assert answer.status_code == 200
    assert answer.json() == {
        "status": "duplicate",
        "intent_key": f"sig:drill:{body['signal_id']}",
        "state": "received",
        "mode": effective_mode(),
    }
    assert Signal.objects.count() == 1


def test_a_duplicate_tells_how_far_the_intent_is() -> None:
    body = open_body()
    post(body)
    trader = Trader.objects.create(tg_user_id=123, address="0x" + "a" * 40)
    open_intent(
        key=f"sig:drill:{body['signal_id']}",
        by="test",
        trader=trader,
        tg_user_id=123,
        action="open",
        symbol="BTC-USD",
        is_long=True,
        collateral_usdc=5,
        leverage_x=2,
        slippage_pct=Decimal("0.5"),
    )
    assert post(body).json()["state"] == "pending"


def test_a_duplicate_of_a_refused_signal_says_so() -> None:
    body = open_body()
    post(body)
    Signal.objects.update(decision="rejected", reasons=["unknown_trader"], decided_at="2026-01-02T03:04:05Z")
    assert post(body).json()["state"] == "rejected"


def test_another_content_under_the_same_id_is_a_conflict() -> None:
    body = open_body()
    post(body)
    before = rejected("conflict")
    answer = post(body | {"leverage_x": 3})
    assert (answer.status_code, answer.json()["status"]) == (409, "conflict")
    assert Signal.objects.get().leverage_x == 2
    assert rejected("conflict") == before + 1


def test_the_same_id_from_another_source_is_another_signal() -> None:
    body = open_body()
    assert post(body).status_code == 202
    assert post(body | {"source": "other"}).status_code == 202


def test_a_worker_is_rung_after_the_commit_and_only_for_a_new_signal(valkey: Any) -> None:
    body = open_body()
    for _ in range(3):
        post(body)
    post(second := open_body())
    until_s = time.monotonic() + 60
    while valkey.llen("submit") < 2 and time.monotonic() < until_s:
        time.sleep(0.01)
    rung = [json.loads(message)["headers"] for message in valkey.lrange("submit", 0, -1)]
    assert [headers["task"] for headers in rung] == ["signals_app.tasks.decide"] * 2
    ids = Signal.objects.filter(signal_id__in=[body["signal_id"], second["signal_id"]]).values_list(
        "pk", flat=True
    )
    assert {headers["argsrepr"] for headers in rung} == {f"({pk},)" for pk in ids}


def test_the_webhook_process_knows_the_broker() -> None:
    """Without the project's Celery app a task would be published to Celery's default broker, that is nowhere."""
    script = "import vanta.wsgi; from signals_app.tasks import decide; print(decide.app.conf.broker_url)"
    said = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    assert said.stdout.strip() == settings.REDIS_URL


@pytest.mark.parametrize("signature", ["", "0" * 64, "sha256=" + "0" * 64, "\xe4" * 64])
def test_without_a_true_signature_nothing_is_stored(signature: str) -> None:
    before = rejected("signature")
    answer = post(open_body(), HTTP_X_SIGNATURE=signature)
    assert (answer.status_code, answer.json()["status"]) == (401, "signature")
    assert "WWW-Authenticate" in answer
    assert rejected("signature") == before + 1
    assert not Signal.objects.exists()


def test_the_signature_is_over_the_raw_bytes() -> None:
    body = json.dumps(open_body()).encode()
    assert post(body + b" ", HTTP_X_SIGNATURE=sign(body)).status_code == 401
    assert post(body.replace(b" ", b""), HTTP_X_SIGNATURE=sign(body)).status_code == 401


def test_the_signature_is_judged_before_the_content() -> None:
    assert post(b"not json", HTTP_X_SIGNATURE="0" * 64).status_code == 401


class Pouring(io.RawIOBase):
    """A stream that has more than anybody should read, and knows what was read."""

    def __init__(self, size: int) -> None:
        self.left = size
        self.given = 0

    def read(self, size: int = -1) -> bytes:
        part = min(self.left, 10_000, size if size >= 0 else self.left)
        self.left -= part
        self.given += part
        return b" " * part


def test_a_long_body_is_refused_by_its_length_before_it_is_read_or_judged() -> None:
    stream = Pouring(10**9)
    environ = {"wsgi.input": stream, "CONTENT_LENGTH": str(10**9), "HTTP_X_SIGNATURE": ""}
    answer = post(b"", **environ)
    assert (answer.status_code, answer.json()["status"]) == (413, "too_large")
    assert stream.given == 0


def test_a_connection_that_breaks_in_the_body_is_refused() -> None:
    class Torn(io.RawIOBase):
        def read(self, size: int = -1) -> bytes:
            raise ConnectionResetError

    for environ in ({"CONTENT_LENGTH": "10"}, {"CONTENT_LENGTH": "", "wsgi.input_terminated": True}):
        assert post(b"", **environ, **{"wsgi.input": Torn()}).status_code == 400


@pytest.mark.parametrize("length", ["", "1000000000", "9" * 30])
def test_no_more_than_the_limit_is_read_whatever_the_length_says(length: str) -> None:
    stream = Pouring(10**9)
    answer = post(b"", **{"wsgi.input": stream, "CONTENT_LENGTH": length, "wsgi.input_terminated": True})
    assert answer.status_code in {401, 413}
    assert stream.given <= MAX_BODY_BYTES + 1


def test_a_body_without_a_length_is_read_where_the_server_knows_its_end() -> None:
    body = json.dumps(open_body()).encode()
    environ = {"CONTENT_LENGTH": "", "wsgi.input": io.BytesIO(body), "wsgi.input_terminated": True}
    assert post(b"", **environ, HTTP_X_SIGNATURE=sign(body)).status_code == 202


def test_a_body_at_the_limit_is_read_and_one_above_is_not() -> None:
    body = json.dumps(open_body()).encode()
    assert post(body + b" " * (MAX_BODY_BYTES - len(body))).status_code == 202
    assert post(body + b" " * (MAX_BODY_BYTES + 1 - len(body))).status_code == 413


@pytest.mark.parametrize(
    "kind",
    [
        *("", "text/plain", "application/json5", "application/json; charset=latin-1", "application/jsonx"),
        *(
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=x",
            "application/json, text/plain",
        ),
    ],
)
def test_another_content_type_is_refused(kind: str) -> None:
    answer = post(open_body(), CONTENT_TYPE=kind)
    assert (answer.status_code, answer.json()["status"]) == (415, "content_type")


@pytest.mark.parametrize(
    "kind", ["application/json;charset=UTF-8", 'application/json ; charset="utf-8"', "Application/JSON"]
)
def test_json_in_utf8_is_taken(kind: str) -> None:
    assert post(open_body(), CONTENT_TYPE=kind).status_code == 202


def test_a_compressed_body_is_refused() -> None:
    assert post(open_body(), HTTP_CONTENT_ENCODING="gzip").status_code == 415


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"])
def test_only_post(method: str) -> None:
    answer = Client().generic(method, "/signals")
    assert (answer.status_code, answer["Allow"]) == (405, "POST")


def test_faults_of_the_content_are_told_apart() -> None:
    assert post(b'{"a":1,"a":2}').status_code == 400
    answer = post(open_body(symbol="btc", leverage_x=0))
    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["errors"]] == ["symbol", "leverage_x"]
    assert all(set(error) == {"field", "message"} for error in answer.json()["errors"])
    assert not Signal.objects.exists()


def test_a_nul_is_refused_and_never_reaches_the_database() -> None:
    for spoiled in (
        {"meta": {"a": "\x00"}},
        {"meta": {"\x00": 1}},
        {"source": "a\x00"},
        {"symbol": "BTC-USD\x00"},
    ):
        assert post(open_body(**spoiled)).status_code == 422


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(st.binary(max_size=100) | ANY | st.builds(lambda meta: open_body(meta=meta), ANY))
@hypothesis_settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_no_signed_body_is_a_server_error(body: Any) -> None:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = post(raw)
    assert answer.status_code in {202, 400, 422}
    assert answer.json()["mode"] in {"DRY", "LIVE"}


def _at_once(bodies: list[dict[str, object]]) -> list[int]:
    def send(body: dict[str, object]) -> int:
        try:
            return int(post(body).status_code)
        finally:
            connection.close()

    with ThreadPoolExecutor(len(bodies)) as threads:
        return list(threads.map(send, bodies))


def test_copies_at_once_are_one_row() -> None:
    body = open_body()
    answers = Counter(_at_once([body] * COPIES))
    assert answers == {202: 1, 200: COPIES - 1}
    assert Signal.objects.count() == 1


def test_of_two_contents_at_once_one_wins_and_the_other_is_a_conflict() -> None:
    body = open_body()
    bodies = [body | {"leverage_x": 2 + number % 2} for number in range(COPIES)]
    answers = _at_once(bodies)
    assert Counter(answers) == {202: 1, 200: COPIES // 2 - 1, 409: COPIES // 2}
    winner = Signal.objects.get().leverage_x
    for sent, status in zip(bodies, answers, strict=True):
        assert (status == 409) == (sent["leverage_x"] != winner)


def test_without_a_database_the_sender_is_told_to_come_again(
    elsewhere: Elsewhere, closed_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(connections.settings["default"], "PORT", closed_port)
    began_s = time.monotonic()
    answer = elsewhere(lambda: post(open_body()))
    assert time.monotonic() - began_s < 15
    assert (answer.status_code, answer.json()["status"]) == (503, "unavailable")
    assert int(answer["Retry-After"]) > 0


def test_every_refusal_that_needs_no_database_works_without_one(
    elsewhere: Elsewhere, closed_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(connections.settings["default"], "PORT", closed_port)
    assert elsewhere(lambda: post(b"")).status_code == 400
    assert elsewhere(lambda: post(open_body(), HTTP_X_SIGNATURE="")).status_code == 401
    assert elsewhere(lambda: post(open_body(side="x"))).status_code == 422


def test_a_source_nobody_granted_shares_one_label(monkeypatch: pytest.MonkeyPatch) -> None:
    def count(name: str, source: str) -> float:
        return REGISTRY.get_sample_value(f"vanta_signals_{name}_total", {"source": source}) or 0

    SourceGrant.objects.create(source="granted", tg_user_id=123)
    monkeypatch.setattr(meters, "SOURCE_LABELS", meters.SourceLabels())
    before = count("received", "granted"), count("received", "other"), count("deduplicated", "granted")
    for body in (known := open_body(source="granted"), known, open_body(source="made-up")):
        post(body)
    after = count("received", "granted"), count("received", "other"), count("deduplicated", "granted")
    assert [now - then for now, then in zip(after, before, strict=True)] == [1, 1, 1]
    assert count("received", "made-up") == 0


def test_a_signal_whose_bell_was_lost_is_found(trader: Trader) -> None:
    signal = store()
    left = decisions.undecided()
    age_s = rows.one("SELECT extract(epoch FROM now() - received_at) FROM signals")
    assert left == [] or age_s > 1, "the youngest are left to their bells"
    rows.execute("ALTER TABLE signals DISABLE TRIGGER guard_signal")
    rows.execute("UPDATE signals SET received_at = now() - interval '2 seconds'")
    rows.execute("ALTER TABLE signals ENABLE TRIGGER guard_signal")
    assert decisions.undecided() == [signal.pk]
    decisions.decide(signal.pk)
    assert decisions.undecided() == []

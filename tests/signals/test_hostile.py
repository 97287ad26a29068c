"""What hostile and broken senders get, over a real server: the status and what they are told; never a 500."""

import json
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from signals_app.models import Signal
from tests.lost_time import meter
from tests.signals.sender import open_body, sign, webhook_headers
from tests.signals.wire import Answer, Header, chunked, read, request, send, server

MEGABYTE = 1_000_000
ARABIC, FULLWIDTH = "\u0661\u0662\u0663", "\uff11\uff12\uff13"


@pytest.fixture(scope="module")
def webhook(django_db_setup: None) -> Iterator[int]:
    with server() as number:
        yield number


def standard(body: bytes, **spoiled: str | None) -> bytes:
    """Signed by the headers of Standard Webhooks alone; `spoiled` replaces one, or leaves it out."""
    made = {
        name.removeprefix("HTTP_").lower(): value for name, value in webhook_headers(body, "msg_1").items()
    }
    headers: list[Header] = [
        (name.replace("_", "-"), value) for name, value in (made | spoiled).items() if value is not None
    ]
    return request(body, *headers, without=("X-Signature",))


# Bytes, or what writes them down when they are sent: a signature with a time is good for minutes only.
Raw = bytes | Callable[[], bytes]


def written(raw: Raw) -> bytes:
    return raw if isinstance(raw, bytes) else raw()


def field(name: str, value: object) -> bytes:
    return request(open_body(**{name: value}))


BODY = json.dumps(open_body(signal_id="hostile")).encode()
LONG = b" " * 65_537
OPEN = b'{"source":"drill","signal_id":"x","tg_user_id":123,"symbol":"BTC-USD","side":"LONG","leverage_x":2,'
STAMP = str(int(time.time()))

# name, request, status, what its sender is told
TEXTS: list[tuple[str, Raw, int, str]] = [
    ("empty", request(b""), 400, "not JSON"),
    ("words", request(b"buy bitcoin"), 400, "not JSON"),
    ("torn", request(b'{"source":'), 400, "not JSON"),
    ("comma at the end", request(b'{"source":"drill",}'), 400, "not JSON"),
    ("single quotes", request(b"{'source':'drill'}"), 400, "not JSON"),
    ("comment", request(b"{} // open"), 400, "not JSON"),
    ("two texts", request(b"{}{}"), 400, "not JSON"),
    ("key twice", request(b'{"source":"a","source":"b"}'), 400, "given twice"),
    ("key twice, one escaped", request(b'{"side":"LONG","s\\u0069de":"CLOSE"}'), 400, "given twice"),
    ("key twice inside", request(b'{"meta":{"a":1,"a":2}}'), 400, "given twice"),
    ("NaN", request(OPEN + b'"collateral_usdc":NaN}'), 400, "NaN is not a JSON number"),
    ("Infinity", request(OPEN + b'"collateral_usdc":Infinity}'), 400, "Infinity is not"),
    ("minus Infinity", request(OPEN + b'"collateral_usdc":-Infinity}'), 400, "-Infinity is not"),
    ("leading zero", request(OPEN + b'"collateral_usdc":05}'), 400, "not JSON"),
    ("plus sign", request(OPEN + b'"collateral_usdc":+5}'), 400, "not JSON"),
    ("hexadecimal", request(OPEN + b'"collateral_usdc":0x5}'), 400, "not JSON"),
    ("bare point", request(OPEN + b'"collateral_usdc":.5}'), 400, "not JSON"),
    ("41 digits", request(OPEN + b'"collateral_usdc":' + b"1" * 41 + b"}"), 400, "more than 40"),
    ("60,000 digits", request(OPEN + b'"collateral_usdc":' + b"9" * 60_000 + b"}"), 400, "more than 40"),
    ("exponent out of range", request(OPEN + b'"collateral_usdc":1e99999999999999999999}'), 400, "exponent"),
    ("Arabic digits bare", request(OPEN + f'"collateral_usdc":{ARABIC}}}'.encode()), 400, "not JSON"),
    ("not UTF-8", request(b'{"source":"\xff\xfe"}'), 400, "not UTF-8"),
    ("overlong UTF-8", request(b'{"source":"\xc0\xaf"}'), 400, "not UTF-8"),
    ("UTF-16", request(BODY.decode().encode("utf-16")), 400, "not UTF-8"),
    ("byte order mark", request(b"\xef\xbb\xbf" + BODY), 400, "not JSON"),
    ("NUL bytes", request(b"\x00" * 100), 400, "not JSON"),
    ("control character", request(b'{"source":"a\nb"}'), 400, "not JSON"),
    ("60,000 open lists", request(b"[" * 60_000), 400, "nested too deeply"),
    ("10,000 open objects", request(b'{"a":' * 10_000), 400, "nested too deeply"),
    ("nested and closed", request(b"[" * 30_000 + b"]" * 30_000), 400, "nested too deeply"),
]
CONTENTS: list[tuple[str, Raw, int, str]] = [
    ("a list", request(b"[]"), 422, "must be a JSON object"),
    ("a number", request(b"5"), 422, "must be a JSON object"),
    ("null", request(b"null"), 422, "must be a JSON object"),
    ("nothing given", request(b"{}"), 422, "source: is required"),
    ("unknown field", field("leverage", 3), 422, "leverage: is not a known field"),
    ("2,000 unknown fields", request({f"f{n}": 1 for n in range(2_000)}), 422, "more unknown fields"),
    ("path in the source", field("source", "../etc"), 422, "source: must be"),
    ("source too long", field("source", "a" * 65), 422, "source: must be"),
    ("Cyrillic source", field("source", "dr\u0456ll"), 422, "source: must be"),
    ("Arabic digits in the id", field("signal_id", ARABIC), 422, "signal_id: must be"),
    ("line end in the id", field("signal_id", "a\n"), 422, "signal_id: must be"),
    ("SQL in the id", field("signal_id", "';DROP TABLE signals;--"), 422, "signal_id: must be"),
    ("id too long", field("signal_id", "a" * 129), 422, "signal_id: must be"),
    ("id is a number", field("signal_id", 5), 422, "signal_id: must be"),
    ("NUL in the id", field("signal_id", "a\x00"), 422, "signal_id: must be"),
    ("trader zero", field("tg_user_id", 0), 422, "tg_user_id: must be a whole number"),
    ("trader beyond int64", field("tg_user_id", 2**63), 422, "tg_user_id: must be"),
    ("trader is half", field("tg_user_id", 1.5), 422, "tg_user_id: must be"),
    ("trader is true", field("tg_user_id", True), 422, "tg_user_id: must be"),
    ("trader in Arabic digits", field("tg_user_id", ARABIC), 422, "tg_user_id: must be"),
    ("trader with underscores", field("tg_user_id", "1_000"), 422, "tg_user_id: must be"),
    ("symbol in lower case", field("symbol", "btc-usd"), 422, "symbol: must be"),
    ("symbol in wide letters", field("symbol", "\uff22TC-USD"), 422, "symbol: must be"),
    ("unknown side", field("side", "BUY"), 422, "side: must be one of"),
    ("side with a long s", field("side", "\u017fHORT"), 422, "side: must be one of"),
    ("side is a list", field("side", ["LONG"]), 422, "side: must be one of"),
    ("collateral zero", field("collateral_usdc", 0), 422, "collateral_usdc: must be above 0"),
    ("collateral minus zero", field("collateral_usdc", "-0"), 422, "collateral_usdc: must be above 0"),
    ("collateral negative", field("collateral_usdc", -5), 422, "collateral_usdc: must be above 0"),
    ("collateral huge", field("collateral_usdc", "1e39"), 422, "collateral_usdc: must be above 0"),
    ("collateral NaN in a string", field("collateral_usdc", "NaN"), 422, "collateral_usdc: must be a number"),
    (
        "collateral in wide digits",
        field("collateral_usdc", FULLWIDTH),
        422,
        "collateral_usdc: must be a number",
    ),
    ("collateral with a comma", field("collateral_usdc", "5,0"), 422, "collateral_usdc: must be a number"),
    ("collateral with a space", field("collateral_usdc", " 5"), 422, "collateral_usdc: must be a number"),
    ("a seventh decimal", field("collateral_usdc", "5.0000001"), 422, "more than 6 decimals"),
    ("a megabyte of zeros", field("collateral_usdc", "1e-999999"), 422, "more than 6 decimals"),
    ("leverage above all", field("leverage_x", 1001), 422, "leverage_x: must be above 0 and at most"),
    ("no leverage", field("leverage_x", None), 422, "leverage_x: is required"),
    ("slippage above the venue's", field("slippage_pct", 81), 422, "slippage_pct: must be above 0"),
    ("part of an open", field("reduce_pct", 50), 422, "reduce_pct: is allowed only with side CLOSE"),
    ("price of zero", field("stop_loss", "0.0"), 422, "stop_loss: must be above 0"),
    ("limit without a price", field("order_type", "limit"), 422, "limit_price: is required"),
    ("lag of no time", field("max_lag_s", 0), 422, "max_lag_s: must be a whole number"),
    ("time without a zone", field("ts", "2026-01-02T03:04:05"), 422, "ts: must be an RFC 3339 time"),
    ("30 February", field("ts", "2026-02-30T00:00:00Z"), 422, "ts: must be an RFC 3339 time"),
    ("time in Arabic digits", field("ts", f"2026-01-02T03:04:{ARABIC[:2]}Z"), 422, "ts: must be"),
    ("NUL in meta", field("meta", {"a": "\x00"}), 422, "meta: must not contain the NUL"),
    ("half a surrogate pair", field("meta", {"a": "\ud800"}), 422, "meta: must not contain half"),
    ("meta nested", field("meta", {"a": [[[[[[]]]]]]}), 422, "meta: is nested more than"),
    ("meta too long", field("meta", {"a": "x" * 4_096}), 422, "meta: has more than"),
]
SIGNATURES: list[tuple[str, Raw, int, str]] = [
    ("none", request(BODY, without=("X-Signature",)), 401, "X-Signature must be"),
    ("blank", request(BODY, ("X-Signature", "")), 401, "X-Signature must be"),
    ("of another body", request(BODY, ("X-Signature", sign(BODY + b" "))), 401, "X-Signature must be"),
    ("cut", request(BODY, ("X-Signature", sign(BODY)[:-1])), 401, "X-Signature must be"),
    ("with a name", request(BODY, ("X-Signature", "sha256=" + sign(BODY))), 401, "X-Signature must be"),
    ("twice", request(BODY, ("X-Signature", sign(BODY)), ("X-Signature", "0" * 64)), 401, "X-Signature must"),
    ("not ASCII", request(BODY, ("X-Signature", b"\xd9\xa1" * 32)), 401, "X-Signature must be"),
    ("100 kB", request(BODY, ("X-Signature", "0" * 100_000)), 401, "X-Signature must be"),
    ("before the content", request(b"not json", ("X-Signature", "0" * 64)), 401, "X-Signature must be"),
    ("under a blank secret", request(BODY, ("X-Signature", sign(BODY, "\x00"))), 401, "X-Signature must be"),
    ("no webhook-id", lambda: standard(BODY, webhook_id=None), 401, "webhook-id missing"),
    (
        "no webhook-timestamp",
        lambda: standard(BODY, webhook_timestamp=None),
        401,
        "webhook-timestamp missing",
    ),
    (
        "no webhook-signature",
        lambda: standard(BODY, webhook_signature=None),
        401,
        "webhook-signature missing",
    ),
    ("another webhook-id", lambda: standard(BODY, webhook_id="msg_2"), 401, "webhook-signature has no"),
    ("old", lambda: standard(BODY, webhook_timestamp="1000000000"), 401, "more than 300 s away"),
    ("from the future", lambda: standard(BODY, webhook_timestamp="99999999999"), 401, "more than 300 s away"),
    ("time with a point", lambda: standard(BODY, webhook_timestamp=STAMP + ".0"), 401, "whole seconds"),
    ("time twice", request(BODY, ("webhook-timestamp", STAMP), ("webhook-timestamp", STAMP)), 401, "missing"),
    ("of no version", lambda: standard(BODY, webhook_signature="AAAA"), 401, "of the form v1"),
    ("of many", lambda: standard(BODY, webhook_signature="v1,A " * 50), 401, "more than 8"),
]
PROTOCOL: list[tuple[str, Raw, int, str]] = [
    ("no type", request(BODY, without=("Content-Type",)), 415, "Content-Type must be"),
    ("form", request(BODY, ("Content-Type", "application/x-www-form-urlencoded")), 415, "Content-Type"),
    ("Latin-1", request(BODY, ("Content-Type", "application/json; charset=latin-1")), 415, "Content-Type"),
    ("two types", request(BODY, ("Content-Type", "text/plain, application/json")), 415, "Content-Type"),
    ("compressed", request(BODY, ("Content-Encoding", "gzip")), 415, "not compressed"),
    ("one byte too long", request(LONG), 413, "more than 65536 bytes"),
    ("a megabyte in a chunk", chunked(b" " * MEGABYTE), 413, "more than 65536 bytes"),
    ("announced too long", request(BODY, ("Content-Length", str(MEGABYTE))), 413, "more than 65536 bytes"),
    ("GET", request(BODY, method="GET"), 405, "only POST"),
    ("DELETE", request(BODY, method="DELETE"), 405, "only POST"),
    ("unheard-of method", request(BODY, method="BREW"), 405, "only POST"),
    ("slash at the end", request(BODY, path="/signals/"), 404, "no such address"),
    ("dots in the path", request(BODY, path="/signals/../admin"), 405, "only GET"),
    ("NUL in the path", request(BODY, path="/signals%00"), 404, "no such address"),
    ("not UTF-8 in the path", request(BODY, path="/signals%ff"), 404, "no such address"),
    ("strange host", request(BODY, ("Host", "evil.example")), 400, "ALLOWED_HOSTS"),
    ("no host", request(BODY, without=("Host",)), 400, ""),
    ("length in words", request(BODY, ("Content-Length", "ten")), 400, ""),
    ("length negative", request(BODY, ("Content-Length", "-1")), 400, ""),
    ("two lengths", request(BODY, ("Content-Length", "5"), ("Content-Length", "7")), 400, ""),
    ("chunk of no size, which ends the body", request(b"zz\r\n", ("Transfer-Encoding", "chunked"), without=("Content-Length",)), 401, "X-Signature"),
    ("not HTTP", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 200, 400, ""),
    ("space in a header's name", request(BODY, ("X Y", "z")), 400, ""),
    ("1,000 headers", request(BODY, *[(f"X-{n}", "y") for n in range(1_000)]), 431, ""),
    ("a megabyte of header", request(BODY, ("X-Long", "y" * MEGABYTE)), 431, ""),
]  # fmt: skip
TABLE = [("text", *row) for row in TEXTS] + [("content", *row) for row in CONTENTS]
TABLE += [("signature", *row) for row in SIGNATURES] + [("protocol", *row) for row in PROTOCOL]


def test_the_table_is_long_enough() -> None:
    assert len(TABLE) >= 80
    assert len({row[:2] for row in TABLE}) == len(TABLE)


@pytest.mark.usefixtures("database")
@pytest.mark.parametrize(
    ("raw", "status", "told"), [row[2:] for row in TABLE], ids=[f"{row[0]}: {row[1]}" for row in TABLE]
)
def test_a_hostile_request(webhook: int, raw: Raw, status: int, told: str) -> None:
    answer = send(webhook, written(raw))
    assert answer.status == status, answer
    assert told in answer.message
    assert not Signal.objects.exists()
    if answer.headers.get("content-type") == "application/json":
        assert json.loads(answer.body)["mode"] in {"DRY", "LIVE"}


ACCEPTED: list[tuple[str, Raw]] = [
    ("as documented", request(BODY)),
    ("chunked", chunked(BODY)),
    ("padded to the limit", request(BODY + b" " * (65_536 - len(BODY)))),
    ("upper-case hex", request(BODY, ("X-Signature", sign(BODY).upper()))),
    ("expecting to continue", request(BODY, ("Expect", "100-continue"))),
    ("HTTP/1.0", request(BODY, version="HTTP/1.0")),
    ("method in lower case", request(BODY, method="post")),
    ("its type twice", request(BODY, *[("Content-Type", "application/json")] * 2)),
    ("a query nobody reads", request(BODY, path="/signals?x=%ff")),
    ("a strange request id", request(BODY, ("X-Request-Id", "a b\tc"))),
    ("Standard Webhooks", lambda: standard(BODY)),
]


@pytest.mark.usefixtures("database")
@pytest.mark.parametrize(("raw"), [row[1] for row in ACCEPTED], ids=[row[0] for row in ACCEPTED])
def test_an_unusual_request_that_is_right(webhook: int, raw: Raw) -> None:
    answer = send(webhook, written(raw))
    assert answer.status == 202, answer
    assert Signal.objects.count() == 1


@pytest.mark.usefixtures("database")
class TestSlowSenders:
    def begin(self, webhook: int) -> socket.socket:
        """Half a request, and then silence."""
        connection = socket.create_connection(("127.0.0.1", webhook), timeout=15)
        connection.sendall(request(BODY)[:-20])
        return connection

    def test_a_body_in_drops_is_taken(self, webhook: int) -> None:
        with self.begin(webhook) as connection:
            for byte in request(BODY)[-20:]:
                time.sleep(0.02)
                connection.sendall(bytes([byte]))
            assert read(connection).status == 202

    def test_a_sender_that_hangs_up_in_its_body_leaves_nothing(self, webhook: int) -> None:
        answer: Answer = send(webhook, request(BODY)[:-20], then_close=True)
        assert answer.status == 401, "the server hands on what came, and the signature is over all"
        assert not Signal.objects.exists()

    def test_senders_that_fall_silent_do_not_keep_others_out(self, webhook: int) -> None:
        silent = [self.begin(webhook) for _ in range(16)]
        try:
            lost, began_s = meter(), time.monotonic()
            assert send(webhook, request(open_body())).status == 202
            took_s = time.monotonic() - began_s - lost.since(began_s)
            assert took_s < 10, "a silent sender is waited for longer"
        finally:
            for connection in silent:
                connection.close()

    def test_many_silent_senders_do_not_keep_the_operator_out(self, webhook: int) -> None:
        """More of them than there are threads: new signals are told to come again, the stop still works."""
        silent = [self.begin(webhook) for _ in range(80)]
        try:
            for path in ("/health", "/health/live", "/metrics"):
                asked = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
                assert send(webhook, asked.encode()).status == 200, path
            # On a busy machine it takes the server a moment to get to all of them.
            deadline_s = time.monotonic() + 30
            while (answer := send(webhook, request(open_body()))).status == 202:
                assert time.monotonic() < deadline_s
            assert answer.status == 503, answer
            assert int(answer.headers["retry-after"]) > 0
        finally:
            for connection in silent:
                connection.close()
        for attempt in range(50):
            if send(webhook, request({**open_body(), "signal_id": f"after-{attempt}"})).status == 202:
                return
        pytest.fail("no signal is taken after the silent senders left")

    def test_silent_forms_keep_nobody_out(self, webhook: int) -> None:
        """The login's form is read before anybody knows who sends it; a cookie of the right length is enough."""
        form = (
            "POST /admin/login/ HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\n"
            f"Cookie: csrftoken={'a' * 32}\r\nContent-Length: 100\r\n\r\nusername="
        )
        silent = [socket.create_connection(("127.0.0.1", webhook), timeout=15) for _ in range(80)]
        try:
            for connection in silent:
                connection.sendall(form.encode())
            time.sleep(1)  # all of them are being read
            asked = "GET /health/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
            assert send(webhook, asked.encode()).status == 200
            assert send(webhook, request(open_body())).status == 202
        finally:
            for connection in silent:
                connection.close()


@pytest.mark.usefixtures("database")
def test_the_server_has_survived_all_of_it(webhook: int) -> None:
    body: dict[str, Any] = open_body()
    assert [send(webhook, request(body)).status for _ in range(3)] == [202, 200, 200]

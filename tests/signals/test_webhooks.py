"""The headers of Standard Webhooks: what they prove, and that a webhook-id stands for one content."""

import base64
import contextlib
import hmac
import json
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connection
from hypothesis import given
from hypothesis import strategies as st

from signals_app import webhooks
from signals_app.models import Signal
from signals_app.signatures import MAX_SECRETS
from tests.signals.sender import default_secret, open_body, post, post_webhook, sign, webhook_headers

# The example that the reference libraries of the specification test themselves with.
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
NOW_S = 1614265330
BODY = b'{"test": 2432232314}'
GIVEN = {
    "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
    "webhook-timestamp": str(NOW_S),
    "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
}
OTHER = "v1," + base64.b64encode(b"\x01" * 32).decode()


def judge(headers: dict[str, str], secrets: list[str] | None = None, now_s: float = NOW_S) -> int | None:
    return webhooks.Envelope.read(headers, now_s).verify(BODY, [SECRET] if secrets is None else secrets)


def test_the_example_of_the_specification() -> None:
    assert judge(GIVEN) == 0


def test_a_secret_without_the_prefix_signs_by_its_characters() -> None:
    content = f"{GIVEN['webhook-id']}.{NOW_S}.".encode() + BODY
    for secret in ("plain secret", "whsec_not base64", "whsec_"):
        digest = hmac.digest(secret.encode(), content, "sha256")
        signature = "v1," + base64.b64encode(digest).decode()
        assert judge(GIVEN | {"webhook-signature": signature}, ["x", secret]) == 1


@pytest.mark.parametrize(
    "form", ["{other} {good}", "{good} {other}", "v1a,abc {good}", " {good}", "v2,x  {good}"]
)
def test_one_true_signature_among_several_is_enough(form: str) -> None:
    header = form.format(good=GIVEN["webhook-signature"], other=OTHER)
    assert judge(GIVEN | {"webhook-signature": header}) == 0


def test_each_secret_is_tried() -> None:
    assert judge(GIVEN, ["a", "b", SECRET, "c"]) == 2
    assert judge(GIVEN, ["a", "b"]) is None


@pytest.mark.parametrize("name", webhooks.HEADERS)
def test_each_header_is_covered(name: str) -> None:
    changed = {"webhook-id": "other", "webhook-timestamp": str(NOW_S + 1), "webhook-signature": OTHER}
    assert judge(GIVEN | {name: changed[name]}) is None


@pytest.mark.parametrize("off_s", [-300, 300])
def test_at_the_tolerance_it_is_in_time(off_s: int) -> None:
    assert judge(GIVEN, now_s=NOW_S + off_s) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"webhook-id": ""}, "webhook-id missing"),
        ({"webhook-timestamp": ""}, "webhook-timestamp missing"),
        ({"webhook-signature": ""}, "webhook-signature missing"),
        ({"webhook-id": "a b"}, "visible ASCII"),
        ({"webhook-id": "\xe4"}, "visible ASCII"),
        ({"webhook-id": "a" * 129}, "1 to 128"),
        ({"webhook-id": "a\n"}, "visible ASCII"),
        ({"webhook-timestamp": f" {NOW_S}"}, "whole seconds"),
        ({"webhook-timestamp": f"{NOW_S}.0"}, "whole seconds"),
        ({"webhook-timestamp": f"-{NOW_S}"}, "whole seconds"),
        ({"webhook-timestamp": "1e9"}, "whole seconds"),
        ({"webhook-timestamp": "9" * 13}, "whole seconds"),
        ({"webhook-timestamp": "\u0661\u0666\u0661"}, "ASCII digits"),
        ({"webhook-timestamp": str(NOW_S + 301)}, "more than 300 s"),
        ({"webhook-timestamp": str(NOW_S - 301)}, "more than 300 s"),
        ({"webhook-timestamp": "0"}, "more than 300 s"),
        ({"webhook-timestamp": str(NOW_S * 1000)[:12]}, "more than 300 s"),
        ({"webhook-signature": GIVEN["webhook-signature"].removeprefix("v1,")}, "of the form v1"),
        ({"webhook-signature": GIVEN["webhook-signature"].rstrip("=")}, "of the form v1"),
        ({"webhook-signature": GIVEN["webhook-signature"].replace("v1,", "v1a,")}, "of the form v1"),
        ({"webhook-signature": "v1," + "A" * 42 + "\xe4="}, "of the form v1"),
        ({"webhook-signature": " ".join([OTHER] * 9)}, "more than 8"),
    ],
)
def test_what_cannot_be_proof_is_named(change: dict[str, str], message: str) -> None:
    with pytest.raises(webhooks.Unsigned, match=message):
        judge(GIVEN | change)


@pytest.mark.parametrize("secrets", [[""], ["a"] * (MAX_SECRETS + 1)])
def test_secrets_that_would_weaken_the_door_are_a_mistake_of_ours(secrets: list[str]) -> None:
    with pytest.raises(ValueError, match="secrets"):
        judge(GIVEN, secrets)


@given(st.text(max_size=40), st.text(max_size=20), st.text(max_size=80), st.binary(max_size=50))
def test_no_header_raises_anything_else(webhook_id: str, stamp: str, signature: str, body: bytes) -> None:
    headers = dict(zip(webhooks.HEADERS, (webhook_id, stamp, signature), strict=True))
    with contextlib.suppress(webhooks.Unsigned):
        assert webhooks.Envelope.read(headers, NOW_S).verify(body, ["secret"]) is None


@pytest.mark.usefixtures("database")
class TestOverHttp:
    def test_a_signal_is_taken_and_its_replay_is_a_duplicate(self) -> None:
        body = open_body()
        assert post_webhook(body, "msg_1").status_code == 202
        assert post_webhook(body, "msg_1").status_code == 200
        assert Signal.objects.get().webhook_id == "msg_1"

    def test_the_same_webhook_id_with_another_content_is_a_conflict(self) -> None:
        first = open_body()
        assert post_webhook(first, "msg_1").status_code == 202
        answer = post_webhook(open_body(), "msg_1")
        assert (answer.status_code, answer.json()["status"]) == (409, "conflict")
        assert "webhook-id" in answer.json()["message"]
        assert post_webhook(first | {"leverage_x": 3}, "msg_2").status_code == 409
        assert Signal.objects.count() == 1

    def test_a_stored_signal_under_the_webhook_id_of_another_is_a_conflict(self) -> None:
        first, second = open_body(), open_body()
        post_webhook(first, "msg_1")
        post_webhook(second, "msg_2")
        assert post_webhook(second, "msg_1").status_code == 409

    def test_the_same_signal_under_a_new_webhook_id_is_a_duplicate(self) -> None:
        body = open_body()
        post_webhook(body, "msg_1")
        assert post_webhook(body, "msg_2").status_code == 200
        assert post(body).status_code == 200

    def test_a_webhook_id_belongs_to_its_source(self) -> None:
        assert post_webhook(open_body(), "msg_1").status_code == 202
        assert post_webhook(open_body(source="other"), "msg_1").status_code == 202

    def test_copies_at_once_are_one_row_and_contents_at_once_are_conflicts(self) -> None:
        first, second = open_body(), open_body()

        def send(body: dict[str, Any]) -> int:
            try:
                return int(post_webhook(body, "msg_1").status_code)
            finally:
                connection.close()

        with ThreadPoolExecutor(20) as threads:
            answers = Counter(threads.map(send, [first, second] * 10))
        assert answers == {202: 1, 200: 9, 409: 10}
        assert Signal.objects.count() == 1

    @pytest.mark.parametrize(
        ("spoil", "message"),
        [
            (lambda sent: sent.pop("HTTP_WEBHOOK_ID"), "webhook-id missing"),
            (lambda sent: sent.update(HTTP_WEBHOOK_ID="msg_2"), "under your secret"),
            (lambda sent: sent.update(HTTP_WEBHOOK_TIMESTAMP=str(int(time.time()) - 400)), "more than 300 s"),
            (lambda sent: sent.update(HTTP_WEBHOOK_SIGNATURE=OTHER), "under your secret"),
        ],
    )
    def test_a_right_x_signature_does_not_save_wrong_headers(
        self, spoil: Callable[[dict[str, Any]], Any], message: str
    ) -> None:
        raw = json.dumps(open_body()).encode()
        sent = webhook_headers(raw, "msg_1") | {"HTTP_X_SIGNATURE": sign(raw)}
        spoil(sent)
        answer = post(raw, **sent)
        assert answer.status_code == 401
        assert message in answer.json()["message"]
        assert default_secret() not in answer.content.decode()
        assert not Signal.objects.exists()

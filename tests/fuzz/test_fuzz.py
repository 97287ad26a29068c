"""Whatever is sent to whatever route, the answer is one that the document promises, and nothing is stored by halves.

`make test` tries a few, the same each time; `make fuzz EXAMPLES=2000` tries new ones.
"""

import json
import os
from collections.abc import Callable
from typing import Any

import pytest
import schemathesis
from django.conf import settings
from django.test import Client
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as bounds
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.core import NOT_SET
from schemathesis.core.result import Ok

from execution_app.models import TxIntent
from ops.api.document import document
from signals_app.models import Signal
from tests.ops.api.judge import check
from tests.signals.sender import open_body, sign

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "0"))
FIXED = 8
STORED = {200, 202}
# Bodies that differ from a good one in a byte, a field or a value find more than bytes at random.
VALUES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=40)
    | st.sampled_from(
        ["1e400", "-0", "0x10", "\u0661", "5.0000001", "LONG\u0000", "2026-02-30T00:00:00Z", "🙂" * 200]
    )
    | st.recursive(st.none() | st.text(max_size=5), lambda of: st.lists(of) | st.dictionaries(st.text(), of))
)
FIELDS = st.sampled_from(sorted(document()["components"]["schemas"]["SignalBody"]["properties"])) | st.text()

pytestmark = pytest.mark.timeout(180 + EXAMPLES)


def tried(test: Callable[..., None]) -> Callable[..., None]:
    chosen = bounds(
        max_examples=EXAMPLES or FIXED,
        derandomize=not EXAMPLES,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    made: Callable[..., None] = chosen(test)
    return made


def send(method: str, path: str, body: bytes, **headers: Any) -> Any:
    """What a server's 500 says goes into the answer; in a test the client would raise it."""
    client = Client(raise_request_exception=False)
    return client.generic(method, path, body, "application/json", **headers)


def bearer() -> str:
    return f"Bearer {settings.ENVIRONMENT.admin_token.get_secret_value()}"


def routes() -> list[Any]:
    """Each operation with what it permits, and with what it forbids where it takes anything."""
    described = schemathesis.openapi.from_dict(document()).get_all_operations()
    found = [one.ok() for one in described if isinstance(one, Ok)]
    return [
        pytest.param(one, mode, id=f"{one.method} {one.path} {mode.value}")
        for one in found
        for mode in GenerationMode
        if mode is GenerationMode.POSITIVE or one.body or one.path_parameters
    ]


@pytest.mark.parametrize(("operation", "mode"), routes())
def test_every_route_answers_as_described(database: None, operation: Any, mode: GenerationMode) -> None:
    """Signed and with a token, so that what is inside is looked at."""

    @tried
    @given(operation.as_strategy(mode))
    def each(case: Case[Any]) -> None:
        raw = encoded(case.body)
        answer = send(
            case.method,
            case.formatted_path,
            raw,
            HTTP_X_SIGNATURE=sign(raw),
            HTTP_AUTHORIZATION=bearer(),
        )
        assert answer.status_code != 500, (case.as_curl_command(), answer.content)
        if answer.status_code != 404:  # such as a path that leads to no route
            check(answer, operation.path, operation.method.lower())

    each()


def encoded(body: Any) -> bytes:
    if isinstance(body, bytes):
        return body
    return b"" if body is NOT_SET else json.dumps(body).encode()


@tried
@given(change=st.dictionaries(FIELDS, VALUES, max_size=4), left_out=st.sets(FIELDS, max_size=2))
def test_any_fields(database: None, change: dict[str, Any], left_out: set[str]) -> None:
    body = {name: value for name, value in (open_body() | change).items() if name not in left_out}
    judge(json.dumps(body).encode("utf-8", "surrogatepass"))


@tried
@given(at=st.floats(0, 1, exclude_max=True), inserted=st.binary(max_size=8), cut=st.integers(0, 40))
def test_any_bytes(database: None, at: float, inserted: bytes, cut: int) -> None:
    raw = json.dumps(open_body()).encode()
    place = int(at * len(raw))
    judge(raw[:place] + inserted + raw[place + cut :])


def judge(raw: bytes) -> None:
    """It is stored once or not at all, and the answer says which."""
    before = Signal.objects.count()
    answer = send("POST", "/signals", raw, HTTP_X_SIGNATURE=sign(raw))
    name = check(answer, "/signals", "post")
    assert name != "default", answer.content
    assert Signal.objects.count() - before == (answer.status_code == 202), answer.content
    assert not TxIntent.objects.exists(), "nothing is decided by receiving"
    if answer.status_code in STORED:
        again = send("POST", "/signals", raw, HTTP_X_SIGNATURE=sign(raw))
        assert again.status_code == 200
        assert again.json()["intent_key"] == answer.json()["intent_key"]

"""What a remote signer's answer is read by, and how its absence is told and counted; no signer is asked."""

import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import botocore.exceptions
import pytest
from django.conf import settings as django_settings
from pytest_django.fixtures import Settings

from execution_app import meters
from execution_app.errors import Refused, Retryable
from execution_app.node import signers
from execution_app.node.fees import Fee
from execution_app.node.signing import ecdsa, kms, web3signer
from execution_app.node.signing.backends import SignerAwayError, SignerRefusedError
from execution_app.node.signing.kms import KeyManagement
from execution_app.node.signing.web3signer import BODY_LIMIT, Web3Signer
from tests.execution.signing.conftest import TRADER

ADDRESS = "0x" + "aB" * 20


# Bodies of web3signer


class Body:
    """An answer that comes in parts, and what becomes of its connection."""

    def __init__(self, *parts: bytes) -> None:
        self.parts = list(parts)
        self.asked: list[int] = []
        self.left = ""

    def read1(self, size: int) -> bytes:
        self.asked.append(size)
        return self.parts.pop(0)  # raises behind the end

    def release_conn(self) -> None:
        self.left += "released"

    def close(self) -> None:
        self.left += "closed"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    made = SimpleNamespace(s=100.0)
    monkeypatch.setattr(web3signer, "time", SimpleNamespace(monotonic=lambda: made.s))
    return made


def read(body: Any, deadline_s: float = 100.0) -> bytes:
    return web3signer._read(body, deadline_s)


@pytest.mark.parametrize(
    ("parts", "left"),
    [
        ([b""], "released"),
        ([b"ab", b"c", b""], "released"),
        ([b"x" * BODY_LIMIT, b""], "released"),
        ([b"x", b"y" * BODY_LIMIT], "closed"),
        ([b"x" * (BODY_LIMIT + 1)], "closed"),
    ],
    ids=["nothing", "three letters", "as much as one may have", "one more", "one more at once"],
)
def test_a_body_is_read_up_to_one_byte_above_its_limit(
    clock: SimpleNamespace, parts: list[bytes], left: str
) -> None:
    """The connection goes on where nothing more can come of this answer."""
    body = Body(*parts)
    assert read(body) == b"".join(parts)
    assert (body.parts, body.left) == ([], left)
    before = [len(b"".join(parts[:at])) for at in range(len(parts))]
    assert body.asked == [BODY_LIMIT + 1 - size for size in before]


def test_a_body_is_not_waited_for_behind_its_deadline(clock: SimpleNamespace) -> None:
    late = Body(b"ab", b"")
    with pytest.raises(SignerAwayError, match="takes too long"):
        read(late, 99.0)
    assert (late.asked, late.left) == ([], "closed")

    class Slow(Body):
        def read1(self, size: int) -> bytes:
            clock.s += 1
            return super().read1(size)

    slow = Slow(b"ab", b"c", b"")
    with pytest.raises(SignerAwayError, match="takes too long"):
        read(slow, 101.5)
    assert (len(slow.asked), slow.left) == (2, "closed")


def test_a_body_that_breaks_off_takes_its_connection_with_it(clock: SimpleNamespace) -> None:
    class Broken(Body):
        def read1(self, size: int) -> bytes:
            raise OSError("reset")

    broken = Broken()
    with pytest.raises(OSError, match="reset"):
        read(broken)
    assert broken.left == "closed"


def test_nothing_is_asked_twice_behind_anybodys_back() -> None:
    """A hidden retry could sign after a stop has returned."""
    assert Web3Signer("http://127.0.0.1:9//", 1.0)._pool.connection_pool_kw["retries"].total is False


# KMS


def management(monkeypatch: pytest.MonkeyPatch, *ids: str, **verbs: Callable[..., Any]) -> KeyManagement:
    monkeypatch.setattr(kms, "_client", lambda _: SimpleNamespace(**verbs))
    return KeyManagement(ids, 1.0)


@pytest.mark.parametrize(
    "error",
    [
        botocore.exceptions.ConnectTimeoutError(endpoint_url="https://secret.example"),
        botocore.exceptions.EndpointConnectionError(endpoint_url="https://secret.example"),
        botocore.exceptions.HTTPClientError(error="secret"),
        botocore.exceptions.BotoCoreError(),
        OSError("secret"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_kms_that_does_not_answer_is_away(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(**_: object) -> None:
        raise error

    keys = management(monkeypatch, "a", get_public_key=fail)
    with pytest.raises(SignerAwayError, match=rf"^KMS does not answer \({type(error).__name__}\)$") as caught:
        keys.require(ADDRESS)
    assert caught.value.__cause__ is None
    assert isinstance(caught.value, Retryable)


def test_an_unfit_key_keeps_no_other_from_signing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked: list[str] = []

    def address(_: KeyManagement, key_id: str) -> str:
        asked.append(key_id)
        if key_id == "unfit":
            raise SignerRefusedError("it is for something else")
        return f"0x{key_id}"

    keys = management(monkeypatch, "unfit", "a", "b", "c")
    monkeypatch.setattr(KeyManagement, "_address", address)
    keys.require("0xB")
    assert asked == ["unfit", "a", "b"]
    assert "cannot be used" in caplog.text
    keys.require("0xb")
    keys.require("0xA")
    assert asked == ["unfit", "a", "b"]
    keys.require("0xc")
    assert asked == ["unfit", "a", "b", "unfit", "c"], "it may be fit by now; who is known is not asked again"
    with pytest.raises(SignerRefusedError, match=r"^no usable key of SIGNER_KMS_KEYS is wallet 0xD's$"):
        keys.require("0xD")


# Signing with either


class Keys:
    """A backend that answers as it is told."""

    def __init__(self, remote: bool, problem: Exception | None = None) -> None:
        self.remote, self.problem = remote, problem
        self.asked: list[tuple[Any, ...]] = []

    def require(self, address: str) -> None:
        self.asked.append(("require", address))
        if self.problem:
            raise self.problem

    def sign(self, address: str, payload: bytes, deadline_s: float) -> ecdsa.Numbers:
        self.asked.append(("sign", address, deadline_s))
        raise self.problem or SignerRefusedError("no")


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch, settings: Settings, tmp_path: Any) -> Callable[..., Keys]:
    update = {"signer_backend": "kms", "signer_timeout_s": 3, "signer_journal_dir": tmp_path}
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(update=update)

    def put(remote: bool, problem: Exception | None = None) -> Keys:
        keys = Keys(remote, problem)
        monkeypatch.setattr(signers, "backend", lambda: keys)
        return keys

    return put


def counted() -> list[float]:
    return [
        meters.SIGNER_REQUESTS.labels("kms", outcome)._value.get() for outcome in ("ok", "away", "refused")
    ]


@pytest.mark.parametrize(
    ("problem", "counts"),
    [
        (None, [0, 0, 0]),
        (SignerAwayError("away"), [0, 1, 0]),
        (Retryable("later"), [0, 1, 0]),
        (SignerRefusedError("no"), [0, 0, 1]),
        (Refused("no"), [0, 0, 1]),
        (RuntimeError("a fault"), [0, 0, 0]),
    ],
)
@pytest.mark.parametrize("remote", [True, False])
def test_a_remote_key_that_cannot_be_used_is_counted_by_why(
    use: Callable[..., Keys], remote: bool, problem: Exception | None, counts: list[int]
) -> None:
    """Without its key nothing is placed, so no signature would ever be asked for, and be counted."""
    keys, before = use(remote, problem), counted()
    if problem is None:
        signers.require_key(ADDRESS)
    else:
        with pytest.raises(type(problem)) as caught:
            signers.require_key(ADDRESS)
        assert caught.value is problem
    assert keys.asked == [("require", ADDRESS)]
    more = [after - earlier for after, earlier in zip(counted(), before, strict=True)]
    assert more == (counts if remote else [0, 0, 0])


@pytest.mark.parametrize(
    ("problem", "answer"), [(None, True), (Refused("no"), False), (SignerAwayError("away"), None)]
)
def test_whether_there_is_a_remote_key(
    use: Callable[..., Keys], problem: Exception | None, answer: bool | None
) -> None:
    use(True, problem)
    if answer is None:
        with pytest.raises(SignerAwayError):
            signers.has_key(ADDRESS)
    else:
        assert signers.has_key(ADDRESS) is answer


def slot(**fields: Any) -> signers.Slot:
    """A cancel, which the policy permits."""
    sound: dict[str, Any] = {"nonce": 7, "order": b"o" * 32, "trader": TRADER} | fields
    chain_id = django_settings.ENVIRONMENT.chain_id
    return signers.Slot(chain_id, ADDRESS, to=ADDRESS, value_wei=0, gas_limit=21_000, data=b"", **sound)


FEE = Fee(2_000_000_000, 1_000_000)


def test_a_remote_signature_is_asked_for_with_a_deadline(
    use: Callable[..., Keys], monkeypatch: pytest.MonkeyPatch
) -> None:
    keys, made = use(True), signers.Signed(b"\x02raw", "0x1")
    answers: list[Any] = [made, SignerAwayError("away"), Refused("no")]
    asked: list[Any] = []

    def remotely(slots: Any, deadline_s: float) -> list[Any]:
        asked.append(slots)
        assert 0 < deadline_s - time.monotonic() < 60
        return [answers.pop(0)]

    monkeypatch.setattr(signers, "sign_remotely", remotely)
    assert signers.sign(slot(), FEE) is made
    with pytest.raises(SignerAwayError):
        signers.sign(slot(), FEE)
    with pytest.raises(Refused, match="no"):
        signers.sign(slot(), FEE)
    assert asked == [[(slot(), FEE)]] * 3
    assert keys.asked == [], "by that road alone"


def test_a_local_signature_is_noted_first(use: Callable[..., Keys], monkeypatch: pytest.MonkeyPatch) -> None:
    keys = use(False)
    monkeypatch.setattr(signers, "sign_remotely", lambda *_: pytest.fail("it is not remote"))
    other = slot(order=b"p" * 32)
    assert signers.bind([other]) == [None]
    for call in (lambda: signers.sign(slot(), FEE), lambda: signers.check_nonce(slot())):
        with pytest.raises(signers.NonceUsedError):
            call()
    assert keys.asked == []
    signers.check_nonce(other)
    with pytest.raises(SignerRefusedError):
        signers.sign(other, FEE)
    assert keys.asked == [("sign", ADDRESS, float("inf"))]

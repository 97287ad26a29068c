"""AWS KMS: what is asked of it and how often, which of its answers pass and which are final, and what it needs to begin."""

import sys
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from eth_account import Account
from eth_keys import keys  # type: ignore[attr-defined]
from eth_utils.crypto import keccak

from execution_app.errors import Refused
from execution_app.node.signing import ecdsa
from execution_app.node.signing.backends import SignerAwayError, SignerRefusedError, backend_of
from execution_app.node.signing.kms import KeyManagement
from tests.remote_signers import KmsFake, der, public_point

PAYLOAD = b"\x02what is signed"
TIMEOUT_S = 10.0


@pytest.fixture
def kms(monkeypatch: pytest.MonkeyPatch) -> Iterator[KmsFake]:
    with KmsFake([Account.create() for _ in range(3)]) as signer:
        monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", signer.url)
        monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "planted-aws-secret")
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)  # it remembers another test's settings
        yield signer


def management(kms: KmsFake) -> KeyManagement:
    return KeyManagement(tuple(kms.key_id(key) for key in kms.keys), TIMEOUT_S)


def soon() -> float:
    return time.monotonic() + 30


def answering(backend: KeyManagement, **answers: Any) -> KeyManagement:
    """What AWS's library hands on where an answer lacks what it should have."""
    backend._client = SimpleNamespace(
        **{verb: lambda answer=said, **_: answer for verb, said in answers.items()}
    )
    return backend


def test_each_key_is_asked_for_once_and_none_in_vain(kms: KmsFake) -> None:
    """What is known is not asked for again, and behind the key that was wanted nobody looks."""
    backend = management(kms)
    first, second, third = kms.keys
    backend.require(first.address.lower())
    assert kms.requests == 1
    backend.require(first.address)
    assert kms.requests == 1
    backend.require(third.address)
    assert kms.requests == 3
    backend.require("0x" + second.address[2:].upper())
    assert kms.requests == 3
    with pytest.raises(SignerRefusedError, match="no usable key"):
        backend.require(Account.create().address)
    assert kms.requests == 3
    assert backend.addresses() == sorted(key.address.lower() for key in kms.keys)


def test_a_comma_too_many_is_no_key(kms: KmsFake) -> None:
    key = kms.keys[0]
    backend = backend_of("kms", f",{kms.key_id(key)},", TIMEOUT_S)
    assert backend.addresses() == [key.address.lower()]
    backend_of.cache_clear()


def test_what_is_signed(kms: KmsFake) -> None:
    key = kms.keys[1]
    r, s, _ = management(kms).sign(key.address, PAYLOAD, soon())
    made = keys.PrivateKey(bytes(key.key)).sign_msg_hash(keccak(PAYLOAD))
    assert (r, s) == (made.r, made.s)
    assert [(one.digest, one.address) for one in kms.signed] == [(keccak(PAYLOAD), key.address)]


PASSING = (
    *("ThrottlingException", "Throttling", "RequestLimitExceeded", "LimitExceededException"),
    *("KMSInternalException", "DependencyTimeoutException", "KeyUnavailableException"),
    *("ServiceUnavailableException", "ServiceUnavailable", "InternalFailure", "RequestTimeout"),
    *("ExpiredTokenException", "ExpiredToken", "RequestExpired"),
)


@pytest.mark.parametrize("code", PASSING)
def test_after_these_the_same_request_may_succeed(kms: KmsFake, code: str) -> None:
    backend, address = management(kms), kms.keys[0].address
    kms.faults.error = code
    with pytest.raises(SignerAwayError, match=code):
        backend.sign(address, PAYLOAD, soon())
    kms.faults.error = ""
    assert backend.sign(address, PAYLOAD, soon())


@pytest.mark.parametrize(
    ("status", "problem"), [(400, Refused), (499, Refused), (500, SignerAwayError), (503, SignerAwayError)]
)
def test_an_error_of_a_server_passes_whatever_it_is_called(
    kms: KmsFake, status: int, problem: type[Exception]
) -> None:
    backend, address = management(kms), kms.keys[0].address
    backend.require(address)
    kms.faults.error, kms.faults.status = "SomethingNew", status
    before = kms.requests
    with pytest.raises(problem, match="SomethingNew"):
        backend.sign(address, PAYLOAD, soon())
    assert kms.requests == before + 1, "no hidden retry"


def test_what_cannot_be_answered_in_time_is_not_begun(kms: KmsFake) -> None:
    """A call lasts as long as its timeouts permit, so it begins only with so much time left."""
    backend, address = management(kms), kms.keys[0].address
    backend.require(address)
    with pytest.raises(SignerAwayError, match="no time is left"):
        backend.sign(address, PAYLOAD, time.monotonic() + TIMEOUT_S - 0.5)
    assert kms.signed == []
    assert backend.sign(address, PAYLOAD, time.monotonic() + TIMEOUT_S + 20)
    config = backend._client.meta.config
    assert config.connect_timeout + config.read_timeout == TIMEOUT_S
    assert config.retries["total_max_attempts"] == 1


@pytest.mark.parametrize(
    "answer", [{}, {"Signature": None}, {"Signature": der(1, 1)[:-1]}, {"signature": der(1, 1)}]
)
def test_an_answer_without_a_signature_is_refused(kms: KmsFake, answer: dict[str, Any]) -> None:
    backend, address = management(kms), kms.keys[0].address
    backend.require(address)
    with pytest.raises(SignerRefusedError, match=f"for wallet {address} is none"):
        answering(backend, sign=answer).sign(address, PAYLOAD, soon())


@pytest.mark.parametrize("told", [{}, {"PublicKey": None}, {"PublicKey": b"no key"}])
def test_an_answer_without_a_public_key_is_refused(kms: KmsFake, told: dict[str, Any]) -> None:
    answer = {"KeySpec": "ECC_SECG_P256K1", "KeyUsage": "SIGN_VERIFY", **told}
    with pytest.raises(SignerRefusedError, match="none of secp256k1"):
        answering(management(kms), get_public_key=answer).addresses()


def test_a_key_that_is_for_something_else_is_refused(kms: KmsFake) -> None:
    sound = {
        "PublicKey": ecdsa.SPKI_PREFIX + public_point(kms.keys[0]),
        "KeySpec": "ECC_SECG_P256K1",
        "KeyUsage": "SIGN_VERIFY",
    }
    assert answering(management(kms), get_public_key=sound).addresses() == [kms.keys[0].address.lower()] * 3
    for wrong in ({"KeyUsage": "KEY_AGREEMENT"}, {"KeySpec": "ECC_NIST_P256"}):
        with pytest.raises(SignerRefusedError, match="is not ECC_SECG_P256K1 for SIGN_VERIFY"):
            answering(management(kms), get_public_key=sound | wrong).addresses()


@pytest.mark.parametrize("lacking", ["AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY", "AWS_SECRET_ACCESS_KEY"])
def test_without_credentials_nothing_is_signed(
    kms: KmsFake, monkeypatch: pytest.MonkeyPatch, tmp_path: Any, lacking: str
) -> None:
    """That ends by no waiting, so it is said to be final."""
    for name in lacking.split():
        monkeypatch.delenv(name)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    with pytest.raises(Refused, match="AWS"):
        management(kms).addresses()
    assert kms.requests == 0


@pytest.mark.parametrize(
    ("name", "value"), [("AWS_DEFAULT_REGION", None), ("AWS_ENDPOINT_URL_KMS", "no url")]
)
def test_settings_of_aws_that_do_not_suffice_are_refused(
    kms: KmsFake, monkeypatch: pytest.MonkeyPatch, tmp_path: Any, name: str, value: str | None
) -> None:
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.delenv(name)
    if value is not None:
        monkeypatch.setenv(name, value)
    with pytest.raises(Refused, match="settings of AWS do not suffice"):
        management(kms)


def test_without_its_package_it_is_refused(kms: KmsFake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(Refused, match="boto3"):
        management(kms)


def test_nothing_of_it_is_told(kms: KmsFake) -> None:
    assert repr(management(kms)) == "<KeyManagement>"

"""Web3Signer and AWS KMS over real HTTP: whose signature it is, what is final, what passes, and that nothing is asked twice."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.db import transaction
from eth_account import Account
from eth_account.signers.local import LocalAccount

from execution_app import meters
from execution_app.errors import Refused, Retryable
from execution_app.node import signers
from execution_app.node.fees import Fee
from execution_app.node.signers import Slot
from execution_app.node.signing import backends, ecdsa
from tests.real_parts import ROOT
from tests.remote_signers import KmsFake, RemoteSigner, der

GENEROUS_S = 15.0
FEE = Fee(2_000_000_000, 1_000_000)


@pytest.fixture(params=["web3signer", "kms"])
def remote(request: pytest.FixtureRequest) -> RemoteSigner:
    found: RemoteSigner = request.getfixturevalue(request.param)
    return found


def signs(slot: Slot) -> bool:
    return bool(Account.recover_transaction(signers.sign(slot, FEE).raw) == slot.sender)


def test_it_signs_like_a_local_key(remote: RemoteSigner, key: LocalAccount, order: Slot) -> None:
    signed = signers.sign(order, FEE)
    said: dict[str, Any] = {
        "type": 2, "chainId": 31337, "nonce": 7, "to": order.to, "value": order.value_wei, "gas": order.gas_limit,
        "data": order.data, "maxFeePerGas": FEE.max_fee_wei, "maxPriorityFeePerGas": FEE.tip_wei,
    }  # fmt: skip
    local = key.sign_transaction(said)
    assert (signed.raw, signed.tx_hash) == (bytes(local.raw_transaction), "0x" + bytes(local.hash).hex())
    assert len(remote.signed) == 1


def test_s_in_the_upper_half_is_brought_down(remote: RemoteSigner, order: Slot) -> None:
    low = signers.sign(order, FEE)
    remote.faults.high_s = True
    assert signers.sign(order, FEE) == low


@pytest.mark.parametrize("fault", ["wrong_key", "other_bytes"])
def test_a_signature_of_another_key_or_of_other_bytes_is_refused(
    remote: RemoteSigner, order: Slot, fault: str
) -> None:
    setattr(remote.faults, fault, True)
    with pytest.raises(Refused, match="not of 0x"):
        signers.sign(order, FEE)


def test_a_wallet_that_it_has_no_key_of_is_refused(remote: RemoteSigner, order: Slot) -> None:
    stranger = Account.create().address
    assert signers.has_key(stranger) is False
    assert signers.has_key(order.sender)
    with pytest.raises(Refused, match=stranger):
        signers.require_key(stranger)
    assert remote.signed == []


def test_a_key_that_comes_later_is_found(web3signer: RemoteSigner, order: Slot) -> None:
    found = web3signer.keys.pop()
    assert not signers.has_key(order.sender)
    web3signer.keys.append(found)
    assert signs(order)


AWAY = [{"away": True}, {"lose_next": 1}, {"status": 500}, {"status": 503}, {"delay_s": 30}]


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("faults", AWAY, ids=str)
@pytest.mark.parametrize("warm", [False, True])
def test_a_signer_that_is_away_is_asked_once(
    remote: RemoteSigner, order: Slot, faults: dict[str, object], *, warm: bool
) -> None:
    if warm:
        signers.require_key(order.sender)
    for name, value in faults.items():
        setattr(remote.faults, name, value)
    before, began_s = remote.requests, time.monotonic()
    with pytest.raises(Retryable):
        signers.sign(order, FEE)
    keys_asked = 0 if warm else len(remote.keys)
    assert remote.requests - before <= keys_asked + 1, "no hidden retry"
    assert time.monotonic() - began_s < GENEROUS_S


@pytest.mark.usefixtures("impatient")
def test_an_answer_that_trickles_in_is_given_up(web3signer: RemoteSigner, order: Slot) -> None:
    signers.require_key(order.sender)
    web3signer.faults.trickle_s = 0.2
    began_s = time.monotonic()
    # The second where this process was not scheduled for so long that a read was over as well.
    with pytest.raises(Retryable, match=r"too long|does not answer"):
        signers.sign(order, FEE)
    assert time.monotonic() - began_s < GENEROUS_S
    web3signer.faults.trickle_s = 0
    assert signs(order)


KMS_CODES = {
    "ThrottlingException": Retryable,
    "KMSInternalException": Retryable,
    "DependencyTimeoutException": Retryable,
    "KeyUnavailableException": Retryable,
    "ExpiredTokenException": Retryable,
    "AccessDeniedException": Refused,
    "DisabledException": Refused,
    "KMSInvalidStateException": Refused,
    "InvalidKeyUsageException": Refused,
    "NotFoundException": Refused,
    "UnrecognizedClientException": Refused,
    "SomethingNewException": Refused,
}


@pytest.mark.parametrize("code", KMS_CODES)
def test_what_kms_says_is_final_or_passes(kms: KmsFake, order: Slot, code: str) -> None:
    signers.require_key(order.sender)
    kms.faults.error = code
    before = kms.requests
    with pytest.raises(KMS_CODES[code], match=code):
        signers.sign(order, FEE)
    assert kms.requests == before + 1
    kms.faults.error = ""
    assert signs(order)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\x30",
        bytes(64),
        der(1, 1)[:-1],
        der(1, 1) + b"\x00",
        der(ecdsa.ORDER, 1),
        b"\x30\x06\x02\x01\x80\x02\x01\x01",
    ],
)
def test_a_signature_of_kms_that_is_none_is_refused(kms: KmsFake, order: Slot, answer: bytes) -> None:
    kms.faults.answer = answer
    with pytest.raises(Refused):
        signers.sign(order, FEE)


@pytest.mark.parametrize(
    "answer", [b"0x", b"0x" + b"g" * 130, b"0x" + b"0" * 130, b"null", b"\xff\xfe", b"1" * 300_000]
)
def test_a_signature_of_web3signer_that_is_none_is_not_used(
    web3signer: RemoteSigner, order: Slot, answer: bytes
) -> None:
    web3signer.faults.answer = answer
    with pytest.raises((Refused, Retryable)):
        signers.sign(order, FEE)


@pytest.mark.parametrize("spec", ["ECC_NIST_P256", "RSA_2048", ""])
def test_a_kms_key_of_another_kind_signs_nothing(kms: KmsFake, order: Slot, spec: str) -> None:
    kms.spec = spec
    with pytest.raises(Refused, match="no usable key"):
        signers.sign(order, FEE)
    assert kms.signed == []


def test_one_unfit_kms_key_does_not_keep_the_others_from_signing(
    kms: KmsFake, order: Slot, with_environment: Callable[..., None]
) -> None:
    with_environment(signer_kms_keys=f"alias/gone,{kms.key_id(kms.keys[1])}")
    assert signs(order)


def test_a_nonce_belongs_to_what_a_remote_signer_was_asked_for_and_never_within_a_transaction(
    database: None, remote: RemoteSigner, order: Slot
) -> None:
    with transaction.atomic(), pytest.raises(RuntimeError, match="between transactions"):
        signers.sign(order, FEE)
    assert remote.requests == 0
    assert signs(order)
    with pytest.raises(signers.NonceUsedError):
        signers.check_nonce(replace(order, gas_limit=900_001))
    with pytest.raises(signers.NonceUsedError):
        signers.sign(replace(order, gas_limit=900_001), FEE)
    signers.check_nonce(order)


def counted(backend: str) -> list[float]:
    return [meters.SIGNER_REQUESTS.labels(backend, how)._value.get() for how in meters.SIGNER_OUTCOMES]


def test_what_was_asked_over_the_network_is_counted_by_how_it_ended(
    remote: RemoteSigner, order: Slot, with_environment: Callable[..., None]
) -> None:
    """The alert for a signer that is away rests on it. Where a key is not told, no signature would be asked for."""
    backend, stranger = django_settings.ENVIRONMENT.signer_backend, Account.create().address
    assert backends.backend().remote

    def ended(ask: Callable[[], object], raises: type[Exception] | None = None) -> list[float]:
        before = counted(backend)
        if raises is None:
            ask()
        else:
            with pytest.raises(raises):
                ask()
        return [now - then for now, then in zip(counted(backend), before, strict=True)]

    assert ended(lambda: signers.sign(order, FEE)) == [1, 0, 0]
    assert ended(lambda: signers.require_key(order.sender)) == [0, 0, 0]
    assert ended(lambda: signers.require_key(stranger), Refused) == [0, 0, 1]
    remote.faults.wrong_key = True
    assert ended(lambda: signers.sign(order, FEE), Refused) == [0, 0, 1]
    remote.faults.away = True
    assert ended(lambda: signers.sign(order, FEE), Retryable) == [0, 1, 0]
    signers.forget()
    assert ended(lambda: signers.require_key(stranger), Retryable) == [0, 1, 0]
    with_environment(signer_backend="keyfile")
    signers.sign(replace(order, sender=signers.create_key()), FEE)
    with pytest.raises(Refused):
        signers.require_key(stranger)
    assert counted("keyfile") == [0, 0, 0]


def test_a_forked_child_shares_no_connections_with_its_parent(remote: RemoteSigner) -> None:
    before = backends.backend()
    assert backends.backend() is before
    signers.forget()
    assert backends.backend() is not before


def test_a_group_is_signed_at_once(remote: RemoteSigner, order: Slot) -> None:
    signers.require_key(order.sender)
    remote.go.clear()
    together: list[int] = []

    def let_go() -> None:
        deadline_s = time.monotonic() + GENEROUS_S
        while remote.waiting < 2 and time.monotonic() < deadline_s:
            time.sleep(0.01)
        together.append(remote.waiting)
        remote.go.set()

    watching = threading.Thread(target=let_go)
    watching.start()
    orders = [(replace(order, nonce=n), FEE) for n in range(8)]
    answers = signers.sign_remotely(orders, time.monotonic() + 30)
    watching.join()
    assert [type(answer) for answer in answers] == [signers.Signed] * 8
    assert together[0] >= 2, "one after the other"


def test_what_is_refused_here_is_never_asked(remote: RemoteSigner, order: Slot) -> None:
    stolen = replace(order, to="0x" + "99" * 20)
    (answer,) = signers.sign_remotely([(stolen, FEE)], time.monotonic() + 1)
    assert isinstance(answer, signers.Violation)
    signers.bind([order])
    (answer,) = signers.sign_remotely([(replace(order, gas_limit=900_001), FEE)], time.monotonic() + 1)
    assert isinstance(answer, signers.NonceUsedError)
    assert remote.requests == 0


def test_without_a_journal_nobody_is_asked_and_what_is_refused_stays_so(
    remote: RemoteSigner, order: Slot, tmp_path: Path
) -> None:
    """The folder of the journal is a file."""
    folder = tmp_path / "journal"
    folder.write_text("in the way")
    stolen = replace(order, nonce=8, to="0x" + "99" * 20)
    unwritten, refused = signers.sign_remotely([(order, FEE), (stolen, FEE)], time.monotonic() + 30)
    assert (type(unwritten), type(refused)) == (signers.JournalUnusableError, signers.Violation)
    assert remote.requests == 0
    folder.unlink()
    signed, refused = signers.sign_remotely([(order, FEE), (stolen, FEE)], time.monotonic() + 30)
    assert (type(signed), type(refused)) == (signers.Signed, signers.Violation)
    signers.check_nonce(replace(order, nonce=8))  # what is refused binds no nonce


def test_of_several_used_nonces_only_the_free_one_is_asked_for(remote: RemoteSigner, order: Slot) -> None:
    signers.bind([order])
    other = replace(order, gas_limit=900_001)
    used, signed = signers.sign_remotely(
        [(other, FEE), (replace(order, nonce=8), FEE)], time.monotonic() + 30
    )
    assert (type(used), type(signed)) == (signers.NonceUsedError, signers.Signed)
    assert len(remote.signed) == 1


def test_after_the_deadline_nobody_is_asked(remote: RemoteSigner, order: Slot) -> None:
    signers.require_key(order.sender)
    before = remote.requests
    (answer,) = signers.sign_remotely([(order, FEE)], time.monotonic() - 0.1)
    assert isinstance(answer, signers.SignerAwayError)
    assert remote.requests == before


def test_boto3_is_imported_by_its_backend_alone() -> None:
    code = "import sys, execution_app.node.signing.web3signer, execution_app.node.signing.keyfiles; assert 'boto3' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=60)

"""Before a worker begins, a remote signer shows its keys; operators see the same."""

from collections.abc import Callable
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from eth_account import Account
from eth_account.signers.local import LocalAccount

from execution_app.models import Trader, Wallet
from ops.rollout import preflight, wallet_check
from tests.remote_signers import KmsFake, RemoteSigner
from vanta.environment import Misconfigured
from vanta.signer_check import refuse_unfit_signer


@pytest.fixture(params=["web3signer", "kms"])
def remote(request: pytest.FixtureRequest) -> RemoteSigner:
    found: RemoteSigner = request.getfixturevalue(request.param)
    return found


def test_a_fit_signer_lets_the_worker_begin(remote: RemoteSigner, caplog: pytest.LogCaptureFixture) -> None:
    refuse_unfit_signer()
    assert "signer asked" in caplog.text
    assert remote.signed == []


def test_a_signer_that_is_away_keeps_nobody_from_starting(
    remote: RemoteSigner, caplog: pytest.LogCaptureFixture
) -> None:
    remote.faults.away = True
    refuse_unfit_signer()
    assert "was not asked at the start" in caplog.text


@pytest.mark.parametrize("spec", ["ECC_NIST_P256", "SYMMETRIC_DEFAULT"])
def test_a_kms_key_of_another_kind_stops_the_start(kms: KmsFake, spec: str) -> None:
    kms.spec = spec
    with pytest.raises(Misconfigured, match="ECC_SECG_P256K1"):
        refuse_unfit_signer()


def test_a_kms_key_that_is_missing_stops_the_start(
    kms: KmsFake, with_environment: Callable[..., None]
) -> None:
    with_environment(signer_kms_keys="alias/gone")
    with pytest.raises(Misconfigured, match="NotFoundException"):
        refuse_unfit_signer()


def test_a_web3signer_without_keys_stops_the_start(web3signer: RemoteSigner) -> None:
    web3signer.keys.clear()
    with pytest.raises(Misconfigured, match="no key"):
        refuse_unfit_signer()


def create(*arguments: str) -> str:
    out = StringIO()
    call_command("wallet", "create", "7", *arguments, stdout=out)
    return out.getvalue()


def test_a_wallet_whose_key_the_signer_holds(database: None, remote: RemoteSigner, key: LocalAccount) -> None:
    trader: Any = Trader.objects.create(tg_user_id=7, label="x", address=Account.create().address)
    with pytest.raises(CommandError, match="--address"):
        create()
    with pytest.raises(CommandError, match=r"no.* key"):
        create("--address", Account.create().address)
    with pytest.raises(CommandError, match="never shown"):
        create("--address", key.address, "--show-key")
    assert not Wallet.objects.exists()
    assert key.address in create("--address", key.address.lower())
    assert "was there already" in create("--address", key.address)
    wallet = Wallet.objects.get(trader=trader)
    assert wallet.address == key.address
    assert wallet_check._key(wallet).status == "ok"
    assert preflight._signer().status == "ok"
    remote.keys.remove(key)
    remote.keys.append(Account.create())
    assert preflight._signer().status == "fail"

"""Backends under the settings they would have, and one slot that every one of them may sign."""

from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as django_settings
from eth_account import Account
from eth_account.signers.local import LocalAccount
from pydantic import SecretStr
from pytest_django.fixtures import Settings

from execution_app.node.signers import Slot
from execution_app.node.signing import backends, keyfiles
from execution_app.venues import onchain
from tests.remote_signers import KmsFake, Web3SignerFake

TRADER = "0x" + "11" * 20


@pytest.fixture
def key() -> LocalAccount:
    created: LocalAccount = Account.create()
    return created


@pytest.fixture
def order(key: LocalAccount) -> Slot:
    opened = onchain.OpenOrder(TRADER, 1, True, Decimal(5), Decimal(2), Decimal(60_000), Decimal("0.5"))
    data = onchain.encode_delegated(TRADER, onchain.encode_open(opened))
    to = django_settings.ENVIRONMENT.venue_trading_address
    return Slot(31337, key.address, 7, to, 350_000, 900_000, data, trader=TRADER)


@pytest.fixture
def with_environment(settings: Settings, tmp_path: Path) -> Callable[..., None]:
    def set_(**fields: Any) -> None:
        update = {"signer_journal_dir": tmp_path / "journal", **fields}
        settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(update=update)
        backends.backend_of.cache_clear()
        keyfiles.stores.cache_clear()
        keyfiles._stored.cache_clear()

    return set_


@pytest.fixture
def impatient() -> None:
    """A signer is waited for a second; elsewhere for longer, since a machine that loses a second has a signer still."""


@pytest.fixture
def signer_timeout_s(request: pytest.FixtureRequest) -> int:
    return 1 if "impatient" in request.fixturenames else 10


@pytest.fixture
def web3signer(
    key: LocalAccount, with_environment: Callable[..., None], signer_timeout_s: int
) -> Iterator[Web3SignerFake]:
    with Web3SignerFake([Account.create(), key]) as signer:
        with_environment(
            signer_backend="web3signer",
            web3signer_url=SecretStr(signer.url),
            signer_timeout_s=signer_timeout_s,
        )
        yield signer


@pytest.fixture
def kms(
    key: LocalAccount,
    with_environment: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    signer_timeout_s: int,
) -> Iterator[KmsFake]:
    with KmsFake([Account.create(), key]) as signer:
        monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", signer.url)
        monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "planted-aws-secret")
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        ids = ",".join(signer.key_id(held) for held in signer.keys)
        with_environment(signer_backend="kms", signer_kms_keys=ids, signer_timeout_s=signer_timeout_s)
        yield signer

"""What a delegate key signs, what it never signs, and how it lies on the disk."""

import json
import stat
import traceback
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.db import transaction
from eth_abi.abi import encode
from eth_account import Account
from eth_account.typed_transactions.typed_transaction import TypedTransaction
from eth_utils.crypto import keccak
from hexbytes import HexBytes
from pydantic import SecretStr

from execution_app.errors import Refused
from execution_app.node import signers
from execution_app.node.fees import Fee
from execution_app.node.signers import Slot
from execution_app.venues import onchain

FEE = Fee(2_000_000_000, 1_000_000)
TRADER = "0x" + "11" * 20
STRANGER = "0x" + "22" * 20


@pytest.fixture(autouse=True)
def no_open_keys() -> Iterator[None]:
    signers._account.cache_clear()
    yield
    signers._account.cache_clear()


@pytest.fixture(scope="module")
def wallet() -> str:
    return signers.create_key()


def order() -> bytes:
    opened = onchain.OpenOrder(TRADER, 1, True, Decimal(5), Decimal(2), Decimal(60_000), Decimal("0.5"))
    return onchain.encode_delegated(TRADER, onchain.encode_open(opened))


def slot(wallet: str, **fields: Any) -> Slot:
    environment = django_settings.ENVIRONMENT
    sound = Slot(31337, wallet, 7, environment.venue_trading_address, 350_000, 900_000, order())
    return replace(sound, **fields)


def cancel(wallet: str, **fields: Any) -> Slot:
    return replace(slot(wallet, to=wallet, value_wei=0, gas_limit=21_000, data=b""), **fields)


def with_environment(settings: Any, **fields: object) -> None:
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(update=fields)


def test_the_bytes_say_what_was_asked(wallet: str) -> None:
    asked = slot(wallet)
    signed = signers.sign(asked, FEE)
    said = TypedTransaction.from_bytes(HexBytes(signed.raw)).as_dict()
    assert Account.recover_transaction(signed.raw) == wallet
    assert signed.tx_hash == "0x" + keccak(signed.raw).hex()
    assert (said["chainId"], said["nonce"], said["value"], said["gas"]) == (31337, 7, 350_000, 900_000)
    assert (said["maxFeePerGas"], said["maxPriorityFeePerGas"]) == (FEE.max_fee_wei, FEE.tip_wei)
    assert bytes(said["data"]) == asked.data
    assert "0x" + bytes(said["to"]).hex() == asked.to.lower()


def test_the_same_slot_gives_the_same_bytes(wallet: str) -> None:
    """Signing twice after a crash is harmless."""
    assert signers.sign(slot(wallet), FEE) == signers.sign(slot(wallet), FEE)


def test_a_local_signature_binds_its_nonce_to_nothing(database: None, wallet: str) -> None:
    """It is made within the transaction that stores it; after a rollback another order takes the nonce."""
    with transaction.atomic(), signers.group():
        signers.sign(slot(wallet, nonce=11), FEE)
    folder = django_settings.ENVIRONMENT.signer_journal_dir
    assert "\ntentative 11 " in "\n" + (folder / f"31337-{wallet.lower()}.journal").read_text()
    other = slot(wallet, nonce=11, gas_limit=900_001)
    assert Account.recover_transaction(signers.sign(other, FEE).raw) == wallet
    assert signers.bind([other]) == [None]
    with pytest.raises(signers.NonceUsedError):
        signers.sign(slot(wallet, nonce=11), FEE)


def test_a_cancel_is_an_empty_transfer_to_oneself(wallet: str) -> None:
    said = TypedTransaction.from_bytes(HexBytes(signers.sign(cancel(wallet), FEE).raw)).as_dict()
    assert ("0x" + bytes(said["to"]).hex(), said["value"], bytes(said["data"])) == (wallet.lower(), 0, b"")


def forbidden(wallet: str) -> dict[str, Slot]:
    environment = django_settings.ENVIRONMENT
    transfer = bytes.fromhex("a9059cbb") + bytes(64)
    # Our own encoder would refuse to make it.
    delegated_transfer = onchain.DELEGATED_ACTION + encode(["address", "bytes"], [TRADER, transfer])
    return {
        "to a stranger": slot(wallet, to=STRANGER),
        "to the USDC contract": slot(wallet, to=environment.usdc_address, data=transfer),
        "to the storage": slot(wallet, to=environment.venue_storage_address),
        "another selector": slot(wallet, data=transfer),
        "the order without its delegation": slot(wallet, data=order()[4:]),
        "a delegated transfer": slot(wallet, data=delegated_transfer),
        "an empty call to the venue": slot(wallet, data=b""),
        "half a selector": slot(wallet, data=order()[:3]),
        "a bare selector": slot(wallet, data=order()[:4]),
        "cut call data": slot(wallet, data=order()[:40]),
        "another chain": slot(wallet, chain_id=8453),
        "chain zero": slot(wallet, chain_id=0),
        "money to oneself": cancel(wallet, value_wei=1),
        "data to oneself": cancel(wallet, data=b"\x00"),
        "money to a stranger": cancel(wallet, to=STRANGER, value_wei=1),
        "nothing to a stranger": cancel(wallet, to=STRANGER),
        "a cancel on another chain": cancel(wallet, chain_id=1),
    }


@pytest.mark.parametrize("name", forbidden(STRANGER))
def test_the_policy_refuses(wallet: str, name: str) -> None:
    with pytest.raises(Refused, match=r"CHAIN_ID|does not sign"):
        signers.sign(forbidden(wallet)[name], FEE)


def test_the_fee_ceiling_is_inclusive(wallet: str) -> None:
    ceiling_wei = int(django_settings.ENVIRONMENT.max_fee_per_gas_gwei * 10**9)
    signers.sign(slot(wallet), Fee(ceiling_wei, 1))
    with pytest.raises(Refused, match="MAX_FEE_PER_GAS_GWEI"):
        signers.sign(slot(wallet), Fee(ceiling_wei + 1, 1))
    with pytest.raises(Refused, match="MAX_FEE_PER_GAS_GWEI"):
        signers.sign(cancel(wallet), Fee(ceiling_wei + 1, 1))


def test_a_key_file_is_the_owners_alone_and_holds_no_plain_key(wallet: str) -> None:
    path = signers.key_path(wallet)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    keystore = json.loads(path.read_text())
    password = django_settings.ENVIRONMENT.signer_key_password.get_secret_value()
    assert bytes(Account.decrypt(keystore, password)).hex() not in path.read_text()
    assert password not in path.read_text()


def test_a_wrong_password_is_refused_without_telling_secrets(wallet: str, settings: Any) -> None:
    with_environment(settings, signer_key_password=SecretStr("another-password-entirely"))
    with pytest.raises(Refused, match="cannot be opened with SIGNER_KEY_PASSWORD") as caught:
        signers.sign(slot(wallet), FEE)
    told = "".join(traceback.format_exception(caught.value))
    assert "another-password-entirely" not in told
    assert json.loads(signers.key_path(wallet).read_text())["crypto"]["ciphertext"] not in told
    with_environment(settings, signer_key_password=SecretStr("test-password-not-for-use"))
    assert signers.sign(slot(wallet), FEE).raw


def test_no_password_is_refused(wallet: str, settings: Any) -> None:
    with_environment(settings, signer_key_password=SecretStr(""))
    with pytest.raises(Refused, match="SIGNER_KEY_PASSWORD is not set"):
        signers.sign(slot(wallet), FEE)
    with pytest.raises(Refused, match="SIGNER_KEY_PASSWORD is not set"):
        signers.create_key()


@pytest.mark.parametrize(
    "content", ["", "not json", "[]", "{}", "null", '{"version":9,"crypto":{}}', '{"version":3,"crypto":{}}']
)
def test_a_damaged_key_file_is_refused(content: str) -> None:
    address = signers.create_key()
    signers.key_path(address).write_text(content)
    with pytest.raises(Refused, match="cannot be opened"):
        signers.sign(slot(address), FEE)


def test_a_key_file_of_another_wallet_is_refused(wallet: str) -> None:
    other = signers.create_key()
    signers.key_path(other).write_text(signers.key_path(wallet).read_text())
    with pytest.raises(Refused, match="holds another key"):
        signers.sign(slot(other), FEE)


def test_a_missing_key_is_refused() -> None:
    stranger = Account.create().address
    assert not signers.has_key(stranger)
    with pytest.raises(Refused, match="no key for wallet"):
        signers.sign(slot(stranger), FEE)


def test_whether_there_is_a_key_is_asked_of_its_file_alone(wallet: str, settings: Any) -> None:
    """Panels and commands ask it; none of them opens a key for that."""
    with_environment(settings, signer_key_password=SecretStr("another-password-entirely"))
    assert signers.has_key(wallet) is True
    assert wallet.lower() in signers.addresses()
    signers.key_path(wallet).rename(signers.key_path(wallet).with_suffix(".away"))
    try:
        assert signers.has_key(wallet) is False
        assert wallet.lower() not in signers.addresses()
    finally:
        signers.key_path(wallet).with_suffix(".away").rename(signers.key_path(wallet))


@pytest.mark.parametrize("name", ["", "../../etc/passwd", "0x12", "0x" + "zz" * 20])
def test_a_path_is_made_of_addresses_only(name: str) -> None:
    with pytest.raises(Refused, match="not an address"):
        signers.key_path(name)

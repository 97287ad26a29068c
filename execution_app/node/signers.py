"""Signing with a delegate key, behind a policy that knows what such a key may sign.

Keys are keystore v3 files named by address; the password comes from the
environment and nothing of either is ever logged.
"""

import json
import os
import stat
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from django.conf import settings
from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_utils.address import is_address, to_checksum_address

from execution_app.errors import Refused
from execution_app.node.fees import Fee
from execution_app.venues import onchain

CANCEL_GAS = 21_000
# What one order may cost beyond its collateral, whatever a node says: the venue's execution fee is about
# gas price times 935,000, and an open takes a few hundred thousand gas.
MAX_VALUE_WEI = 5 * 10**16
MAX_GAS = 5_000_000
# pbkdf2 rounds of new keystores; a process opens each file once.
KDF_ROUNDS = 100_000


@dataclass(frozen=True)
class Slot:
    """What is signed: everything of a transaction but the fee. A cancel is an empty self-transfer."""

    chain_id: int
    sender: str
    nonce: int
    to: str
    value_wei: int
    gas_limit: int
    data: bytes


@dataclass(frozen=True)
class Signed:
    """Raw EIP-1559 bytes and their hash, 0x-prefixed."""

    raw: bytes
    tx_hash: str


def sign(slot: Slot, fee: Fee) -> Signed:
    """Sign the slot with its sender's key. Raises Refused when the policy or the key says no."""
    _permit(slot, fee)
    account = _account(slot.sender)
    transaction: dict[str, Any] = {
        "type": 2,
        "chainId": slot.chain_id,
        "nonce": slot.nonce,
        "to": slot.to,
        "value": slot.value_wei,
        "gas": slot.gas_limit,
        "data": slot.data,
        "maxFeePerGas": fee.max_fee_wei,
        "maxPriorityFeePerGas": fee.tip_wei,
    }
    signed = account.sign_transaction(transaction)
    return Signed(bytes(signed.raw_transaction), "0x" + bytes(signed.hash).hex())


def _permit(slot: Slot, fee: Fee) -> None:
    """Only orders to the venue and empty self-transfers, on our chain, under the fee ceiling."""
    environment = settings.ENVIRONMENT
    if slot.chain_id != environment.chain_id:
        raise Refused(f"chain {slot.chain_id} is not CHAIN_ID {environment.chain_id}")
    ceiling_wei = int(environment.max_fee_per_gas_gwei * 10**9)
    if fee.max_fee_wei > ceiling_wei:
        raise Refused(f"fee {fee.max_fee_wei} wei is above MAX_FEE_PER_GAS_GWEI")
    if slot.value_wei > MAX_VALUE_WEI or slot.gas_limit > MAX_GAS:
        raise Refused(
            f"{slot.value_wei} wei and {slot.gas_limit} gas are above {MAX_VALUE_WEI} and {MAX_GAS}"
        )
    cancels = slot.to == slot.sender and not slot.data and slot.value_wei == 0
    trades = slot.to.lower() == environment.venue_trading_address.lower() and onchain.is_allowed(slot.data)
    if not cancels and not trades:
        raise Refused(f"a delegate key does not sign 0x{slot.data[:4].hex()} to {slot.to}")


def key_path(address: str) -> Path:
    if not is_address(address):
        raise Refused(f"{address} is not an address")
    return Path(settings.ENVIRONMENT.signer_key_dir) / f"{to_checksum_address(address)}.json"


def create_key() -> str:
    """Make a new delegate key, stored encrypted with owner-only permissions; returns its address."""
    return str(make_key().address)


def make_key() -> LocalAccount:
    """The same, but answers the key itself: only for who has to show it once, at its birth."""
    account: LocalAccount = Account.create()
    path = key_path(account.address)
    path.parent.mkdir(mode=stat.S_IRWXU, parents=True, exist_ok=True)
    keystore = Account.encrypt(account.key, _password(), kdf="pbkdf2", iterations=KDF_ROUNDS)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, stat.S_IRUSR | stat.S_IWUSR)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(keystore, file)
        file.flush()
        os.fsync(file.fileno())
    return account


def has_key(address: str) -> bool:
    return key_path(address).is_file()


def _password() -> str:
    password: str = settings.ENVIRONMENT.signer_key_password.get_secret_value()
    if not password:
        raise Refused("SIGNER_KEY_PASSWORD is not set")
    return password


@lru_cache(maxsize=256)
def _account(address: str) -> LocalAccount:
    path = key_path(address)
    try:
        content = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise Refused(f"no key for wallet {address}") from None
    except OSError as error:
        raise Refused(f"the key of wallet {address} cannot be read ({error.strerror})") from None
    password = _password()
    try:
        account: LocalAccount = Account.from_key(Account.decrypt(json.loads(content), password))
    except (ValueError, KeyError, TypeError, NotImplementedError):
        # What a damaged keystore raises. The library's message may quote the file; ours does not.
        raise Refused(f"the key of wallet {address} cannot be opened with SIGNER_KEY_PASSWORD") from None
    if account.address.lower() != address.lower():
        raise Refused(f"the key file of wallet {address} holds another key")
    return account

"""Keys on this machine: keystore v3 files, opened once a process with SIGNER_KEY_PASSWORD.

Nothing of a key, a file's content or the password is ever in a message: a
library's own may quote them, so none of its errors goes further than here.
"""

import json
import os
import stat
import threading
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from django.conf import settings
from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_utils.address import is_address, to_checksum_address
from eth_utils.crypto import keccak

from execution_app.errors import Refused
from execution_app.node.signing.ecdsa import Numbers

# pbkdf2 rounds of new keystores; a process opens each file once.
KDF_ROUNDS = 100_000
FILE_LIMIT = 64 * 1024
FILES_LIMIT = 1_000

_opening = threading.Lock()


class KeyFiles:
    """Files of ours in SIGNER_KEY_DIR, named by address: SIGNER_BACKEND=keyfile."""

    remote = False

    def require(self, address: str) -> None:
        account(address)

    def addresses(self) -> list[str]:
        return sorted(
            path.stem.lower() for path in Path(settings.ENVIRONMENT.signer_key_dir).glob("0x*.json")
        )

    def sign(self, address: str, payload: bytes, _deadline_s: float) -> Numbers:
        return _signed(account(address), payload)


class KeyStores:
    """Files of others, as geth and most wallets write them, at SIGNER_KEYSTORE_PATH: SIGNER_BACKEND=keystore."""

    remote = False

    def require(self, address: str) -> None:
        stored_account(address)

    def addresses(self) -> list[str]:
        stores.cache_clear()
        return sorted(stores())

    def sign(self, address: str, payload: bytes, _deadline_s: float) -> Numbers:
        return _signed(stored_account(address), payload)


def _signed(key: LocalAccount, payload: bytes) -> Numbers:
    made = _private(bytes(key.key)).sign_recoverable(keccak(payload), hasher=None)
    return Numbers(int.from_bytes(made[:32], "big"), int.from_bytes(made[32:64], "big"), made[64] & 1)


@lru_cache(maxsize=256)
def _private(secret: bytes) -> Any:
    """The key as the library wants it, which computes its public key to begin with; kept as long as accounts are."""
    import coincurve  # here: LIVE is refused without it; DRY, which signs nothing, runs

    return coincurve.PrivateKey(secret)


def key_path(address: str) -> Path:
    if not is_address(address):
        raise Refused(f"{address} is not an address")
    return Path(settings.ENVIRONMENT.signer_key_dir) / f"{to_checksum_address(address)}.json"


def create_key() -> str:
    """Make a new delegate key, stored encrypted with owner-only permissions; returns its address."""
    return str(make_key().address)


def make_key() -> LocalAccount:
    """The same, but answers the key itself: only for who has to show it once, at its birth."""
    key: LocalAccount = Account.create()
    path = key_path(key.address)
    path.parent.mkdir(mode=stat.S_IRWXU, parents=True, exist_ok=True)
    keystore = Account.encrypt(key.key, _password(), kdf="pbkdf2", iterations=KDF_ROUNDS)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, stat.S_IRUSR | stat.S_IWUSR)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(keystore, file)
        file.flush()
        os.fsync(file.fileno())
    return key


def has_file(address: str) -> bool:
    return key_path(address).is_file()


@lru_cache(maxsize=256)
def account(address: str) -> LocalAccount:
    path = key_path(address)
    try:
        content = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise Refused(f"no key for wallet {address}") from None
    except OSError as error:
        raise Refused(f"the key of wallet {address} cannot be read ({error.strerror})") from None
    return _decrypted(address, content)


def stored_account(address: str) -> LocalAccount:
    """The key of a foreign keystore; scrypt takes a second and much memory, so two threads do not pay twice."""
    with _opening:
        return _stored(address.lower())


@lru_cache(maxsize=256)
def _stored(address: str) -> LocalAccount:
    path = stores().get(address)
    if path is None:
        stores.cache_clear()  # it may have been brought since
        path = stores().get(address)
    if path is None:
        raise Refused(f"no keystore for wallet {address} at SIGNER_KEYSTORE_PATH")
    return _decrypted(address, _text(path))


@lru_cache(maxsize=1)
def stores() -> dict[str, Path]:
    """Which file holds which address, as the files say it; whether it is so is seen when one is opened."""
    place = settings.ENVIRONMENT.signer_keystore_path
    try:
        paths = sorted(path for path in place.iterdir() if path.is_file()) if place.is_dir() else [place]
    except OSError as error:
        raise Refused(f"SIGNER_KEYSTORE_PATH cannot be read ({error.strerror})") from None
    found = {}
    for path in paths[:FILES_LIMIT]:
        said = _address_said(_text(path))
        if said:
            found[said] = path
    return found


def _address_said(content: str) -> str:
    try:
        said = json.loads(content)["address"].lower().removeprefix("0x")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return ""  # some other file; a keystore without an address cannot be found by one
    return f"0x{said}"


def _text(path: Path) -> str:
    try:
        with path.open(encoding="utf-8") as file:
            return file.read(FILE_LIMIT)
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(f"the keystore {path.name} cannot be read ({type(error).__name__})") from None


def _decrypted(address: str, content: str) -> LocalAccount:
    password = _password()
    key = _open(content, password, Account.decrypt)
    if key is None:
        raise Refused(f"the key of wallet {address} cannot be opened with SIGNER_KEY_PASSWORD")
    if key.address.lower() != address.lower():
        raise Refused(f"the key file of wallet {address} holds another key")
    return key


def _open(content: str, password: str, decrypt: Callable[[Any, str], bytes]) -> LocalAccount | None:
    try:
        key: LocalAccount = Account.from_key(decrypt(json.loads(content), password))
    except (ValueError, KeyError, TypeError, AttributeError, NotImplementedError, RecursionError):
        return None  # what a damaged keystore raises
    return key


def _password() -> str:
    password: str = settings.ENVIRONMENT.signer_key_password.get_secret_value()
    if not password:
        raise Refused("SIGNER_KEY_PASSWORD is not set")
    return password

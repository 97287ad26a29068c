"""Key files on the disk: how they get there, how much of one is read, and which of many holds a wallet's key."""

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_utils.crypto import keccak
from pydantic import SecretStr

from execution_app.errors import Refused
from execution_app.node.signing import ecdsa, keyfiles
from execution_app.node.signing.keyfiles import KeyFiles, KeyStores

PASSWORD = "a-password-of-a-keystore"
PAYLOAD = b"\x02what is signed"
FILE_LIMIT = 65_536
Environment = Callable[..., None]


@pytest.fixture
def keys(tmp_path: Path, with_environment: Environment) -> Path:
    """Where our own files are to be; it is not there yet, nor is the folder above it."""
    folder = tmp_path / "var" / "keys"
    with_environment(signer_key_dir=folder, signer_key_password=SecretStr(PASSWORD))
    keyfiles.account.cache_clear()
    return folder


@pytest.fixture
def stores(tmp_path: Path, with_environment: Environment) -> Path:
    """A folder for files of others."""
    folder = tmp_path / "stores"
    folder.mkdir()
    with_environment(
        signer_backend="keystore", signer_keystore_path=folder, signer_key_password=SecretStr(PASSWORD)
    )
    return folder


def encrypted(key: LocalAccount, **fields: Any) -> str:
    content = Account.encrypt(key.key, PASSWORD, kdf="pbkdf2", iterations=1_000)
    return json.dumps(content | fields)


def test_keys_are_made_beside_one_another_for_the_owner_alone(keys: Path) -> None:
    made = [keyfiles.create_key(), keyfiles.create_key()]
    assert KeyFiles().addresses() == sorted(address.lower() for address in made)
    assert stat.S_IMODE(keys.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in keys.iterdir()} == {0o600}
    for address in made:
        assert keyfiles.has_file(address) is True
        KeyFiles().require(address)
        r, s, _ = KeyFiles().sign(address, PAYLOAD, 0.0)
        ecdsa.recovered(keccak(PAYLOAD), r, s, address)  # raises for another key's


def test_a_key_is_on_the_disk_before_it_is_told(keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Money is sent to its address next."""
    synced: list[str] = []

    def sync(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").read_text())

    monkeypatch.setattr(os, "fsync", sync)
    address = keyfiles.create_key()
    assert json.loads(synced[0])["address"].lower() == address[2:].lower()
    assert synced == [keyfiles.key_path(address).read_text()]


def test_a_key_file_that_cannot_be_read_is_refused(keys: Path) -> None:
    address = Account.create().address
    with pytest.raises(Refused, match=f"no key for wallet {address}"):
        KeyFiles().require(address)
    keyfiles.key_path(address).mkdir(parents=True)
    with pytest.raises(Refused, match=f"key of wallet {address} cannot be read"):
        KeyFiles().require(address)
    assert keyfiles.has_file(address) is False


def test_other_files_beside_keystores_do_no_harm(stores: Path) -> None:
    key = Account.create()
    others = ["", "no JSON", "5", "null", "[]", "{}", '{"address": 5}', '{"address": null}', "[" * 50_000]
    for number, content in enumerate(others):
        (stores / f"{number}.json").write_text(content)
    (stores / "folder").mkdir()
    (stores / "z.json").write_text(encrypted(key, address=key.address.upper().replace("0X", "")))
    assert KeyStores().addresses() == [key.address.lower()]
    KeyStores().require("0x" + key.address[2:].upper())
    r, s, _ = KeyStores().sign(key.address, PAYLOAD, 0.0)
    ecdsa.recovered(keccak(PAYLOAD), r, s, key.address)


@pytest.mark.parametrize("prefix", ["", "0x"])
def test_the_address_of_a_keystore_with_its_prefix_and_without(stores: Path, prefix: str) -> None:
    key = Account.create()
    (stores / "a").write_text(encrypted(key, address=prefix + key.address[2:]))
    assert KeyStores().addresses() == [key.address.lower()]
    KeyStores().require(key.address)


def test_who_asks_for_all_keystores_sees_those_that_came_since(stores: Path) -> None:
    first, second = sorted((Account.create() for _ in range(2)), key=lambda key: key.address.lower())
    (stores / "b").write_text(encrypted(second))
    assert KeyStores().addresses() == [second.address.lower()]
    (stores / "c").write_text(encrypted(first))
    assert KeyStores().addresses() == [first.address.lower(), second.address.lower()]


def test_a_keystore_is_opened_once_however_its_address_is_written(
    stores: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = Account.create()
    (stores / "a").write_text(encrypted(key))
    opened: list[str] = []
    decrypt = Account.decrypt

    def counted(content: Any, password: str) -> Any:
        opened.append(password)
        return decrypt(content, password)

    monkeypatch.setattr(Account, "decrypt", counted)
    for address in (key.address, key.address.lower(), "0x" + key.address[2:].upper()):
        KeyStores().require(address)
    assert opened == [PASSWORD]


@pytest.mark.parametrize(("length", "is_read"), [(FILE_LIMIT, True), (FILE_LIMIT + 1, False)])
def test_a_keystore_has_64_kib_at_most(stores: Path, length: int, is_read: bool) -> None:
    key = Account.create()
    (stores / "a").write_text(encrypted(key).rjust(length))
    assert KeyStores().addresses() == ([key.address.lower()] if is_read else [])
    if is_read:
        KeyStores().require(key.address)


@pytest.mark.parametrize(("others", "is_read"), [(999, True), (1_000, False)])
def test_a_thousand_files_are_read_in_the_order_of_their_names(
    stores: Path, others: int, is_read: bool
) -> None:
    for number in range(others):
        (stores / f"{number:04}").touch()
    key = Account.create()
    (stores / "last").write_text(encrypted(key))
    assert KeyStores().addresses() == ([key.address.lower()] if is_read else [])


def test_a_file_that_is_no_text_is_refused_by_its_name(stores: Path) -> None:
    (stores / "photo").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(Refused, match=r"keystore photo cannot be read \(UnicodeDecodeError\)"):
        KeyStores().addresses()


def test_a_folder_that_cannot_be_listed_is_refused(stores: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(Refused, match=r"SIGNER_KEYSTORE_PATH cannot be read \(Permission denied\)"):
        KeyStores().addresses()


DAMAGED = {
    "no JSON": "key",
    "a list": "[]",
    "a word": '"key"',
    "another version": '{"version": 9, "crypto": {}}',
    "without its parts": '{"version": 3, "crypto": {}}',
    "a list of parts": '{"version": 3, "crypto": []}',
    "another key derivation": '{"version": 3, "crypto": {"kdf": "argon2", "cipher": "aes-128-ctr"}}',
    "without end": "[" * 50_000,
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_key_file_says_so(keys: Path, name: str) -> None:
    address = Account.create().address
    path = keyfiles.key_path(address)
    path.parent.mkdir(parents=True)
    path.write_text(DAMAGED[name])
    with pytest.raises(Refused, match="cannot be opened with SIGNER_KEY_PASSWORD"):
        KeyFiles().require(address)

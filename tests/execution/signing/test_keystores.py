"""Keystores of other programs: found by address, opened once, whatever their key derivation."""

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
from eth_account import Account
from eth_account.signers.local import LocalAccount
from pydantic import SecretStr

from execution_app.errors import Refused
from execution_app.node import signers
from execution_app.node.fees import Fee
from execution_app.node.signers import Slot

FEE = Fee(2_000_000_000, 1_000_000)
PASSWORD = "a-password-of-a-keystore"
# geth's default is n = 262144, a second and 256 MiB; this one asks for the same way at a sixteenth of it.
SCRYPT_N = 16_384


@pytest.fixture
def place(tmp_path: Path, key: LocalAccount, with_environment: Callable[..., None]) -> Path:
    folder = tmp_path / "keystores"
    folder.mkdir()
    store(folder, key)
    store(folder, Account.create())
    (folder / "README.txt").write_text("not a keystore")
    (folder / "broken.json").write_text('{"address": 5}')
    (folder / "a-folder").mkdir()
    with_environment(
        signer_backend="keystore", signer_keystore_path=folder, signer_key_password=SecretStr(PASSWORD)
    )
    return folder


def store(folder: Path, key: LocalAccount, kdf: Literal["scrypt", "pbkdf2"] = "scrypt") -> Path:
    """As geth names and writes them, the address without 0x."""
    content = Account.encrypt(key.key, PASSWORD, kdf=kdf, iterations=SCRYPT_N if kdf == "scrypt" else 1_000)
    content["address"] = content["address"].removeprefix("0x").lower()
    path = folder / f"UTC--2026-01-01T00-00-00.000000000Z--{content['address']}"
    path.write_text(json.dumps(content))
    return path


def signed_by(order: Slot) -> str:
    return str(Account.recover_transaction(signers.sign(order, FEE).raw))


def test_a_folder_of_keystores(place: Path, order: Slot) -> None:
    assert signed_by(order) == order.sender
    assert not signers.is_remote()
    assert signers.has_key(order.sender)
    assert not signers.has_key(Account.create().address)


def test_one_file(place: Path, order: Slot, key: LocalAccount, with_environment: Callable[..., None]) -> None:
    with_environment(signer_keystore_path=store(place, key, "pbkdf2"))
    assert signed_by(order) == order.sender


def test_scrypt_is_paid_once_even_by_threads(
    place: Path, order: Slot, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    decrypt = Account.decrypt

    def counted(content: Any, password: str) -> Any:
        opened.append(password)
        return decrypt(content, password)

    monkeypatch.setattr(Account, "decrypt", counted)
    threads = [threading.Thread(target=signers.sign, args=(order, FEE)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    began_s = time.monotonic()
    for _ in range(20):
        signers.sign(order, FEE)
    assert opened == [PASSWORD]
    assert time.monotonic() - began_s < 20


def test_a_keystore_that_is_brought_later_is_found(place: Path, order: Slot, key: LocalAccount) -> None:
    path = next(path for path in place.iterdir() if path.name.endswith(key.address[2:].lower()))
    content = path.read_text()
    path.unlink()
    with pytest.raises(Refused, match="no keystore for wallet"):
        signers.sign(order, FEE)
    path.write_text(content)
    assert signed_by(order) == order.sender


def test_a_keystore_that_lies_about_its_address_is_refused(
    place: Path, order: Slot, key: LocalAccount
) -> None:
    path = store(place, Account.create())
    content = json.loads(path.read_text()) | {"address": key.address[2:].lower()}
    for one in place.glob("UTC*"):
        one.unlink()
    path.write_text(json.dumps(content))
    with pytest.raises(Refused, match="holds another key"):
        signers.sign(order, FEE)


@pytest.mark.parametrize(
    "content", ["", "[]", '{"version":3,"crypto":{}}', '{"version":3,"crypto":[]}', "[" * 10_000]
)
def test_a_damaged_keystore_is_refused(place: Path, order: Slot, key: LocalAccount, content: str) -> None:
    path = next(path for path in place.iterdir() if path.name.endswith(key.address[2:].lower()))
    path.write_text(content.replace("{", f'{{"address":"{key.address[2:].lower()}",', 1))
    with pytest.raises(Refused):
        signers.sign(order, FEE)


def test_a_place_that_is_missing_is_refused(
    tmp_path: Path, place: Path, order: Slot, with_environment: Callable[..., None]
) -> None:
    with_environment(signer_keystore_path=tmp_path / "nowhere")
    with pytest.raises(Refused, match=r"cannot be read"):
        signers.sign(order, FEE)


def test_a_wrong_password_is_refused(place: Path, order: Slot, with_environment: Callable[..., None]) -> None:
    with_environment(signer_key_password=SecretStr("another-password"))
    with pytest.raises(Refused, match="cannot be opened with SIGNER_KEY_PASSWORD"):
        signers.sign(order, FEE)

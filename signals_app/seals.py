"""Secrets at rest: AES-256-GCM under a key derived from SECRET_KEY. Pure.

The source is sealed in as associated data, so that nobody who can write rows
moves one source's secret to another.
"""

from functools import lru_cache

from Crypto.Cipher import AES
from Crypto.Hash import SHA256
from Crypto.Protocol.KDF import HKDF
from Crypto.Random import get_random_bytes

from execution_app.errors import Refused

_VERSION = b"\x01"
_KEY_BYTES, _NONCE_BYTES, _TAG_BYTES = 32, 12, 16
_PURPOSE = b"vanta source secret v1"


class Unreadable(Refused):
    """Sealed under another SECRET_KEY or for another source, or damaged."""


def seal(secret: str, source: str, secret_key: str) -> bytes:
    """Return version, nonce, tag and ciphertext in one."""
    nonce = get_random_bytes(_NONCE_BYTES)
    box = AES.new(_derived(secret_key), AES.MODE_GCM, nonce=nonce, mac_len=_TAG_BYTES)
    box.update(source.encode())
    ciphertext, tag = box.encrypt_and_digest(secret.encode())
    return _VERSION + nonce + tag + ciphertext


def unseal(sealed: bytes, source: str, secret_key: str) -> str:
    """Return the secret. Raises Unreadable."""
    head = len(_VERSION) + _NONCE_BYTES
    if not sealed.startswith(_VERSION) or len(sealed) <= head + _TAG_BYTES:
        raise Unreadable(f"the sealed secret of {source} has an unknown form")
    nonce, tag = sealed[len(_VERSION) : head], sealed[head : head + _TAG_BYTES]
    box = AES.new(_derived(secret_key), AES.MODE_GCM, nonce=nonce, mac_len=_TAG_BYTES)
    box.update(source.encode())
    try:
        return box.decrypt_and_verify(sealed[head + _TAG_BYTES :], tag).decode()
    except ValueError as error:
        raise Unreadable(f"the secret of {source} was sealed under another SECRET_KEY") from error


@lru_cache(maxsize=4)
def _derived(secret_key: str) -> bytes:
    derived = HKDF(secret_key.encode(), _KEY_BYTES, b"", SHA256, context=_PURPOSE)
    assert isinstance(derived, bytes)
    return derived

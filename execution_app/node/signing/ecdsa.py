"""Arithmetic of secp256k1 signatures as remote signers give them. Pure; every function raises ValueError."""

from functools import lru_cache
from typing import NamedTuple

from eth_keys import keys  # type: ignore[attr-defined]
from eth_utils.address import to_canonical_address
from eth_utils.crypto import keccak

from execution_app.node.signing.transactions import Signature

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
FIELD = 2**256 - 2**32 - 977
NUMBER_LIMIT = 33  # bytes of an integer: 32 and a zero before a high bit
# SubjectPublicKeyInfo of an uncompressed secp256k1 point: ecPublicKey, secp256k1, BIT STRING of 65 bytes.
SPKI_PREFIX = bytes.fromhex("3056301006072a8648ce3d020106052b8104000a034200" + "04")
POINT = 64
_canonical = lru_cache(maxsize=256)(to_canonical_address)


class Numbers(NamedTuple):
    """A signature as a signer gives it, s in either half; `parity` is a guess, 0 or 1, and only says which is tried first."""

    r: int
    s: int
    parity: int = 0


def read_der(der: bytes) -> tuple[int, int]:
    """The two numbers of a DER signature: a SEQUENCE of two INTEGERs, in the one encoding that DER permits."""
    body, rest = _element(der, 0x30)
    if rest:
        raise ValueError("bytes follow the signature")
    first, body = _element(body, 0x02)
    second, body = _element(body, 0x02)
    if body:
        raise ValueError("more than two numbers in the signature")
    return _number(first), _number(second)


def _element(der: bytes, tag: int) -> tuple[bytes, bytes]:
    """The content of the first element, and what follows it. A signature needs no length above 127."""
    if len(der) < 2 or der[0] != tag or der[1] > 0x7F or len(der) < 2 + der[1]:  # noqa: PLR2004
        raise ValueError("not the DER of a signature")
    return der[2 : 2 + der[1]], der[2 + der[1] :]


def _number(content: bytes) -> int:
    if not content or len(content) > NUMBER_LIMIT or content[0] & 0x80:
        raise ValueError("a number of the signature is empty, negative or too long")
    if len(content) > 1 and content[0] == 0 and not content[1] & 0x80:
        raise ValueError("a number of the signature has needless zeros")
    return int.from_bytes(content, "big")


def address_of(spki: bytes) -> str:
    """The address of a DER public key. Only an uncompressed point of secp256k1 is one."""
    if len(spki) != len(SPKI_PREFIX) + POINT or not spki.startswith(SPKI_PREFIX):
        raise ValueError("not an uncompressed secp256k1 public key")
    return address_of_point(spki[len(SPKI_PREFIX) :])


def address_of_point(point: bytes) -> str:
    """The address of 64 bytes, x and y."""
    x, y = int.from_bytes(point[:32], "big"), int.from_bytes(point[32:], "big")
    if len(point) != POINT or max(x, y) >= FIELD or (y * y - x**3 - 7) % FIELD:
        raise ValueError("not a point of secp256k1")
    return str(keys.PublicKey(point).to_checksum_address())


def recovered(digest: bytes, r: int, s: int, address: str, first: int = 0) -> Signature:
    """The signature that nodes take: s in the lower half (EIP-2), and the parity that leads back to the address.

    `first` is the parity that is tried first. Raises ValueError where neither does: another key has signed, or other bytes.
    """
    import coincurve  # here: LIVE is refused without it; DRY, which signs nothing, runs

    if not (0 < r < ORDER and 0 < s < ORDER):
        raise ValueError("a number of the signature is out of range")
    low_s = min(s, ORDER - s)
    wanted = _canonical(address)
    numbers = r.to_bytes(32, "big") + low_s.to_bytes(32, "big")
    for y_parity in (first, 1 - first):
        try:
            key = coincurve.PublicKey.from_signature_and_message(
                numbers + bytes([y_parity]), digest, hasher=None
            )
        except ValueError:
            continue
        if keccak(key.format(compressed=False)[1:])[-20:] == wanted:
            return Signature(r, low_s, y_parity)
    raise ValueError(f"the signature is not of {address}'s key")

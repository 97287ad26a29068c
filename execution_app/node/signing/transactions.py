"""EIP-1559 transactions as bytes: what is signed, and what is broadcast. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from eth_utils.address import to_canonical_address
from eth_utils.crypto import keccak

from execution_app.node.fees import Fee
from execution_app.node.signing.slots import Signed, Slot

TYPE = b"\x02"


@dataclass(frozen=True)
class Signature:
    """A low-s signature; `y_parity` is 0 or 1."""

    r: int
    s: int
    y_parity: int


def payload(slot: Slot, fee: Fee) -> bytes:
    """The bytes whose keccak hash is signed."""
    return TYPE + _list([_body(slot, fee)])


def assemble(slot: Slot, fee: Fee, signature: Signature) -> Signed:
    numbers = map(_number, (signature.y_parity, signature.r, signature.s))
    raw = TYPE + _list([_body(slot, fee), *numbers])
    return Signed(raw, "0x" + keccak(raw).hex())


@lru_cache(maxsize=2)
def _body(slot: Slot, fee: Fee) -> bytes:
    """The fields without their length, which stand in what is signed and in what leaves."""
    to = _text(to_canonical_address(slot.to))
    money = map(_number, (fee.tip_wei, fee.max_fee_wei, slot.gas_limit))
    chain_id, nonce, value = map(_number, (slot.chain_id, slot.nonce, slot.value_wei))
    return b"".join([chain_id, nonce, *money, to, value, _text(slot.data), _list(())])


# RLP, of which a transaction needs this much; a general encoder took ten times as long, twice for each signature.


def _number(value: int) -> bytes:
    return _text(value.to_bytes((value.bit_length() + 7) // 8, "big"))


def _text(data: bytes) -> bytes:
    return data if len(data) == 1 and data[0] < 0x80 else _prefix(len(data), 0x80) + data  # noqa: PLR2004


def _list(encoded: Sequence[bytes]) -> bytes:
    return _prefix(sum(map(len, encoded)), 0xC0) + b"".join(encoded)


def _prefix(length: int, kind: int) -> bytes:
    if length < 56:  # noqa: PLR2004
        return bytes([kind + length])
    size = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes([kind + 55 + len(size)]) + size

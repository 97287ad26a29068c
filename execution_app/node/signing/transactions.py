"""EIP-1559 transactions as bytes: what is signed, and what is broadcast. Pure."""

from dataclasses import dataclass

import rlp  # type: ignore[import-untyped]
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
    return TYPE + bytes(rlp.encode(_fields(slot, fee)))


def assemble(slot: Slot, fee: Fee, signature: Signature) -> Signed:
    raw = TYPE + bytes(rlp.encode([*_fields(slot, fee), signature.y_parity, signature.r, signature.s]))
    return Signed(raw, "0x" + keccak(raw).hex())


def _fields(slot: Slot, fee: Fee) -> list[object]:
    to = to_canonical_address(slot.to)
    money = [fee.tip_wei, fee.max_fee_wei, slot.gas_limit]
    return [slot.chain_id, slot.nonce, *money, to, slot.value_wei, slot.data, []]

"""What is signed, and what becomes of it. Pure."""

import hashlib
from dataclasses import dataclass

CANCEL_GAS = 21_000
UNNAMED = bytes(32)  # the order of a slot whose caller named none


@dataclass(frozen=True)
class Slot:
    """What is signed: everything of a transaction but the fee. A cancel is an empty self-transfer.

    `order` names what the nonce belongs to for life (`order_of`); bumps and
    cancels carry the order of the slot that they replace. `trader` is whose
    delegate the sender is, blank where the caller cannot know.
    """

    chain_id: int
    sender: str
    nonce: int
    to: str
    value_wei: int
    gas_limit: int
    data: bytes
    trader: str = ""
    order: bytes = UNNAMED

    @property
    def identity(self) -> bytes:
        """The order of this slot; what is signed itself where nobody named one."""
        if self.order != UNNAMED:
            return self.order
        return order_of("", self.to, self.value_wei, self.gas_limit, self.data)

    @property
    def cancels(self) -> bool:
        return self.to.lower() == self.sender.lower() and not self.data and self.value_wei == 0


@dataclass(frozen=True)
class Signed:
    """Raw EIP-1559 bytes and their hash, 0x-prefixed."""

    raw: bytes
    tx_hash: str


def order_of(intent_key: str, to: str, value_wei: int, gas_limit: int, data: bytes) -> bytes:
    """The identity of an order in its slot: all that an intent owns for life with its nonce, and whose it is.

    The fee is not in it, since replacements differ in nothing else, and neither is
    the kind: a cancel fills the slot of the same order. Lengths are hashed too, so
    that no two orders are written alike.
    """
    fields = (
        intent_key.encode(),
        to.lower().encode(),
        str(value_wei).encode(),
        str(gas_limit).encode(),
        data,
    )
    digest = hashlib.sha256()
    for field in fields:
        digest.update(len(field).to_bytes(8, "big") + field)
    return digest.digest()

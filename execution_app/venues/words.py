"""Arguments of fixed size as Solidity's ABI lays them out, one word each: what nearly every order consists of.

Written out here because each order is encoded before it is asked about, and decoded and encoded again before it is
signed; a general codec takes ten times as long for that.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache

from eth_utils.address import to_checksum_address

WORD = 32
_BITS = {"address": 160, "bool": 1, "uint8": 8, "uint256": 256}


def words(values: Iterable[int]) -> bytes:
    """Raises ValueError for what is negative or needs more than 256 bits."""
    try:
        return b"".join(value.to_bytes(WORD, "big") for value in values)
    except OverflowError as fault:
        raise ValueError(f"not a word of the ABI: {fault}") from fault


def are_words(types: Sequence[str]) -> bool:
    """Whether arguments of these types have a fixed size, so that they can be read here."""
    return all(name.strip("()") in _BITS for one in types for name in one.split(","))


def read_words(types: Sequence[str], data: bytes) -> list[int]:
    """The numbers of arguments of these types, tuples laid open. Raises ValueError for anything but just these."""
    sizes = _sizes(tuple(types))
    if len(data) != WORD * len(sizes):
        raise ValueError(f"not the bytes of ({','.join(types)})")
    found = [int.from_bytes(data[at : at + WORD], "big") for at in range(0, len(data), WORD)]
    if any(value >> bits for value, bits in zip(found, sizes, strict=True)):
        raise ValueError(f"not the bytes of ({','.join(types)}): a value is out of its type's range")
    return found


@lru_cache(maxsize=64)
def _sizes(types: tuple[str, ...]) -> tuple[int, ...]:
    """Bits of each word. Raises KeyError for a type that has no fixed size."""
    return tuple(_BITS[name.strip("()")] for one in types for name in one.split(","))


@lru_cache(maxsize=1024)
def checksummed(address: str | bytes) -> str:
    """As `to_checksum_address`, which hashes each time; the same few addresses are written at every log and order."""
    return str(to_checksum_address(address))

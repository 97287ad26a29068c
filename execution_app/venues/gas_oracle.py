"""The OP stack's predeploy that says what the chain below charges for a transaction's data, as bytes.

Source: ethereum-optimism/specs, Fjord predeploys. `getL1FeeUpperBound` came with Fjord; older chains
answer `getL1Fee` alone. Both take the unsigned transaction and allow for its signature themselves.
"""

from eth_abi.abi import decode as abi_decode
from eth_abi.abi import encode as abi_encode
from eth_abi.exceptions import DecodingError
from eth_utils.crypto import keccak

ADDRESS = "0x420000000000000000000000000000000000000F"
# More than any order of ours: a delegated open is 645 bytes of call data and less than 150 around it.
ORDER_BYTES = 1_024


def call_upper_bound() -> bytes:
    """Ask for the most that an order may pay, in wei; read with `read_fee`."""
    return keccak(text="getL1FeeUpperBound(uint256)")[:4] + abi_encode(("uint256",), (ORDER_BYTES,))


def call_fee() -> bytes:
    """Ask what an order of incompressible bytes would pay, for chains from before the upper bound."""
    incompressible = b"".join(keccak(at.to_bytes(4, "big")) for at in range(ORDER_BYTES // 32))
    return keccak(text="getL1Fee(bytes)")[:4] + abi_encode(("bytes",), (incompressible,))


def read_fee(data: bytes) -> int:
    """Raises ValueError on bytes of another shape."""
    try:
        (fee_wei,) = abi_decode(("uint256",), data)
    except (DecodingError, OverflowError) as fault:
        raise ValueError(f"not the bytes of a fee: {fault}") from fault
    return int(fee_wei)

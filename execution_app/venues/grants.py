"""What a trader alone can grant, as call data: an allowance to the storage, and a delegate with an end.

The trader signs these, never a key of ours outside the rehearsal chain.
"""

from eth_abi.abi import encode as abi_encode
from eth_utils.address import to_canonical_address
from eth_utils.crypto import keccak

APPROVE = keccak(text="approve(address,uint256)")[:4]
SET_DELEGATE = keccak(text="setDelegate(address,uint256)")[:4]  # the v2 form
# Above it an allowance is meant to be endless.
FINITE_UNITS = 2**128
UINT64 = 2**64


def encode_approve(spender: str, units: int) -> bytes:
    """Call data to the USDC. Raises ValueError unless the amount (1e-6) is finite: it bounds the loss."""
    if not 0 < units < FINITE_UNITS:
        raise ValueError(f"the allowance must be finite and above zero: {units}")
    return APPROVE + abi_encode(("address", "uint256"), (to_canonical_address(spender), units))


def encode_set_delegate(delegate: str, expiry_s: int) -> bytes:
    """Call data to the trading contract: `delegate` trades for the sender until the unix second `expiry_s`."""
    if not 0 < expiry_s < UINT64:
        raise ValueError(f"the delegation must end: {expiry_s}")
    return SET_DELEGATE + abi_encode(("address", "uint256"), (to_canonical_address(delegate), expiry_s))

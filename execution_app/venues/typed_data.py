"""The venue's EIP-712 types (v2), and what they make of values: struct hashes, the signed bytes, the encoding.

Field names, types and order are the contract's, underscores included; a test holds each digest and each
encoding against the venue's own SDK and against the rehearsal contract.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from eth_abi.abi import decode as abi_decode
from eth_abi.abi import encode as abi_encode
from eth_abi.exceptions import DecodingError
from eth_utils.crypto import keccak

OPEN: Final = "OpenTradeReq"
CLOSE: Final = "CloseTradeReq"
LEVELS: Final = "UpdateTpSlReq"
INCREASE: Final = "IncreasePositionSizeReq"
DELEGATE: Final = "DelegateReq"

Fields = tuple[tuple[str, str], ...]
_TRADE: Fields = (
    ("trader", "address"),
    ("pairIndex", "uint256"),
    ("index", "uint256"),
    ("initialPosToken", "uint256"),
    ("positionSizeUSDC", "uint256"),
    ("openPrice", "uint256"),
    ("buy", "bool"),
    ("leverage", "uint256"),
    ("tp", "uint256"),
    ("sl", "uint256"),
    ("timestamp", "uint256"),
)
TYPES: Mapping[str, Fields] = {
    "Trade": _TRADE,
    # What is added: `initialPosToken` is its collateral, `openPrice` the price that is expected.
    "UpdatePositionSize": (
        ("trader", "address"),
        ("pairIndex", "uint256"),
        ("index", "uint256"),
        ("openPrice", "uint256"),
        ("initialPosToken", "uint256"),
        ("leverage", "uint256"),
    ),
    OPEN: (
        ("_t", "Trade"),
        ("_type", "uint8"),
        ("_slippageP", "uint256"),
        ("_deadline", "uint256"),
        ("_nonce", "uint256"),
    ),
    CLOSE: (
        ("_trader", "address"),
        ("_pairIndex", "uint256"),
        ("_index", "uint256"),
        ("_openTimestamp", "uint256"),
        ("_amount", "uint256"),
        ("_wantedPrice", "uint256"),
        ("_deadline", "uint256"),
        ("_nonce", "uint256"),
    ),
    INCREASE: (
        ("_updateInfo", "UpdatePositionSize"),
        ("_slippageP", "uint256"),
        ("_deadline", "uint256"),
        ("_nonce", "uint256"),
    ),
    # Here alone the trader has no underscore.
    LEVELS: (
        ("trader", "address"),
        ("_pairIndex", "uint256"),
        ("_index", "uint256"),
        ("_newTp", "uint256"),
        ("_newSl", "uint256"),
        ("_deadline", "uint256"),
        ("_nonce", "uint256"),
    ),
    DELEGATE: (
        ("trader", "address"),
        ("delegate", "address"),
        ("expiry", "uint256"),
        ("deadline", "uint256"),
        ("tnc", "string"),
        ("nonce", "uint256"),
    ),
}
# The contract's struct has them in another order than its type hash.
_ENCODED_ORDER: Mapping[str, tuple[str, ...]] = {
    DELEGATE: ("trader", "delegate", "expiry", "tnc", "deadline", "nonce")
}
# What a trader who names a delegate accepts; byte for byte, since the contract compares its hash.
TERMS = (
    "I accept the Veranta Terms of Service: https://www.veranta.xyz/docs/tos. "
    "I confirm that I am not a resident of any of the following countries/regions: "
    "Belarus, Cuba, Iran, North Korea, Russia, Syria, Crimea, United Kingdom, "
    "United States of America."
)
_DOMAIN_TYPE = keccak(
    text="EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
)


@dataclass(frozen=True, slots=True)
class Domain:
    """Where a message is good: one chain, one trading contract."""

    chain_id: int
    trading_address: str


Values = Mapping[str, Any]


def signed_bytes(domain: Domain, kind: str, values: Values) -> bytes:
    """The 66 bytes whose keccak is signed."""
    return b"\x19\x01" + _domain_separator(domain) + _hash(kind, values)


def encode(kind: str, values: Values) -> bytes:
    """The struct as the gateway and the contract take it."""
    types = dict(TYPES[kind])
    order = _ENCODED_ORDER.get(kind, tuple(types))
    parts = ",".join(_abi_type(types[name]) for name in order)
    return abi_encode([f"({parts})"], [tuple(_abi_value(types[name], values[name]) for name in order)])


def decode(kind: str, data: bytes) -> tuple[Any, ...]:
    """The struct's values in the order of its type. Raises ValueError for bytes of another shape."""
    if kind in _ENCODED_ORDER:
        raise ValueError(f"{kind} is not read here")
    parts = ",".join(_abi_type(type_) for _, type_ in TYPES[kind])
    try:
        (values,) = abi_decode([f"({parts})"], data)
    except (DecodingError, OverflowError) as fault:
        raise ValueError(f"not the bytes of {kind}: {fault}") from fault
    found: tuple[Any, ...] = values
    return found


def _domain_separator(domain: Domain) -> bytes:
    return keccak(
        _DOMAIN_TYPE
        + keccak(text="AvantisTrading")
        + keccak(text="1")
        + _word("uint256", domain.chain_id)
        + _word("address", domain.trading_address)
    )


def _hash(kind: str, values: Mapping[str, Any]) -> bytes:
    """EIP-712's hashStruct."""
    written = [_word(type_, values[name]) for name, type_ in TYPES[kind]]
    return keccak(keccak(text=_type_text(kind)) + b"".join(written))


def _type_text(kind: str) -> str:
    within = sorted({type_ for _, type_ in TYPES[kind] if type_ in TYPES})
    return "".join(
        f"{name}({','.join(f'{type_} {field}' for field, type_ in TYPES[name])})" for name in (kind, *within)
    )


def _word(type_: str, value: Any) -> bytes:
    if type_ in TYPES:
        return _hash(type_, value)
    if type_ == "string":
        return keccak(text=value)
    return abi_encode([type_], [value])


def _abi_type(type_: str) -> str:
    return f"({','.join(part for _, part in TYPES[type_])})" if type_ in TYPES else type_


def _abi_value(type_: str, value: Any) -> Any:
    return tuple(value.values()) if type_ in TYPES else value

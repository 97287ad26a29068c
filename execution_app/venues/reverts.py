"""Which of the venue's refusals a revert is: a bounded set of names, fit for labels."""

import re

from eth_abi.abi import decode as abi_decode
from eth_abi.exceptions import DecodingError
from eth_utils.crypto import keccak

UNKNOWN = "unknown_revert"

# Reason strings of the on-chain path, of the USDC it pulls and of the rehearsal contracts.
REASONS = frozenset(
    {
        "BELOW_MIN_POS",
        "LEVERAGE_INCORRECT",
        "WRONG_TP",
        "WRONG_SL",
        "SL_TOO_BIG",
        "INVALID_SLIPPAGE",
        "MAX_TRADES_PER_PAIR",
        "MAX_PENDING_ORDERS",
        "NO_TRADE",
        "NO_LIMIT",
        "ALREADY_BEING_CLOSED",
        "EXECUTION_FEE_NOT_SENT",
        "DELEGATE_NOT_APPROVED",
        "NOT_ALLOWED",
        "ONLY_OPERATOR",
        "PRICE_DEVIATION_TOO_HIGH",
        "Pausable: paused",
        "ERC20: transfer amount exceeds allowance",
        "ERC20: transfer amount exceeds balance",
        "INVALID_AMOUNT",
        "LIQUIDATION_REACHED",
        "INVALID_PAIR",
        "INVALID_PRICE",
        "ORDER_TYPE_UNSUPPORTED",
    }
)
# Custom errors of v2 whose arguments are not published; only the argument-less form can be recognised.
CUSTOM_ERRORS = {
    keccak(text=f"{name}()")[:4]: name
    for name in (
        "WrongSl",
        "HighSlippage",
        "PositionMismatch",
        "InvalidNonce",
        "InvalidDeadline",
        "OnlyBatchedFlowAllowed",
    )
}
_ERROR_STRING = keccak(text="Error(string)")[:4]
# Anchored at the start: revert text may quote anything, also another node's message.
_MESSAGE = re.compile(
    r"\A(?:Error: )?(?:VM Exception while processing transaction: |VM execution error:? |EVM error:? )?"
    r"(?:execution )?revert(?:ed)?\b(?P<rest>.*)\Z",
    re.IGNORECASE | re.DOTALL,
)
_QUOTED = re.compile(r"\A with reason string '(?P<reason>.*)'\Z", re.DOTALL)
_HEX = re.compile(r"\A0x(?:[0-9a-fA-F]{2})*\Z")


def revert_name(data_or_message: bytes | str) -> str | None:
    """Name the revert that a node reports, from its error data or its message.

    None: this is not a revert at all. `unknown_revert`: it is one, of a kind not in the tables.
    Prefer the data where the node gives it; messages differ by client.
    """
    if isinstance(data_or_message, bytes):
        return _from_data(data_or_message)
    text = data_or_message.strip()
    if _HEX.match(text):
        return _from_data(bytes.fromhex(text[2:]))
    found = _MESSAGE.match(text)
    if found is None:
        return None
    rest = found["rest"]
    quoted = _QUOTED.match(rest)
    reason = quoted["reason"] if quoted else rest.removeprefix(":").strip()
    return reason if reason in REASONS else UNKNOWN


def _from_data(data: bytes) -> str:
    selector, arguments = data[:4], data[4:]
    if selector == _ERROR_STRING:
        try:
            (reason,) = abi_decode(["string"], arguments)
        except (DecodingError, UnicodeDecodeError, OverflowError):
            return UNKNOWN
        return reason if reason in REASONS else UNKNOWN
    return UNKNOWN if arguments else CUSTOM_ERRORS.get(selector, UNKNOWN)

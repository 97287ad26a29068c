"""What a delegate key may be put under: one table of rules, asked before every signer. Pure.

A delegate opens and closes trades of its trader at the venue, and fills its own
slots with empty transfers to itself; approvals are the trader's, so none is here.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from eth_utils.address import is_hex_address

from execution_app.errors import Refused
from execution_app.node.fees import Fee
from execution_app.node.signing.slots import CANCEL_GAS, Slot
from execution_app.venues import onchain

MAX_NONCE = 2**64 - 2  # EIP-2681


class Violation(Refused):
    """The policy says no; `field` is what broke it, one of FIELDS."""

    def __init__(self, field: str, words: str) -> None:
        super().__init__(words)
        self.field = field


@dataclass(frozen=True)
class Limits:
    """What this deployment signs at most, in wei and gas; ceilings are inclusive."""

    chain_id: int
    trading_address: str
    max_value_wei: int
    max_gas: int
    max_fee_wei: int


def _chain(slot: Slot, _: Fee, limits: Limits) -> str:
    if slot.chain_id == limits.chain_id:
        return ""
    return f"chain {slot.chain_id} is not CHAIN_ID {limits.chain_id}"


def _sender(slot: Slot, _: Fee, __: Limits) -> str:
    return "" if is_hex_address(slot.sender) and slot.sender.startswith("0x") else "the sender is no address"


def _nonce(slot: Slot, _: Fee, __: Limits) -> str:
    return "" if 0 <= slot.nonce <= MAX_NONCE else f"nonce {slot.nonce} is not within 0 and {MAX_NONCE}"


def _to(slot: Slot, _: Fee, limits: Limits) -> str:
    if slot.cancels or (limits.trading_address and slot.to.lower() == limits.trading_address.lower()):
        return ""
    return f"a delegate key does not sign 0x{slot.data[:4].hex()} to {slot.to}, only to VENUE_TRADING_ADDRESS"


def _selector(slot: Slot, _: Fee, __: Limits) -> str:
    if slot.cancels or slot.data[:4] in onchain.ALLOWED_SELECTORS:
        return ""
    return f"a delegate key does not sign 0x{slot.data[:4].hex()}, only {_listed(onchain.ALLOWED_SELECTORS)}"


def _inner(slot: Slot, _: Fee, __: Limits) -> str:
    if slot.cancels or _traders(slot.data) is not None:
        return ""
    allowed = _listed(onchain.ALLOWED_DELEGATED_SELECTORS)
    return f"a delegate key does not sign what 0x{slot.data[:4].hex()} carries here, only whole calls of {allowed}"


def _trader(slot: Slot, _: Fee, __: Limits) -> str:
    """An order is for the trader whose delegate this is, outside and inside."""
    traders = () if slot.cancels else _traders(slot.data) or ()
    wanted = slot.trader or "".join(traders[:1])
    for named in traders:
        if named.lower() != wanted.lower():
            return f"a delegate key does not sign for {named}, its trader is {wanted}"
    return ""


@lru_cache(maxsize=256)
def _traders(data: bytes) -> tuple[str, ...] | None:
    """Whom a delegated order names, outside and, where it does, inside; None for any other bytes."""
    try:
        trader, order = onchain.read_delegated(data)
        named = onchain.read_order(order)
    except ValueError:
        return None
    return (trader,) if named is None else (trader, named)


def _value(slot: Slot, _: Fee, limits: Limits) -> str:
    if 0 <= slot.value_wei <= limits.max_value_wei:
        return ""
    return f"{slot.value_wei} wei are not within 0 and {limits.max_value_wei}"


def _gas(slot: Slot, _: Fee, limits: Limits) -> str:
    most = min(CANCEL_GAS, limits.max_gas) if slot.cancels else limits.max_gas
    return "" if 0 < slot.gas_limit <= most else f"{slot.gas_limit} gas are not within 1 and {most}"


def _max_fee(_: Slot, fee: Fee, limits: Limits) -> str:
    if 0 < fee.max_fee_wei <= limits.max_fee_wei:
        return ""
    return f"fee {fee.max_fee_wei} wei is not within 1 and MAX_FEE_PER_GAS_GWEI ({limits.max_fee_wei} wei)"


def _tip(_: Slot, fee: Fee, __: Limits) -> str:
    if 0 <= fee.tip_wei <= fee.max_fee_wei:
        return ""
    return f"tip {fee.tip_wei} wei is not within 0 and the fee, {fee.max_fee_wei} wei"


Rule = Callable[[Slot, Fee, Limits], str]
# In this order: a later rule may take for granted what an earlier one holds. Each answers blank, or what is wrong.
RULES: tuple[tuple[str, Rule], ...] = (
    ("chain_id", _chain),
    ("sender", _sender),
    ("nonce", _nonce),
    ("to", _to),
    ("selector", _selector),
    ("inner_selector", _inner),
    ("trader", _trader),
    ("value_wei", _value),
    ("gas_limit", _gas),
    ("max_fee_wei", _max_fee),
    ("tip_wei", _tip),
)
FIELDS = tuple(field for field, _ in RULES)


def check(slot: Slot, fee: Fee, limits: Limits) -> None:
    """Raise Violation, naming the field and its limit, for anything but an order or a cancel within the limits."""
    for field, rule in RULES:
        words = rule(slot, fee, limits)
        if words:
            raise Violation(field, f"{field}: {words}")


def _listed(selectors: frozenset[bytes]) -> str:
    return ", ".join(sorted(f"0x{selector.hex()}" for selector in selectors))

"""The policy before every signer: a table of what it refuses, each by the field that breaks it."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from django.conf import settings as django_settings
from eth_abi.abi import encode
from hypothesis import given
from hypothesis import strategies as st

from execution_app import meters
from execution_app.node import signers
from execution_app.node.fees import Fee
from execution_app.node.signers import Slot, Violation
from execution_app.node.signing import policy
from execution_app.node.signing.policy import FIELDS, Limits, check
from execution_app.venues import onchain

WALLET = "0x" + "aa" * 20
TRADING = "0x" + "bb" * 20
TRADER = "0x" + "11" * 20
STRANGER = "0x" + "22" * 20
LETTERS = "0x" + "ab" * 20
LIMITS = Limits(31337, TRADING, 5 * 10**16, 5_000_000, 50 * 10**9)
FEE = Fee(2_000_000_000, 1_000_000)
TRANSFER = bytes.fromhex("a9059cbb") + bytes(64)
APPROVE = bytes.fromhex("095ea7b3") + bytes(64)


def opening(trader: str = TRADER) -> bytes:
    order = onchain.OpenOrder(trader, 1, True, Decimal(5), Decimal(2), Decimal(60_000), Decimal("0.5"))
    return onchain.encode_open(order)


def closing() -> bytes:
    return onchain.encode_close(onchain.CloseOrder(TRADER, 1, 0, Decimal(5), Decimal(60_000)))


def delegated(inner: bytes, trader: str = TRADER) -> bytes:
    """As our own encoder writes it, for calls that it would refuse to write, too."""
    return onchain.DELEGATED_ACTION + encode(["address", "bytes"], [trader, inner])


def order(**fields: Any) -> Slot:
    sound = Slot(31337, WALLET, 7, TRADING, 350_000, 900_000, delegated(opening()), trader=TRADER)
    return replace(sound, **fields)


def cancel(**fields: Any) -> Slot:
    return replace(order(to=WALLET, value_wei=0, gas_limit=21_000, data=b""), **fields)


SOUND = {
    "an open": (order(), FEE),
    "a close": (order(data=delegated(closing())), FEE),
    "a trader nobody knows": (order(trader=""), FEE),
    "a trader in other letters": (order(trader=TRADER.upper().replace("0X", "0x")), FEE),
    "a trader whose address has letters": (
        order(data=delegated(opening(LETTERS), LETTERS), trader=LETTERS),
        FEE,
    ),
    "such a trader in other letters": (
        order(data=delegated(opening(LETTERS), LETTERS), trader=LETTERS.upper().replace("0X", "0x")),
        FEE,
    ),
    "the least gas": (order(gas_limit=1), FEE),
    "a cancel": (cancel(), FEE),
    "a cancel in other letters": (cancel(to=WALLET.upper().replace("0X", "0x")), FEE),
    "all ceilings": (order(value_wei=5 * 10**16, gas_limit=5_000_000), Fee(50 * 10**9, 50 * 10**9)),
    "no value and no tip": (order(value_wei=0), Fee(1, 0)),
    "the first nonce": (order(nonce=0), FEE),
}
# What is wrong, the field that is to be named, the transaction and its fee.
REFUSED: list[tuple[str, str, Slot, Fee]] = [
    ("another chain", "chain_id", order(chain_id=8453), FEE),
    ("chain zero", "chain_id", order(chain_id=0), FEE),
    ("a cancel on another chain", "chain_id", cancel(chain_id=1), FEE),
    ("a sender that is none", "sender", order(sender="nobody"), FEE),
    ("a sender that is half one", "sender", order(sender="0xnobody"), FEE),
    ("a sender without its prefix", "sender", order(sender=WALLET.removeprefix("0x")), FEE),
    ("a blank sender", "sender", order(sender=""), FEE),
    ("a nonce below zero", "nonce", order(nonce=-1), FEE),
    ("the nonce that no account may have", "nonce", order(nonce=2**64 - 1), FEE),
    ("an order to a stranger", "to", order(to=STRANGER), FEE),
    ("an order to oneself", "to", order(to=WALLET), FEE),
    ("an approval of USDC", "to", order(to=STRANGER, data=APPROVE, value_wei=0), FEE),
    ("money to oneself", "to", cancel(value_wei=1), FEE),
    ("data to oneself", "to", cancel(data=b"\x00"), FEE),
    ("nothing to a stranger", "to", cancel(to=STRANGER), FEE),
    ("a blank address", "to", order(to=""), FEE),
    ("a transfer at the venue", "selector", order(data=TRANSFER), FEE),
    ("an approval at the venue", "selector", order(data=APPROVE), FEE),
    ("an order without its delegation", "selector", order(data=opening()), FEE),
    ("an empty call", "selector", order(data=b""), FEE),
    ("half a selector", "selector", order(data=onchain.DELEGATED_ACTION[:3]), FEE),
    ("a bare selector", "inner_selector", order(data=onchain.DELEGATED_ACTION), FEE),
    ("cut call data", "inner_selector", order(data=delegated(opening())[:-1]), FEE),
    ("bytes behind the call", "inner_selector", order(data=delegated(opening()) + bytes(32)), FEE),
    (
        "a dirty address",
        "inner_selector",
        order(data=delegated(opening())[:4] + b"\x01" + delegated(opening())[5:]),
        FEE,
    ),
    ("a delegated transfer", "inner_selector", order(data=delegated(TRANSFER)), FEE),
    ("a delegated delegation", "inner_selector", order(data=delegated(delegated(opening()))), FEE),
    ("a delegated nothing", "inner_selector", order(data=delegated(b"")), FEE),
    ("an open without its end", "inner_selector", order(data=delegated(opening()[:-32])), FEE),
    ("an open with an appendix", "inner_selector", order(data=delegated(opening() + bytes(32))), FEE),
    ("a close with an appendix", "inner_selector", order(data=delegated(closing() + b"\x00")), FEE),
    ("another trader", "trader", order(data=delegated(opening(STRANGER), STRANGER)), FEE),
    ("another trader inside", "trader", order(data=delegated(opening(STRANGER))), FEE),
    ("another trader outside", "trader", order(data=delegated(opening(), STRANGER)), FEE),
    ("another trader's close", "trader", order(data=delegated(closing(), STRANGER)), FEE),
    ("two traders, none known", "trader", order(data=delegated(opening(STRANGER)), trader=""), FEE),
    ("a wei above the value", "value_wei", order(value_wei=5 * 10**16 + 1), FEE),
    ("a value below zero", "value_wei", order(value_wei=-1), FEE),
    ("a unit above the gas", "gas_limit", order(gas_limit=5_000_001), FEE),
    ("no gas", "gas_limit", order(gas_limit=0), FEE),
    ("a cancel with an order's gas", "gas_limit", cancel(gas_limit=21_001), FEE),
    ("a wei above the fee", "max_fee_wei", order(), Fee(50 * 10**9 + 1, 1)),
    ("a cancel above the fee", "max_fee_wei", cancel(), Fee(50 * 10**9 + 1, 1)),
    ("no fee", "max_fee_wei", order(), Fee(0, 0)),
    ("a tip above the fee", "tip_wei", order(), Fee(1_000, 1_001)),
    ("a tip below zero", "tip_wei", order(), Fee(1_000, -1)),
]


@pytest.mark.parametrize("name", SOUND)
def test_what_is_signed(name: str) -> None:
    slot, fee = SOUND[name]
    check(slot, fee, LIMITS)


@pytest.mark.parametrize(("name", "field", "slot", "fee"), REFUSED, ids=[row[0] for row in REFUSED])
def test_what_is_refused_names_its_field(name: str, field: str, slot: Slot, fee: Fee) -> None:
    with pytest.raises(Violation, match=f"^{field}: ") as caught:
        check(slot, fee, LIMITS)
    assert caught.value.field == field


def test_every_rule_is_broken_by_a_row_alone() -> None:
    """A rule that nothing breaks, or that another one always speaks for, is no rule."""
    assert {field for _, field, _, _ in REFUSED} == set(FIELDS) == set(meters.POLICY_FIELDS)
    for field, rule in policy.RULES:
        rows = [(slot, fee) for _, named, slot, fee in REFUSED if named == field]
        assert all(rule(slot, fee, LIMITS) for slot, fee in rows)
        assert not any(rule(slot, fee, LIMITS) for slot, fee in SOUND.values())


def test_a_deployment_without_a_venue_signs_cancels_only() -> None:
    nowhere = replace(LIMITS, trading_address="")
    check(cancel(), FEE, nowhere)
    for to in (TRADING, ""):
        with pytest.raises(Violation, match=r"^to: "):
            check(order(to=to), FEE, nowhere)


@given(
    data=st.binary(max_size=400),
    to=st.sampled_from([TRADING, WALLET, STRANGER]),
    value=st.integers(0, 10**18),
)
def test_no_made_up_bytes_are_signed(data: bytes, to: str, value: int) -> None:
    slot = order(data=data, to=to, value_wei=value, gas_limit=21_000)
    if slot.cancels:
        check(slot, FEE, LIMITS)
        return
    with pytest.raises(Violation):
        check(slot, FEE, LIMITS)


@given(place=st.integers(0, len(delegated(opening())) - 1), bit=st.integers(0, 7))
def test_a_flipped_bit_still_means_an_order_of_the_same_trader_or_is_refused(place: int, bit: int) -> None:
    data = bytearray(delegated(opening()))
    data[place] ^= 1 << bit
    try:
        check(order(data=bytes(data)), FEE, LIMITS)
    except Violation:
        return
    trader, inner = onchain.read_delegated(bytes(data))
    assert (trader.lower(), (onchain.read_order(inner) or "").lower()) == (TRADER, TRADER)
    assert inner[:4] == onchain.OPEN_TRADE


def test_a_violation_is_logged_counted_and_signs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    wallet = signers.create_key()
    environment = django_settings.ENVIRONMENT
    before = meters.SIGNATURES_REFUSED.labels("to")._value.get()
    journals = {path: path.read_bytes() for path in environment.signer_journal_dir.glob("*")}
    with pytest.raises(Violation, match="VENUE_TRADING_ADDRESS"):
        signers.sign(order(sender=wallet, to=STRANGER), FEE)
    assert meters.SIGNATURES_REFUSED.labels("to")._value.get() == before + 1
    assert "signature refused by policy" in caplog.text
    assert {path: path.read_bytes() for path in environment.signer_journal_dir.glob("*")} == journals


def test_what_every_deployment_signs_at_most() -> None:
    """Whatever a node or the venue asks for: 0.05 ETH beside the gas, 5 million gas, MAX_FEE_PER_GAS_GWEI."""
    environment = django_settings.ENVIRONMENT
    highest_wei = int(environment.max_fee_per_gas_gwei * 10**9)
    most = order(to=environment.venue_trading_address, value_wei=5 * 10**16, gas_limit=5_000_000)
    signers.permit(most, Fee(highest_wei, highest_wei))
    for field, slot, fee in (
        ("value_wei", replace(most, value_wei=5 * 10**16 + 1), FEE),
        ("gas_limit", replace(most, gas_limit=5_000_001), FEE),
        ("max_fee_wei", most, Fee(highest_wei + 1, 1)),
        ("chain_id", replace(most, chain_id=environment.chain_id + 1), FEE),
    ):
        with pytest.raises(Violation) as caught:
            signers.permit(slot, fee)
        assert caught.value.field == field


def test_the_highest_nonce_that_an_account_may_have_is_signed() -> None:
    check(order(nonce=2**64 - 2), FEE, LIMITS)

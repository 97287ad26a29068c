"""Each rule of the policy asked by itself, at both sides of its limit."""

from dataclasses import replace

import pytest

from execution_app.node.fees import Fee
from execution_app.node.signing import policy
from execution_app.node.signing.policy import Limits, Violation
from execution_app.node.signing.slots import CANCEL_GAS, Slot
from tests.execution.signing.test_policy import (
    LETTERS,
    STRANGER,
    TRADER,
    TRADING,
    WALLET,
    cancel,
    closing,
    delegated,
    opening,
    order,
)  # fmt: skip

LIMITS = Limits(31337, TRADING, 100, 30_000, 50)
FEE = Fee(50, 1)


def broken(slot: Slot, fee: Fee = FEE, limits: Limits = LIMITS) -> list[str]:
    """The field of the first rule that says no: a later one may take for granted what it holds."""
    try:
        policy.check(slot, fee, limits)
    except Violation as violation:
        return [violation.field]
    return []


def sound(**fields: object) -> Slot:
    return replace(order(value_wei=100, gas_limit=30_000), **fields)  # type: ignore[arg-type]


def upper(address: str) -> str:
    return "0x" + address.removeprefix("0x").upper()


def test_an_order_and_a_cancel_at_their_limits_break_no_rule() -> None:
    for slot in (
        *(sound(), sound(data=delegated(closing())), sound(trader=""), sound(to=upper(TRADING))),
        *(sound(sender=upper(WALLET)), sound(value_wei=0), sound(gas_limit=1), sound(nonce=0)),
        *(
            sound(nonce=2**64 - 2),
            cancel(gas_limit=CANCEL_GAS),
            cancel(gas_limit=1),
            cancel(to=upper(WALLET)),
        ),
    ):
        for fee in (FEE, Fee(1, 0), Fee(1, 1), Fee(50, 50)):
            assert broken(slot, fee) == []


@pytest.mark.parametrize("make", [sound, cancel])
def test_one_wrong_word_breaks_the_rule_of_its_field(make: object) -> None:
    slot = sound() if make is sound else cancel()
    for chain_id in (0, 1, 31336, 31338):
        assert broken(replace(slot, chain_id=chain_id)) == ["chain_id"]
    for nonce in (-1, 2**64 - 1):
        assert broken(replace(slot, nonce=nonce)) == ["nonce"]
    for gas_limit in (0, -1, 30_001 if make is sound else CANCEL_GAS + 1):
        assert broken(replace(slot, gas_limit=gas_limit)) == ["gas_limit"]
    for fee, field in (
        *((Fee(0, 0), "max_fee_wei"), (Fee(51, 1), "max_fee_wei")),
        *((Fee(50, 51), "tip_wei"), (Fee(50, -1), "tip_wei")),
    ):
        assert broken(slot, fee) == [field]


def test_a_sender_is_an_address_with_its_prefix() -> None:
    for sender in ("", "0x", "nobody", "0xnobody", WALLET.removeprefix("0x"), WALLET[:-1], WALLET + "a"):
        assert broken(sound(sender=sender)) == ["sender"]


def test_a_value_is_within_its_limit() -> None:
    assert [broken(sound(value_wei=wei)) for wei in (-1, 101)] == [["value_wei"]] * 2


def test_only_the_venue_is_called() -> None:
    for to in (STRANGER, WALLET, ""):
        assert broken(sound(to=to)) == ["to"]
    unset = replace(LIMITS, trading_address="")
    assert broken(sound(), limits=unset) == ["to"]
    assert broken(sound(to=""), limits=unset) == ["to"], "an address that nobody set is not a blank one"
    assert broken(cancel(), limits=unset) == []


def test_only_whole_orders_are_carried() -> None:
    data = sound().data
    for wrong in (b"", data[:3], bytes(4) + data[4:]):
        assert broken(sound(data=wrong)) == ["selector"]
    for wrong in (data[:4], data[:40], data + b"\x00", delegated(bytes(68)), delegated(b"")):
        assert broken(sound(data=wrong)) == ["inner_selector"]


def test_an_order_is_for_the_trader_whose_delegate_signs() -> None:
    """Outside and inside, in whatever letters; where nobody knows the trader, the two must be one."""
    own = delegated(opening(LETTERS), LETTERS)
    for trader in (LETTERS, upper(LETTERS), ""):
        assert broken(sound(data=own, trader=trader)) == []
    for data, trader in (
        *(
            (own, TRADER),
            (delegated(opening(TRADER), LETTERS), ""),
            (delegated(opening(LETTERS), TRADER), ""),
        ),
        *((delegated(opening(TRADER), LETTERS), LETTERS), (delegated(opening(LETTERS), TRADER), LETTERS)),
        *((delegated(closing(), LETTERS), TRADER), (delegated(closing(), LETTERS), STRANGER)),
    ):
        assert broken(sound(data=data, trader=trader)) == ["trader"]
    assert broken(sound(data=delegated(closing(), LETTERS), trader=upper(LETTERS))) == []


def test_a_cancel_is_no_order_of_anybody() -> None:
    assert broken(cancel(trader=STRANGER)) == []
    assert broken(cancel(value_wei=1)) == ["to"]
    assert broken(cancel(data=b"\x00")) == ["to"]
    least = replace(LIMITS, max_gas=20_000)
    assert broken(cancel(gas_limit=20_000), limits=least) == []
    assert broken(cancel(gas_limit=20_001), limits=least) == ["gas_limit"]


def test_the_first_rule_that_is_broken_is_told_by_its_field() -> None:
    wrong = sound(chain_id=1, nonce=-1, to=STRANGER, gas_limit=0)
    with pytest.raises(Violation, match=r"^chain_id: chain 1 is not CHAIN_ID 31337$") as caught:
        policy.check(wrong, Fee(0, 0), LIMITS)
    assert caught.value.field == "chain_id"
    assert policy.FIELDS[0] == "chain_id"
    with pytest.raises(Violation, match=r"^gas_limit: 0 gas are not within 1 and 30000$"):
        policy.check(sound(gas_limit=0), Fee(0, 0), LIMITS)

"""Every call of the on-chain path, word by word as Solidity's ABI lays it out, written here by hand."""

from dataclasses import replace
from decimal import Decimal

import pytest

from execution_app.venues import calls, grants, messages, onchain
from execution_app.venues.calls import Margin
from execution_app.venues.messages import OpenMessage
from execution_app.venues.onchain import CloseOrder
from execution_app.venues.orders import Kind
from tests.venues.samples import DEADLINE_MS, DELEGATE, LONG, SHORT, TRADER

ALICE = 0x70997970C51812DC3A010C7D01B50E0D17DC79C8
BOB = 0x3C44CDDDB6A900FA2B585DD299E03D12FA4293BC


def laid_out(selector: str, *words: int | bytes) -> bytes:
    """Selector and 32-byte words; bytes are put as they are, filled up to whole words."""
    parts = [
        word.ljust(-(-len(word) // 32) * 32, b"\0") if isinstance(word, bytes) else word.to_bytes(32, "big")
        for word in words
    ]
    return bytes.fromhex(selector) + b"".join(parts)


OPEN_LONG = laid_out(
    "19cde9a1",
    *(ALICE, 1, 0, 0, 5_000_000, 1_000_005_000_000_000, 1, 20_000_000_000, 0, 0, 0),
    *(0, 5_000_000_000),
)
OPEN_SHORT = laid_out(
    "19cde9a1",
    *(ALICE, 5, 0, 0, 1_234_567_891, 1_234_567_891, 0, 749_999_000_000, 1, 2_000_000_000, 0),
    *(0, 800_000_000_000),
)
CANCEL_LIMIT = laid_out("b9b6573a", 1, 3)
MARGIN = laid_out("b9fe2af3", 1, 3, 0, 1_000_000, 6 * 32, 0, 0)
UPDATE_LIMIT = laid_out("c641558e", 1, 3, 10**15, 10**10, 5 * 10**9, 2 * 10**10)
CLOSE = laid_out("e5a97c92", 1, 3, 2_500_000, 1_000_000_000_000_000)


def test_opens():
    assert onchain.encode_open(LONG) == OPEN_LONG
    assert onchain.encode_open(SHORT) == OPEN_SHORT


@pytest.mark.parametrize(("kind", "number"), [(Kind.STOP_LIMIT, 1), (Kind.LIMIT, 2)])
def test_opens_that_rest(kind, number):
    expected = laid_out(
        "19cde9a1",
        *(ALICE, 1, 0, 0, 5_000_000, 1_000_005_000_000_000, 1, 20_000_000_000, 0, 0, 0),
        *(number, 5_000_000_000),
    )
    order = replace(LONG, kind=kind)
    assert onchain.encode_open(order) == expected
    with pytest.raises(ValueError, match="by message"):
        messages.encode(OpenMessage(order, DEADLINE_MS, 1))


def test_a_close():
    assert onchain.encode_close(CloseOrder(TRADER, 1, 3, Decimal("2.5"), Decimal(100_000))) == CLOSE


@pytest.mark.parametrize("order", [OPEN_LONG, OPEN_SHORT, CLOSE, CANCEL_LIMIT, UPDATE_LIMIT, MARGIN])
def test_a_delegated_order(order):
    expected = laid_out("9a10cc32", ALICE, 64, len(order), order)
    assert onchain.encode_delegated(TRADER, order) == expected


def test_grants():
    assert grants.encode_approve(TRADER, 10**9) == laid_out("095ea7b3", ALICE, 10**9)
    assert grants.encode_set_delegate(DELEGATE, 1_800_000_000) == laid_out("d6a510d9", BOB, 1_800_000_000)
    assert calls.encode_remove_delegate(DELEGATE) == laid_out("67e7646f", BOB)


def test_limit_orders():
    assert calls.encode_cancel_limit(1, 3) == CANCEL_LIMIT
    full = calls.encode_update_limit(
        1, 3, Decimal(100_000), Decimal(1), take_profit=Decimal("0.5"), stop_loss=Decimal(2)
    )
    assert full == UPDATE_LIMIT
    assert calls.encode_update_limit(0, 0, Decimal(1), Decimal("0.5")) == laid_out(
        "c641558e", 0, 0, 10**10, 5 * 10**9, 0, 0
    )


def test_margin():
    two = calls.encode_update_margin(1, 3, Margin.WITHDRAW, Decimal("1.5"), [b"\xaa" * 33, b""])
    assert two == laid_out("b9fe2af3", 1, 3, 1, 1_500_000, 6 * 32, 0, 2, 2 * 32, 5 * 32, 33, b"\xaa" * 33, 0)
    none = calls.encode_update_margin(1, 3, Margin.DEPOSIT, Decimal(1), [])
    assert none == laid_out("b9fe2af3", 1, 3, 0, 1_000_000, 6 * 32, 0, 0)


@pytest.mark.parametrize(
    "data",
    [
        calls.encode_remove_delegate(DELEGATE),
        grants.encode_set_delegate(DELEGATE, 1_800_000_000),
    ],
)
def test_what_nothing_sends_is_not_delegated_either(data):
    with pytest.raises(ValueError, match="may not be delegated"):
        onchain.encode_delegated(TRADER, data)


def test_a_digit_too_many_is_refused():
    with pytest.raises(ValueError, match="amount_usdc"):
        calls.encode_update_margin(1, 3, Margin.DEPOSIT, Decimal("0.0000001"), [])
    with pytest.raises(ValueError, match="price"):
        calls.encode_update_limit(1, 3, Decimal("1E-11"), Decimal(1))
    with pytest.raises(ValueError, match="collateral_usdc"):
        onchain.encode_open(replace(LONG, collateral_usdc=Decimal("0.0000001")))

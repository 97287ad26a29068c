"""What is written out by hand for speed says what a general codec of the ABI says, and refuses what that refuses."""

from decimal import Decimal

import pytest
from eth_abi.abi import decode, encode
from eth_abi.exceptions import DecodingError
from eth_utils.address import to_checksum_address
from hypothesis import given
from hypothesis import strategies as st

from execution_app.venues import calls, onchain
from execution_app.venues.onchain import CloseOrder
from execution_app.venues.words import checksummed, read_words, words
from tests.venues.samples import LONG, TRADER

TYPES = ("address", "bool", "(uint8,uint256)", "uint256")
UINT256 = st.integers(0, 2**256 - 1)


@given(st.binary(min_size=20, max_size=20), st.booleans(), st.integers(0, 255), UINT256, UINT256)
def test_words_are_those_of_a_general_codec(
    address: bytes, flag: bool, small: int, one: int, two: int
) -> None:
    data = encode(TYPES, (address, flag, (small, one), two))
    numbers = [int.from_bytes(address, "big"), int(flag), small, one, two]
    assert words(numbers) == data
    assert read_words(TYPES, data) == numbers
    assert checksummed(address) == to_checksum_address(address)


@given(st.lists(st.one_of(st.integers(0, 3), st.integers(2**159, 2**161), UINT256), min_size=4, max_size=6))
def test_what_a_general_codec_refuses_is_refused(numbers: list[int]) -> None:
    data = words(numbers)
    try:
        sound = encode(TYPES, decode(TYPES, data)) == data
    except DecodingError:
        sound = False
    if sound:
        assert read_words(TYPES, data) == numbers
    else:
        with pytest.raises(ValueError, match="not the bytes of"):
            read_words(TYPES, data)


@pytest.mark.parametrize("value", [-1, 2**256])
def test_what_is_no_word_is_refused(value: int) -> None:
    with pytest.raises(ValueError, match="not a word"):
        words([1, value])


@given(
    address=st.binary(min_size=20, max_size=20),
    selector=st.sampled_from(sorted(onchain.ALLOWED_DELEGATED_SELECTORS)),
    rest=st.binary(max_size=500),
    at=st.integers(0, 10**6),
    bit=st.integers(0, 7),
)
def test_a_delegated_call_is_read_only_as_a_general_codec_writes_it(
    address: bytes, selector: bytes, rest: bytes, at: int, bit: int
) -> None:
    inner = selector + rest
    data = onchain.DELEGATED_ACTION + encode(("address", "bytes"), (address, inner))
    assert onchain.encode_delegated("0x" + address.hex(), inner) == data
    assert onchain.read_delegated(data) == (to_checksum_address(address), inner)
    changed = bytearray(data)
    changed[at % len(data)] ^= 1 << bit
    try:
        trader, found = onchain.read_delegated(bytes(changed))
    except ValueError:
        return
    assert onchain.DELEGATED_ACTION + encode(("address", "bytes"), (trader, found)) == bytes(changed)


ORDERS = (
    onchain.encode_open(LONG),
    onchain.encode_close(CloseOrder(TRADER, 1, 3, Decimal("2.5"), Decimal(100_000))),
    calls.encode_cancel_limit(1, 3),
    calls.encode_update_limit(1, 3, Decimal(100_000), Decimal(1)),
    calls.encode_update_margin(1, 3, calls.Margin.DEPOSIT, Decimal("1.5"), []),
    calls.encode_update_margin(1, 3, calls.Margin.WITHDRAW, Decimal("1.5"), [b"\xaa" * 33, b""]),
)


def test_every_order_that_may_be_delegated_is_read() -> None:
    """Whatever its arguments are: one that the reader knows no size of is never signed, nor is what stands behind it."""
    assert {order[:4] for order in ORDERS} == onchain.ALLOWED_DELEGATED_SELECTORS
    found = [onchain.read_order(order) for order in ORDERS]
    assert found == [TRADER, *[None] * (len(ORDERS) - 1)]


@given(order=st.sampled_from(ORDERS), at=st.integers(4, 10**6), bit=st.integers(0, 7))
def test_an_order_is_read_only_as_a_general_codec_writes_it(order: bytes, at: int, bit: int) -> None:
    changed = bytearray(order)
    changed[4 + at % (len(order) - 4)] ^= 1 << bit
    types = onchain._ORDERS[order[:4]]
    try:
        sound = order[:4] + encode(types, decode(types, bytes(changed[4:]))) == bytes(changed)
    except (DecodingError, OverflowError):
        sound = False
    if sound:
        onchain.read_order(bytes(changed))
    else:
        with pytest.raises(ValueError, match=r"not the bytes|another encoding"):
            onchain.read_order(bytes(changed))

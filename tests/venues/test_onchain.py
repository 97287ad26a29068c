"""Orders become the venue's call data, and nothing else may be signed."""

from dataclasses import replace
from decimal import Decimal

import pytest
from eth_abi.abi import decode as abi_decode

from execution_app.venues import events, onchain
from execution_app.venues.onchain import CloseOrder, OpenOrder

TRADER = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
OPEN = OpenOrder(
    trader=TRADER,
    pair_index=1,
    is_long=True,
    collateral_usdc=Decimal(5),
    leverage_x=Decimal(2),
    wanted_price=Decimal("100000.5"),
    slippage_pct=Decimal("0.5"),
    take_profit=Decimal(120_000),
)
CLOSE = CloseOrder(TRADER, 1, 3, Decimal("2.5"), Decimal(100_000))


def test_an_open_in_the_venues_scales():
    data = onchain.encode_open(OPEN)
    assert data[:4].hex() == "19cde9a1"
    trade, kind, slippage = abi_decode([onchain.TRADE_TYPE, "uint8", "uint256"], data[4:])
    assert trade == (
        TRADER.lower(), 1, 0, 0, 5_000_000, 1_000_005_000_000_000, True, 20_000_000_000, 1_200_000_000_000_000, 0, 0
    )  # fmt: skip
    assert (kind, slippage) == (0, 5_000_000_000)


def test_a_close_in_the_v2_form():
    data = onchain.encode_close(CLOSE)
    assert data[:4].hex() == "e5a97c92"
    assert abi_decode(["uint256"] * 4, data[4:]) == (1, 3, 2_500_000, 10**15)


@pytest.mark.parametrize(
    "change",
    [
        {"collateral_usdc": Decimal("5.0000001")},
        {"collateral_usdc": Decimal(0)},
        {"leverage_x": Decimal("2.00000000001")},
        {"wanted_price": Decimal(-1)},
        {"wanted_price": Decimal("NaN")},
        {"slippage_pct": Decimal(0)},
        {"take_profit": Decimal(0)},
        {"stop_loss": Decimal("1E-11")},
    ],
)
def test_an_open_that_would_lose_a_digit_is_refused(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        onchain.encode_open(replace(OPEN, **change))


def test_a_close_that_would_lose_a_digit_is_refused():
    with pytest.raises(ValueError, match="collateral_usdc"):
        onchain.encode_close(replace(CLOSE, collateral_usdc=Decimal("0.0000001")))


def test_an_order_may_be_delegated():
    for inner in (onchain.encode_open(OPEN), onchain.encode_close(CLOSE)):
        assert onchain.encode_delegated(TRADER, inner)[:4].hex() == "9a10cc32"


@pytest.mark.parametrize("selector", ["d6a510d9", "67e7646f", "a9059cbb", "095ea7b3", "9a10cc32", ""])
def test_nothing_else_may_be_delegated(selector):
    with pytest.raises(ValueError, match="delegated"):
        onchain.encode_delegated(TRADER, bytes.fromhex(selector) + bytes(64))


def test_views_refuse_bytes_of_another_shape():
    for read in (
        onchain.read_price, onchain.read_open_trade, onchain.read_delegate, onchain.read_uint,
        onchain.read_pair_name, onchain.read_is_pending,
    ):  # fmt: skip
        with pytest.raises(ValueError, match="not the bytes"):
            read(b"")
    with pytest.raises(ValueError, match="no price"):
        onchain.read_price(bytes(64))
    assert onchain.read_open_trade(bytes(32 * 11)) is None


def log_of(topic: bytes, data: bytes = b"", **changes):
    return {
        "address": TRADER,
        "topics": ["0x" + topic.hex()],
        "data": "0x" + data.hex(),
        "blockNumber": "0x1",
        "blockHash": "0x" + "11" * 32,
        "transactionHash": "0x" + "22" * 32,
        "logIndex": "0x0",
    } | changes


def test_foreign_logs_are_no_events():
    known = next(iter(events.TOPICS["rehearsal-v2"]))
    assert events.decode(log_of(bytes(32))) is None
    assert events.decode(log_of(known, topics=[])) is None
    assert events.decode(log_of(known, removed=True)) is None
    assert events.decode(log_of(known), trading_address="0x" + "00" * 20) is None


@pytest.mark.parametrize("topic", events.TOPICS["rehearsal-v2"])
def test_a_log_whose_data_belies_its_topic_is_refused(topic):
    with pytest.raises(ValueError, match=r"not the bytes|indexed"):
        events.decode(log_of(topic, b"\x01"))

"""Signed intents are the venue's own bytes: as recorded from its SDK, as its SDK says today, and exact."""

import json
from dataclasses import replace
from decimal import Decimal

import pytest
from eth_account import Account
from hypothesis import given, settings
from hypothesis import strategies as st

from execution_app.venues import messages, typed_data
from execution_app.venues.messages import (
    CloseMessage,
    DelegateMessage,
    IncreaseMessage,
    LevelsMessage,
    OpenMessage,
)
from execution_app.venues.onchain import CloseOrder, OpenOrder
from execution_app.venues.orders import IncreaseOrder
from execution_app.venues.typed_data import Domain
from tests.venues import sdk
from tests.venues.samples import (
    CHANGING,
    CLOSING,
    DEADLINE_MS,
    DELEGATION,
    DOMAINS,
    INCREASING,
    OPENING,
    SAMPLES,
    TRADER,
    VECTORS,
    ours,
)

RECORDED = json.loads(VECTORS.read_text("utf-8"))


@pytest.mark.parametrize("place", DOMAINS)
@pytest.mark.parametrize("name", SAMPLES)
def test_the_bytes_are_those_that_the_sdk_made(place, name):
    assert ours(DOMAINS[place], SAMPLES[name]) == RECORDED[place][name]


@pytest.mark.parametrize("place", DOMAINS)
@pytest.mark.parametrize("name", SAMPLES)
def test_the_record_is_what_the_installed_sdk_says(place, name):
    assert sdk.told(DOMAINS[place], SAMPLES[name]) == RECORDED[place][name]


def decimals(most, digits):
    return st.integers(1, most * 10**digits).map(lambda units: Decimal(units).scaleb(-digits))


PRICE = decimals(10**7, 10)
USDC = decimals(10**9, 6)
ADDRESS = st.binary(min_size=20, max_size=20).map(lambda raw: "0x" + raw.hex())
WHEN = {"deadline_ms": st.integers(10**12, 10**13 - 1), "nonce": st.integers(0, 2**256 - 1)}
OPENS = st.builds(
    OpenMessage,
    order=st.builds(
        OpenOrder,
        trader=ADDRESS,
        pair_index=st.integers(0, 500),
        is_long=st.booleans(),
        collateral_usdc=USDC,
        leverage_x=decimals(100, 10),
        wanted_price=PRICE,
        slippage_pct=decimals(80, 10),
        take_profit=st.none() | PRICE,
        stop_loss=st.none() | PRICE,
    ),
    **WHEN,
)
CLOSES = st.builds(
    CloseMessage,
    order=st.builds(
        CloseOrder,
        trader=ADDRESS,
        pair_index=st.integers(0, 500),
        trade_index=st.integers(0, 5_000),
        collateral_usdc=USDC,
        wanted_price=PRICE,
    ),
    opened_at=st.integers(1, 2**40),
    **WHEN,
)
INCREASES = st.builds(
    IncreaseMessage,
    order=st.builds(
        IncreaseOrder,
        trader=ADDRESS,
        pair_index=st.integers(0, 500),
        trade_index=st.integers(0, 5_000),
        collateral_usdc=USDC,
        leverage_x=decimals(100, 10),
        wanted_price=PRICE,
        slippage_pct=decimals(80, 10),
    ),
    **WHEN,
)
CHANGES = st.builds(
    LevelsMessage,
    trader=ADDRESS,
    pair_index=st.integers(0, 500),
    trade_index=st.integers(0, 5_000),
    take_profit=st.none() | PRICE,
    stop_loss=st.none() | PRICE,
    **WHEN,
)
DELEGATIONS = st.builds(
    DelegateMessage, trader=ADDRESS, delegate=ADDRESS, expiry_s=st.integers(10**9, 10**10 - 1), **WHEN
)


@settings(deadline=None)
@given(st.one_of(OPENS, CLOSES, INCREASES, CHANGES, DELEGATIONS), st.integers(1, 2**40), ADDRESS)
def test_any_message_is_what_the_sdk_makes_of_it(message, chain_id, router):
    domain = Domain(chain_id, router)
    assert ours(domain, message) == sdk.told(domain, message)


@settings(deadline=None)
@given(st.one_of(OPENS, CLOSES, INCREASES, CHANGES))
def test_what_is_encoded_is_read_back(message):
    data = messages.encode(message)
    read = messages.decode(messages.kind_of(message), data)
    assert messages.encode(read) == data


@pytest.mark.parametrize("name", ["open", "close", "increase", "levels"])
def test_other_bytes_are_not_read(name):
    kind, data = messages.kind_of(SAMPLES[name]), messages.encode(SAMPLES[name])
    for other in (data[:-1], data + bytes(32), b"", bytes(len(data))):
        with pytest.raises(ValueError, match=r"not the bytes|another encoding|above zero|milliseconds"):
            messages.decode(kind, other)
    with pytest.raises(ValueError, match="not read here"):
        messages.decode(typed_data.DELEGATE, data)


def test_an_order_of_another_kind_is_not_read():
    limit = typed_data.encode(
        typed_data.OPEN, messages.values(SAMPLES["open"]) | {"_type": 2}
    )  # a limit order
    with pytest.raises(ValueError, match="another kind of order"):
        messages.decode(typed_data.OPEN, limit)


def test_the_nonce_belongs_to_the_key_on_its_chain_and_venue():
    here, base = DOMAINS["rehearsal"], DOMAINS["base"]
    nonce = messages.nonce_of("sig:drill:1", here)
    assert nonce == messages.nonce_of(
        "sig:drill:1", replace(here, trading_address=here.trading_address.lower())
    )
    others = {
        messages.nonce_of("sig:drill:2", here),
        messages.nonce_of("sig:drill:1", base),
        messages.nonce_of("sig:drill:1", replace(here, trading_address=TRADER)),
    }
    assert len(others | {nonce}) == 4
    # Never to change: what an older version asked for must not be asked for twice.
    assert nonce == 0x9B3BDF075FDE2358C98D900227B5D9DE8931D52A8AE4BB76E6721A5045D158C3


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (replace(OPENING, deadline_ms=DEADLINE_MS // 1000), "milliseconds"),
        (replace(DELEGATION, deadline_ms=DEADLINE_MS * 1000), "milliseconds"),
        (replace(DELEGATION, expiry_s=DEADLINE_MS), "unix seconds"),
        (replace(CHANGING, nonce=2**256), "uint256"),
        (replace(CHANGING, stop_loss=Decimal(0)), "stop_loss"),
        (replace(CHANGING, take_profit=Decimal("1E-11")), "take_profit"),
        (
            replace(CLOSING, order=replace(CLOSING.order, collateral_usdc=Decimal("1E-7"))),
            "collateral_usdc",
        ),
        (
            replace(OPENING, order=replace(OPENING.order, leverage_x=Decimal("NaN"))),
            "leverage_x",
        ),
        (
            replace(INCREASING, order=replace(INCREASING.order, collateral_usdc=Decimal(0))),
            "collateral_usdc",
        ),
    ],
)
def test_what_would_lose_a_digit_or_its_unit_is_refused(message, field):
    for build in (messages.encode, lambda one: messages.payload(DOMAINS["rehearsal"], one)):
        with pytest.raises(ValueError, match=field):
            build(message)


def test_a_wallet_signs_the_same_digest():
    account = Account.create()
    for message in SAMPLES.values():
        domain = DOMAINS["base"]
        values, kind = messages.values(message), messages.kind_of(message)
        types = {
            name: [{"name": field, "type": type_} for field, type_ in typed_data.TYPES[name]]
            for name in {kind, *(type_ for _, type_ in typed_data.TYPES[kind] if type_ in typed_data.TYPES)}
        }
        signed = account.sign_typed_data(
            {
                "name": "AvantisTrading",
                "version": "1",
                "chainId": domain.chain_id,
                "verifyingContract": domain.trading_address,
            },
            types,
            values,
        )
        assert signed.message_hash == messages.digest(domain, message)

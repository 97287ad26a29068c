"""What the feed and the catalogue say, read strictly: nothing that is no price becomes one."""

import json
from decimal import Decimal
from typing import Any

import pytest

from execution_app.states import PriceSource
from execution_app.venues import feed
from execution_app.venues.feed import Leg, Listing

CORE, PRO = PriceSource.CORE, PriceSource.PRO
AT_MS = 1_764_000_000_123
GOOD = {"price": "100000.5", "publishTimestampMs": AT_MS, "priceUpdateData": "0x00"}


def update(core: Any = GOOD, pro: Any = GOOD) -> bytes:
    return json.dumps({"core": core, "pro": pro}).encode()


def leg(**fields: Any) -> dict[str, Any]:
    return {**GOOD, **fields}


def pair(**fields: Any) -> dict[str, Any]:
    attributes = {"isOpen": True, "nextOpen": 5, "nextClose": 9}
    usual = {"index": 1, "from": "BTC", "to": "USD", "groupIndex": 0, "feed": {"attributes": attributes}}
    return {**usual, **fields}


def listings(*infos: Any) -> dict[int, Listing]:
    told = {"pairInfos": {str(at): info for at, info in enumerate(infos)}}
    return feed.read_catalogue(json.dumps(told).encode())


def test_both_prices_with_their_times() -> None:
    found = feed.read_update(update(pro=leg(price=99_999, publishTimestampMs=str(AT_MS + 1))))
    assert found == {CORE: Leg(Decimal("100000.5"), AT_MS), PRO: Leg(Decimal(99_999), AT_MS + 1)}
    assert feed.read_update(json.dumps({"data": {"core": GOOD}}).encode()) == {
        CORE: Leg(Decimal("100000.5"), AT_MS)
    }


def test_more_digits_than_the_venue_has_are_rounded_for_comparison() -> None:
    assert feed.read_update(update(pro=None, core=leg(price="1.23456789012345")))[CORE].price == Decimal(
        "1.2345678901"
    )


@pytest.mark.parametrize(
    "price",
    ["0", 0, "-1", -1, "NaN", "Infinity", "-Infinity", "1e999", "1e-30", "", None, True, [], {}, "1,000", "0x10", 10**15],
)  # fmt: skip
def test_what_is_no_price_is_left_out_and_the_other_stays(price: Any) -> None:
    assert set(feed.read_update(update(core=leg(price=price)))) == {PRO}


@pytest.mark.parametrize("at", [-1, "soon", None, 1.5, 10**16, True, "NaN"])
def test_a_price_without_its_time_is_none(at: Any) -> None:
    assert set(feed.read_update(update(pro=leg(publishTimestampMs=at)))) == {CORE}


@pytest.mark.parametrize("core", [None, "100", 5, [GOOD]])
def test_a_source_of_another_shape_is_left_out(core: Any) -> None:
    assert set(feed.read_update(update(core=core))) == {PRO}


@pytest.mark.parametrize(
    "raw",
    [b"", b"{", b"[]", b"null", b'"x"', b"\xff\xfe", b"<html>", b'{"core": {"price": NaN}}', b'{"a": 1e99999999999999999999}', b"[" * 100_000],
    ids=range(10),
)  # fmt: skip
def test_an_answer_that_is_none(raw: bytes) -> None:
    for read in (feed.read_update, feed.read_catalogue):
        with pytest.raises(ValueError):  # noqa: PT011 - any: the caller says what it was
            read(raw)


def test_the_catalogue_names_pairs_and_their_hours() -> None:
    found = listings(
        pair(additionalPairParams2={"closeOnlyMode": True}),
        pair(**{"index": 11, "from": "EUR", "to": "USD", "groupIndex": 2, "isPairListed": False}),
        pair(index=20, feed={"feedId": None, "attributes": {"isOpen": False}}),
    )
    # A market without hours has no schedule, whatever its attributes say; that it is closed is believed.
    assert found[1] == Listing("BTC-USD", is_listed=True, is_open=True, closes_only=True)
    assert found[11] == Listing("EUR-USD", False, True, False, next_open_s=5, next_close_s=9)
    assert not found[20].is_open


def test_what_the_catalogue_does_not_say_is_as_its_sdk_takes_it() -> None:
    (bare,) = listings({"index": 1, "from": "BTC", "to": "USD"}).values()
    assert bare == Listing("BTC-USD", is_listed=True, is_open=True, closes_only=False)
    (none,) = listings(pair(groupIndex=3, feed={"attributes": {"nextOpen": None, "isOpen": None}})).values()
    assert (none.is_open, none.next_open_s, none.next_close_s) == (True, 0, 0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"index": -1},
        {"index": None},
        {"from": ""},
        {"to": 7},
        {"isPairListed": "yes"},
        {"feed": [1]},
        {"feed": {"attributes": {"isOpen": 1}}},
        {"feed": {"attributes": {"nextOpen": "later"}}, "groupIndex": 2},
        {"additionalPairParams2": {"closeOnlyMode": "false"}},
    ],
)
def test_a_pair_of_another_shape_is_not_known(wrong: dict[str, Any]) -> None:
    assert set(listings(pair(**wrong), pair(index=5))) == {5}


def test_a_pair_that_is_told_twice_is_not_known() -> None:
    assert set(listings(pair(), pair(**{"from": "ETH"}), pair(index=5))) == {5}


def test_a_catalogue_without_pairs_is_none() -> None:
    with pytest.raises(ValueError, match="pairInfos"):
        feed.read_catalogue(b'{"dataVersion": 2}')

import json
import time
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signals_app.strict_json import NotJson, canonical, parse, plain

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def test_numbers_are_exact() -> None:
    assert parse(b'{"a":0.1,"b":5,"c":1e2}') == {"a": Decimal("0.1"), "b": 5, "c": Decimal(100)}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"{",
        b"{}{}",
        b"{'a':1}",
        b'{"a":1,}',
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":-Infinity}',
        b'{"a":1,"a":1}',
        b'{"a":{"b":[{"c":1,"c":2}]}}',
        b'{"a":1,"\\u0061":2}',
        b'{"a":01}',
        b'{"a":+1}',
        b'{"a":.5}',
        b'{"a":"\x01"}',
        b'\xff{"a":1}',
        b'\xef\xbb\xbf{"a":1}',
        b'{"a":"\xc0\x80"}',
        b'{"a":"\xed\xa0\x80"}',
        '{"a":1}'.encode("utf-16"),
        b"1" * 41,
        b"0." + b"0" * 60,
        b"1e9999999999999999999",
        b"1e-9999999999999999999",
        b"[" * 60_000,
        b'{"a":' * 12_000,
        b"[" * 30_000 + b"]" * 30_000,
    ],
    ids=lambda body: repr(body[:24]),
)
def test_refused_quickly(body: bytes) -> None:
    began_s = time.thread_time()
    with pytest.raises(NotJson):
        parse(body)
    assert time.thread_time() - began_s < 5


@given(st.binary(max_size=300))
def test_any_bytes_are_json_or_refused(body: bytes) -> None:
    try:
        parse(body)
    except NotJson:
        with pytest.raises((ValueError, RecursionError, NotJson)):
            _by_the_library(body)


def _by_the_library(body: bytes) -> object:
    """The standard library's own reading, with the refusals that are only ours."""

    def refuse(_: str) -> None:
        raise ValueError

    def once(pairs: list[tuple[str, object]]) -> dict[str, object]:
        if len({key for key, _ in pairs}) != len(pairs):
            raise ValueError
        return dict(pairs)

    return json.loads(body.decode(), parse_constant=refuse, object_pairs_hook=once)


@given(JSON)
def test_canonical_text_is_json_of_the_same_value(value: object) -> None:
    assert json.loads(canonical(value)) == value


@given(st.dictionaries(st.text(), st.integers(), min_size=2), st.randoms())
def test_canonical_text_ignores_the_order_of_keys(value: dict[str, int], random: Any) -> None:
    items = list(value.items())
    random.shuffle(items)
    assert canonical(dict(items)) == canonical(value)


@given(st.decimals(allow_nan=False, allow_infinity=False, places=12, min_value=-(10**20), max_value=10**20))
def test_plain_is_exact_and_short(number: Decimal) -> None:
    text = plain(number)
    assert Decimal(text) == number
    assert "E" not in text
    assert not ("." in text and text.endswith("0"))
    assert plain(Decimal(text + ("0" if "." in text else ".0"))) == text


def test_plain_of_zeros_and_exponents() -> None:
    assert [plain(Decimal(text)) for text in ("-0.0", "0E+3", "1E+5", "5.0000000", "0.10")] == [
        *("0", "0", "100000", "5", "0.1")
    ]
    thirty_digits = Decimal("123456789012345678901234567890.1234567890")
    assert plain(thirty_digits) == "123456789012345678901234567890.123456789"

"""What the venue's feed and its catalogue say, read strictly: a market's prices, and whether it is open.

Shapes and names are those that the venue's SDK reads. What is no price, or no
entry, is left out and never mended; an answer of another shape is a ValueError.
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from execution_app.states import PriceSource

# Above what the venue's contracts can hold (2^80 in 1e-10), and far below what our columns can.
HIGHEST_PRICE = Decimal(10**15)
DIGITS = 10  # of a price, as the venue scales it
LATEST_MS = 4_102_444_800_000  # the year 2100
# The venue's groups of markets with hours (FX, metals, equities); by its SDK all others trade round the clock.
WITH_HOURS = frozenset({2, 3, 6})
MOST_WORD = 40


@dataclass(frozen=True, slots=True)
class Leg:
    """A price in USD, and when the feed published it: unix milliseconds by its own clock."""

    price: Decimal
    published_ms: int


@dataclass(frozen=True, slots=True)
class Listing:
    """What the catalogue says of a pair. Times are unix seconds, 0 where it tells none.

    `name` is what the venue calls this index, as in `onchain.PAIRS`.
    """

    name: str
    is_listed: bool
    is_open: bool
    closes_only: bool
    next_open_s: int = 0
    next_close_s: int = 0


def read_update(raw: bytes) -> dict[PriceSource, Leg]:
    """The legs of a `price-update-data` answer that are prices."""
    told = _inside(raw)
    found = {}
    for source in (PriceSource.CORE, PriceSource.PRO):
        leg = told.get(source.value)
        if isinstance(leg, dict):
            with suppress(ValueError):
                found[source] = Leg(
                    _price(leg.get("price")), _moment(leg.get("publishTimestampMs"), LATEST_MS)
                )
    return found


def read_catalogue(raw: bytes) -> dict[int, Listing]:
    """The pairs of a `/v2/trading` answer by their index."""
    infos = _inside(raw).get("pairInfos")
    if not isinstance(infos, dict):
        raise ValueError("a catalogue without pairInfos")  # noqa: TRY004 - the shape of an answer
    found: dict[int, Listing] = {}
    twice = set()
    for info in infos.values():
        with suppress(ValueError):
            index, listing = _listing(info)
            if index in found:
                twice.add(index)  # nobody knows which of them is meant
            found[index] = listing
    return {index: listing for index, listing in found.items() if index not in twice}


def _listing(info: object) -> tuple[int, Listing]:
    fields = _mapping(info)
    extra = _mapping(fields.get("additionalPairParams2") or {})
    attributes = _mapping(_mapping(fields.get("feed") or {}).get("attributes") or {})
    has_hours = _whole(fields.get("groupIndex", Decimal(0))) in WITH_HOURS
    return _whole(fields.get("index")), Listing(
        name=f"{_word(fields.get('from'))}-{_word(fields.get('to'))}",
        is_listed=_flag(fields, "isPairListed", unsaid=True),
        # A market without hours that is said to be closed is believed to be: refusing costs less than guessing.
        is_open=_flag(attributes, "isOpen", unsaid=True),
        closes_only=_flag(extra, "closeOnlyMode", unsaid=False),
        next_open_s=_second(attributes.get("nextOpen")) if has_hours else 0,
        next_close_s=_second(attributes.get("nextClose")) if has_hours else 0,
    )


def _inside(raw: bytes) -> Mapping[str, Any]:
    """The object of an answer; some services put it under `data`."""
    try:
        told = json.loads(raw, parse_float=Decimal, parse_int=Decimal, parse_constant=_no_constant)
    except (UnicodeDecodeError, RecursionError, InvalidOperation) as wrong:
        raise ValueError("not JSON") from wrong
    found = _mapping(told)
    inner = found.get("data")
    return inner if isinstance(inner, dict) else found


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")


def _mapping(value: object) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("not an object")  # noqa: TRY004 - the shape of an answer
    return value


def _price(value: object) -> Decimal:
    number = _number(value)
    if not 0 < number < HIGHEST_PRICE:
        raise ValueError("no price")
    rounded = round(number, DIGITS)
    if not rounded:
        raise ValueError("a price below what the venue can express")
    return rounded


def _number(value: object) -> Decimal:
    """A JSON number, or one written as a string, as this venue's services do either."""
    if isinstance(value, str):
        try:
            value = Decimal(value)
        except InvalidOperation as wrong:
            raise ValueError("not a number") from wrong
    if not isinstance(value, Decimal) or not value.is_finite():
        raise ValueError("not a number")
    return value


def _whole(value: object) -> int:
    return _moment(value, 10**6)


def _second(value: object) -> int:
    """0 where the venue tells none."""
    return 0 if value is None else _moment(value, LATEST_MS // 1000)


def _moment(value: object, most: int) -> int:
    number = _number(value)
    if not 0 <= number <= most or number != number.to_integral_value():
        raise ValueError("not a whole number of this kind")
    return int(number)


def _word(value: object) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= MOST_WORD:
        raise ValueError("not a name")
    return value


def _flag(fields: Mapping[str, Any], name: str, *, unsaid: bool) -> bool:
    value = fields.get(name)
    if value is None:
        return unsaid
    if not isinstance(value, bool):
        raise ValueError(f"{name} is neither true nor false")  # noqa: TRY004 - the shape of an answer
    return value

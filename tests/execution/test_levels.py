"""Which level a price crosses: each kind, both sides, touches and gaps, and a day of ticks against an oracle."""

import random
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from functools import cache
from itertools import accumulate
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from execution_app.book.levels import Hit, Levels, better, decide, loosens
from execution_app.states import TriggerKind

K = TriggerKind
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
OPEN = Decimal(100)


def at(price: str | None, *, now: datetime = NOON, is_long: bool = True, **levels: Any) -> Hit | None:
    exact: dict[str, Any] = {
        name: Decimal(value) if isinstance(value, str) else value for name, value in levels.items()
    }
    asked = Levels(is_long, OPEN, **exact)
    return decide(asked, None if price is None else Decimal(price), now)


# side, levels; the last price that does nothing, the first that fires, one that gaps through; kind, level
CROSSINGS: list[tuple[bool, dict[str, Any], tuple[str, str, str], Hit]] = [
    (is_long, levels, prices, Hit(kind, Decimal(level)))
    for is_long, levels, prices, kind, level in (
        (True, {"stop_loss": "90"}, ("90.0000000001", "90", "12"), K.STOP_LOSS, "90"),
        (False, {"stop_loss": "110"}, ("109.9999999999", "110", "500"), K.STOP_LOSS, "110"),
        (True, {"take_profit": "120"}, ("119.9999999999", "120", "500"), K.TAKE_PROFIT, "120"),
        (False, {"take_profit": "80"}, ("80.0000000001", "80", "1"), K.TAKE_PROFIT, "80"),
        (True, {"trailing_stop_pct": "5", "watermark": "200"}, ("190.0000000001", "190", "12"), K.TRAILING_STOP, "190"),
        (False, {"trailing_stop_pct": "5", "watermark": "50"}, ("52.4999999999", "52.5", "500"), K.TRAILING_STOP, "52.5"),
        (True, {"trailing_stop_usd": "7.5", "watermark": "200"}, ("192.5000000001", "192.5", "12"), K.TRAILING_STOP, "192.5"),
        (False, {"trailing_stop_usd": "7.5", "watermark": "50"}, ("57.4999999999", "57.5", "500"), K.TRAILING_STOP, "57.5"),
        (True, {"break_even_pct": "10", "watermark": "110"}, ("100.0000000001", "100", "12"), K.BREAK_EVEN, "100"),
        (False, {"break_even_pct": "10", "watermark": "90"}, ("99.9999999999", "100", "500"), K.BREAK_EVEN, "100"),
    )
]  # fmt: skip


@pytest.mark.parametrize(
    ("is_long", "levels", "prices", "hit"),
    CROSSINGS,
    ids=[f"{'long' if side else 'short'} {hit.kind}" for side, *_, hit in CROSSINGS],
)
def test_a_level_is_crossed_by_touch_and_by_gap(
    is_long: bool, levels: dict[str, Any], prices: tuple[str, str, str], hit: Hit
) -> None:
    before, touch, gap = prices
    assert at(before, is_long=is_long, **levels) is None
    assert at(touch, is_long=is_long, **levels) == at(gap, is_long=is_long, **levels) == hit


@pytest.mark.parametrize("is_long", [True, False])
def test_a_break_even_sleeps_until_the_price_was_far_enough(is_long: bool) -> None:
    barely = "109.9999999999" if is_long else "90.0000000001"
    assert at("100", is_long=is_long, break_even_pct="10", watermark=barely) is None
    assert at("100", is_long=is_long, break_even_pct="10") is None


@pytest.mark.parametrize("price", ["100", None], ids=["with a price", "without a price"])
def test_a_time_needs_no_price(price: str | None) -> None:
    assert at(price, closes_at=NOON + timedelta(microseconds=1)) is None
    assert at(price, closes_at=NOON) == Hit(K.TIME_STOP, None)


def test_without_a_price_no_level_is_judged() -> None:
    assert at(None, stop_loss="100", take_profit="1", trailing_stop_pct="1", watermark="500") is None


def test_what_limits_the_loss_comes_first() -> None:
    everything: dict[str, Any] = {
        "stop_loss": "90",
        "trailing_stop_pct": "5",
        "break_even_pct": "10",
        "watermark": "110",
    }
    assert at("90", **everything, closes_at=NOON) == Hit(K.STOP_LOSS, Decimal(90))
    assert at("99", **everything, closes_at=NOON) == Hit(K.TRAILING_STOP, Decimal("104.5"))
    assert at("120", take_profit="120", closes_at=NOON) == Hit(K.TAKE_PROFIT, Decimal(120))


def test_no_digit_is_lost_of_the_longest_numbers() -> None:
    best, price = Decimal("12345678901234567890.0123456789"), Decimal("12344444333344444433.3433333333")
    hit = decide(Levels(True, OPEN, trailing_stop_pct=Decimal("0.0100"), watermark=best), price, NOON)
    assert Fraction(price) > Fraction(best) * Fraction(9999, 10_000)
    assert hit is None
    lower = price - Decimal("0.0000000011")
    assert (Fraction(lower) <= Fraction(best) * Fraction(9999, 10_000)) == (
        decide(Levels(True, OPEN, trailing_stop_pct=Decimal("0.0100"), watermark=best), lower, NOON)
        is not None
    )


@pytest.mark.parametrize(
    ("old", "new", "looser"),
    [
        ({"stop_loss": 90}, {"stop_loss": 95}, False),
        ({"stop_loss": 90}, {"stop_loss": 89}, True),
        ({"stop_loss": 90}, {}, True),
        ({}, {"stop_loss": 1}, False),
        ({"take_profit": 120}, {}, False),
        ({"trailing_stop_pct": 5}, {"trailing_stop_pct": 6}, True),
        ({"trailing_stop_usd": 5}, {"trailing_stop_usd": 4}, False),
        ({"break_even_pct": 5}, {}, True),
    ],
)
def test_looser_is_what_lets_a_loss_grow(old: dict[str, int], new: dict[str, int], looser: bool) -> None:
    def of(levels: dict[str, int], *, is_long: bool) -> Levels:
        mirrored = {n: 200 - v if not is_long and n == "stop_loss" else v for n, v in levels.items()}
        exact: dict[str, Any] = {name: Decimal(value) for name, value in mirrored.items()}
        return Levels(is_long, OPEN, **exact)

    for is_long in (True, False):
        assert loosens(of(old, is_long=is_long), of(new, is_long=is_long)) is looser


def test_a_later_time_is_looser() -> None:
    early, late = Levels(True, OPEN, closes_at=NOON), Levels(True, OPEN, closes_at=NOON + timedelta(hours=1))
    assert (loosens(early, late), loosens(late, early), loosens(early, Levels(True, OPEN))) == (
        True,
        False,
        True,
    )


# A day of ticks

DAY_S = 86_400
OPENED_CENTS = 10_000_000
MILLION = 1_000_000
MIDNIGHT = datetime(2026, 1, 2, tzinfo=UTC)


@cache
def day(seed: int) -> list[int]:
    """Prices in cents, one a second: steps of some cents as on a busy market, and now and then a gap."""
    draw = random.Random(seed)
    prices, price = [], OPENED_CENTS
    for _ in range(DAY_S):
        price += draw.choice((-700, -300, -100, 0, 0, 0, 100, 300, 700))
        if draw.random() < 0.0001:
            price += draw.randrange(-300_000, 300_000)
        price = max(price, 1_000)
        prices.append(price)
    return prices


@cache
def ticks(seed: int) -> list[tuple[Decimal, datetime]]:
    return [
        (Decimal(cents).scaleb(-2), MIDNIGHT + timedelta(seconds=second))
        for second, cents in enumerate(day(seed))
    ]


def replay(levels: Levels, seed: int) -> tuple[int, Hit] | None:
    """What the watch would do in a day: follow the price, fire at the first hit."""
    now = replace(levels, watermark=levels.open_price)
    for second, (price, at_) in enumerate(ticks(seed)):
        hit = decide(now, price, at_)
        if hit is not None:
            return second, hit
        best = better(now, price)
        if best != now.watermark:
            now = replace(now, watermark=best)
    return None


@cache
def mirrored(seed: int, sign: int) -> tuple[list[int], list[int]]:
    """Prices in cents and the highest so far, the opening one among them; a short is a long in a mirror."""
    seen = [sign * cents for cents in day(seed)]
    return seen, list(accumulate([sign * OPENED_CENTS, *seen], max))[1:]


def whole(value: Decimal, digits: int) -> int:
    """In units of so many digits, exactly."""
    units = Fraction(value) * 10**digits
    assert units.denominator == 1
    return int(units.numerator)


def oracle(levels: Levels, seed: int) -> tuple[int, TriggerKind] | None:
    """The same told apart by kind, over whole series, in cents and millionths."""
    sign = 1 if levels.is_long else -1
    seen, peaks = mirrored(seed, sign)
    opened = sign * OPENED_CENTS
    candidates: list[tuple[int, int, TriggerKind]] = []

    def first(order: int, kind: TriggerKind, crossed: Iterable[bool]) -> None:
        second = next((at for at, is_crossed in enumerate(crossed) if is_crossed), None)
        if second is not None:
            candidates.append((second, order, kind))

    if levels.stop_loss is not None:
        stop = sign * whole(levels.stop_loss, 2)
        first(0, K.STOP_LOSS, (price <= stop for price in seen))
    if levels.trailing_stop_pct is not None:
        share = whole(levels.trailing_stop_pct, 4)
        lines = ((m * MILLION - abs(m) * share) for m in peaks)
        first(1, K.TRAILING_STOP, (p * MILLION <= line for p, line in zip(seen, lines, strict=True)))
    if levels.trailing_stop_usd is not None:
        gap = whole(levels.trailing_stop_usd, 2)
        first(1, K.TRAILING_STOP, (m - p >= gap for p, m in zip(seen, peaks, strict=True)))
    if levels.break_even_pct is not None:
        from_there = opened * MILLION + abs(opened) * whole(levels.break_even_pct, 4)
        armed = (peak * MILLION >= from_there for peak in peaks)
        first(2, K.BREAK_EVEN, (a and p <= opened for a, p in zip(armed, seen, strict=True)))
    if levels.take_profit is not None:
        target = sign * whole(levels.take_profit, 2)
        first(3, K.TAKE_PROFIT, (price >= target for price in seen))
    if levels.closes_at is not None:
        second = int((levels.closes_at - MIDNIGHT).total_seconds())
        if second < DAY_S:
            candidates.append((second, 4, K.TIME_STOP))
    if not candidates:
        return None
    second, _, kind = min(candidates)
    return second, kind


@st.composite
def protections(draw: st.DrawFn) -> Levels:
    is_long, opened = draw(st.booleans()), Decimal(OPENED_CENTS).scaleb(-2)
    sign = 1 if is_long else -1

    def maybe(low: int, high: int, scale: int) -> Decimal | None:
        value = draw(st.none() | st.integers(low, high))
        return None if value is None else Decimal(value).scaleb(-scale)

    away_loss, away_gain = maybe(1, 9_000, 0), maybe(1, 9_000, 0)
    kind = draw(st.sampled_from(["none", "pct", "usd"]))
    after_s = draw(st.none() | st.integers(1, 2 * DAY_S))
    return Levels(
        is_long,
        opened,
        take_profit=None if away_gain is None else opened + sign * away_gain,
        stop_loss=None if away_loss is None else opened - sign * away_loss,
        trailing_stop_pct=maybe(1, 80_000, 4) if kind == "pct" else None,
        trailing_stop_usd=maybe(1, 800_000, 2) if kind == "usd" else None,
        break_even_pct=maybe(1, 60_000, 4),
        closes_at=None if after_s is None else MIDNIGHT + timedelta(seconds=after_s),
    )


@settings(max_examples=25, deadline=None, derandomize=True)
@given(levels=protections(), seed=st.integers(0, 2))
def test_a_day_of_ticks_fires_what_the_oracle_says_and_when(levels: Levels, seed: int) -> None:
    fired, told = replay(levels, seed), oracle(levels, seed)
    assert (None if fired is None else (fired[0], fired[1].kind)) == told
    if fired is None or fired[1].level is None:
        return
    second, hit = fired
    assert hit.level is not None
    price, sign = Decimal(day(seed)[second]).scaleb(-2), 1 if levels.is_long else -1
    on_its_side = 1 if hit.kind is K.TAKE_PROFIT else -1
    assert (price - hit.level) * sign * on_its_side >= 0

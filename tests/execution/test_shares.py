"""What the opening and each increase of a position have at stake: all of it together, whatever happened in which order."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from execution_app.reservations import _shares, at_stake
from execution_app.venues.costs import Costs, Held, blended, proceeds

D = Decimal
NOT_CORRECTED = (None, None, None)
NO_MARGIN = (D(0), True)
FREE = Costs(0, 0, 0)


def rows(
    *fills: tuple[int, str, int, int, str | None, int | None], corrected: Any = NOT_CORRECTED
) -> list[Any]:
    """Of each fill: its intent, action, collateral, leverage, the trade's leverage afterwards, its block."""
    return [
        (
            False,
            *corrected,
            intent,
            action,
            D(usdc),
            D(x),
            None if after is None else D(after),
            *NO_MARGIN,
            block,
        )
        for intent, action, usdc, x, after, block in fills
    ]


def margin(intent: int | None, usdc: str, left: str, x: str, block: int | None, *, final: bool = True) -> Any:
    """What went in or out, and the trade afterwards."""
    return (False, *NOT_CORRECTED, intent, "margin", D(usdc), D(x), None, D(left), final, block)


OPEN = (1, "open", 5, 2, None, 10)


@pytest.mark.parametrize(
    ("found", "shares"),
    [
        (rows(OPEN), {1: 10}),
        (rows(OPEN, (2, "increase", 5, 2, "2", 15)), {1: 10, 2: 10}),
        # What was closed before an increase is the opening's, what is closed afterwards is the newest's.
        (rows(OPEN, (3, "close", 2, 2, None, 12), (2, "increase", 5, 2, "2", 15)), {1: 6, 2: 10}),
        (rows(OPEN, (2, "increase", 5, 2, "2", 15), (3, "close", 2, 2, None, 16)), {1: 10, 2: 6}),
        (rows(OPEN, (2, "increase", 5, 2, "2", 15), (3, "close", 7, 2, None, 16)), {1: 6, 2: 0}),
        (rows(OPEN, (2, "increase", 5, 2, "2", 15), (3, "close", 10, 2, None, 16)), {1: 0, 2: 0}),
        (rows(OPEN, (2, "increase", 5, 3, "2.5", 15), (3, "close", 6, 2, None, 16)), {1: 10, 2: 0}),
        # A correction says what there is at its block: more is the opening's, less the newest's.
        (rows(OPEN, (2, "increase", 5, 3, "2.5", 15), corrected=(20, D(20), D(2))), {1: 25, 2: 15}),
        (rows(OPEN, (2, "increase", 5, 3, "2.5", 15), corrected=(20, D(7), D("2.5"))), {1: 10, 2: D("7.5")}),
        (rows(OPEN, (2, "increase", 5, 2, "2", 25), corrected=(20, D(6), D(2))), {1: 12, 2: 10}),
        # Margin of ours is at stake as it is; it falls by its part with a close, and by itself when it is taken out.
        ([*rows(OPEN), margin(2, "5", "10", "1", 12)], {1: 10, 2: 5}),
        ([*rows(OPEN), margin(2, "5", "10", "1", 12, final=False)], {1: 10, 2: 5}),
        ([*rows(OPEN), margin(2, "5", "10", "1", 12), *rows((3, "close", 5, 1, None, 13))], {1: D("7.5"), 2: 0}),
        ([*rows(OPEN), margin(2, "5", "10", "1", 12), margin(3, "-2", "8", "1.25", 13)], {1: 10, 2: 3}),
        ([*rows(OPEN), margin(2, "5", "10", "1", 12), margin(3, "-2", "8", "1.25", 13, final=False)], {1: 10, 2: 5}),
        ([*rows(OPEN), margin(2, "5", "10", "1", 12), *rows((3, "close", 10, 1, None, 13))], {1: 0, 2: 0}),
        ([*rows(OPEN), margin(2, "1", "6", "1.6666666666", 12, final=False)], {1: 10, 2: 1}),
        # Its owner's is nobody's stake, and what they take out of ours is no more.
        ([*rows(OPEN), margin(None, "5", "10", "1", 12)], {1: 10}),
        ([*rows(OPEN), margin(2, "5", "10", "1", 12), margin(None, "-7", "3", "3.3333333333", 13)], {1: D("9.9999999999"), 2: 0}),
        ([*rows(OPEN), margin(2, "5", "10", "1", 12), *rows((3, "increase", 5, 2, "1.3333333333", 15))], {1: 10, 2: 5, 3: D("9.9999999995")}),
        # Simulated ones have no block.
        (rows((1, "open", 5, 2, None, None), (2, "increase", 5, 2, "2", None)), {1: 10, 2: 10}),
    ],
)  # fmt: skip
def test_who_holds_what(found: list[Any], shares: dict[int, Decimal]) -> None:
    assert _shares(found) == shares


AMOUNT = st.integers(1, 10**12).map(lambda units: D(units).scaleb(-6))
PRICE = st.integers(10**9, 10**16).map(lambda units: D(units).scaleb(-10))
LEVERAGE = st.integers(10_000, 750_000).map(lambda units: D(units).scaleb(-4))
TRADE = st.builds(Held, collateral_usdc=AMOUNT, leverage_x=LEVERAGE, open_price=PRICE)


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["increase", "close"]), AMOUNT, LEVERAGE), max_size=6), TRADE)
def test_together_they_are_the_trade(steps: list[Any], opening: Held) -> None:
    trade = opening
    found: list[Any] = [
        (False, *NOT_CORRECTED, 1, "open", trade.collateral_usdc, trade.leverage_x, None, *NO_MARGIN, 1)
    ]
    for block, (action, asked_usdc, leverage_x) in enumerate(steps, 2):
        usdc = asked_usdc
        if action == "increase":
            trade = blended(trade, Held(usdc, leverage_x, opening.open_price))
        else:
            usdc = min(usdc, trade.collateral_usdc / 2).quantize(D("0.000001"))
            trade = Held(trade.collateral_usdc - usdc, trade.leverage_x, trade.open_price)
        after = trade.leverage_x if action == "increase" else None
        found.append((False, *NOT_CORRECTED, block, action, usdc, leverage_x, after, *NO_MARGIN, block))
    shares = _shares(found)
    assert sum(shares.values()) == at_stake(trade.collateral_usdc, trade.leverage_x)
    assert min(shares.values()) >= 0


LARGE = st.builds(
    Held,
    collateral_usdc=st.integers(10**6, 10**12).map(lambda units: D(units).scaleb(-6)),
    leverage_x=LEVERAGE,
    open_price=PRICE,
)


@settings(deadline=None)
@given(LARGE, LARGE, st.booleans())
def test_the_blend_lies_between_and_keeps_what_both_are_worth(one: Held, other: Held, is_long: bool) -> None:
    whole = blended(one, other)
    low, high = sorted([one.open_price, other.open_price])
    assert low - D("1E-9") <= whole.open_price <= high
    assert whole.collateral_usdc == one.collateral_usdc + other.collateral_usdc
    assert min(one.leverage_x, other.leverage_x) - D("1E-4") <= whole.leverage_x
    assert whole.leverage_x <= max(one.leverage_x, other.leverage_x)
    assert (
        blended(one, Held(one.collateral_usdc, one.leverage_x, one.open_price)).leverage_x == one.leverage_x
    )
    assert proceeds(
        whole.collateral_usdc, whole.leverage_x, whole.open_price, whole.open_price, FREE, is_long=is_long
    )


@pytest.mark.parametrize("is_long", [True, False])
@pytest.mark.parametrize("end", [D(95_000), D(100_000), D(112_000)])
def test_closing_the_whole_pays_what_both_would(is_long: bool, end: Decimal) -> None:
    parts = [Held(D(500), D(2), D(100_000)), Held(D(300), D(3), D(104_000))]
    whole = blended(*parts)
    paid = proceeds(*(whole.collateral_usdc, whole.leverage_x, whole.open_price), end, FREE, is_long=is_long)
    apart = sum(
        proceeds(part.collateral_usdc, part.leverage_x, part.open_price, end, FREE, is_long=is_long).paid_usdc
        for part in parts
    )
    assert abs(paid.paid_usdc - apart) <= D("0.00001")

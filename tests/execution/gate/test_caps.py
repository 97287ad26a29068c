"""What an order may not exceed, and whether the refusal says why."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from execution_app.gate.caps import Breach, Caps, breaches
from execution_app.states import Reason

CAPS = Caps(Decimal(100), Decimal(10), frozenset({"BTC-USD"}))
SMALLEST = Decimal("0.000001")
AMOUNTS = st.decimals(min_value=SMALLEST, max_value=10**6, places=6)
FACTORS = st.decimals(min_value=Decimal("0.0001"), max_value=1000, places=4)


def reasons(found: list[Breach]) -> list[Reason]:
    return [breach.reason for breach in found]


@pytest.mark.parametrize(
    ("symbol", "collateral_usdc", "leverage_x", "expected"),
    [
        ("BTC-USD", "10", "10", []),
        ("BTC-USD", "10.000001", "10", [Reason.NOTIONAL_ABOVE_CAP]),
        ("BTC-USD", "9", "10.0001", [Reason.LEVERAGE_ABOVE_CAP]),
        ("ETH-USD", "10", "10", [Reason.SYMBOL_NOT_ALLOWED]),
        ("btc-usd", "10", "10", [Reason.SYMBOL_NOT_ALLOWED]),
        (
            "ETH-USD",
            "100",
            "20",
            [Reason.SYMBOL_NOT_ALLOWED, Reason.NOTIONAL_ABOVE_CAP, Reason.LEVERAGE_ABOVE_CAP],
        ),
    ],
)
def test_limits_are_inclusive_and_all_are_named(
    symbol: str, collateral_usdc: str, leverage_x: str, expected: list[Reason]
) -> None:
    assert reasons(breaches(symbol, Decimal(collateral_usdc), Decimal(leverage_x), CAPS)) == expected


def test_a_refusal_names_the_cap_its_value_and_what_was_asked() -> None:
    symbol, notional, leverage = breaches("ETH-USD", Decimal(100), Decimal(20), CAPS)
    for words, breach in (
        (("ALLOWED_SYMBOLS", "BTC-USD", "ETH-USD"), symbol),
        (("MAX_NOTIONAL_USDC", "100 USDC", "2000 USDC"), notional),
        (("MAX_LEVERAGE", "10", "20"), leverage),
    ):
        assert all(word in breach.detail for word in words), breach.detail


def test_great_numbers_are_spelled_out() -> None:
    detail = breaches("BTC-USD", Decimal("1E+9"), Decimal("1E+3"), CAPS)[0].detail
    assert "1000000000000 USDC" in detail


@given(AMOUNTS, FACTORS)
def test_nothing_set_permits_nothing(collateral_usdc: Decimal, leverage_x: Decimal) -> None:
    assert reasons(breaches("BTC-USD", collateral_usdc, leverage_x, Caps(None, None, frozenset()))) == [
        Reason.SYMBOL_NOT_ALLOWED,
        Reason.NOTIONAL_ABOVE_CAP,
        Reason.LEVERAGE_ABOVE_CAP,
    ]


@given(AMOUNTS, FACTORS, AMOUNTS, FACTORS)
def test_the_product_is_exact(
    collateral_usdc: Decimal, leverage_x: Decimal, max_usdc: Decimal, max_x: Decimal
) -> None:
    """Compared as integers of 10⁻¹⁰ USDC, so that no rounding of decimals can hide an excess."""
    found = reasons(breaches("A", collateral_usdc, leverage_x, Caps(max_usdc, max_x, frozenset({"A"}))))
    notional = int(collateral_usdc * 10**6) * int(leverage_x * 10**4)
    assert (Reason.NOTIONAL_ABOVE_CAP in found) == (notional > int(max_usdc * 10**6) * 10**4)
    assert (Reason.LEVERAGE_ABOVE_CAP in found) == (leverage_x > max_x)

"""Money passes between Decimals and integers without loss, or not at all."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from execution_app.venues.scales import from_units, to_units


@given(units=st.integers(min_value=0, max_value=10**40), digits=st.sampled_from([6, 10]))
def test_units_survive_the_passage(units, digits):
    assert to_units(from_units(units, digits), digits, "amount") == units


def test_negative_units_are_read():
    assert from_units(-15, 1) == Decimal("-1.5")


@pytest.mark.parametrize(
    ("text", "units"),
    [("5", 5_000_000), ("5.0", 5_000_000), ("0.000001", 1), ("1E+2", 100_000_000), ("0", 0), ("-0", 0)],
)
def test_exact_amounts_scale(text, units):
    assert to_units(Decimal(text), 6, "amount") == units


@pytest.mark.parametrize(
    "text", ["0.0000001", "1.23456789", "-1", "NaN", "sNaN", "Infinity", "1E+90", "1E-90", "1E+999999"]
)
def test_what_would_not_fit_is_refused(text):
    with pytest.raises(ValueError, match="amount"):
        to_units(Decimal(text), 6, "amount")


def test_a_uint256_is_the_limit():
    assert to_units(Decimal(2**256 - 1), 0, "amount") == 2**256 - 1
    with pytest.raises(ValueError, match="uint256"):
        to_units(Decimal(2**256), 0, "amount")

"""Exact passage between Decimals and the venue's integers.

USDC counts in 1e-6; prices, leverage and percentages in 1e-10 (1 % is 1e10).
"""

from decimal import Decimal

USDC_DIGITS = 6
VENUE_DIGITS = 10
_UINT256_MAX = 2**256 - 1
_MAGNITUDE_MAX = 78  # beyond it 10**n would cost memory before the range check


def to_units(value: Decimal, digits: int, name: str) -> int:
    """Scale `value` by 10**digits without loss.

    Raises ValueError where the value is not finite, negative, too large for a uint256
    or has more digits than the scale holds: money is refused, never rounded.
    """
    if not isinstance(value, Decimal) or not value.is_finite():
        raise ValueError(f"{name} must be a finite Decimal, not {value!r}")
    sign, figures, exponent = value.as_tuple()
    if value and abs(value.adjusted()) > _MAGNITUDE_MAX:
        raise ValueError(f"{name} is out of range: {value}")
    if not value:
        return 0
    if sign:
        raise ValueError(f"{name} must not be negative: {value}")
    if not isinstance(exponent, int):  # only NaN and infinity, refused above
        raise TypeError(f"{name} has no exponent")
    whole = int("".join(map(str, figures)))
    shift = exponent + digits
    if shift >= 0:
        units = int(whole * 10**shift)
    else:
        units, lost = divmod(whole, int(10**-shift))
        if lost:
            raise ValueError(f"{name} has more than {digits} decimals: {value}")
    if units > _UINT256_MAX:
        raise ValueError(f"{name} does not fit a uint256: {value}")
    return units


def from_units(units: int, digits: int) -> Decimal:
    """Return the Decimal that `units` stands for; exact whatever the decimal context's precision."""
    figures = tuple(map(int, str(abs(units))))
    return Decimal((int(units < 0), figures, -digits))

"""Amounts, times and ages as people read them: thousands apart, a unit, UTC by name, and how long ago."""

from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Decimal

from execution_app.gate import caps
from execution_app.states import CapName

MINUTE_S, HOUR_S, DAY_S = 60, 3600, 86400
WEI_DIGITS, GWEI_DIGITS = 18, 9
CENT = Decimal("0.01")


def grouped(value: Decimal | int, unit: str = "") -> str:
    """Exact, thousands apart, without exponent and without trailing zeros: `1,234.5 USDC`."""
    text = f"{value:,f}" if isinstance(value, Decimal) else f"{value:,}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    text = "0" if text == "-0" else text
    return f"{text} {unit}".rstrip()


def signed(value_usdc: Decimal) -> str:
    """An exact gain or loss in USDC with its sign."""
    return f"+{grouped(value_usdc, 'USDC')}" if value_usdc > 0 else grouped(value_usdc, "USDC")


def about(value_usdc: Decimal) -> str:
    """An estimate in USDC, to the cent, and said to be one."""
    rounded = value_usdc.quantize(CENT, rounding=ROUND_HALF_EVEN)
    return f"≈ {'+' if rounded > 0 else ''}{rounded:,.2f} USDC"


def eth(value_wei: Decimal | int) -> str:
    return grouped(Decimal(value_wei).scaleb(-WEI_DIGITS), "ETH")


def gwei(value_wei: Decimal | int) -> str:
    return grouped(Decimal(value_wei).scaleb(-GWEI_DIGITS), "gwei")


def capped(name: CapName, value: Decimal) -> str:
    """A value of a cap with its unit, as it is typed; what is typed in wei is told in ether, too. A ban has none."""
    if name is CapName.BANNED:
        return "nothing may be opened"
    if name is CapName.LEVERAGE:
        return f"{grouped(value)}x"
    said = grouped(value, caps.UNITS.get(name, "").strip())
    return f"{said} ({eth(value)})" if name is CapName.GAS_PER_DAY else said


def utc(at: datetime) -> str:
    """`2026-11-28 07:31:02 UTC`, to be compared with logs and blocks."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def age(age_s: float) -> str:
    """The two largest units of a length of time: `3 min 20 s`; milliseconds below ten seconds."""
    if age_s != age_s or age_s == float("inf"):  # noqa: PLR0124  (what is not a number equals nothing)
        return "never"
    if age_s < 10:  # noqa: PLR2004
        return f"{max(age_s, 0.0):.2f} s"
    whole = int(age_s)
    if whole < MINUTE_S:
        return f"{whole} s"
    if whole < HOUR_S:
        return f"{whole // MINUTE_S} min {whole % MINUTE_S} s"
    if whole < DAY_S:
        return f"{whole // HOUR_S} h {whole % HOUR_S // MINUTE_S} min"
    return f"{whole // DAY_S:,} d {whole % DAY_S // HOUR_S} h"


def ago(at: datetime, now: datetime) -> str:
    """`20 s ago`, `in 3 d 2 h`: whole seconds, since the page itself is some of them old."""
    away_s = int((now - at).total_seconds())
    if away_s < 0:
        return f"in {_whole(-away_s)}"
    return f"{_whole(away_s)} ago"


def _whole(age_s: int) -> str:
    return age(age_s) if age_s >= 10 else f"{age_s} s"  # noqa: PLR2004


def short(text: str) -> str:
    """An address or a hash by its two ends."""
    return f"{text[:8]}…{text[-6:]}" if len(text) > 20 else text  # noqa: PLR2004

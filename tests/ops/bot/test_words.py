"""How values are spelt for people: nothing that was paid reads as nothing, and a sign stays."""

from decimal import Decimal

import pytest

from execution_app.states import CapName
from ops.bot import words


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("5", "5.00 USDC"),
        ("1234.567", "+1,234.57 USDC"),
        ("0.006", "+0.006 USDC"),
        ("-0.004", "-0.004 USDC"),
        ("0.1", "+0.10 USDC"),
        ("0", "0.00 USDC"),
        ("-0.00000001", "0.00 USDC"),
    ],
)
def test_usdc(value: str, said: str) -> None:
    assert words.usdc(Decimal(value), signed=True).removeprefix("+") == said.removeprefix("+")
    assert words.usdc(Decimal(value), signed=True).startswith("+") == (Decimal(value) > 0)


def test_prices_gas_and_caps() -> None:
    assert words.usd(Decimal("1200000.5000000000")) == "1,200,000.5 USD"
    assert words.usd(Decimal("-0.5")) == "-0.5 USD"
    assert words.eth(Decimal("1.200000000000000001")) == "1.2 ETH"
    assert words.limited(CapName.LEVERAGE, Decimal("75.0000")) == "75\N{MULTIPLICATION SIGN}"
    assert words.limited(CapName.EXPOSURE, Decimal(50_000)) == "50,000 USDC"
    assert words.limited(CapName.GAS_PER_DAY, Decimal(3 * 10**16)) == "0.03 ETH"

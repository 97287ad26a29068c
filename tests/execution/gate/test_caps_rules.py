"""Caps as numbers: which rows hold beside a ceiling, which of them binds, and how a refusal names it. Pure."""

from decimal import Decimal

import pytest

from execution_app.gate import caps
from execution_app.gate.caps import Breach, Limit, Order
from execution_app.states import CapName, CapScope, Reason

ORDER = Order(123, "drill", "BTC-USD", Decimal(5), Decimal(2))
SYMBOLS = frozenset({"BTC-USD", "ETH-USD"})
PER_ORDER = {
    CapName.NOTIONAL: ("notional", " USDC", Decimal(10), Reason.NOTIONAL_ABOVE_CAP, "MAX_NOTIONAL_USDC"),
    CapName.COLLATERAL: (
        "collateral",
        " USDC",
        Decimal(5),
        Reason.COLLATERAL_ABOVE_CAP,
        "MAX_COLLATERAL_USDC",
    ),
    CapName.LEVERAGE: ("leverage", "", Decimal(2), Reason.LEVERAGE_ABOVE_CAP, "MAX_LEVERAGE"),
}
WIDE = [Limit(name, Decimal(100)) for name in PER_ORDER]
LESS = Decimal("0.01")


def breaches(*limits: Limit, order: Order = ORDER) -> list[Breach]:
    return caps.order_breaches(order, limits, SYMBOLS)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("0", "0"), ("5", "5"), ("100", "100"), ("1E+3", "1000"), ("100.000000", "100"), ("0.500", "0.5"),
        ("10.0100", "10.01"), ("0.000001", "0.000001"), ("1E-7", "0.0000001"), ("-0.10", "-0.1"),
    ],
)  # fmt: skip
def test_numbers_are_told_exactly_and_without_idle_zeros(value: str, told: str) -> None:
    assert caps.plain(Decimal(value)) == told


def test_of_a_row_and_its_ceiling_both_hold_where_the_row_is_stricter() -> None:
    ceilings = {CapName.LEVERAGE: Decimal(10), CapName.EXPOSURE: Decimal(50)}
    held = [Limit(name, value) for name, value in ceilings.items()]
    rows = {
        value: Limit(CapName.LEVERAGE, Decimal(value), CapScope.SYMBOL, "BTC-USD", f"cap {value}")
        for value in (9, 10, 11)
    }
    assert caps.effective([], ceilings) == held
    assert caps.effective(rows.values(), ceilings) == [*held, rows[9]]
    other = Limit(CapName.COLLATERAL, Decimal(10**9), origin="cap 4")
    assert caps.effective([rows[11], other], ceilings) == [*held, other], (
        "without a ceiling any row is stricter"
    )
    assert caps.effective([rows[9], other, rows[11]], {}) == [rows[9], other, rows[11]]


@pytest.mark.parametrize("name", PER_ORDER)
def test_a_cap_of_one_order_binds_above_its_value_and_the_lowest_is_named(name: CapName) -> None:
    words, unit, value, reason, variable = PER_ORDER[name]
    others = [limit for limit in WIDE if limit.name is not name]
    assert breaches(*others, Limit(name, value)) == []
    told = caps.plain(value)
    low, lowest = caps.plain(value - LESS), caps.plain(value - 2 * LESS)
    assert breaches(*others, Limit(name, value - LESS)) == [
        Breach(reason, f"{words} {told}{unit} is above {variable} ({low}{unit}; global, environment)")
    ]
    row = Limit(name, value - 2 * LESS, CapScope.SOURCE, "drill", "cap 7")
    expected = f"{words} {told}{unit} is above {name.value} ({lowest}{unit}; source drill, cap 7)"
    for limits in ((row, Limit(name, value - LESS)), (Limit(name, value - LESS), row)):
        assert breaches(*others, *limits) == [Breach(reason, expected)]
    strangers = [
        Limit(name, Decimal(0), scope, named, "cap 8")
        for scope, named in (
            *((CapScope.TRADER, "124"), (CapScope.SOURCE, "123"), (CapScope.SYMBOL, "ETH-USD")),
            (CapScope.GLOBAL, "BTC-USD"),
        )
    ]
    assert breaches(*others, Limit(name, value), *strangers) == []
    unset = [Breach(reason, f"{words} {told}{unit} is above {variable} (unset)")]
    assert breaches(*others) == breaches(*others, *strangers) == (unset if name in caps.NEEDED else [])


def test_a_ban_and_a_symbol_that_is_not_allowed_come_first_and_all_are_told() -> None:
    bans = [
        Limit(CapName.BANNED, Decimal(0), scope, named, f"cap {number}")
        for number, (scope, named) in enumerate(
            (
                *((CapScope.GLOBAL, ""), (CapScope.TRADER, "123"), (CapScope.SOURCE, "drill")),
                *((CapScope.SYMBOL, "BTC-USD"), (CapScope.SYMBOL, "ETH-USD"), (CapScope.TRADER, "drill")),
            )
        )
    ]
    found = breaches(*bans, *WIDE)
    assert [breach.reason for breach in found] == [Reason.BANNED] * 4
    assert [breach.detail for breach in found] == [
        f"an open on BTC-USD was asked; {named} is banned (banned, cap {number})"
        for number, named in enumerate(("global", "trader 123", "source drill", "symbol BTC-USD"))
    ]
    foreign = Order(123, "drill", "DOGE-USD", Decimal(5), Decimal(101))
    told = breaches(*WIDE, order=foreign)
    assert [breach.reason for breach in told] == [
        *(Reason.SYMBOL_NOT_ALLOWED, Reason.NOTIONAL_ABOVE_CAP, Reason.LEVERAGE_ABOVE_CAP),
    ]  # fmt: skip
    assert told[0].detail == "symbol DOGE-USD is not in ALLOWED_SYMBOLS (BTC-USD, ETH-USD)"
    (none,) = caps.order_breaches(ORDER, WIDE, frozenset())
    assert none.detail == "symbol BTC-USD is not in ALLOWED_SYMBOLS (none)"


@pytest.mark.parametrize(
    ("used", "asked", "counted", "words"),
    [
        (6, 4, False, None),
        (6, 5, False, "exposure_usdc would be 11 USDC with the 5 USDC asked, above "),
        (10, 5, True, None),
        (11, 5, True, "exposure_usdc would be 11 USDC with the 5 USDC asked, above "),
        (9, 0, False, None),
        (10, 0, False, "exposure_usdc is 10 USDC already, the cap is "),
        (11, 0, False, "exposure_usdc is 11 USDC already, the cap is "),
    ],
)
def test_a_summed_cap_binds_above_its_value_or_at_it_where_nothing_is_asked(
    used: int, asked: int, counted: bool, words: str | None
) -> None:
    limit = Limit(CapName.EXPOSURE, Decimal(10))
    found = caps.breach(limit, Decimal(used), Decimal(asked), counted=counted)
    if words is None:
        assert found is None
    else:
        named = "MAX_EXPOSURE_USDC (10 USDC; global, environment)"
        assert found == Breach(Reason.EXPOSURE_ABOVE_CAP, words + named)

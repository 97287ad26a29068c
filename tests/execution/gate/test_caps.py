"""What an order may not exceed, and whether the refusal says why."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from execution_app.gate.caps import (
    PER_ORDER,
    REASONS,
    SUMMED,
    Breach,
    Limit,
    Order,
    breach,
    effective,
    order_breaches,
    plain,
)
from execution_app.states import CapName, CapScope, Reason

SYMBOLS = frozenset({"BTC-USD"})
CEILINGS = {CapName.NOTIONAL: Decimal(100), CapName.LEVERAGE: Decimal(10)}
SMALLEST = Decimal("0.000001")
AMOUNTS = st.decimals(min_value=SMALLEST, max_value=10**6, places=6)
FACTORS = st.decimals(min_value=Decimal("0.0001"), max_value=1000, places=4)
SCOPES = st.sampled_from(
    [
        (CapScope.GLOBAL, ""),
        (CapScope.TRADER, "123"),
        (CapScope.TRADER, "9"),
        (CapScope.SOURCE, "drill"),
        (CapScope.SYMBOL, "BTC-USD"),
        (CapScope.SYMBOL, "ETH-USD"),
    ]
)
LIMITS = st.builds(
    lambda name, value, scope: Limit(name, value, scope[0], scope[1], "cap 1"),
    st.sampled_from([*PER_ORDER, *SUMMED]),
    AMOUNTS,
    SCOPES,
)


def order(symbol: str = "BTC-USD", collateral: str | Decimal = "10", leverage: str | Decimal = "10") -> Order:
    return Order(123, "drill", symbol, Decimal(collateral), Decimal(leverage))


def broken(asked: Order, *rows: Limit, ceilings: dict[CapName, Decimal] = CEILINGS) -> list[Breach]:
    return order_breaches(asked, effective(rows, ceilings), SYMBOLS)


def reasons(found: list[Breach]) -> list[Reason]:
    return [item.reason for item in found]


@pytest.mark.parametrize(
    ("symbol", "collateral", "leverage", "expected"),
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
    symbol: str, collateral: str, leverage: str, expected: list[Reason]
) -> None:
    assert reasons(broken(order(symbol, collateral, leverage))) == expected


def test_a_refusal_names_the_cap_its_value_its_scope_and_what_was_asked() -> None:
    symbol, notional, leverage = broken(order("ETH-USD", "100", "20"))
    for words, item in (
        (("ALLOWED_SYMBOLS", "BTC-USD", "ETH-USD"), symbol),
        (("MAX_NOTIONAL_USDC", "100 USDC", "2000 USDC", "global", "environment"), notional),
        (("MAX_LEVERAGE", "10", "20"), leverage),
    ):
        assert all(word in item.detail for word in words), item.detail
    row = Limit(CapName.COLLATERAL, Decimal("7.50"), CapScope.SOURCE, "drill", "cap 12")
    (item,) = broken(order(), row)
    assert (item.reason, item.detail) == (
        Reason.COLLATERAL_ABOVE_CAP,
        "collateral 10 USDC is above collateral_usdc (7.5 USDC; source drill, cap 12)",
    )


def test_great_numbers_are_spelled_out() -> None:
    assert "1000000000000 USDC" in broken(order("BTC-USD", "1E+9", "1E+3"))[0].detail


@pytest.mark.parametrize(
    "scope", [("symbol", "BTC-USD"), ("trader", "123"), ("source", "drill"), ("global", "")]
)
def test_a_ban_holds_for_its_scope_alone(scope: tuple[str, str]) -> None:
    ban = Limit(CapName.BANNED, Decimal(0), CapScope(scope[0]), scope[1], "cap 3")
    (item,) = broken(order(), ban)
    assert item.reason is Reason.BANNED
    assert f"{scope[0]} {scope[1]}".strip() in item.detail
    if scope[1]:
        assert not broken(order(), Limit(CapName.BANNED, Decimal(0), CapScope(scope[0]), "9", "cap 3"))


@given(AMOUNTS, FACTORS)
def test_nothing_set_permits_nothing(collateral: Decimal, leverage: Decimal) -> None:
    found = order_breaches(order("BTC-USD", collateral, leverage), [], frozenset())
    assert reasons(found) == [
        Reason.SYMBOL_NOT_ALLOWED,
        Reason.NOTIONAL_ABOVE_CAP,
        Reason.LEVERAGE_ABOVE_CAP,
    ]


@given(AMOUNTS, FACTORS, AMOUNTS, FACTORS)
def test_the_product_is_exact(
    collateral: Decimal, leverage: Decimal, max_usdc: Decimal, max_x: Decimal
) -> None:
    """Compared as integers of 10⁻¹⁰ USDC, so that no rounding of decimals can hide an excess."""
    ceilings = {CapName.NOTIONAL: max_usdc, CapName.LEVERAGE: max_x}
    found = reasons(broken(order("BTC-USD", collateral, leverage), ceilings=ceilings))
    notional = int(collateral * 10**6) * int(leverage * 10**4)
    assert (Reason.NOTIONAL_ABOVE_CAP in found) == (notional > int(max_usdc * 10**6) * 10**4)
    assert (Reason.LEVERAGE_ABOVE_CAP in found) == (leverage > max_x)


@given(st.lists(LIMITS, max_size=8), AMOUNTS, FACTORS)
def test_rows_only_ever_refuse_more(rows: list[Limit], collateral: Decimal, leverage: Decimal) -> None:
    """The lowest of the environment and every row that applies is what holds."""
    asked = order("BTC-USD", collateral, leverage)
    found = set(reasons(broken(asked, *rows)))
    assert set(reasons(broken(asked))) <= found
    values = {
        CapName.NOTIONAL: collateral * leverage,
        CapName.COLLATERAL: collateral,
        CapName.LEVERAGE: leverage,
    }
    for name, value in values.items():
        limits = [row.value for row in rows if row.name is name and row.holds_for(asked)]
        limits += [CEILINGS[name]] if name in CEILINGS else []
        assert (REASONS[name] in found) == (bool(limits) and value > min(limits))


@given(st.lists(LIMITS, max_size=8), st.sampled_from(SUMMED), AMOUNTS, AMOUNTS, AMOUNTS)
def test_a_summed_cap_is_the_lowest_of_its_scope(
    rows: list[Limit], name: CapName, ceiling: Decimal, used: Decimal, asked: Decimal
) -> None:
    here = [row for row in rows if row.name is name and row.scope is CapScope.GLOBAL]
    limits = [limit for limit in effective(here, {name: ceiling}) if limit.name is name]
    refused = any(breach(limit, used, asked) for limit in limits)
    assert refused == (used + asked > min([ceiling, *(row.value for row in here)]))


def test_what_asks_for_nothing_is_refused_at_the_cap() -> None:
    loss = Limit(CapName.DAILY_LOSS, Decimal(50), CapScope.TRADER, "123", "cap 4")
    assert breach(loss, Decimal("49.999999"), Decimal(0)) is None
    item = breach(loss, Decimal(50), Decimal(0))
    assert item == Breach(
        Reason.DAILY_LOSS_AT_CAP,
        "daily_loss_usdc is 50 USDC already, the cap is daily_loss_usdc (50 USDC; trader 123, cap 4)",
    )
    nothing = Limit(CapName.DAILY_LOSS, Decimal(0), origin="cap 5")
    assert breach(nothing, Decimal(0), Decimal(0)), "0 permits nothing"


def test_a_summed_refusal_names_the_sum_and_what_was_asked() -> None:
    exposure = Limit(CapName.EXPOSURE, Decimal(115), CapScope.SYMBOL, "BTC-USD", "cap 7")
    assert breach(exposure, Decimal(105), Decimal(10)) is None
    item = breach(exposure, Decimal("110.0000000000"), Decimal(10))
    assert item is not None
    assert item.detail == (
        "exposure_usdc would be 120 USDC with the 10 USDC asked, "
        "above exposure_usdc (115 USDC; symbol BTC-USD, cap 7)"
    )
    assert breach(exposure, Decimal(115), Decimal(10), counted=True) is None
    assert breach(exposure, Decimal("115.000001"), Decimal(10), counted=True)


NAMED = [
    (CapName.NOTIONAL, Reason.NOTIONAL_ABOVE_CAP, "MAX_NOTIONAL_USDC", " USDC"),
    (CapName.COLLATERAL, Reason.COLLATERAL_ABOVE_CAP, "MAX_COLLATERAL_USDC", " USDC"),
    (CapName.LEVERAGE, Reason.LEVERAGE_ABOVE_CAP, "MAX_LEVERAGE", ""),
    (CapName.OPEN_POSITIONS, Reason.OPEN_POSITIONS_AT_CAP, "MAX_OPEN_POSITIONS", ""),
    (CapName.EXPOSURE, Reason.EXPOSURE_ABOVE_CAP, "MAX_EXPOSURE_USDC", " USDC"),
    (CapName.ORDERS_PER_MINUTE, Reason.ORDERS_PER_MINUTE_AT_CAP, "MAX_ORDERS_PER_MINUTE", ""),
    (CapName.DAILY_LOSS, Reason.DAILY_LOSS_AT_CAP, "MAX_DAILY_LOSS_USDC", " USDC"),
    (CapName.GAS_PER_DAY, Reason.GAS_PER_DAY_ABOVE_CAP, "MAX_GAS_PER_DAY_WEI", " wei"),
]


@pytest.mark.parametrize(("name", "reason", "variable", "unit"), NAMED)
def test_every_cap_has_a_reason_a_variable_and_a_unit(
    name: CapName, reason: Reason, variable: str, unit: str
) -> None:
    limit = Limit(name, Decimal("3.50"))
    assert str(limit) == f"{variable} (3.5{unit}; global, environment)"
    assert str(Limit(name, Decimal(3), CapScope.SOURCE, "a", "cap 1")) == f"{name} (3{unit}; source a, cap 1)"
    if name in SUMMED:
        found = breach(limit, Decimal(3), Decimal(1))
    else:
        (found,) = [
            item
            for item in order_breaches(order(collateral="4", leverage="4"), [limit], SYMBOLS)
            if "unset" not in item.detail
        ]
    assert found is not None
    assert found.reason is reason
    assert f"4{unit}" in found.detail or f"16{unit}" in found.detail
    assert {name for name, *_ in NAMED} == {*PER_ORDER, *SUMMED} == {*CapName} - {CapName.BANNED}


def test_all_symbols_that_are_allowed_are_listed() -> None:
    symbol, *_ = order_breaches(order("SOL-USD"), [], frozenset({"ETH-USD", "BTC-USD"}))
    assert symbol.detail == "symbol SOL-USD is not in ALLOWED_SYMBOLS (BTC-USD, ETH-USD)"


@pytest.mark.parametrize(
    ("scope", "value", "named"), [(CapScope.GLOBAL, "", "global"), (CapScope.TRADER, "123", "trader 123")]
)
def test_a_ban_says_whom_it_holds_for(scope: CapScope, value: str, named: str) -> None:
    (item,) = broken(order(), Limit(CapName.BANNED, Decimal(0), scope, value, "cap 3"))
    assert item.detail == f"an open on BTC-USD was asked; {named} is banned (banned, cap 3)"


def test_every_cap_has_a_reason_of_its_own() -> None:
    assert set(REASONS) == set(CapName)
    assert REASONS[CapName.BANNED] is Reason.BANNED
    assert len(set(REASONS.values())) == len(CapName)


def test_whole_numbers_keep_their_zeros() -> None:
    assert [plain(Decimal(text)) for text in ("100", "1E+2", "1.50", "2.00", "0.000001", "0")] == [
        "100",
        "100",
        "1.5",
        "2",
        "0.000001",
        "0",
    ]


def test_what_nobody_set_is_named_so_and_only_where_it_is_needed() -> None:
    symbol, notional, leverage = order_breaches(order(collateral="0.5", leverage="3"), [], frozenset())
    assert symbol.detail == "symbol BTC-USD is not in ALLOWED_SYMBOLS (none)"
    assert notional.detail == "notional 1.5 USDC is above MAX_NOTIONAL_USDC (unset)"
    assert leverage.detail == "leverage 3 is above MAX_LEVERAGE (unset)"


def test_a_row_as_high_as_its_ceiling_says_nothing() -> None:
    row = Limit(CapName.NOTIONAL, Decimal(100), origin="cap 1")
    assert effective([row], CEILINGS) == [Limit(name, value) for name, value in CEILINGS.items()]
    lower = Limit(CapName.NOTIONAL, Decimal("99.999999"), origin="cap 2")
    other = Limit(CapName.EXPOSURE, Decimal(10**9), origin="cap 3")
    assert effective([lower, other], CEILINGS)[-2:] == [lower, other]

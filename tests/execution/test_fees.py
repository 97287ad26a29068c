"""The arithmetic of fees: never too low to replace, never above the ceiling."""

from fractions import Fraction

from hypothesis import example, given
from hypothesis import strategies as st

from execution_app.node import fees
from execution_app.node.fees import Fee, Market

WEI = st.integers(min_value=0, max_value=10**15)
MARKETS = st.builds(Market, base_fee_wei=WEI, tip_wei=WEI)
CEILINGS = st.integers(min_value=0, max_value=10**16)


@st.composite
def old_fees(draw: st.DrawFn) -> Fee:
    cap_wei = draw(WEI)
    return Fee(cap_wei, draw(st.integers(min_value=0, max_value=cap_wei)))


@given(MARKETS, CEILINGS)
def test_a_quote_covers_twice_the_base_fee(market: Market, ceiling_wei: int) -> None:
    fee = fees.quote(market, ceiling_wei)
    if fee is None:
        assert 2 * market.base_fee_wei + max(market.tip_wei, fees.MIN_TIP_WEI) > ceiling_wei
        return
    assert fee.max_fee_wei >= 2 * market.base_fee_wei + fee.tip_wei
    assert fees.MIN_TIP_WEI <= fee.tip_wei <= fee.max_fee_wei <= ceiling_wei
    assert fee.tip_wei >= market.tip_wei


@given(old_fees(), MARKETS, CEILINGS)
@example(Fee(0, 0), Market(0, 0), 10**16)
@example(Fee(1, 1), Market(0, 0), 10**16)
@example(Fee(7, 7), Market(0, 0), 10**16)
def test_a_replacement_is_an_eighth_more_on_both_fields(old: Fee, market: Market, ceiling_wei: int) -> None:
    new = fees.raised(old, market, ceiling_wei)
    if new is None:
        return
    for before, after in ((old.max_fee_wei, new.max_fee_wei), (old.tip_wei, new.tip_wei)):
        assert after >= Fraction(before) * Fraction(1125, 1000)
        assert after >= before + 1
    assert new.max_fee_wei <= ceiling_wei
    assert new.max_fee_wei >= 2 * market.base_fee_wei + new.tip_wei
    assert new.tip_wei >= market.tip_wei
    assert isinstance(new.max_fee_wei, int)
    assert isinstance(new.tip_wei, int)


@given(old_fees(), MARKETS, CEILINGS)
def test_no_replacement_is_refused_that_the_ceiling_allows(
    old: Fee, market: Market, ceiling_wei: int
) -> None:
    unbounded = fees.raised(old, market, 10**30)
    assert unbounded is not None
    assert fees.raised(old, market, ceiling_wei) == (
        unbounded if unbounded.max_fee_wei <= ceiling_wei else None
    )


@given(MARKETS)
def test_ten_bumps_climb_without_a_ceiling(market: Market) -> None:
    fee = fees.quote(market, 10**30)
    assert fee is not None
    first = fee
    for _ in range(10):
        raised = fees.raised(fee, market, 10**30)
        assert raised is not None
        fee = raised
    assert fee.max_fee_wei >= first.max_fee_wei * Fraction(1125, 1000) ** 10

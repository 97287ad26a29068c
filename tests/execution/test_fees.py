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


@given(st.lists(WEI, max_size=20), st.none() | WEI, WEI, WEI)
def test_a_tip_stays_within_floor_and_ceiling(
    rewards: list[int], suggested: int | None, floor_wei: int, ceiling_wei: int
) -> None:
    tip_wei = fees.tip(rewards, suggested, floor_wei=floor_wei, ceiling_wei=ceiling_wei)
    assert tip_wei <= ceiling_wei
    assert tip_wei >= min(max(floor_wei, fees.MIN_TIP_WEI), ceiling_wei)
    if rewards:
        assert tip_wei <= max(*rewards, floor_wei, fees.MIN_TIP_WEI)
        assert tip_wei == fees.tip(rewards, None, floor_wei=floor_wei, ceiling_wei=ceiling_wei)


@given(st.lists(WEI, min_size=3, max_size=20), WEI)
def test_one_overpaid_block_moves_no_tip_beyond_its_neighbours(rewards: list[int], spike_wei: int) -> None:
    before = fees.tip(rewards, None, floor_wei=0, ceiling_wei=10**16)
    after = fees.tip([*rewards[1:], rewards[0] + spike_wei], None, floor_wei=0, ceiling_wei=10**16)
    assert (
        before
        <= after
        <= max(sorted(rewards)[min((len(rewards) - 1) // 2 + 1, len(rewards) - 1)], fees.MIN_TIP_WEI)
    )


@given(CEILINGS, st.none() | st.integers(1, 10**20), WEI, st.integers(0, 5_000_000), WEI)
def test_an_order_within_its_ceiling_costs_no_more_than_it_may(
    environment_wei: int, max_cost_wei: int | None, value_wei: int, gas_limit: int, l1_fee_wei: int
) -> None:
    found = fees.ceiling(
        environment_wei, max_cost_wei, value_wei=value_wei, gas_limit=gas_limit, l1_fee_wei=l1_fee_wei
    )
    assert 0 <= found <= environment_wei
    if max_cost_wei is None:
        assert found == environment_wei
    elif found:
        assert value_wei + gas_limit * found + l1_fee_wei <= max_cost_wei
    if max_cost_wei is not None and gas_limit and found < environment_wei:
        assert value_wei + gas_limit * (found + 1) + l1_fee_wei > max_cost_wei, "as much as it may, no less"


@given(MARKETS, st.integers(min_value=100, max_value=10**16))
def test_a_cancel_fits_above_what_leaves_room_for_it(market: Market, ceiling_wei: int) -> None:
    most_wei = fees.with_room_to_cancel(ceiling_wei)
    old = Fee(most_wei, 0)
    raised = fees.raised(old, Market(0, 0), ceiling_wei)
    assert raised is not None or ceiling_wei < fees.MIN_TIP_WEI
    assert most_wei < ceiling_wei


@given(old_fees(), MARKETS, CEILINGS, CEILINGS)
def test_more_room_and_a_dearer_market_never_make_a_lower_fee(
    old: Fee, market: Market, ceiling_wei: int, more_wei: int
) -> None:
    fee = fees.raised(old, market, ceiling_wei)
    if fee is not None:
        assert fees.raised(old, market, ceiling_wei + more_wei) == fee
    dearer = fees.raised(old, Market(market.base_fee_wei + more_wei, market.tip_wei), 10**30)
    cheaper = fees.raised(old, market, 10**30)
    assert dearer is not None
    assert cheaper is not None
    assert dearer.max_fee_wei >= cheaper.max_fee_wei
    assert dearer.tip_wei == cheaper.tip_wei

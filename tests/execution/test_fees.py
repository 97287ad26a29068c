"""The arithmetic of fees: never too low to replace, never above the ceiling."""

from fractions import Fraction

from hypothesis import example, given
from hypothesis import strategies as st

from execution_app.node import fees
from execution_app.node.fees import GWEI, Fee, Market

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
    if fee is None:  # It could not be replaced twice, each time by an eighth, rounded up.
        first_wei = 2 * market.base_fee_wei + max(market.tip_wei, fees.MIN_TIP_WEI)
        assert first_wei * Fraction(81, 64) + 3 > ceiling_wei
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
    assert new.max_fee_wei >= min(2 * market.base_fee_wei + new.tip_wei, ceiling_wei)
    assert new.max_fee_wei >= market.base_fee_wei + new.tip_wei, "it may be in the next block"
    assert new.tip_wei >= market.tip_wei
    assert isinstance(new.max_fee_wei, int)
    assert isinstance(new.tip_wei, int)


@given(old_fees(), MARKETS, CEILINGS)
def test_no_replacement_is_refused_that_the_ceiling_allows(
    old: Fee, market: Market, ceiling_wei: int
) -> None:
    unbounded = fees.raised(old, market, 10**30)
    assert unbounded is not None
    next_wei = market.base_fee_wei + unbounded.tip_wei
    takes = [Fraction(9, 8) * old.max_fee_wei, Fraction(old.max_fee_wei + 1), Fraction(next_wei)]
    bounded = Fee(min(unbounded.max_fee_wei, ceiling_wei), unbounded.tip_wei)
    assert fees.raised(old, market, ceiling_wei) == (bounded if ceiling_wei >= max(takes) else None)


def test_a_replacement_takes_what_the_ceiling_leaves_down_to_what_the_next_block_asks() -> None:
    """As an exit's first send does, which would else wait behind it while the base fee is above half of the ceiling."""
    old, dear = Fee(21 * GWEI, GWEI), Market(40 * GWEI, GWEI)
    tip_wei = 9 * GWEI // 8
    assert fees.raised(old, dear, 100 * GWEI) == Fee(80 * GWEI + tip_wei, tip_wei)
    assert fees.raised(old, dear, 50 * GWEI) == Fee(50 * GWEI, tip_wei)
    assert fees.raised(old, dear, 40 * GWEI + tip_wei) == Fee(40 * GWEI + tip_wei, tip_wei)
    assert fees.raised(old, dear, 40 * GWEI + tip_wei - 1) is None
    assert fees.raised(Fee(48 * GWEI, GWEI), dear, 50 * GWEI) is None, "nodes ask for a tenth more"


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
        roomy = fees.raised(old, market, ceiling_wei + more_wei)
        assert roomy is not None
        assert roomy.max_fee_wei >= fee.max_fee_wei
        assert roomy.tip_wei == fee.tip_wei
        assert roomy == fee or fee.max_fee_wei == ceiling_wei, "all that there was"
    dearer = fees.raised(old, Market(market.base_fee_wei + more_wei, market.tip_wei), 10**30)
    cheaper = fees.raised(old, market, 10**30)
    assert dearer is not None
    assert cheaper is not None
    assert dearer.max_fee_wei >= cheaper.max_fee_wei
    assert dearer.tip_wei == cheaper.tip_wei


AN_OPEN = Market(10 * GWEI, GWEI)
TWICE_REPLACED_WEI = 26_578_125_000  # 21 gwei, raised by an eighth twice


def test_an_open_asks_for_two_base_fees_and_the_tip_if_it_can_be_replaced_twice() -> None:
    assert fees.quote(AN_OPEN, TWICE_REPLACED_WEI) == Fee(21 * GWEI, GWEI)
    assert fees.quote(AN_OPEN, TWICE_REPLACED_WEI - 1) is None


def test_an_exit_takes_what_the_ceiling_leaves_down_to_what_the_next_block_asks() -> None:
    assert fees.quote_exit(AN_OPEN, 100 * GWEI) == Fee(21 * GWEI, GWEI)
    assert fees.quote_exit(AN_OPEN, 12 * GWEI) == Fee(12 * GWEI, GWEI)
    assert fees.quote_exit(AN_OPEN, 11 * GWEI) == Fee(11 * GWEI, GWEI)
    assert fees.quote_exit(AN_OPEN, 11 * GWEI - 1) is None


def test_a_replacement_is_the_dearer_of_an_eighth_more_and_the_market() -> None:
    old = Fee(8 * GWEI, 4 * GWEI)
    quiet = Fee(9 * GWEI, 4_500_000_000)
    assert fees.raised(old, Market(GWEI, GWEI), 9 * GWEI) == quiet
    assert fees.raised(old, Market(GWEI, GWEI), 9 * GWEI - 1) is None
    assert fees.raised(old, Market(10 * GWEI, 5 * GWEI), 100 * GWEI) == Fee(25 * GWEI, 5 * GWEI)


def test_a_tip_is_never_below_a_thousandth_of_a_gwei() -> None:
    least_wei = 1_000_000
    assert fees.tip([], None, floor_wei=0, ceiling_wei=GWEI) == least_wei
    assert fees.quote(Market(0, 0), GWEI) == Fee(least_wei, least_wei)
    assert fees.raised(Fee(0, 0), Market(0, 0), GWEI) == Fee(least_wei, least_wei)


def test_a_tip_is_what_blocks_took_else_what_the_node_suggests() -> None:
    assert fees.tip([GWEI, 2 * GWEI, 9 * GWEI], 5 * GWEI, floor_wei=0, ceiling_wei=10 * GWEI) == 2 * GWEI
    assert fees.tip([], 5 * GWEI, floor_wei=0, ceiling_wei=10 * GWEI) == 5 * GWEI
    assert fees.tip([], 5 * GWEI, floor_wei=6 * GWEI, ceiling_wei=10 * GWEI) == 6 * GWEI
    assert fees.tip([], 5 * GWEI, floor_wei=6 * GWEI, ceiling_wei=3 * GWEI) == 3 * GWEI
    assert fees.tip([GWEI], None, floor_wei=0, ceiling_wei=-1) == 0


def test_a_ceiling_of_cost_is_divided_by_the_gas_it_pays_for() -> None:
    def ceiling(max_cost_wei: int, gas_limit: int) -> int:
        return fees.ceiling(GWEI, max_cost_wei, value_wei=30, gas_limit=gas_limit, l1_fee_wei=20)

    assert ceiling(1_050, 10) == 100
    assert ceiling(1_049, 10) == 99
    assert ceiling(1_050, 1) == 1_000
    assert ceiling(1_050, 0) == 1_000
    assert ceiling(49, 10) == 0
    assert ceiling(10**30, 10) == GWEI


def test_room_to_cancel_is_a_ninth_of_the_ceiling() -> None:
    assert [fees.with_room_to_cancel(wei) for wei in (0, 1, 2, 9, 9_000)] == [0, 0, 0, 7, 7_999]


def test_a_market_charges_nothing_for_data_unless_it_says_so() -> None:
    assert Market(1, 2).l1_fee_wei == 0

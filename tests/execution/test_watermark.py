"""Which block a pass acts on, as arithmetic over what endpoints say of themselves."""

import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from execution_app.engine.watermark import FRESH_S, NOTHING_FINAL, Mark, View, _view, choose
from execution_app.errors import Disagreement
from execution_app.node.rpc import NodeError, RpcFault

OURS = "0xfinal"


def view(position: int, number: int, final: int | None = None, hash_at_mark: str = OURS) -> View:
    """A node on the one chain there is."""
    return View(
        position=position,
        number=number,
        block_hash=f"0x{number}",
        base_fee_wei=7,
        final=number - 2 if final is None else final,
        genesis_hash="0x0",
        chain_id=31337,
        hash_at_mark=hash_at_mark,
    )


MARK = Mark(head=100, final=90, final_hash=OURS)


def test_a_majority_says_how_far_the_chain_is() -> None:
    head = choose([view(0, 103), view(1, 101), view(2, 102)], 2, MARK)
    assert (head.number, head.block_hash, head.finalized) == (102, "0x102", 100)
    assert head.readers == {0, 2}


def test_one_that_lags_is_not_asked_in_this_pass() -> None:
    head = choose([view(0, 60, hash_at_mark=""), view(1, 101), view(2, 101)], 2, MARK)
    assert (head.number, set(head.readers)) == (101, {1, 2})


def test_one_that_invents_blocks_does_not_pull_the_mark_ahead() -> None:
    head = choose([view(0, 10**9), view(1, 101), view(2, 101)], 2, MARK)
    assert (head.number, head.finalized) == (101, 99)


def test_while_most_lag_the_one_that_does_not_is_asked_and_decides_no_absence() -> None:
    head = choose([view(0, 95), view(1, 96), view(2, 100)], 2, MARK)
    assert (head.number, set(head.readers)) == (100, {2})


def test_the_head_goes_back_when_a_majority_says_so_and_nobody_else_knows_more() -> None:
    head = choose([view(0, 97), view(1, 98), view(2, 98)], 2, MARK)
    assert (head.number, set(head.readers)) == (98, {1, 2})


def test_a_minority_that_went_back_is_not_followed() -> None:
    with pytest.raises(RpcFault, match="behind block 100"):
        choose([view(0, 97)], 2, MARK)


def test_a_minority_that_is_ahead_is_followed_and_makes_nothing_final() -> None:
    head = choose([view(0, 120)], 2, MARK)
    assert (head.number, head.finalized) == (120, NOTHING_FINAL)


def test_the_head_never_goes_below_what_was_final() -> None:
    with pytest.raises(Disagreement, match="block 90 was final here"):
        choose([view(0, 89, hash_at_mark="")], 1, MARK)


def test_the_head_does_not_go_back_far() -> None:
    with pytest.raises(Disagreement, match="went back"):
        choose([view(0, 100)], 1, replace(MARK, head=200))


ALONE = replace(MARK, head=10**9, reached=100)


@pytest.mark.parametrize(
    "liar", [[], [view(0, 10**9)], [view(0, 10**9 + 5)]], ids=["away", "there", "further"]
)
def test_blocks_that_one_named_alone_are_none_once_a_majority_has_gone_on(liar: list[View]) -> None:
    """While the others were away it was followed."""
    others = [replace(view(at, 101), is_fresh=True) for at in (1, 2)]
    head = choose([*liar, *others], 2, ALONE)
    assert (head.number, head.finalized) == (101, 99)
    assert head.readers >= {1, 2}


@pytest.mark.parametrize(
    ("number", "fresh", "mark"),
    [
        (100, True, ALONE),  # it stands where it stood
        (101, False, ALONE),  # it follows what happened while it was away
        (101, True, replace(ALONE, reached=10**9)),  # what a majority had
        (101, True, replace(ALONE, reached=None)),
        (101, True, replace(ALONE, final=101)),
    ],
)
def test_nor_is_the_head_given_up_for_a_majority_that_may_be_behind(
    number: int, fresh: bool, mark: Mark
) -> None:
    others = [replace(view(at, number), is_fresh=fresh) for at in (1, 2)]
    with pytest.raises(Disagreement, match="went back"):
        choose(others, 2, mark)
    assert choose([view(0, 10**9), *others], 2, mark).readers == {0}


def test_what_one_leads_by_is_followed_as_far_as_a_reorg_may_go() -> None:
    others = [replace(view(at, 101), is_fresh=True) for at in (1, 2)]
    near, far = replace(ALONE, head=165), replace(ALONE, head=166)
    assert choose([view(0, 166), *others], 2, near).readers == {0}
    assert choose([view(0, 166), *others], 2, far).number == 101
    assert choose(others, 2, near).number == 101, "nobody is further"
    old = [replace(others[0], is_fresh=False), others[1]]
    with pytest.raises(Disagreement, match="went back"):
        choose(old, 2, far)


def test_another_final_block_halts_even_from_one() -> None:
    liar = view(0, 103, final=95, hash_at_mark="0xother")
    with pytest.raises(Disagreement, match=r"endpoint 0 .* 0xother, but 0xfinal was final here"):
        choose([liar, view(1, 103), view(2, 103)], 2, MARK)


def test_another_branch_that_is_not_final_is_only_not_asked() -> None:
    strayed = view(0, 105, final=80, hash_at_mark="0xother")
    head = choose([strayed, view(1, 103), view(2, 103)], 2, MARK)
    assert (head.number, set(head.readers)) == (103, {1, 2})
    with pytest.raises(RpcFault, match="on the chain we know"):
        choose([strayed], 2, MARK)


def test_one_finality_is_no_finality() -> None:
    head = choose([view(0, 103, final=103), view(1, 103, final=91), view(2, 103, final=90)], 2, MARK)
    assert head.finalized == 91


def test_the_first_chain_is_adopted_by_agreement() -> None:
    views = [replace(view(p, 5), genesis_hash=g) for p, g in enumerate(("0xa", "0xb", "0xb"))]
    assert choose(views, 2, Mark()).genesis_hash == "0xb"
    with pytest.raises(RpcFault, match="first block"):
        choose(views[:2], 2, Mark())


def test_the_edges_of_going_back_and_of_contradicting() -> None:
    """Block 90 was final: a head there is one, below it is none. A reorg may take 64 blocks and no more."""
    assert choose([view(0, 90, hash_at_mark="")], 1, MARK).number == 90
    far = replace(MARK, head=200)
    assert choose([view(0, 136)], 1, far).number == 136
    with pytest.raises(Disagreement, match="from block 200 to 135"):
        choose([view(0, 135)], 1, far)
    with pytest.raises(Disagreement, match="was final here"):
        choose([view(0, 103, final=90, hash_at_mark="0xother"), view(1, 103), view(2, 103)], 2, MARK)
    strayed = choose([view(0, 103, final=89, hash_at_mark="0xother"), view(1, 103), view(2, 103)], 2, MARK)
    assert strayed.readers == {1, 2}
    assert choose([view(0, 5, hash_at_mark="0xother")], 1, Mark()).number == 5, "nothing was final yet"


def test_a_minority_at_the_mark_itself_is_not_behind() -> None:
    assert choose([view(0, 100)], 2, MARK).number == 100


def test_of_those_that_do_not_lag_the_nearest_is_followed() -> None:
    head = choose([view(p, n) for p, n in enumerate((95, 96, 97, 104, 101))], 3, MARK)
    assert (head.number, set(head.readers)) == (101, {3, 4})


def test_no_block_is_final_that_is_not_reached() -> None:
    head = choose([view(0, 103, final=999), view(1, 102, final=999)], 2, MARK)
    assert (head.number, head.finalized) == (102, 102)
    assert (head.genesis_hash, head.chain_id, head.base_fee_wei) == ("0x0", 31337, 7)


def test_what_an_endpoint_leaves_out_makes_nothing_final() -> None:
    latest = {"number": "0x67", "hash": "0x103", "baseFeePerGas": "0x7"}
    final, mark = {"number": "0x5a", "hash": "0xf"}, {"number": "0x5a", "hash": OURS}
    told = _view(2, [latest, final, {"hash": "0x0"}, "0x7a69", mark])
    assert told == view(2, 103, final=90)
    for age_s, fresh in ((FRESH_S - 20, True), (FRESH_S + 20, False)):
        young = {**latest, "timestamp": hex(int(time.time()) - age_s)}
        assert _view(2, [young, final, {"hash": "0x0"}, "0x7a69", mark]) == replace(told, is_fresh=fresh)
    bare = _view(2, [{"number": "0x67", "hash": "0x103"}, None, {"hash": "0x0"}, "0x7a69", None])
    assert bare == replace(told, base_fee_wei=0, final=NOTHING_FINAL, hash_at_mark="")
    away = NodeError(-32000, "header not found")
    assert _view(2, [latest, away, {"hash": "0x0"}, "0x7a69", away]) == replace(bare, base_fee_wei=7)
    for at in (0, 2, 3):
        answers: list[object] = [latest, final, {"hash": "0x0"}, "0x7a69", mark]
        answers[at] = away
        with pytest.raises(NodeError):
            _view(2, answers)


@st.composite
def looks(draw: st.DrawFn) -> tuple[list[View], int, Mark]:
    """Honest nodes at any height, fewer liars than a majority, some silent."""
    configured = draw(st.integers(1, 5))
    needed = configured // 2 + 1
    head = draw(st.integers(10, 100))
    mark = Mark(head=head, final=draw(st.integers(0, head)), final_hash=OURS)
    honest = draw(st.integers(needed, configured))
    numbers = draw(st.lists(st.integers(mark.final, 200), min_size=honest, max_size=honest))
    views = [view(p, n, final=draw(st.integers(0, n))) for p, n in enumerate(numbers)]
    views += [
        view(position, draw(st.integers(mark.final, 10**12)), final=draw(st.integers(0, 10**12)))
        for position in range(honest, configured)
    ]
    answered = draw(st.sets(st.sampled_from(range(configured)), min_size=1))
    return [v for v in views if v.position in answered], needed, mark


@given(looks())
def test_no_minority_moves_head_or_finality(look: tuple[list[View], int, Mark]) -> None:
    views, needed, mark = look
    try:
        head = choose(views, needed, mark)
    except (RpcFault, Disagreement):
        return
    reached = sum(one.number >= head.number for one in views)
    final = sum(one.final >= head.finalized for one in views)
    assert head.finalized <= head.number
    assert head.finalized == NOTHING_FINAL or final >= needed
    assert head.readers == {one.position for one in views if one.number >= head.number}
    if head.number < mark.head:
        assert len(views) >= needed, "back only by a majority"
        assert all(one.number < mark.head for one in views)
    elif len(views) >= needed and sum(one.number >= mark.head for one in views) >= needed:
        assert reached >= needed, "ahead only by a majority"


def test_of_an_even_number_of_endpoints_half_is_no_majority() -> None:
    """The lower of two, and the second lowest of four."""
    head = choose([view(0, 103, final=101), view(1, 101, final=95)], 2, MARK)
    assert (head.number, head.finalized) == (101, 95)
    four = [view(at, 101 + at, final=91 + at) for at in range(4)]
    head = choose(four, 3, MARK)
    assert (head.number, head.block_hash, head.finalized, set(head.readers)) == (102, "0x102", 92, {1, 2, 3})

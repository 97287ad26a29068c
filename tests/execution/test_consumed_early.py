"""Closes that are not explained yet: the book has not followed what came before them, and who waits may have asked for them."""

from decimal import Decimal
from typing import Any

import pytest

from execution_app.engine import consumed
from execution_app.engine.consumed import Uses, What
from execution_app.models import Chain, Position, TxIntent, Wallet
from execution_app.node.history import Found
from execution_app.states import Action, IntentState
from execution_app.venues.orders import CloseOrder, OpenOrder
from tests.execution import rows, staged
from tests.execution.test_consumed import (
    carrying,
    chain,
    close_order,
    counted,
    found,
    open_order,
    other,
    waiting,
    waiting_close,
    wallet,
)

__all__ = ["chain", "wallet"]  # the fixtures
pytestmark = pytest.mark.usefixtures("database")
Shown = dict[int, Found]
FINAL = 90  # the block of `counted`


def look(
    monkeypatch: pytest.MonkeyPatch, wallet: Wallet, chain: Shown, *orders: OpenOrder | CloseOrder
) -> Uses:
    """As the chain has these behind what the wallet signed."""
    chain |= {nonce: carrying(order, nonce) for nonce, order in enumerate(orders, 3)}
    counted(monkeypatch, 3 + len(orders))
    return consumed.look(wallet)


def told(uses: Uses) -> tuple[list[tuple[What, TxIntent | None]], int | None]:
    return [(use.what, use.intent) for use in uses.uses], uses.stops_at


def held(wallet: Wallet, **fields: object) -> Position:
    return staged.trade(wallet, **fields)


def test_of_two_closes_of_one_trade_the_second_is_the_next_plans(
    monkeypatch: pytest.MonkeyPatch, wallet: Wallet, chain: Shown
) -> None:
    held(wallet)
    first, second = waiting_close(wallet, reduce_usdc=2), waiting_close(wallet, reduce_usdc=1)
    two, one = close_order(collateral_usdc=Decimal(2)), close_order(collateral_usdc=Decimal(1))
    uses = look(monkeypatch, wallet, chain, one, two, open_order())
    assert told(uses) == ([(What.WAITED, second)], 4)
    assert (uses.next_nonce, first.state) == (3, "pending")


def test_closes_of_two_trades_are_of_one_plan(
    monkeypatch: pytest.MonkeyPatch, wallet: Wallet, chain: Shown
) -> None:
    held(wallet), held(wallet, trade_index=1), held(wallet, pair_index=0, symbol="ETH-USD")
    closes = [waiting_close(wallet), waiting_close(wallet), waiting_close(wallet, symbol="ETH-USD")]
    orders = close_order(), close_order(trade_index=1), close_order(pair_index=0)
    uses = look(monkeypatch, wallet, chain, *orders)
    assert told(uses) == ([(What.WAITED, close) for close in closes], None)


def test_a_close_that_nobody_waits_for_is_foreign_whatever_came_before(
    monkeypatch: pytest.MonkeyPatch, wallet: Wallet, chain: Shown
) -> None:
    mine = held(wallet)
    close, beside = waiting_close(wallet), held(wallet, trade_index=1)
    waiting_close(wallet, position_id=beside.pk)
    waiting_close(wallet, symbol="ETH-USD")
    waiting_close(other())
    waiting(wallet)
    orders = close_order(), close_order(), open_order(), close_order(trade_index=7)
    uses = look(monkeypatch, wallet, chain, *orders)
    whats = [use.what for use in uses.uses]
    assert (whats, uses.stops_at) == ([What.WAITED, What.FOREIGN, What.WAITED, What.FOREIGN], None)
    assert (uses.uses[0].intent, mine.state) == (close, "open")


@pytest.mark.parametrize("asked", [True, False])
def test_a_close_behind_an_open_of_its_pair_is_the_next_plans(
    monkeypatch: pytest.MonkeyPatch, wallet: Wallet, chain: Shown, *, asked: bool
) -> None:
    opened = waiting(wallet) if asked else None
    waiting_close(wallet)
    uses = look(monkeypatch, wallet, chain, open_order(), close_order())
    assert told(uses) == ([(What.WAITED if asked else What.UNASKED, opened)], 4)


@pytest.mark.parametrize(
    "before", [open_order(pair_index=0), open_order(pair_index=0, trader=rows.address()), close_order()]
)
def test_a_close_of_a_trade_that_nothing_may_have_opened_is_foreign(
    monkeypatch: pytest.MonkeyPatch, wallet: Wallet, chain: Shown, before: OpenOrder | CloseOrder
) -> None:
    waiting_close(wallet)
    uses = look(monkeypatch, wallet, chain, before, close_order())
    assert [use.what for use in uses.uses][1:] == [What.FOREIGN]
    assert uses.stops_at is None


def test_an_open_that_is_not_ours_opens_nothing_of_ours(
    monkeypatch: pytest.MonkeyPatch, wallet: Wallet, chain: Shown
) -> None:
    waiting_close(wallet)
    counted(monkeypatch, 5)
    chain |= {3: found(3), 4: carrying(close_order(), 4)}
    assert told(consumed.look(wallet)) == ([(What.FOREIGN, None)] * 2, None)


@pytest.mark.parametrize(
    ("state", "fields", "stops"),
    [
        *((state, {}, True) for state in ("reserved", "signed", "pending_inclusion", "mined", "ordered")),
        ("venue_cancelled", {}, True),
        ("venue_cancelled", {"settled_at": staged.SETTLED}, False),
        ("ordered", {"symbol": "ETH-USD"}, False),
        ("filled", {}, False),
        *((state, {}, False) for state in ("final_reverted", "final_cancelled", "lost_nonce")),
    ],
)
def test_until_an_open_has_ended_it_may_be_what_was_closed(
    monkeypatch: pytest.MonkeyPatch,
    wallet: Wallet,
    chain: Shown,
    state: str,
    fields: dict[str, Any],
    *,
    stops: bool,
) -> None:
    staged.intent(wallet, Action.OPEN, state, nonce=0, **fields)
    staged.intent(other(), Action.OPEN, "ordered", nonce=0)
    waiting_close(wallet)
    uses = look(monkeypatch, wallet, chain, close_order())
    assert uses.stops_at == (3 if stops else None)
    assert (What.FOREIGN in [use.what for use in uses.uses]) is not stops


@pytest.mark.parametrize(
    ("head", "of", "order", "stops"),
    [
        (FINAL, 31337, {}, False),
        (FINAL + 1, 31337, {}, False),
        (FINAL - 1, 31337, {}, True),
        (FINAL, 1, {}, True),
        (FINAL, 31337, {"scanned_to_block": 80}, True),
    ],
)
def test_what_rests_where_the_book_has_followed_was_not_closed(
    monkeypatch: pytest.MonkeyPatch,
    wallet: Wallet,
    chain: Shown,
    *,
    head: int,
    of: int,
    order: dict[str, Any],
    stops: bool,
) -> None:
    Chain.objects.all().delete()
    Chain.objects.create(chain_id=of, head_number=head)
    rests = staged.intent(
        wallet, Action.OPEN, "ordered", nonce=0, road="onchain", order_type="limit", limit_price=60_000
    )
    rows.order(intent_id=rests.pk, **order)
    waiting_close(wallet)
    assert look(monkeypatch, wallet, chain, close_order()).stops_at == (3 if stops else None)
    staged.intent(wallet, Action.OPEN, "ordered", nonce=1)
    assert look(monkeypatch, wallet, chain, close_order()).stops_at == 3, "at once, or not at all"


@pytest.mark.parametrize("action", [Action.CLOSE, Action.MARGIN])
def test_what_is_under_way_with_the_trade_is_followed_first(
    monkeypatch: pytest.MonkeyPatch, wallet: Wallet, chain: Shown, action: Action
) -> None:
    mine = held(wallet)
    before = staged.intent(wallet, action, IntentState.SIGNED.value, nonce=0, position_id=mine.pk)
    close = waiting_close(wallet, reduce_usdc=1)
    uses = look(monkeypatch, wallet, chain, close_order(collateral_usdc=Decimal(1)))
    assert told(uses) == ([(What.UNSEEN, before)], 3)
    waiting_close(wallet, symbol="ETH-USD")
    rows.update("tx_intents", close.pk, {"state": "rejected", "settled_at": staged.SETTLED})
    uses = look(monkeypatch, wallet, chain, close_order(collateral_usdc=Decimal(1)))
    assert ([use.what for use in uses.uses], uses.stops_at) == ([What.UNSEEN, What.FOREIGN], None)


def test_a_close_is_told_where_only_another_waits_for_its_trade(
    monkeypatch: pytest.MonkeyPatch, wallet: Wallet, chain: Shown
) -> None:
    """Who holds a position and waits did nothing with it yet."""
    mine = held(wallet)
    waiting_close(wallet)
    holder = waiting_close(wallet, position_id=mine.pk, holds_position=True)
    uses = look(monkeypatch, wallet, chain, close_order(), close_order())
    assert told(uses) == ([(What.WAITED, holder)], 4)


def test_an_open_beside_a_known_trade_and_a_close_beside_an_unknown_one_say_nothing_of_it(
    monkeypatch: pytest.MonkeyPatch, wallet: Wallet, chain: Shown
) -> None:
    held(wallet)
    opened, close = waiting(wallet), waiting_close(wallet)
    waiting_close(wallet)
    uses = look(monkeypatch, wallet, chain, open_order(), close_order())
    assert told(uses) == ([(What.WAITED, opened), (What.WAITED, close)], None)
    uses = look(monkeypatch, wallet, chain, close_order(), close_order(trade_index=7))
    assert told(uses) == ([(What.WAITED, close), (What.FOREIGN, None)], None)


def test_an_open_that_the_book_cannot_hold_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, wallet: Wallet, chain: Shown
) -> None:
    waiting_close(wallet)
    uses = look(monkeypatch, wallet, chain, open_order(leverage_x=Decimal("2.00001")), close_order())
    assert told(uses) == ([(What.FOREIGN, None)] * 2, None)


def test_what_is_under_way_and_opens_nothing_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, wallet: Wallet, chain: Shown
) -> None:
    beside = held(wallet, trade_index=1)
    staged.intent(wallet, Action.CLOSE, "ordered", nonce=0, position_id=beside.pk)
    waiting_close(wallet)
    uses = look(monkeypatch, wallet, chain, close_order())
    assert told(uses) == ([(What.FOREIGN, None)], None)

"""Partial closes, racing closes, closes of nothing, trades that end elsewhere, and levels passed with an open."""

from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction

from execution_app.book.drift import compare
from execution_app.models import Fill, Position, TxIntent, TxSend
from execution_app.states import Action
from tests import invariants
from tests.integration.tx.test_reorg import reorganise
from tests.integration.tx.test_venue_surprises import owner_closes
from tests.rig import Rig, rpc_call
from tests.timers import pass_a_minute

FIVE = Decimal(5)


def again(rig: Rig, times: int = 1) -> None:
    for _ in range(times):
        pass_a_minute()
        rig.run()


def opened(rig: Rig, count: int = 1, **fields: Any) -> list[Position]:
    for _ in range(count):
        rig.intent(**fields)
    rig.run()
    positions = list(Position.objects.order_by("id"))
    assert [position.state for position in positions] == ["open"] * count
    return positions


def closing(rig: Rig, **fields: Any) -> TxIntent:
    return rig.intent(Action.CLOSE, **fields)


def fresh(intent: TxIntent) -> TxIntent:
    return TxIntent.objects.get(pk=intent.pk)


def held(rig: Rig) -> list[Decimal]:
    """Collateral of every trade that the venue stores."""
    return [trade.collateral_usdc for trade in invariants.open_trades(rig.trader.address)]


def ours() -> list[Decimal]:
    return list(
        Position.objects.filter(state="open").order_by("id").values_list("collateral_usdc", flat=True)
    )


@pytest.mark.parametrize(
    ("asked", "closed"),
    [
        ({"reduce_usdc": Decimal(2)}, "2"),
        ({"reduce_usdc": Decimal("0.000001")}, "0.000001"),
        ({"reduce_pct": Decimal(50)}, "2.5"),
        ({"reduce_pct": Decimal("33.3333")}, "1.666665"),
        ({"reduce_pct": Decimal("0.0001")}, "0.000005"),
    ],
)
def test_a_part_of_a_position_is_closed(rig: Rig, asked: dict[str, Decimal], closed: str) -> None:
    (position,) = opened(rig)
    opening = position.opened_at
    rpc_call("evm_increaseTime", 30)
    close = closing(rig, **asked)
    rig.run()
    close = fresh(close)
    assert (close.state, close.close_usdc) == ("filled", Decimal(closed))
    position.refresh_from_db()
    left = FIVE - Decimal(closed)
    assert (position.state, position.collateral_usdc, position.opened_at) == ("open", left, opening)
    assert position.venue_timestamp is not None
    assert position.venue_timestamp > opening
    assert held(rig) == [left]
    assert compare() == 0
    position.refresh_from_db()
    assert position.drift == ""
    invariants.check()


def test_a_percentage_is_floored_to_a_unit_and_the_amount_is_written_down(rig: Rig) -> None:
    opened(rig, collateral_usdc=Decimal("5.000003"))
    close = closing(rig, reduce_pct=Decimal(50))
    rig.run()
    assert fresh(close).close_usdc == Decimal("2.500001")
    assert held(rig) == [Decimal("2.500002")]


def test_a_part_after_a_part_and_then_all(rig: Rig) -> None:
    (position,) = opened(rig)
    for asked, left in (({"reduce_pct": Decimal(50)}, "2.5"), ({"reduce_pct": Decimal(50)}, "1.25")):
        rpc_call("evm_increaseTime", 10)
        closing(rig, **asked)
        rig.run()
        assert held(rig) == ours() == [Decimal(left)]
    closing(rig)
    rig.run()
    position.refresh_from_db()
    assert (position.state, position.ended_by) == ("closed", "close")
    fills = list(Fill.objects.filter(action="close").order_by("id"))
    assert [fill.collateral_usdc for fill in fills] == [Decimal("2.5"), Decimal("1.25"), Decimal("1.25")]
    assert {fill.position_id for fill in fills} == {position.pk}
    assert position.paid_out_usdc == sum(fill.sent_to_trader_usdc or 0 for fill in fills)
    assert held(rig) == []
    invariants.check()


@pytest.mark.parametrize("amount", ["5", "5.000001", "1000"])
def test_as_much_as_there_is_or_more_closes_all(rig: Rig, amount: str) -> None:
    opened(rig)
    close = closing(rig, reduce_usdc=Decimal(amount))
    rig.run()
    assert (fresh(close).state, fresh(close).close_usdc) == ("filled", FIVE)
    assert held(rig) == []
    invariants.check()


def test_a_percentage_applies_to_each_position(rig: Rig) -> None:
    opened(rig, 2)
    close = closing(rig, reduce_pct=Decimal(40))
    rig.run()
    again(rig)
    assert held(rig) == ours() == [Decimal(3), Decimal(3)]
    assert TxIntent.objects.filter(intent_key__startswith=close.intent_key, state="filled").count() == 2
    invariants.check()


def test_an_amount_is_taken_oldest_first(rig: Rig) -> None:
    opened(rig, 3)
    close = closing(rig, reduce_usdc=Decimal(7))
    rig.run()
    again(rig)
    assert ours() == [Decimal(3), FIVE]
    assert sorted(held(rig)) == [Decimal(3), FIVE]
    shares = TxIntent.objects.filter(intent_key__startswith=close.intent_key).order_by("id")
    assert [(share.state, share.close_usdc) for share in shares] == [
        ("filled", FIVE),
        ("filled", Decimal(2)),
    ]
    invariants.check()


def test_a_reduced_position_is_not_reduced_again_for_an_open_that_fills_later(rig: Rig) -> None:
    """The intent that waits for the earlier open must find only that one."""
    opened(rig)
    rig.intent()
    rig.submit()
    closing(rig, reduce_pct=Decimal(50))
    again(rig, 3)
    assert sorted(held(rig)) == sorted(ours()) == [Decimal("2.5"), Decimal("2.5")]
    invariants.check()


def test_two_racing_closes_close_once(rig: Rig) -> None:
    """The second waits for the first's outcome, and is then a success with nothing to do."""
    opened(rig)
    first, second = closing(rig), closing(rig)
    rig.submit()
    assert (fresh(first).state, fresh(second).state) == ("pending_inclusion", "pending")
    assert fresh(second).reason == "waits_for_earlier_close"
    assert fresh(second).nonce is None
    again(rig)
    again(rig)
    assert (fresh(first).state, fresh(second).state) == ("filled", "no_op")
    assert TxSend.objects.count() == 2
    invariants.check()


def test_a_close_that_races_a_partial_one_takes_what_is_left(rig: Rig) -> None:
    opened(rig)
    first, second = closing(rig, reduce_usdc=Decimal(2)), closing(rig)
    rig.submit()
    assert fresh(second).nonce is None
    again(rig)
    again(rig)
    assert (fresh(first).close_usdc, fresh(second).close_usdc) == (Decimal(2), Decimal(3))
    assert (fresh(first).state, fresh(second).state) == ("filled", "filled")
    assert held(rig) == []
    invariants.check()


def test_an_amount_waits_until_it_is_known_how_far_it_reaches(rig: Rig) -> None:
    opened(rig, 2)
    closing(rig, reduce_usdc=Decimal(4))
    second = closing(rig, reduce_usdc=Decimal(4))
    rig.submit()
    assert (fresh(second).reason, fresh(second).nonce) == ("waits_for_earlier_close", None)
    again(rig, 3)
    assert held(rig) == ours() == [Decimal(2)]
    invariants.check()


def test_the_second_close_goes_on_where_the_first_failed(rig: Rig) -> None:
    """A close that fails frees its position for the next."""
    opened(rig)
    first, second = closing(rig), closing(rig)
    rig.submit()
    rpc_call("anvil_dropTransaction", TxSend.objects.get(intent=first).tx_hash)
    owner_closes(rig)
    pass_a_minute()
    rig.track()  # offered again: signed for a trade that is gone by now
    again(rig, 4)
    assert (fresh(first).state, fresh(second).state) == ("final_reverted", "no_op")
    assert Position.objects.get().ended_by == "closed_elsewhere"
    invariants.check()


def test_the_database_lets_one_close_at_a_time_hold_a_position(rig: Rig) -> None:
    (position,) = opened(rig)
    closing(rig, position=position, holds_position=True)
    with pytest.raises(IntegrityError, match="uq_tx_intents_closing"), transaction.atomic():
        closing(rig, position=position, holds_position=True)


def test_a_reorg_of_a_partial_close_is_folded_anew(rig: Rig) -> None:
    (position,) = opened(rig)
    close = closing(rig, reduce_usdc=Decimal(2))
    rig.submit()
    rig.mine()
    rig.track()
    rig.keep()
    rig.track()
    assert ours() == [Decimal(3)]
    reorganise(1)
    rig.track()
    assert fresh(close).state == "ordered"
    assert ours() == [FIVE]
    position.refresh_from_db()
    assert position.venue_timestamp == position.opened_at
    rig.keep()
    rig.track()
    rig.mine(4)
    rig.track()
    assert ours() == held(rig) == [Decimal(3)]
    invariants.check()


def test_a_reorg_of_a_partial_close_with_another_close_behind_it(rig: Rig) -> None:
    """The first is in flight again while the second holds the position: the second waits, nothing breaks."""
    opened(rig)
    first = closing(rig, reduce_usdc=Decimal(2))
    rig.submit()
    rig.mine()
    rig.track()
    rig.keep()
    rig.track()
    second = closing(rig)
    TxIntent.objects.filter(pk=second.pk).update(position=Position.objects.get(), holds_position=True)
    reorganise(1)
    rig.track()
    assert fresh(first).state == "ordered"
    rig.submit()
    assert (fresh(second).nonce, fresh(second).reason) == (None, "waits_for_earlier_close")
    rig.keep()
    rig.track()
    again(rig, 2)
    assert (fresh(first).state, fresh(second).state, fresh(second).close_usdc) == (
        "filled",
        "filled",
        Decimal(3),
    )
    assert held(rig) == []
    invariants.check()


def test_a_trade_closed_elsewhere_ends_the_close_as_a_success(rig: Rig) -> None:
    (position,) = opened(rig)
    owner_closes(rig)
    close = closing(rig)
    rig.submit()
    assert (fresh(close).state, fresh(close).reason) == ("pending", "closed_elsewhere")  # not final yet
    assert Position.objects.get().state == "open"
    again(rig, 2)
    close = fresh(close)
    assert (close.state, close.reason, close.nonce) == ("no_op", "closed_elsewhere", None)
    position.refresh_from_db()
    assert (position.state, position.ended_by) == ("closed", "closed_elsewhere")
    assert (position.paid_out_usdc, position.close_price, position.closed_at) == (None, None, None)
    assert not Fill.objects.filter(action="close").exists()
    assert TxSend.objects.count() == 1
    invariants.check()


def test_a_trade_closed_elsewhere_is_found_by_the_comparison(rig: Rig) -> None:
    (position,) = opened(rig)
    owner_closes(rig)
    assert compare() == 1
    position.refresh_from_db()
    assert (position.state, position.drift) == ("open", "the venue has no such trade")
    rig.mine(4)
    compare()
    position.refresh_from_db()
    assert (position.state, position.ended_by, position.drift) == ("closed", "owner", "")


def test_a_trade_that_was_missed_in_a_block_that_left_the_chain_is_open(rig: Rig) -> None:
    (position,) = opened(rig)
    owner_closes(rig)
    compare()
    position.refresh_from_db()
    assert position.missed_at_block is not None
    reorganise(1)  # the keeper's block; the owner's order is pending again
    rig.mine(6)
    rig.track()
    for _ in range(2):
        compare()
    position.refresh_from_db()
    again = Position.objects.get()
    assert (again.state, again.missed_at_block) == ("open", None)
    assert held(rig) == [FIVE]


def test_our_own_close_is_not_taken_for_somebody_elses(rig: Rig) -> None:
    """It is executed and final, and this database has not read it yet."""
    (position,) = opened(rig)
    close = closing(rig)
    rig.submit()
    rig.mine()
    rig.track()
    rig.keep()
    for _ in range(3):
        rig.mine(4)
        compare()
    position.refresh_from_db()
    assert (position.state, position.ended_by) == ("open", "")
    rig.track()
    rig.track()
    position.refresh_from_db()
    assert (fresh(close).state, position.state, position.ended_by) == ("filled", "closed", "close")
    invariants.check()


def test_another_trade_in_the_slot_is_not_closed(rig: Rig) -> None:
    """The owner closed ours and opened one of their own, which has another opening price."""
    (position,) = opened(rig)
    Position.objects.update(open_price=position.open_price + 1)
    close = closing(rig)
    rig.submit()
    assert fresh(close).nonce is None
    again(rig, 3)
    assert (fresh(close).state, fresh(close).reason) == ("no_op", "closed_elsewhere")
    assert held(rig) == [FIVE]


def test_levels_go_with_the_open(rig: Rig) -> None:
    opened(rig, take_profit=Decimal(200_000), stop_loss=Decimal(70_000))
    (trade,) = invariants.open_trades(rig.trader.address)
    assert (trade.take_profit, trade.stop_loss) == (Decimal(200_000), Decimal(70_000))
    position = Position.objects.get()
    assert (position.take_profit, position.stop_loss) == (Decimal(200_000), Decimal(70_000))


@pytest.mark.parametrize(
    ("levels", "name"),
    [
        ({"take_profit": Decimal(1)}, "WRONG_TP"),
        ({"stop_loss": Decimal(10_000_000)}, "WRONG_SL"),
        ({"stop_loss": Decimal(1)}, "SL_TOO_BIG"),
    ],
)
def test_levels_that_the_venue_refuses(rig: Rig, levels: dict[str, Any], name: str) -> None:
    intent = rig.intent(**levels)
    rig.submit()
    intent = fresh(intent)
    assert (intent.state, intent.reason, intent.reason_detail) == ("rejected", "venue_revert", name)
    assert not TxSend.objects.exists()


def test_closes_that_race_in_threads_take_one_slot(rig: Rig) -> None:
    """Four workers ring for the same wallet at once: one close leaves, the others wait and find nothing."""
    opened(rig)
    closes = [closing(rig) for _ in range(4)]

    def submit(_: int) -> None:
        try:
            rig.submit()
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(submit, range(4)))
    assert TxSend.objects.filter(intent__action="close").count() == 1
    assert TxIntent.objects.filter(holds_position=True).count() == 1
    again(rig, 2)
    assert sorted(fresh(close).state for close in closes) == ["filled", "no_op", "no_op", "no_op"]
    invariants.check()

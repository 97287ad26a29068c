"""What owners put into their trades or take out by hand: in the book at once, gone with its block, and no profit."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from execution_app.book import margin_logs
from execution_app.engine import rounds
from execution_app.gate import usage
from execution_app.gate.caps import Limit
from execution_app.models import AuditEntry, Correction, MarginChange, Position, Reservation, TxIntent
from execution_app.states import Action, CapName, Mode
from execution_app.venues import calls
from execution_app.venues.calls import Margin
from tests import invariants, real_parts
from tests.integration.tx.test_divergences import BTC, opened, reduce, send
from tests.integration.tx.test_reorg import reorganise
from tests.integration.tx.test_resting import at_stake, balance
from tests.proxy import Proxy
from tests.rig import Rig, rpc_call


def by_hand(rig: Rig, way: Margin, amount_usdc: str) -> None:
    data = calls.encode_update_margin(BTC, 0, way, Decimal(amount_usdc), [b""])
    send(rig.trader.address, real_parts.deployment.trading, "0x" + data.hex())


def as_it_is() -> tuple[Any, ...]:
    position = Position.objects.get()
    return position.state, position.collateral_usdc, position.leverage_x, position.drift


def lost_today() -> Decimal:
    now = datetime.now(UTC)
    found = usage.used(Limit(CapName.DAILY_LOSS, Decimal(1)), Mode.LIVE, now)
    assert found == usage.of_house(now)[CapName.DAILY_LOSS, Mode.LIVE]
    return found


def test_what_goes_in_is_in_the_book_at_once_and_no_drift(rig: Rig, node: Proxy) -> None:
    opened(rig)
    by_hand(rig, Margin.DEPOSIT, "0.5")
    assert rounds.compare_positions() == 0
    assert as_it_is() == ("open", Decimal("5.5"), Decimal("1.8181818181"), "")
    row = MarginChange.objects.get()
    assert (row.change_usdc, row.settled_at) == (Decimal("0.5"), None)
    position = Position.objects.get()
    assert position.venue_timestamp == row.venue_timestamp
    assert at_stake() == 10, "until it is final the stake stays"
    rig.mine(5)
    assert rounds.compare_positions() == 0
    row.refresh_from_db()
    assert row.settled_at is not None
    assert at_stake() == Decimal("9.9999999996"), "its notional: what its owner put in is nobody's stake"
    assert not Correction.objects.exists()
    assert not AuditEntry.objects.filter(action="position_corrected").exists()
    invariants.check(node)


def test_it_is_neither_profit_nor_loss(rig: Rig, node: Proxy) -> None:
    opened(rig)
    before = balance(rig)
    by_hand(rig, Margin.DEPOSIT, "3")
    by_hand(rig, Margin.WITHDRAW, "1")
    assert rounds.compare_positions() == 0
    assert as_it_is()[1] == 7
    rpc_call("evm_increaseTime", 30)
    rig.intent(Action.CLOSE)
    rig.run()
    position = Position.objects.get()
    assert (position.state, position.collateral_usdc) == ("closed", 7)
    assert position.paid_out_usdc is not None
    gained = position.paid_out_usdc - position.collateral_usdc
    assert -Decimal("0.1") < gained < 0, "spread and fee"
    assert balance(rig) - before == int((gained + 5) * 10**6)
    assert lost_today() == -gained
    assert at_stake() == 0
    invariants.check(node)


def test_a_close_before_the_book_has_looked_takes_all_and_gains_nothing(rig: Rig, node: Proxy) -> None:
    opened(rig)
    by_hand(rig, Margin.DEPOSIT, "3")
    rpc_call("evm_increaseTime", 30)
    close = rig.intent(Action.CLOSE)
    rig.run()
    close.refresh_from_db()
    assert (close.state, close.close_usdc) == ("filled", 8)
    position = Position.objects.get()
    assert (position.state, position.collateral_usdc) == ("closed", 8)
    assert position.paid_out_usdc is not None
    assert -Decimal("0.1") < position.paid_out_usdc - 8 < 0
    rig.mine(5)
    rounds.compare_positions()
    assert MarginChange.objects.get().settled_at is not None
    invariants.check(node)


def test_a_part_is_closed_after_it_and_before_it(rig: Rig, node: Proxy) -> None:
    opened(rig)
    rig.intent(Action.CLOSE, reduce_usdc=Decimal(1))
    rig.run()
    by_hand(rig, Margin.DEPOSIT, "4")
    rpc_call("evm_increaseTime", 30)
    rig.intent(Action.CLOSE, reduce_usdc=Decimal(2))
    rig.run()
    assert rounds.compare_positions() == 0
    assert as_it_is()[:3] == ("open", Decimal(6), Decimal(1))
    rig.mine(5)
    rounds.compare_positions()
    assert at_stake() == 6
    invariants.check(node)


def test_what_goes_in_while_a_close_of_ours_is_under_way_is_read_after_it(rig: Rig, node: Proxy) -> None:
    opened(rig)
    node.hold()
    close = rig.intent(Action.CLOSE, reduce_usdc=Decimal(2))
    rig.submit()
    by_hand(rig, Margin.DEPOSIT, "1")
    assert rounds.compare_positions() == 0, "what is under way is no drift"
    node.release("all")
    rig.finish(2)
    close.refresh_from_db()
    assert (close.state, close.close_usdc) == ("filled", 2)
    assert rounds.compare_positions() == 0
    assert as_it_is()[:2] == ("open", 4)
    rig.mine(5)
    rounds.compare_positions()
    invariants.check(node)


def test_what_leaves_the_chain_leaves_the_book(rig: Rig, node: Proxy) -> None:
    opened(rig)
    by_hand(rig, Margin.DEPOSIT, "5")
    assert rounds.compare_positions() == 0
    assert as_it_is()[:3] == ("open", 10, 1)
    reorganise(1)
    node.reset_pool()
    assert rounds.compare_positions() == 0
    assert not MarginChange.objects.exists()
    assert as_it_is() == ("open", 5, 2, "")
    assert at_stake() == 10
    invariants.check(node)


def test_one_that_is_final_is_left_as_it_is_and_told_once(
    rig: Rig, node: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(margin_logs, "LOG_SPAN", 2)
    opened(rig)
    by_hand(rig, Margin.DEPOSIT, "1")
    rig.mine(5)
    for _ in range(3):
        assert rounds.compare_positions() == 0
    by_hand(rig, Margin.WITHDRAW, "2")
    assert rounds.compare_positions() == 0
    assert list(MarginChange.objects.order_by("id").values_list("change_usdc", flat=True)) == [1, -2]
    assert as_it_is()[:3] == ("open", 4, Decimal("2.49999975"))
    rig.mine(5)
    rounds.compare_positions()
    invariants.check(node)


def test_what_no_event_tells_is_corrected_as_before(rig: Rig, node: Proxy) -> None:
    """A part that a level took, after a change of margin: the correction begins it anew, and the change counts no more."""
    opened(rig)
    by_hand(rig, Margin.DEPOSIT, "3")
    rounds.compare_positions()
    reduce(rig, 2)
    assert rounds.compare_positions() == 1
    rig.mine(5)
    rounds.compare_positions()
    assert as_it_is() == ("open", 6, Decimal("1.25"), "")
    assert (Correction.objects.count(), MarginChange.objects.count()) == (1, 1)
    assert at_stake() == Decimal("7.5")
    invariants.check(node)


def test_a_trade_that_is_gone_has_lost_what_was_put_in(rig: Rig, node: Proxy) -> None:
    opened(rig)
    by_hand(rig, Margin.DEPOSIT, "3")
    rounds.compare_positions()
    rig.mine(5)
    rounds.compare_positions()
    reduce(rig, 8)
    rounds.compare_positions()
    rig.mine(5)
    rounds.compare_positions()
    position = Position.objects.get()
    assert (position.ended_by, position.collateral_usdc, position.paid_out_usdc) == (
        "closed_elsewhere",
        8,
        None,
    )
    assert lost_today() == 8
    assert Reservation.objects.get().released_at is not None
    assert TxIntent.objects.count() == 1

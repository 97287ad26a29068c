"""A trade that its owner increases by their own hand stays the position that it was, and is corrected as any other."""

from decimal import Decimal

import pytest

from execution_app import meters
from execution_app.engine import rounds
from execution_app.models import AuditEntry, ExternalTrade, Fill, Position, Reservation, TxIntent
from execution_app.reservations import at_stake
from execution_app.states import Action
from execution_app.venues import onchain
from tests import invariants
from tests.execution.desks.harness import operate
from tests.guarded import move_price
from tests.increases import BTC, owner_increases
from tests.integration.tx.test_divergences import compared, opened, owner_closes, owner_sends
from tests.integration.tx.test_gateway_faults import Scene, scene, state_of
from tests.integration.tx.test_increase import check, go_on, grow, ours, theirs
from tests.rig import Rig, rpc_call

__all__ = ["scene"]  # the fixture


@pytest.mark.parametrize("leverage_x", [Decimal(2), Decimal(3)])
def test_it_is_told_at_once_and_taken_over_when_final(rig: Rig, leverage_x: Decimal) -> None:
    before = opened(rig)
    owner_increases(rig, 7, leverage_x)
    rounds.compare_positions()
    shown = Position.objects.get()
    assert (shown.state, shown.missed_at_block, shown.collateral_usdc) == ("open", None, 5)
    assert "collateral_usdc is 5.000000, the venue has 12" in shown.drift
    position = compared()
    assert (position.pk, position.state, position.drift, position.grown_price) == (
        before.pk,
        "open",
        "",
        None,
    )
    assert (position.collateral_usdc, position.take_profit, position.stop_loss) == (12, 120_000, 80_000)
    assert (position.leverage_x > 2) == (leverage_x > 2)
    assert Reservation.objects.get().notional_usdc == at_stake(position.collateral_usdc, position.leverage_x)
    entry = AuditEntry.objects.get(action="position_corrected")
    assert entry.before is not None
    assert entry.after is not None
    assert entry.after["open_price"] != entry.before["open_price"]
    assert not ExternalTrade.objects.exists()
    assert compared().corrections.count() == 1, "once"
    invariants.check()
    rig.intent(Action.CLOSE)
    rig.run()
    assert Position.objects.get().ended_by == "close"
    assert Fill.objects.get(action="close").collateral_usdc == 12
    invariants.check()


def test_a_close_goes_at_once_and_closes_all_of_it(rig: Rig) -> None:
    """Long before the increase is final, and before anybody has compared."""
    opened(rig)
    owner_increases(rig)
    close = rig.intent(Action.CLOSE)
    rig.finish(2)
    close.refresh_from_db()
    assert close.state == "filled"
    assert Fill.objects.get(action="close").collateral_usdc == 10
    assert invariants.open_trades(rig.trader.address) == []


def test_several_in_a_row_are_followed(rig: Rig) -> None:
    opened(rig)
    for usdc in (5, 6):
        owner_increases(rig, usdc)
    rounds.compare_positions()
    assert Position.objects.get().missed_at_block is None
    owner_increases(rig, 7, Decimal(4))
    position = compared()
    assert (position.state, position.collateral_usdc) == ("open", 23)
    invariants.check()


def test_what_left_the_chain_was_never_added(rig: Rig) -> None:
    before = opened(rig)
    snapshot = rpc_call("evm_snapshot")
    owner_increases(rig)
    rounds.compare_positions()
    assert Position.objects.get().drift
    rpc_call("evm_revert", snapshot)
    rpc_call("evm_setAutomine", False)
    rpc_call("anvil_mine", hex(6))
    position = compared()
    assert (position.open_price, position.collateral_usdc, position.drift) == (before.open_price, 5, "")
    assert position.corrections.count() == 0


def test_another_trade_in_the_slot_is_not_taken_for_an_increase(rig: Rig) -> None:
    """Closed and opened anew at another price: no increase led there."""
    opened(rig)
    owner_closes(rig, 5)
    again = onchain.OpenOrder(
        rig.trader.address, BTC, True, Decimal(7), Decimal(3), Decimal(100_000), Decimal(50)
    )
    move_price(101_000)
    owner_sends(rig, onchain.encode_open(again))
    owner_increases(rig)
    position = compared()
    assert (position.state, position.ended_by) == ("closed", "owner")
    rounds.compare_positions()
    assert ExternalTrade.objects.get().collateral_usdc == 12


def test_ours_on_top_of_theirs_is_followed_without_an_alarm(scene: Scene) -> None:
    position = scene.open()
    rpc_call("evm_increaseTime", 30)
    owner_increases(scene.rig, 7)
    counted = meters.INVARIANT_VIOLATIONS.labels("event_matches_intent")
    alarms = counted._value.get()
    intent = grow(scene, position)
    for _ in range(2):
        go_on(scene)
    assert state_of(intent) == "filled"
    assert counted._value.get() == alarms
    assert ours(position)[2:] == theirs(scene)[2:], "price and leverage are the venue's"
    for _ in range(3):
        rounds.compare_positions()
        scene.rig.mine(4)
        scene.rig.track()
    assert ours(position) == theirs(scene)
    assert ours(position)[0] == 17
    check(scene)
    close = scene.ask(Action.CLOSE)
    go_on(scene)
    assert (state_of(close), scene.trades()) == ("filled", 0)
    check(scene)


def test_theirs_between_our_message_and_its_block_is_followed_too(scene: Scene) -> None:
    position = scene.open()
    scene.gateway.faults.never = True
    intent = grow(scene, position)
    scene.rig.submit()
    owner_increases(scene.rig, 7, price=100_300)
    scene.gateway.faults.never = False
    operate(scene.gateway)
    for _ in range(2):
        go_on(scene)
    assert state_of(intent) == "filled"
    for _ in range(3):
        rounds.compare_positions()
        scene.rig.mine(4)
        scene.rig.track()
    assert ours(position) == theirs(scene)
    assert TxIntent.objects.count() == 2
    check(scene)

"""An increase by signed message: one fill of its position, an open to the caps, and nothing while nobody executes it."""

import json
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection

from execution_app.book import drift, protections
from execution_app.engine import increases
from execution_app.engine.gateway import making
from execution_app.models import Fill, Position, Reservation, TxIntent, VenueMessage
from execution_app.states import Action, Mode, Reason
from execution_app.venues import messages
from execution_app.venues import typed_data as words
from tests import invariants, stakes
from tests.execution.desks.harness import operate, run
from tests.guarded import move_price
from tests.guards import without_guards
from tests.integration.tx.test_divergences import owner_closes
from tests.integration.tx.test_gateway_faults import Scene, path, scene, state_of
from tests.integration.tx.test_gateway_levels import post, reason_of
from tests.integration.tx.test_reorg import reorganise
from tests.rehearsal.sdk_client import client
from tests.rig import rpc_call
from tests.timers import pass_a_minute

__all__ = ["scene"]  # the fixture
Five = Decimal(5)


def grow(scene: Scene, position: Position, usdc: Decimal = Five, **fields: object) -> TxIntent:
    asked = increases.size(position, usdc)
    del asked["action"], asked["symbol"], asked["road"]
    return scene.ask(Action.INCREASE, **asked, **fields)


def go_on(scene: Scene) -> None:
    pass_a_minute()
    run(scene.rig, scene.gateway)


def ours(position: Position) -> tuple[Any, ...]:
    found = Position.objects.get(pk=position.pk)
    return found.collateral_usdc, found.leverage_x, found.open_price, found.state


def theirs(scene: Scene) -> tuple[Any, ...]:
    (trade,) = scene.gateway.books.trades(scene.rig.trader.address)
    return trade.collateral_usdc, trade.leverage_x, trade.open_price, "open"


def held_usdc() -> list[Any]:
    return list(Reservation.objects.order_by("id").values_list("notional_usdc", flat=True))


def check(scene: Scene, *, drained: bool = True) -> None:
    scene.check(drained=drained)
    stakes.check_held()
    if drained:
        stakes.check()
        invariants.check()
        assert drift.compare() == 0


def test_it_is_one_fill_of_its_position(scene: Scene) -> None:
    position = scene.open()
    opened_at = position.venue_timestamp
    move_price(102_000)
    rpc_call("evm_increaseTime", 60)
    scene.rig.mine()  # a deadline is told from the newest block's time
    intent = grow(scene, position)
    before = ours(position)
    pass_a_minute()
    scene.rig.submit()
    operate(scene.gateway)
    scene.rig.mine()
    scene.rig.track()
    assert (state_of(intent), ours(position)) == ("ordered", before), "what is registered is no fill"
    assert held_usdc() == [10, 10]
    run(scene.rig, scene.gateway)
    assert path(intent) == [
        *("pending", "reserved", "signed", "sending", "pending_inclusion"),
        *("mined", "ordered", "filled"),
    ]
    intent.refresh_from_db()
    assert (intent.settled_at is not None, intent.nonce, intent.mode) == (True, None, Mode.LIVE)
    assert ours(position) == theirs(scene)
    assert ours(position)[:2] == (10, 2)
    assert before[2] < ours(position)[2] < Decimal("102010.2")
    position.refresh_from_db()
    assert position.venue_timestamp is not None
    assert opened_at is not None
    assert position.venue_timestamp > opened_at
    fill = Fill.objects.get(intent=intent)
    assert (fill.action, fill.collateral_usdc, fill.price) == ("increase", 5, Decimal("102010.2"))
    assert Position.objects.count() == 1
    message = VenueMessage.objects.get(intent=intent)
    assert message.nonce == f"0x{messages.nonce_of(intent.intent_key, making.domain()):064x}"
    assert json.loads(scene.gateway.posts[-1])["orderType"] == 9
    signed = messages.decode(words.INCREASE, bytes(message.content))
    assert isinstance(signed, messages.IncreaseMessage)
    assert (signed.order.collateral_usdc, signed.order.trade_index) == (Decimal(5), position.trade_index)
    with client(scene.gateway.url, scene.rig.trader.address) as sdk:
        (seen,) = sdk.account.positions().positions
        assert (seen.collateral, seen.leverage, seen.open_price, "open") == ours(position)
    check(scene)
    scene.ask(Action.CLOSE)
    go_on(scene)
    assert ours(position)[3] == "closed"
    assert held_usdc() == [0, 0]
    check(scene)


@pytest.mark.parametrize("fault", ["swallow_next", "drop_next", "refuse_next"])
def test_an_answer_that_is_not_heard_adds_it_once(scene: Scene, fault: str) -> None:
    position = scene.open()
    scene.gateway.faults.set({fault: 1, "drop_after": "", "again": True})
    intent = grow(scene, position)
    for _ in range(2):
        go_on(scene)
    assert (state_of(intent), ours(position)) == ("filled", theirs(scene))
    assert ours(position)[0] == 10
    check(scene)


def test_what_is_never_executed_lapses_and_leaves_all_as_it_was(scene: Scene) -> None:
    position = scene.open()
    before = ours(position)
    scene.gateway.faults.never = True
    intent = grow(scene, position)
    post(scene)
    assert (state_of(intent), ours(position), held_usdc()) == ("pending_inclusion", before, [10, 10])
    check(scene, drained=False)
    scene.outlive()
    assert (state_of(intent), ours(position), held_usdc()) == ("lapsed", before, [10, 0])
    assert TxIntent.objects.count() == 2, "nobody asks for it again"
    scene.gateway.faults.never = False
    operate(scene.gateway)
    assert ours(position) == theirs(scene), "late, it is refused by its deadline"
    check(scene)


def test_a_gateway_that_lies_adds_nothing_in_the_book(scene: Scene) -> None:
    position = scene.open()
    before = ours(position)
    scene.gateway.faults.lie = True
    intent = grow(scene, position)
    run(scene.rig, scene.gateway)
    assert (state_of(intent), ours(position)) == ("pending_inclusion", before)
    scene.outlive()
    assert (state_of(intent), ours(position)) == ("lapsed", before)


def test_a_refund_frees_its_stake_when_it_is_final(scene: Scene) -> None:
    position = scene.open()
    before = ours(position)
    intent = grow(scene, position)
    post(scene)
    operate(scene.gateway)
    scene.rig.mine()
    move_price(101_000)
    scene.rig.keep()
    scene.rig.track()
    assert (state_of(intent), ours(position), held_usdc()) == ("venue_cancelled", before, [10, 10])
    scene.rig.mine(4)
    scene.rig.track()
    assert (ours(position), held_usdc()) == (before, [10, 0])
    check(scene)


@pytest.mark.parametrize("depth", [1, 2], ids=["the keeper's block", "its registration, too"])
def test_a_reorg_takes_it_back_and_it_comes_again(scene: Scene, depth: int) -> None:
    position = scene.open()
    before = ours(position)
    intent = grow(scene, position)
    post(scene)
    operate(scene.gateway)
    scene.rig.keep()
    scene.rig.track()
    assert (state_of(intent), ours(position)[0]) == ("filled", 10)
    reorganise(depth)
    scene.rig.track()
    assert state_of(intent) == ("ordered" if depth == 1 else "pending_inclusion")
    assert (ours(position), held_usdc()) == (before, [10, 10])
    check(scene, drained=False)
    for _ in range(2):
        go_on(scene)
    assert (state_of(intent), ours(position)) == ("filled", theirs(scene))
    assert ours(position)[0] == 10
    check(scene)


def test_a_close_waits_for_it_and_closes_the_whole(scene: Scene) -> None:
    position = scene.open()
    scene.gateway.faults.never = True
    intent = grow(scene, position)
    post(scene)
    close = scene.ask(Action.CLOSE)
    post(scene)
    assert reason_of(close) == ("pending", Reason.WAITS_FOR_EARLIER_ORDER)
    scene.gateway.faults.never = False
    operate(scene.gateway)
    for _ in range(2):
        go_on(scene)
    assert (state_of(intent), state_of(close), scene.trades()) == ("filled", "filled", 0)
    assert Fill.objects.get(intent=close).collateral_usdc == 10
    check(scene)


@pytest.mark.parametrize("registered", [False, True])
def test_a_close_waits_until_its_deadline_at_most(scene: Scene, registered: bool) -> None:
    """What the operator, or the keeper, never carries out holds up no exit; done late, the venue refunds it."""
    position = scene.open()
    scene.gateway.faults.never = not registered
    intent = grow(scene, position)
    post(scene)
    operate(scene.gateway)
    scene.rig.mine()
    scene.rig.track()
    assert state_of(intent) == ("ordered" if registered else "pending_inclusion")
    close = scene.ask(Action.CLOSE)
    post(scene)
    assert reason_of(close) == ("pending", Reason.WAITS_FOR_EARLIER_ORDER)
    if registered:
        age_deadlines()
    else:
        rpc_call("evm_increaseTime", making.LIFE_S + 1)
        scene.rig.mine()
        scene.rig.track()
    move_price(100_000)
    scene.gateway.faults.never = False
    pass_a_minute()
    scene.rig.submit()
    assert state_of(close) == "pending_inclusion"
    operate(scene.gateway)
    for _ in range(2):
        go_on(scene)
    assert state_of(close) == "filled"
    go_on(scene)
    assert (state_of(intent), scene.trades()) == ("filled" if registered else "lapsed", 0)
    closed = Fill.objects.filter(action="close").order_by("id").values_list("collateral_usdc", flat=True)
    assert list(closed) == ([5, 5] if registered else [5]), "what the keeper added first is closed, too"
    check(scene)


def age_deadlines() -> None:
    """The database's clock is beyond them, the chain's is not."""
    with without_guards(), connection.cursor() as cursor:
        cursor.execute("UPDATE venue_messages SET deadline_ms = deadline_ms - 120000")


def test_it_waits_for_a_close_and_is_refused_without_a_position(scene: Scene) -> None:
    position = scene.open()
    scene.gateway.faults.never = True
    close = scene.ask(Action.CLOSE)
    post(scene)
    assert state_of(close) == "pending_inclusion"
    intent = grow(scene, position)
    post(scene)
    assert reason_of(intent) == ("pending", Reason.WAITS_FOR_EARLIER_CLOSE)
    scene.gateway.faults.never = False
    operate(scene.gateway)
    for _ in range(2):
        go_on(scene)
    assert (state_of(close), scene.trades()) == ("filled", 0)
    assert reason_of(intent) == ("rejected", Reason.NO_POSITION)
    assert held_usdc() == [0], "no stake was taken for it"
    check(scene)


@pytest.mark.parametrize("registered", [False, True])
def test_a_position_that_its_owner_closed_first_is_not_increased(scene: Scene, registered: bool) -> None:
    position = scene.open()
    scene.gateway.faults.never = not registered
    intent = grow(scene, position)
    post(scene)
    if registered:
        operate(scene.gateway)
        scene.rig.mine()
        scene.rig.track()
        rpc_call("evm_increaseTime", 5)
    close_by_hand(scene)
    scene.gateway.faults.never = False
    operate(scene.gateway)
    for _ in range(2):
        go_on(scene)
    if not registered:
        scene.outlive()
    assert state_of(intent) == ("venue_cancelled" if registered else "lapsed")
    for _ in range(3):
        drift.compare()
        scene.rig.mine(4)
        scene.rig.track()
    assert (ours(position)[3], held_usdc()) == ("closed", [0, 0])
    check(scene)


def close_by_hand(scene: Scene) -> None:
    """The owner's close is executed before what waits for the keeper."""
    keeper, scene.rig.keeper = scene.rig.keeper, _NewestFirst(scene.rig.keeper)  # type: ignore[assignment]
    owner_closes(scene.rig, 5)
    scene.rig.keeper = keeper


class _NewestFirst:
    """A keeper that executes the order which was registered last."""

    def __init__(self, keeper: object) -> None:
        self._keeper = keeper

    def step(self) -> None:
        keeper = self._keeper
        pending = keeper.pending()  # type: ignore[attr-defined]
        keeper._execute(pending[-1:])  # type: ignore[attr-defined]


def test_two_are_added_one_after_the_other(scene: Scene) -> None:
    position = scene.open()
    scene.gateway.faults.never = True
    first, second = grow(scene, position), grow(scene, position, Decimal(7))
    post(scene)
    assert state_of(first) == "pending_inclusion"
    assert reason_of(second) == ("pending", Reason.WAITS_FOR_EARLIER_ORDER)
    move_price(100_400)
    scene.gateway.faults.never = False
    operate(scene.gateway)
    for _ in range(3):
        go_on(scene)
    assert (state_of(first), state_of(second)) == ("filled", "filled")
    assert ours(position) == theirs(scene)
    assert (ours(position)[0], held_usdc()) == (17, [10, 10, 14])
    check(scene)
    scene.ask(Action.CLOSE, reduce_usdc=Decimal(9))
    go_on(scene)
    assert (ours(position)[0], held_usdc()) == (8, [10, 6, 0]), "closes take from the newest"
    check(scene)


def test_no_open_may_take_the_slot_that_it_names(scene: Scene) -> None:
    position = scene.open()
    scene.gateway.faults.never = True
    growing = grow(scene, position)
    post(scene)
    behind = scene.ask()
    post(scene)
    assert reason_of(behind) == ("pending", Reason.WAITS_FOR_EARLIER_ORDER)
    scene.gateway.faults.never = False
    operate(scene.gateway)
    for _ in range(2):
        go_on(scene)
    assert (state_of(growing), state_of(behind)) == ("filled", "filled")
    scene.gateway.faults.never = True
    scene.ask()
    post(scene)
    late = grow(scene, position)
    post(scene)
    assert reason_of(late) == ("pending", Reason.WAITS_FOR_EARLIER_ORDER)


def test_levels_that_the_venue_had_not_taken_before_go_to_it_after(scene: Scene, settings: Any) -> None:
    """The version that the increase begins is asked for as the one before was, and until the venue has it."""
    position = scene.open()
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(update={"venue": "gateway"})
    low = Decimal(95_000)
    scene.gateway.faults.never = True
    protections.change(position.pk, {"stop_loss": low}, by="ann", reason="test")
    post(scene)
    scene.outlive()
    assert state_of(TxIntent.objects.get(action=Action.LEVELS)) == "lapsed"
    scene.gateway.faults.never = False
    move_price(100_000)
    intent = grow(scene, position)
    go_on(scene)
    assert state_of(intent) == "filled"
    assert position.protections.get(ended_at=None).version == 2
    go_on(scene)
    (trade,) = scene.gateway.books.trades(scene.rig.trader.address)
    assert trade.stop_loss == Position.objects.get(pk=position.pk).stop_loss == low
    scene.check()

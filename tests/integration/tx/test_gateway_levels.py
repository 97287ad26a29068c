"""New levels of a position by signed message: taken once and held as the chain has them, whatever fails on the way."""

import json
from datetime import timedelta
from decimal import Decimal

import pytest
from django.db.models.functions import Now

from execution_app.book import drift, protections
from execution_app.engine import heads, level_changes, level_watch
from execution_app.engine.gateway import making, taken
from execution_app.gate import control
from execution_app.models import Position, TxIntent, VenueMessage
from execution_app.states import Action, Mode, Origin, Reason, RestrictionKind, Road
from execution_app.venues import messages
from execution_app.venues import typed_data as words
from ops.rehearsal import venue as rehearsal
from tests import real_parts
from tests.execution.desks.harness import operate, run
from tests.guarded import move_price
from tests.guards import without_guards
from tests.integration.tx.test_gateway_faults import Scene, path, scene, state_of
from tests.integration.tx.test_reorg import reorganise
from tests.rig import rpc_call
from tests.timers import pass_a_minute

__all__ = ["scene"]  # the fixture
HIGH, LOW = Decimal(120_000), Decimal(95_000)


def levels(
    scene: Scene, position: Position, high: Decimal | None = HIGH, low: Decimal | None = LOW
) -> TxIntent:
    return scene.ask(Action.LEVELS, position=position, take_profit=high, stop_loss=low)


def ours(position: Position) -> tuple[Decimal | None, Decimal | None]:
    found = Position.objects.get(pk=position.pk)
    return found.take_profit, found.stop_loss


def theirs(scene: Scene) -> tuple[Decimal | None, Decimal | None]:
    (trade,) = scene.gateway.books.trades(scene.rig.trader.address)
    return trade.take_profit, trade.stop_loss


def reason_of(intent: TxIntent) -> tuple[str, str]:
    intent.refresh_from_db()
    return intent.state, intent.reason


def post(scene: Scene) -> None:
    """Everything up to the gateway's acceptance, and nothing after."""
    pass_a_minute()
    scene.rig.submit()


def test_levels_are_changed_at_the_venue_and_in_the_book(scene: Scene) -> None:
    position = scene.open()
    intent = levels(scene, position)
    run(scene.rig, scene.gateway)
    assert path(intent) == [
        *("pending", "reserved", "signed", "sending", "pending_inclusion"),
        *("mined", "changed"),
    ]
    intent.refresh_from_db()
    assert (intent.settled_at is not None, intent.nonce, intent.mode) == (True, None, Mode.LIVE)
    assert ours(position) == theirs(scene) == (HIGH, LOW)
    message = VenueMessage.objects.get(intent=intent)
    assert message.nonce == f"0x{messages.nonce_of(intent.intent_key, making.domain()):064x}"
    assert json.loads(scene.gateway.posts[-1]) == {
        "userIntent": "0x" + bytes(message.content).hex(),
        "signedMessage": "0x" + bytes(message.signature).hex(),
    }
    signed = messages.decode(words.LEVELS, bytes(message.content))
    assert isinstance(signed, messages.LevelsMessage)
    assert (signed.take_profit, signed.stop_loss) == (HIGH, LOW)
    levels(scene, position, None, Decimal(96_000))
    scene.later()
    run(scene.rig, scene.gateway)
    assert ours(position) == theirs(scene) == (None, Decimal(96_000))
    assert drift.compare() == 0
    scene.check()


@pytest.mark.parametrize("fault", ["swallow_next", "drop_next", "refuse_next"])
def test_an_answer_that_is_not_heard_changes_them_once(scene: Scene, fault: str) -> None:
    position = scene.open()
    scene.gateway.faults.set({fault: 1, "never": True})
    intent = levels(scene, position)
    post(scene)
    assert state_of(intent) == ("pending_inclusion" if fault == "drop_next" else "sending")
    pass_a_minute()
    scene.rig.track()
    first, *again = list(scene.gateway.posts)[1:]
    assert again == [first], "the same bytes again"
    scene.gateway.faults.never = False
    operate(scene.gateway)
    run(scene.rig, scene.gateway)
    assert (state_of(intent), theirs(scene)) == ("changed", (HIGH, LOW))
    scene.check()


def test_what_is_never_taken_lapses_and_leaves_the_levels_as_they_were(scene: Scene) -> None:
    position = scene.open()
    scene.gateway.faults.never = True
    intent = levels(scene, position)
    post(scene)
    scene.outlive()
    assert (state_of(intent), ours(position)) == ("lapsed", (None, None))
    assert TxIntent.objects.count() == 2, "nobody asks for them again"
    scene.check()


def test_a_gateway_that_lies_changes_nothing_in_the_book(scene: Scene) -> None:
    position = scene.open()
    scene.gateway.faults.lie = True
    intent = levels(scene, position)
    run(scene.rig, scene.gateway)
    assert (state_of(intent), ours(position)) == ("pending_inclusion", (None, None))
    scene.outlive()
    assert state_of(intent) == "lapsed"


def test_a_reorg_takes_them_back_and_gives_them_again(scene: Scene) -> None:
    position = scene.open()
    first = levels(scene, position)
    run(scene.rig, scene.gateway)
    second = levels(scene, position, Decimal(130_000), None)
    post(scene)
    operate(scene.gateway)
    scene.rig.track()
    assert (state_of(second), ours(position)) == ("changed", (Decimal(130_000), None))
    reorganise(1)
    scene.rig.track()
    assert (state_of(first), state_of(second)) == ("changed", "pending_inclusion")
    assert ours(position) == theirs(scene) == (HIGH, LOW)
    pass_a_minute()
    scene.rig.track()
    run(scene.rig, scene.gateway)
    assert (state_of(second), theirs(scene)) == ("changed", (Decimal(130_000), None))
    assert ours(position) == theirs(scene)


def test_what_most_endpoints_know_nothing_of_is_not_final(scene: Scene) -> None:
    """One that showed the nonce spent is believed until that block is final, and no longer."""
    position = scene.open()
    scene.gateway.faults.never = True
    intent = levels(scene, position)
    post(scene)
    message = VenueMessage.objects.select_related("intent__position").get(intent=intent)
    taken.take(message, heads.follow())
    assert (state_of(intent), ours(position)) == ("changed", (HIGH, LOW))
    scene.rig.mine(4)
    scene.rig.track()
    assert (state_of(intent), ours(position)) == ("pending_inclusion", (None, None))
    scene.outlive()
    assert state_of(intent) == "lapsed"


def test_a_close_never_waits_for_them_and_they_wait_for_a_close(scene: Scene) -> None:
    position = scene.open()
    scene.gateway.faults.never = True
    under_way = levels(scene, position)
    post(scene)
    assert state_of(under_way) == "pending_inclusion"
    close = scene.ask(Action.CLOSE, position=position)
    post(scene)
    assert state_of(close) == "pending_inclusion"
    late = levels(scene, position, Decimal(125_000))
    post(scene)
    assert reason_of(late) == ("pending", Reason.WAITS_FOR_EARLIER_CLOSE)
    scene.gateway.faults.never = False
    operate(scene.gateway)
    for _ in range(2):
        pass_a_minute()
        run(scene.rig, scene.gateway)
    assert (state_of(close), scene.trades()) == ("filled", 0)
    assert reason_of(late) == ("no_op", Reason.NO_POSITION)


def test_no_open_may_take_the_slot_that_a_message_names(scene: Scene) -> None:
    position = scene.open()
    scene.gateway.faults.never = True
    changing = levels(scene, position)
    post(scene)
    behind = scene.ask()
    post(scene)
    assert reason_of(behind) == ("pending", Reason.WAITS_FOR_EARLIER_ORDER)
    elsewhere = scene.ask(symbol="ETH-USD")
    post(scene)
    assert state_of(elsewhere) == "pending_inclusion"
    scene.gateway.faults.never = False
    operate(scene.gateway)
    for _ in range(2):
        pass_a_minute()
        run(scene.rig, scene.gateway)
    assert (state_of(changing), state_of(behind)) == ("changed", "filled")
    scene.gateway.faults.never = True
    waiting = scene.ask()
    post(scene)
    assert state_of(waiting) == "pending_inclusion"
    levels(scene, position, Decimal(125_000))
    post(scene)
    late = TxIntent.objects.latest("id")
    assert reason_of(late) == ("pending", Reason.WAITS_FOR_EARLIER_ORDER)


def test_the_last_ones_asked_for_are_the_last_ones_taken(scene: Scene) -> None:
    position = scene.open()
    scene.gateway.faults.never = True
    first = levels(scene, position)
    post(scene)
    second = levels(scene, position, Decimal(125_000))
    post(scene)
    assert (state_of(first), state_of(second)) == ("pending_inclusion", "pending")
    at_s = int(rpc_call("eth_getBlockByNumber", "latest", False)["timestamp"], 16)
    assert level_changes.unexpired(at_s).count() == 1
    rpc_call("evm_increaseTime", making.LIFE_S + 1)
    scene.rig.mine()
    scene.gateway.faults.never = False
    rpc_call("evm_setAutomine", True)
    rehearsal.set_price(real_parts.anvil.url, real_parts.deployment, "BTC-USD", Decimal(100_000))
    rpc_call("evm_setAutomine", False)
    pass_a_minute()
    run(scene.rig, scene.gateway)
    assert (state_of(first), state_of(second)) == ("lapsed", "changed")
    assert ours(position) == theirs(scene) == (Decimal(125_000), LOW)


@pytest.mark.parametrize(
    ("high", "low", "says"),
    [
        (Decimal(99_000), None, "take_profit 99000 is crossed already"),
        (None, Decimal(101_000), "stop_loss 101000 is crossed already"),
        (None, Decimal(1), "beyond a loss of 80 %"),
    ],
)
def test_what_the_venue_would_refuse_is_not_signed(
    scene: Scene, high: Decimal | None, low: Decimal | None, says: str
) -> None:
    intent = levels(scene, scene.open(), high, low)
    run(scene.rig, scene.gateway)
    assert reason_of(intent) == ("rejected", Reason.VENUE_WOULD_CANCEL)
    assert says in intent.reason_detail.replace(".0000000000", "")
    assert len(scene.gateway.posts) == 1


def test_a_stop_refuses_them_and_parks_those_that_are_signed(scene: Scene) -> None:
    position = scene.open()
    scene.gateway.faults.refuse_next = 1
    signed = levels(scene, position)
    post(scene)
    posts = len(scene.gateway.posts)
    control.impose(RestrictionKind.STOP, Origin.COMMAND, reason="test", by="test")
    new = levels(scene, position, Decimal(125_000))
    for _ in range(2):
        post(scene)
        scene.rig.track()
    assert reason_of(new) == ("rejected", Reason.EMERGENCY_STOP)
    assert (state_of(signed), len(scene.gateway.posts)) == ("sending", posts)
    assert theirs(scene) == (None, None)


def test_under_reduce_only_a_stop_comes_nearer_and_goes_no_further(scene: Scene) -> None:
    position = scene.open()
    levels(scene, position)
    run(scene.rig, scene.gateway)
    control.impose(RestrictionKind.REDUCE_ONLY, Origin.COMMAND, reason="test", by="test")
    nearer = levels(scene, position, None, Decimal(96_000))
    pass_a_minute()
    run(scene.rig, scene.gateway)
    assert (state_of(nearer), theirs(scene)) == ("changed", (None, Decimal(96_000)))
    for low in (None, LOW):
        further = levels(scene, position, None, low)
        pass_a_minute()
        run(scene.rig, scene.gateway)
        assert reason_of(further) == ("rejected", Reason.REDUCE_ONLY)
    assert theirs(scene) == (None, Decimal(96_000))


def test_they_wait_while_the_mode_is_dry_and_expire(scene: Scene) -> None:
    position = scene.open()
    control.impose(RestrictionKind.DRY, Origin.COMMAND, reason="test", by="test")
    intent = levels(scene, position)
    post(scene)
    assert reason_of(intent) == ("held", Reason.LIVE_POSITION_IN_DRY)
    TxIntent.objects.filter(pk=intent.pk).update(expires_at=Now())
    post(scene)
    assert reason_of(intent) == ("expired", Reason.LAG_EXCEEDED)
    assert ours(position) == theirs(scene) == (None, None)


def test_what_a_person_sets_goes_to_the_venue_too(scene: Scene, settings: object) -> None:
    """Where orders go by the gateway; elsewhere the venue's own levels stay, and ours alone are new."""
    position = scene.open()
    protections.change(position.pk, {"stop_loss": LOW}, by="ann", reason="here")
    assert not TxIntent.objects.filter(action=Action.LEVELS).exists()
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(update={"venue": "gateway"})  # type: ignore[attr-defined]
    protections.change(position.pk, {"stop_loss": LOW, "take_profit": HIGH}, by="ann", reason="there")
    (intent,) = TxIntent.objects.filter(action=Action.LEVELS)
    assert (intent.intent_key, intent.road) == (f"tpsl:{position.pk}:2:levels", Road.GATEWAY)
    pass_a_minute()
    run(scene.rig, scene.gateway)
    assert ours(position) == theirs(scene) == (HIGH, LOW)
    protections.change(position.pk, {"trailing_stop_pct": Decimal(5)}, by="ann", reason="ours alone")
    assert TxIntent.objects.filter(action=Action.LEVELS).count() == 1


def test_levels_that_are_wanted_back_are_asked_for_while_others_are_under_way(
    scene: Scene, settings: object
) -> None:
    """The venue may take the ones in between: what it has at the moment is not what it will have."""
    position = scene.open()
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(update={"venue": "gateway"})  # type: ignore[attr-defined]
    protections.change(position.pk, {"stop_loss": LOW}, by="ann", reason="first")
    pass_a_minute()
    run(scene.rig, scene.gateway)
    assert theirs(scene) == (None, LOW)
    protections.change(position.pk, {"stop_loss": LOW + 1_000}, by="ann", reason="nearer")
    post(scene)
    protections.change(position.pk, {"stop_loss": LOW}, by="ann", reason="back to the first")
    assert TxIntent.objects.filter(action=Action.LEVELS).count() == 3
    for _ in range(4):
        scene.later()
        run(scene.rig, scene.gateway)
    assert ours(position) == theirs(scene) == (None, LOW)
    scene.check()


@pytest.mark.parametrize("ending", ["lapsed", "expired", "rejected"])
def test_levels_of_the_version_that_counts_are_asked_for_until_the_venue_has_them(
    scene: Scene, settings: object, ending: str
) -> None:
    """Meanwhile they are watched here; but while all of this is down they would guard nobody."""
    position = scene.open()
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(update={"venue": "gateway"})  # type: ignore[attr-defined]
    scene.gateway.faults.never = True
    protections.change(position.pk, {"stop_loss": LOW}, by="ann", reason="test")
    intent = TxIntent.objects.get(action=Action.LEVELS)
    if ending == "lapsed":
        post(scene)
        scene.outlive()
    elif ending == "expired":
        TxIntent.objects.filter(pk=intent.pk).update(expires_at=Now())
        post(scene)
    else:
        control.impose(RestrictionKind.STOP, Origin.COMMAND, reason="test", by="test")
        post(scene)
        control.lift(RestrictionKind.STOP, Origin.COMMAND, by="test")
    assert state_of(intent) == ending
    level_watch.watch()
    assert TxIntent.objects.filter(action=Action.LEVELS).count() == 1, "not at once"
    scene.gateway.faults.never = False
    with without_guards():
        TxIntent.objects.filter(pk=intent.pk).update(settled_at=Now() - timedelta(minutes=1))
    for _ in range(2):
        level_watch.watch()
    again = TxIntent.objects.get(intent_key=f"{intent.intent_key}#2")
    move_price(100_000)
    pass_a_minute()
    run(scene.rig, scene.gateway)
    assert (state_of(again), ours(position)) == ("changed", (None, LOW))
    assert theirs(scene) == (None, LOW)
    level_watch.watch()
    assert TxIntent.objects.filter(action=Action.LEVELS).count() == 2
    scene.check()

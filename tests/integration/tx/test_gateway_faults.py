"""The gateway's road under every fault that the local gateway knows: nothing doubled, nothing lost, nothing guessed."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest
from django.db.models.functions import Now
from eth_utils.crypto import keccak

from execution_app.engine import plans, reserve
from execution_app.engine.gateway import making
from execution_app.gate import control
from execution_app.models import Position, Reservation, TxIntent, VenueMessage, VenueOrder
from execution_app.node import gateway as window
from execution_app.node import rpc, signers
from execution_app.node.breaker import Rules
from execution_app.states import Action, Origin, Reason, RestrictionKind
from execution_app.venues import messages
from execution_app.venues.messages import OpenMessage
from execution_app.venues.onchain import OpenOrder
from ops.rehearsal.contracts import artefact
from ops.rehearsal.gateway.server import Gateway
from ops.rehearsal.rpc import Guise, Message, Node
from tests import letters, real_parts
from tests.execution.desks.harness import operate, run, served
from tests.integration.tx.test_reorg import reorganise
from tests.rig import Rig, rpc_call
from tests.timers import pass_a_minute


@dataclass
class Scene:
    rig: Rig
    gateway: Gateway
    first_block: int

    def ask(self, action: Action = Action.OPEN, **fields: Any) -> TxIntent:
        return self.rig.intent(action, road="gateway", **fields)

    def open(self) -> Position:
        intent = self.ask()
        run(self.rig, self.gateway)
        intent.refresh_from_db()
        assert intent.state == "filled"
        return Position.objects.get(fills__intent=intent)

    def later(self) -> None:
        """Timers of ours pass, the chain's clock does not."""
        pass_a_minute()
        self.rig.track()

    def outlive(self) -> None:
        """The deadlines pass, and are final."""
        rpc_call("evm_increaseTime", making.LIFE_S + 60)
        self.rig.mine()
        self.rig.track()
        self.rig.mine(4)
        self.rig.track()

    def check(self, *, drained: bool = True) -> None:
        letters.check(self.gateway.posts, first_block=self.first_block, drained=drained)

    def trades(self) -> int:
        return len(self.gateway.books.trades(self.rig.trader.address))


@pytest.fixture
def scene(rig: Rig, settings: Any) -> Iterator[Scene]:
    with served(settings) as gateway:
        yield Scene(rig, gateway, int(rpc_call("eth_blockNumber"), 16))


def state_of(intent: TxIntent) -> str:
    return str(TxIntent.objects.values_list("state", flat=True).get(pk=intent.pk))


def outcome(intent: TxIntent) -> str:
    return str(VenueMessage.objects.values_list("outcome", flat=True).get(intent=intent))


def path(intent: TxIntent) -> list[str]:
    return list(intent.transitions.order_by("id").values_list("to_state", flat=True))


def test_the_bytes_are_stored_before_they_leave(scene: Scene) -> None:
    intent = scene.ask()
    reserve.reserve(scene.rig.wallet.pk)
    message = VenueMessage.objects.get()
    assert (state_of(intent), message.outcome, message.leased_at) == ("signed", "unoffered", None)
    assert list(scene.gateway.posts) == []
    run(scene.rig, scene.gateway)
    assert path(intent) == [
        *("pending", "reserved", "signed", "sending", "pending_inclusion"),
        *("mined", "ordered", "filled"),
    ]
    (post,) = scene.gateway.posts
    assert json.loads(post)["erc712"]["userSignature"] == "0x" + bytes(message.signature).hex()
    assert message.nonce == f"0x{messages.nonce_of(intent.intent_key, making.domain()):064x}"
    scene.check()


@pytest.mark.parametrize("fault", ["drop_next", "swallow_next"])
def test_an_acceptance_that_is_not_heard_loses_no_fill_and_doubles_none(scene: Scene, fault: str) -> None:
    scene.gateway.faults.set({fault: 1, "drop_after": ""})
    intent = scene.ask()
    scene.rig.submit()
    assert (state_of(intent), outcome(intent)) == (
        "sending",
        "unknown" if fault == "drop_next" else "rpc_fault",
    )
    run(scene.rig, scene.gateway)
    assert (state_of(intent), scene.trades(), len(scene.gateway.posts)) == ("filled", 1, 1)
    scene.check()


def test_a_stream_that_breaks_behind_the_acceptance_is_followed_by_its_status(scene: Scene) -> None:
    scene.gateway.faults.drop_next = 1
    intent = scene.ask()
    scene.rig.submit()
    message = VenueMessage.objects.get()
    assert (state_of(intent), message.said) == ("pending_inclusion", "MarketOrderAccepted")
    (request,) = scene.gateway.ledger.all()
    for attempt in (1, 2):
        told = {"attempt": attempt, "code": "NO_PRICE", "message": "", "willRetry": True}
        scene.gateway.ledger.tell(request, "AttemptFailed", told)
        scene.later()
        message.refresh_from_db()
        assert (message.said, message.last_seq) == ("AttemptFailed NO_PRICE", attempt)
    run(scene.rig, scene.gateway)
    assert (state_of(intent), scene.trades(), len(scene.gateway.posts)) == ("filled", 1, 1)
    scene.check()


@pytest.mark.parametrize("again", [False, True])
def test_what_is_posted_again_is_the_same_bytes(scene: Scene, again: bool) -> None:
    scene.gateway.faults.set({"never": True, "drop_next": 2, "drop_after": "", "again": again})
    intent = scene.ask()
    scene.rig.submit()
    scene.later()
    scene.later()
    assert len(scene.gateway.posts) == 3
    assert len(set(scene.gateway.posts)) == 1
    assert len(scene.gateway.ledger.all()) == (3 if again else 1)
    scene.gateway.faults.never = False
    run(scene.rig, scene.gateway)
    assert (state_of(intent), scene.trades()) == ("filled", 1)
    scene.check()


@pytest.mark.parametrize("status", [429, 502])
def test_a_busy_gateway_is_asked_again(scene: Scene, status: int) -> None:
    scene.gateway.faults.set({"refuse_next": 1, "refuse_status": status})
    intent = scene.ask()
    scene.rig.submit()
    assert (state_of(intent), outcome(intent)) == ("sending", "rpc_fault")
    scene.rig.submit()
    assert len(scene.gateway.posts) == 1  # its timer has not run out
    scene.later()
    run(scene.rig, scene.gateway)
    assert (state_of(intent), scene.trades()) == ("filled", 1)
    scene.check()


def test_what_is_never_executed_lapses_finally_and_is_executed_no_more(scene: Scene) -> None:
    scene.gateway.faults.never = True
    intent = scene.ask()
    scene.rig.submit()
    rpc_call("evm_increaseTime", making.LIFE_S + 60)
    scene.rig.mine()
    scene.rig.track()
    assert state_of(intent) == "pending_inclusion"  # its deadline is over, not finally
    assert Reservation.objects.get().state == "open"
    scene.rig.mine(4)
    scene.rig.track()
    assert (state_of(intent), Reservation.objects.get().state) == ("lapsed", "released")
    scene.gateway.faults.never = False
    run(scene.rig, scene.gateway)
    assert scene.gateway.ledger.all()[0].events[-1].payload["code"] == "InvalidDeadline"
    assert scene.trades() == 0
    scene.check()


def test_a_close_that_lapses_is_asked_for_again_and_closes_once(scene: Scene) -> None:
    position = scene.open()
    scene.gateway.faults.never = True
    close = scene.ask(Action.CLOSE)
    scene.rig.submit()
    scene.outlive()
    assert state_of(close) == "lapsed"
    again = TxIntent.objects.get(intent_key=f"{close.intent_key}#2")
    assert (again.road, again.position_id) == ("gateway", position.pk)
    scene.gateway.faults.never = False
    scene.later()
    run(scene.rig, scene.gateway)
    position.refresh_from_db()
    assert (state_of(again), position.state, scene.trades()) == ("filled", "closed", 0)
    scene.check()


def test_what_the_gateway_says_is_no_proof(scene: Scene) -> None:
    scene.gateway.faults.lie = True
    intent = scene.ask()
    run(scene.rig, scene.gateway)
    scene.later()
    assert VenueMessage.objects.get().said == "MarketOrderExecuted"
    assert (state_of(intent), Position.objects.count()) == ("pending_inclusion", 0)
    scene.outlive()
    assert state_of(intent) == "lapsed"
    scene.check()


@pytest.mark.parametrize("fault", ["double", "mute"])
def test_events_that_come_twice_or_never_change_nothing(scene: Scene, fault: str) -> None:
    scene.gateway.faults.set({fault: True})
    intent = scene.ask()
    run(scene.rig, scene.gateway)
    scene.later()
    assert (state_of(intent), scene.trades()) == ("filled", 1)
    scene.check()


def test_what_the_gateway_forgot_is_posted_again(scene: Scene) -> None:
    scene.gateway.faults.never = True
    intent = scene.ask()
    scene.rig.submit()
    scene.gateway.ledger.forget()
    scene.gateway.faults.never = False
    scene.later()
    scene.later()
    assert len(set(scene.gateway.posts)) == 1
    run(scene.rig, scene.gateway)
    assert (state_of(intent), scene.trades(), len(scene.gateway.posts)) == ("filled", 1, 2)
    scene.check()


def test_a_delegate_revoked_in_flight_executes_nothing(scene: Scene) -> None:
    intent = scene.ask()
    scene.rig.submit()
    node = Node(real_parts.anvil.url)
    call = artefact("Trading").call("removeDelegate", scene.rig.wallet.address)
    rpc_call("evm_setAutomine", True)
    Guise(node, scene.rig.trader.address).transact(Message(real_parts.deployment.trading, call, 200_000))
    rpc_call("evm_setAutomine", False)
    run(scene.rig, scene.gateway)
    scene.later()
    assert VenueMessage.objects.get().said == "Error DELEGATE_NOT_APPROVED"
    assert state_of(intent) == "pending_inclusion"
    scene.outlive()
    assert (state_of(intent), scene.trades()) == ("lapsed", 0)
    assert "DELEGATE_NOT_APPROVED" in TxIntent.objects.get(pk=intent.pk).reason_detail
    scene.check()


def test_a_delayed_keeper_and_operator_are_waited_for(scene: Scene) -> None:
    scene.gateway.faults.delay_s = 3600.0
    intent = scene.ask()
    run(scene.rig, scene.gateway)
    assert state_of(intent) == "pending_inclusion"
    scene.gateway.faults.delay_s = 0.0
    operate(scene.gateway)
    scene.rig.mine()
    scene.rig.track()
    assert state_of(intent) == "ordered"
    scene.rig.mine(8)
    scene.rig.track()
    assert state_of(intent) == "ordered"
    run(scene.rig, scene.gateway)
    assert (state_of(intent), scene.trades()) == ("filled", 1)
    scene.check()


@pytest.mark.parametrize("filled", [False, True])
def test_an_order_whose_block_left_is_posted_again_and_made_once(scene: Scene, filled: bool) -> None:
    intent = scene.ask()
    scene.rig.submit()
    operate(scene.gateway)
    scene.rig.track()
    blocks = 1
    if filled:
        scene.rig.keep()
        scene.rig.track()
        blocks += 1
    assert state_of(intent) == ("filled" if filled else "ordered")
    reorganise(blocks)
    scene.rig.track()
    assert state_of(intent) == "pending_inclusion"
    assert not VenueOrder.objects.exists()
    assert not Position.objects.filter(state="open").exists()
    for _ in range(2):
        scene.later()
        run(scene.rig, scene.gateway)
    assert (state_of(intent), scene.trades()) == ("filled", 1)
    assert len(set(scene.gateway.posts)) == 1
    scene.check()


def test_nothing_is_posted_under_a_stop_and_what_left_is_followed(scene: Scene) -> None:
    unposted = scene.ask()
    reserve.reserve(scene.rig.wallet.pk)
    assert control.impose(RestrictionKind.STOP, Origin.COMMAND, by="test", reason="test").in_flight == []
    for _ in range(2):
        scene.later()
        scene.rig.submit()
    assert (state_of(unposted), list(scene.gateway.posts)) == ("signed", [])
    control.lift(RestrictionKind.STOP, Origin.COMMAND, by="test")
    scene.gateway.faults.set({"drop_next": 1, "drop_after": ""})
    scene.rig.submit()
    told = control.impose(RestrictionKind.STOP, Origin.COMMAND, by="test", reason="test").in_flight
    assert told == [VenueMessage.objects.get().digest]
    for _ in range(2):
        scene.later()
        run(scene.rig, scene.gateway)
    assert (state_of(unposted), len(scene.gateway.posts)) == ("filled", 1)
    scene.check()


def test_a_gateway_that_hangs_is_left_alone_and_holds_up_nothing_else(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, limit_s in (("ACCEPT_S", 0.3), ("STATUS_S", 0.3), ("RULES", Rules(slow_s=0.2, rest_s=3600.0))):
        monkeypatch.setattr(window, name, limit_s)
    scene.gateway.faults.hang_s = 3.0
    intent = scene.ask()
    scene.rig.submit()
    assert (state_of(intent), outcome(intent)) == ("sending", "unknown")
    assert window.rests()
    other = scene.rig.intent(symbol="ETH-USD", road="onchain")
    for _ in range(2):
        scene.later()
        scene.rig.run()
    assert state_of(other) == "filled"
    message = VenueMessage.objects.get()
    assert (len(scene.gateway.posts), message.posts) == (1, 1)
    assert control.impose(RestrictionKind.STOP, Origin.COMMAND, by="test", reason="test").in_flight == [
        message.digest
    ]
    control.lift(RestrictionKind.STOP, Origin.COMMAND, by="test")
    scene.gateway.faults.hang_s = 0.0
    window.breaker.cache_clear()  # nobody waits for the end of a rest
    scene.later()
    run(scene.rig, scene.gateway)
    assert (state_of(intent), scene.trades()) == ("filled", 2)
    scene.check()


def test_a_signed_open_that_may_no_longer_leave_lapses(scene: Scene) -> None:
    intent = scene.ask()
    reserve.reserve(scene.rig.wallet.pk)
    TxIntent.objects.filter(pk=intent.pk).update(expires_at=Now())
    run(scene.rig, scene.gateway)
    assert (state_of(intent), list(scene.gateway.posts)) == ("signed", [])
    scene.outlive()
    assert state_of(intent) == "lapsed"
    scene.check()


def test_a_venue_that_takes_messages_alone_does_not_refuse_them() -> None:
    alone = "0x" + keccak(text="OnlyBatchedFlowAllowed()")[:4].hex()
    error = rpc.NodeError(3, "execution reverted", alone)
    plan = plans.Plan()
    assert plans._judged(plan, error, exits=False, signs=True) is plan
    assert plans._judged(plan, error, exits=False, signs=False).problem is Reason.VENUE_REVERT


def test_a_message_that_an_older_copy_of_the_database_signed_is_found_and_not_doubled(scene: Scene) -> None:
    intent = scene.ask()
    earlier = OpenMessage(
        OpenOrder(
            trader=scene.rig.trader.address,
            pair_index=1,
            is_long=True,
            collateral_usdc=Decimal(5),
            leverage_x=Decimal(2),
            wanted_price=Decimal(100_001),
            slippage_pct=Decimal("0.5"),
        ),
        (int(rpc_call("eth_getBlockByNumber", "latest", False)["timestamp"], 16) + 60) * 1000,
        messages.nonce_of(intent.intent_key, making.domain()),
    )
    letter = signers.Letter(
        making.domain(), scene.rig.wallet.address, scene.rig.trader.address, intent.intent_key, earlier
    )
    scene.gateway.ledger.accept(0, earlier, messages.encode(earlier), signers.sign_letter(letter))
    operate(scene.gateway)
    scene.rig.mine(3)
    run(scene.rig, scene.gateway)
    scene.later()
    assert (state_of(intent), scene.trades()) == ("filled", 1)
    assert VenueMessage.objects.get().content != messages.encode(earlier)
    assert Position.objects.get().open_price == Decimal(100_010)
    scene.check()

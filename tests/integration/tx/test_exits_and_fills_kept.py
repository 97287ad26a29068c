"""Exits and fills that are lost, or kept waiting by one row."""

from decimal import Decimal
from typing import Any

import pytest

from execution_app.engine import reserve, venue_events
from execution_app.engine.exits import MAX_FAILURES
from execution_app.engine.gateway import following
from execution_app.gate import control
from execution_app.models import Position, TxIntent
from execution_app.states import Action, Origin, RestrictionKind
from execution_app.venues import onchain
from tests import real_parts
from tests.execution.desks.harness import operate, run
from tests.execution.test_exits import opened
from tests.integration.tx.test_gateway_faults import Scene, scene, state_of  # noqa: F401
from tests.integration.tx.test_nodes_that_lie import nodes, state  # noqa: F401
from tests.integration.tx.test_reorg import reorganise
from tests.rig import Rig, rpc_call
from tests.timers import pass_a_minute


def test_an_exit_outlives_a_gateway_that_is_away(scene: Scene) -> None:  # noqa: F811
    """A lapsed message costs nothing: three of them are three minutes without a gateway, and no reason to give up."""
    position = scene.open()
    scene.gateway.faults.never = True
    scene.ask(Action.CLOSE)
    for _ in range(MAX_FAILURES):
        scene.later()
        scene.rig.submit()
        scene.outlive()
    scene.gateway.faults.never = False
    for _ in range(2):
        scene.later()
        run(scene.rig, scene.gateway)
    position.refresh_from_db()
    assert (position.state, scene.trades()) == ("closed", 0)
    scene.check()


def test_a_close_that_lapses_under_a_stop_goes_on_after_it(scene: Scene) -> None:  # noqa: F811
    """On the other road its slot is parked, and leaves when the stop is lifted."""
    position = scene.open()
    close = scene.ask(Action.CLOSE)
    reserve.reserve(scene.rig.wallet.pk)
    assert state_of(close) == "signed"
    control.impose(RestrictionKind.STOP, Origin.COMMAND, by="test", reason="test")
    scene.outlive()
    scene.later()
    scene.rig.submit()
    control.lift(RestrictionKind.STOP, Origin.COMMAND, by="test")
    for _ in range(2):
        scene.later()
        run(scene.rig, scene.gateway)
    position.refresh_from_db()
    assert (position.state, scene.trades()) == ("closed", 0)
    scene.check()


def test_an_order_of_a_message_is_found_after_a_long_absence(
    scene: Scene,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Executed right after it was posted; nobody looked at the chain for longer than one look reaches back."""
    monkeypatch.setattr(following, "LOG_SPAN", 10)
    monkeypatch.setattr(following, "EARLIER", 20)
    intent = scene.ask()
    scene.rig.submit()
    operate(scene.gateway)
    scene.rig.keep()
    scene.rig.mine(3 * 10 * following.SPANS)
    for _ in range(3):
        scene.later()
    assert (state_of(intent), scene.trades()) == ("filled", 1)


def test_one_order_whose_end_nobody_confirms_keeps_no_other_from_being_followed(
    rig: Rig,
    nodes: list[Any],  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two of three providers refuse the logs; the third has lost one event. What comes later is read all the same."""
    monkeypatch.setattr(venue_events, "LOG_SPAN", 10)

    def refusing(request: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
        if request["method"] != "eth_getLogs":
            return answer
        error = {"code": -32000, "message": "eth_getLogs is limited to a 5 block range"}
        return {"jsonrpc": "2.0", "id": request["id"], "error": error}

    for node in nodes[1:]:
        node.faults.tell = refusing
    lost = rig.intent()
    rig.submit()
    rig.mine()
    rig.track()
    nodes[0].faults.hide_logs = True
    rig.keep()
    rig.track()
    assert state(lost) == "ordered"
    nodes[0].faults.hide_logs = False
    event_block = int(rpc_call("eth_blockNumber"), 16)
    rig.mine(2 * 10 * venue_events.SPANS_A_PASS)

    def forgetful(request: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
        if request["method"] == "eth_getLogs" and int(request["params"][0]["fromBlock"], 16) <= event_block:
            return {**answer, "result": []}
        return answer

    nodes[0].faults.tell = forgetful
    later = rig.intent(symbol="ETH-USD")
    for _ in range(3):
        pass_a_minute()
        rig.run()
    assert state(lost) == "ordered"
    assert state(later) == "filled"


def test_a_close_of_one_position_follows_it_through_a_reorg(rig: Rig) -> None:
    """The keeper fills the same order again, a moment later: it is the same position to whoever asked to be out."""
    rig.intent()
    rig.submit()
    rig.mine()
    rig.track()
    rig.keep()
    rig.track()
    position = Position.objects.get(state="open")
    close = rig.intent(
        Action.CLOSE, position=position, only_position=True
    )  # as Telegram, the panel and levels do
    reorganise(1)
    rpc_call("evm_increaseTime", 30)
    rig.track()
    rig.keep()
    rig.track()
    for _ in range(3):
        pass_a_minute()
        rig.run()
    close.refresh_from_db()
    assert not Position.objects.filter(state="open").exists(), f"{close.state}: {close.reason_detail}"


def test_of_two_alike_that_a_reorg_opened_anew_the_one_that_was_asked_for_is_closed(rig: Rig) -> None:
    """Which row is which is told by its order."""
    rig.intent()
    rig.intent()
    rig.submit()
    rig.mine()
    rig.track()
    rig.keep()
    rig.track()
    first = Position.objects.order_by("id")[0]
    order = first.fills.get(action=Action.OPEN).intent
    close = rig.intent(Action.CLOSE, position=first, only_position=True)
    reorganise(1)
    rpc_call("evm_increaseTime", 30)
    rig.track()
    rig.keep()
    rig.track()
    for _ in range(2):
        pass_a_minute()
        rig.run()
    close.refresh_from_db()
    assert close.state == "no_op"
    assert state(TxIntent.objects.get(intent_key=f"{close.intent_key}#2")) == "filled"
    (left,) = Position.objects.filter(state="open")
    assert left.fills.get(action=Action.OPEN).intent != order


def test_a_close_leaves_alone_a_trade_like_it_that_always_stood(rig: Rig) -> None:
    stood = opened(rig)
    rig.intent()
    rig.submit()
    rig.mine()
    rig.track()
    rig.keep()
    rig.track()
    later = Position.objects.exclude(pk=stood.pk).get()
    close = rig.intent(Action.CLOSE, position=later, only_position=True)
    reorganise(1)
    rpc_call("evm_increaseTime", 30)
    rig.track()
    rig.keep()
    rig.track()
    for _ in range(3):
        pass_a_minute()
        rig.run()
    close.refresh_from_db()
    assert close.state == "no_op"
    assert list(Position.objects.filter(state="open")) == [stood]


def owner_asks_to_close(rig: Rig) -> None:
    trading = real_parts.deployment.trading
    fee = rpc_call("eth_call", {"to": trading, "data": "0x" + onchain.call_execution_fee().hex()}, "latest")
    order = onchain.CloseOrder(rig.trader.address, onchain.PAIRS["BTC-USD"], 0, Decimal(5), Decimal(1))
    rpc_call("anvil_impersonateAccount", rig.trader.address)
    rpc_call("evm_setAutomine", True)
    rpc_call(
        "eth_sendTransaction",
        {
            "from": rig.trader.address,
            "to": trading,
            "data": "0x" + onchain.encode_close(order).hex(),
            "value": hex(int(fee, 16)),
            "gas": hex(2_000_000),
        },
    )
    rpc_call("evm_setAutomine", False)


@pytest.fixture
def replaced(rig: Rig) -> tuple[Position, TxIntent]:
    """A trade that its owner closed, and in its slot the next one, both in one block that is not final."""
    position = opened(rig)
    owner_asks_to_close(rig)
    rpc_call("evm_increaseTime", 30)
    again = rig.intent()
    rig.submit()
    rig.mine()
    rig.track()
    rig.keep()
    rig.track()
    assert state(again) == "filled"
    position.refresh_from_db()
    assert (position.state, position.ended_by) == ("closed", "closed_elsewhere")
    return position, again


def test_a_position_whose_successor_left_the_chain_is_open_again(
    rig: Rig, replaced: tuple[Position, TxIntent]
) -> None:
    position, again = replaced
    reorganise(1)
    rig.track()
    assert state(again) == "ordered"
    position.refresh_from_db()
    assert position.state == "open"


def test_an_exit_waits_until_what_ended_its_position_is_final(
    rig: Rig, replaced: tuple[Position, TxIntent]
) -> None:
    position, _ = replaced
    close = rig.intent(Action.CLOSE, position=position, only_position=True)
    pass_a_minute()
    rig.submit()
    assert (state(close), close.reason) == ("pending", "waits_for_earlier_close")
    rig.mine(4)
    rig.track()
    pass_a_minute()
    rig.submit()
    assert (state(close), close.reason) == ("no_op", "no_position")

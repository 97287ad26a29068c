"""Three endpoints before one chain, one of which lies or keeps silent: nothing follows from it alone."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from pytest_django.fixtures import Settings

from execution_app import meters
from execution_app.book.drift import compare
from execution_app.engine import heads
from execution_app.errors import Disagreement
from execution_app.models import Chain, Position, TxIntent, TxReceipt, VenueOrder
from execution_app.node import rpc
from execution_app.states import Action
from execution_app.venues import onchain
from tests import invariants, real_parts
from tests.chaos.lagging_node import LaggingNode
from tests.patience import hurry
from tests.proxy import LIES
from tests.rig import Rig, rpc_call
from tests.timers import pass_a_minute

Tell = Callable[[dict[str, Any], dict[str, Any]], dict[str, Any]]
ZERO = "0x" + "00" * 32


@pytest.fixture
def nodes(rig: Rig, settings: Settings) -> Iterator[list[LaggingNode]]:
    """The first is asked first, and is the one that misbehaves."""
    with ExitStack() as stack:
        found = [stack.enter_context(LaggingNode(real_parts.anvil.url)) for _ in range(3)]
        timers, urls = {"rebroadcast_after_s": 20, "bump_after_s": 600}, ",".join(node.url for node in found)
        settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(update=timers | {"base_rpc_url": urls})
        rpc.endpoints.cache_clear()
        yield found
        rpc.endpoints.cache_clear()


def silence(nodes: list[LaggingNode], *positions: int) -> None:
    for position in positions:
        nodes[position].faults.broken = "reset"


def mend(nodes: list[LaggingNode]) -> None:
    for node in nodes:
        node.faults.broken, node.faults.tell, node.faults.lie = "", None, ""
    rpc.endpoints.cache_clear()  # nobody waits for the end of a rest


def state(intent: TxIntent) -> str:
    intent.refresh_from_db()
    return str(intent.state)


def instead(method: str, result: Any) -> Tell:
    def tell(request: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
        return {**answer, "result": result} if request["method"] == method else answer

    return tell


def settle(rig: Rig, nodes: list[LaggingNode], *intents: TxIntent) -> None:
    """When all is well again, everything comes to its end, once."""
    mend(nodes)
    rig.finish(2)
    for intent in intents:
        assert state(intent) == "filled"
        assert intent.settled_at is not None
    for node in nodes:
        invariants.check(node)


@pytest.mark.parametrize("lie", sorted(LIES))
def test_a_lie_about_bytes_changes_nothing(rig: Rig, nodes: list[LaggingNode], lie: str) -> None:
    nodes[0].faults.lie = lie
    intent = rig.intent()
    rig.run()
    assert state(intent) == "filled"
    settle(rig, nodes, intent)


@pytest.mark.parametrize("lie", sorted(LIES))
def test_when_all_lie_about_bytes_the_same_bytes_are_offered_until_they_are_mined(
    rig: Rig, nodes: list[LaggingNode], lie: str
) -> None:
    """Neither cancelled nor refused nor replaced, and no second slot."""
    for node in nodes:
        node.faults.lie = lie
    intent = rig.intent()
    rig.submit()
    for _ in range(4):
        pass_a_minute()
        rig.mine()
        rig.submit()
        rig.track()
    assert state(intent) in {"sending", "pending_inclusion"}
    assert [send.kind for send in intent.sends.all()] == ["exec"]
    assert len(nodes[2].log) >= 4
    assert {offer.tx_hash for offer in nodes[2].log} == {intent.sends.get().tx_hash}
    settle(rig, nodes, intent)


@pytest.mark.parametrize("broken", ["reset", "black hole", "half-open", "refuse", "502", "lost"])
def test_a_broken_endpoint_keeps_nobody_from_trading(rig: Rig, nodes: list[LaggingNode], broken: str) -> None:
    hurry(rpc.endpoints()[0])
    intent = rig.intent()
    with ExitStack() as stack:
        if broken == "refuse":
            stack.enter_context(nodes[0].refusing())
        elif broken == "502":
            nodes[0].faults.http_5xx_next = 10**6
        elif broken == "lost":
            nodes[0].faults.lose_rate = 1.0
        else:
            nodes[0].faults.broken = broken
        rig.run()
        assert state(intent) == "filled"
        assert intent.settled_at is not None, "two of three are a majority"
        nodes[0].mended.set()
    nodes[0].faults.http_5xx_next, nodes[0].faults.lose_rate = 0, 0.0
    settle(rig, nodes, intent)


def test_a_slow_endpoint_and_one_that_doubles(rig: Rig, nodes: list[LaggingNode]) -> None:
    nodes[0].faults.delay_s, nodes[1].faults.duplicate = 0.2, True
    intent = rig.intent()
    rig.run()
    settle(rig, nodes, intent)


def test_a_receipt_that_one_node_hides_is_taken_from_another(rig: Rig, nodes: list[LaggingNode]) -> None:
    nodes[0].faults.hide_receipts = True
    intent = rig.intent()
    rig.submit()
    rig.mine(8)
    rig.track()
    assert state(intent) == "ordered"
    nodes[0].faults.hide_receipts = False
    settle(rig, nodes, intent)


def test_receipts_that_a_majority_cannot_deny_are_not_lost(rig: Rig, nodes: list[LaggingNode]) -> None:
    """Two are silent and one denies it; the block is final long since."""
    intent = rig.intent()
    rig.submit()
    rig.mine(8)
    nodes[0].faults.hide_receipts = True
    silence(nodes, 1, 2)
    lost = meters.NONCE_LOST._value.get()
    for _ in range(3):
        rig.track()
    assert state(intent) == "pending_inclusion"
    rig.wallet.refresh_from_db()
    assert (rig.wallet.halted_reason, meters.NONCE_LOST._value.get()) == ("", lost)
    nodes[0].faults.hide_receipts = False
    settle(rig, nodes, intent)


def test_a_block_that_one_node_disowns_stays(rig: Rig, nodes: list[LaggingNode]) -> None:
    intent = rig.intent()
    rig.submit()
    rig.mine()
    rig.track()
    rig.keep()
    rig.track()
    assert state(intent) == "filled"
    number = hex(VenueOrder.objects.get().block_number)

    def other_hash(request: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
        if request["params"][:1] == [number] and request["method"] == "eth_getBlockByNumber":
            return {**answer, "result": {**answer["result"], "hash": ZERO}}
        return answer

    nodes[0].faults.tell = other_hash
    for _ in range(3):
        rig.track()
    assert state(intent) == "filled"
    silence(nodes, 1, 2)
    rig.track()
    assert state(intent) == "filled", "nor when the others are away"
    settle(rig, nodes, intent)


def test_one_endpoint_alone_makes_nothing_final(rig: Rig, nodes: list[LaggingNode]) -> None:
    silence(nodes, 1, 2)
    intent = rig.intent()
    rig.run()
    assert (state(intent), intent.settled_at) == ("filled", None)
    settle(rig, nodes, intent)


def test_a_receipt_of_a_block_that_nobody_else_has_holds_up_nothing_and_never_becomes_final(
    rig: Rig, nodes: list[LaggingNode]
) -> None:
    """As of a node that keeps what was mined on a fork which has left."""

    def forged(request: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
        if request["method"] == "eth_getTransactionReceipt" and answer["result"]:
            logs = [{**log, "blockHash": ZERO} for log in answer["result"]["logs"]]
            return {
                **answer,
                "result": {**answer["result"], "blockHash": ZERO, "status": "0x0", "logs": logs},
            }
        return answer

    nodes[0].faults.tell = forged
    intent = rig.intent()
    rig.submit()
    for _ in range(3):
        rig.mine(4)
        rig.track()
    rig.keep()
    rig.track()
    assert state(intent) == "filled"
    assert intent.transitions.filter(to_state="mined").count() == 1, "the majority is heard at once"
    receipt = TxReceipt.objects.get()
    assert (receipt.status, receipt.canonical, receipt.block_hash == ZERO) == (1, True, False)
    settle(rig, nodes, intent)


def test_a_trade_that_one_node_does_not_show_is_not_closed_elsewhere(
    rig: Rig, nodes: list[LaggingNode]
) -> None:
    intent = rig.intent()
    rig.run()

    def empty_slots(request: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
        result = answer.get("result")
        if request["method"] == "eth_call" and isinstance(result, str) and len(result) > 200:
            return {**answer, "result": "0x" + "0" * (len(result) - 2)}
        return answer

    nodes[0].faults.tell = empty_slots
    for _ in range(3):
        compare()
        rig.mine(4)
        rig.track()
    position = Position.objects.get()
    assert (position.state, position.missed_at_block) == ("open", None)
    close = rig.intent(Action.CLOSE)
    settle(rig, nodes, intent, close)
    assert Position.objects.get().state == "closed"


def test_logs_that_one_node_does_not_show_are_taken_from_another(rig: Rig, nodes: list[LaggingNode]) -> None:
    violations = meters.INVARIANT_VIOLATIONS.labels("ended_order_has_event")
    before = violations._value.get()
    nodes[0].faults.tell = instead("eth_getLogs", [])
    intent = rig.intent()
    rig.submit()
    rig.mine()
    rig.track()
    rig.keep()
    rig.track()
    assert state(intent) == "filled"
    assert violations._value.get() == before
    settle(rig, nodes, intent)


def test_no_logs_from_one_and_silence_from_the_others_proves_nothing(
    rig: Rig, nodes: list[LaggingNode]
) -> None:
    violations = meters.INVARIANT_VIOLATIONS.labels("ended_order_has_event")
    before = violations._value.get()
    intent = rig.intent()
    rig.submit()
    rig.mine()
    rig.track()
    rig.keep()
    nodes[0].faults.tell = instead("eth_getLogs", [])
    silence(nodes, 1, 2)
    rig.track()
    assert state(intent) == "ordered"
    assert (VenueOrder.objects.get().scanned_to_block, violations._value.get()) == (None, before)
    settle(rig, nodes, intent)


def test_an_end_above_the_head_is_no_lost_event(rig: Rig, nodes: list[LaggingNode]) -> None:
    """A node may answer for one block out of the next one's state; the logs of that one were not read."""
    violations = meters.INVARIANT_VIOLATIONS.labels("ended_order_has_event")
    before = violations._value.get()
    intent = rig.intent()
    rig.submit()
    rig.mine()
    rig.track()
    head = rpc_call("eth_getBlockByNumber", "latest", False)
    rig.keep()
    asked = "0x" + onchain.call_is_pending(0).hex()[:8]

    def tell(request: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
        method, params = request["method"], request["params"]
        if method == "eth_getBlockByNumber" and params[0] == "latest":
            return {**answer, "result": head}
        if method == "eth_call" and params[0]["data"].startswith(asked):
            return {**answer, "result": ZERO}
        return answer

    for node in nodes:
        node.faults.tell = tell
    rig.track()
    assert state(intent) == "ordered"
    assert (VenueOrder.objects.get().scanned_to_block, violations._value.get()) == (None, before)
    settle(rig, nodes, intent)
    assert violations._value.get() == before


def test_an_end_that_nobody_has_an_event_of_is_counted_once(rig: Rig, nodes: list[LaggingNode]) -> None:
    violations = meters.INVARIANT_VIOLATIONS.labels("ended_order_has_event")
    before = violations._value.get()
    intent = rig.intent()
    rig.submit()
    rig.mine()
    rig.track()
    rig.keep()
    for node in nodes:
        node.faults.tell = instead("eth_getLogs", [])
    rig.track()
    rig.track()
    assert violations._value.get() == before, "the next block may be under way, and its logs with it"
    rig.mine()
    rig.track()
    assert violations._value.get() == before + 1
    settle(rig, nodes, intent)


def test_a_count_that_one_node_makes_too_low_halts_nobody(rig: Rig, nodes: list[LaggingNode]) -> None:
    first = rig.intent()
    rig.run()
    assert state(first) == "filled"
    nodes[0].faults.tell = instead("eth_getTransactionCount", "0x0")
    second = rig.intent()
    rig.run()
    assert state(second) == "filled"
    assert Chain.objects.get().halted_reason == ""
    nodes[1].faults.tell = nodes[0].faults.tell
    with pytest.raises(Disagreement, match="was final here"):
        heads.follow()
    settle(rig, nodes, first, second)


def test_a_node_that_lags_is_passed_over_and_takes_nothing_back(rig: Rig, nodes: list[LaggingNode]) -> None:
    intent = rig.intent()
    rig.submit()
    rig.mine()
    rig.track()
    rig.keep()
    rig.track()
    head = Chain.objects.get().head_number
    with nodes[0].behind(2):
        for _ in range(3):
            rig.track()
        assert state(intent) == "filled"
        rig.mine(4)
        rig.track()
        assert state(intent) == "filled"
        assert intent.settled_at is not None
    assert Chain.objects.get().head_number == head + 4
    settle(rig, nodes, intent)


def test_a_minority_that_lags_alone_is_not_acted_on(rig: Rig, nodes: list[LaggingNode]) -> None:
    intent = rig.intent()
    rig.submit()
    rig.mine()
    rig.track()
    assert state(intent) == "ordered"
    silence(nodes, 1, 2)
    with nodes[0].behind(1), pytest.raises(rpc.RpcFault, match="behind block"):
        heads.follow()
    assert state(intent) == "ordered"
    settle(rig, nodes, intent)


def test_another_final_block_from_one_node_halts_and_takes_nothing_back(
    rig: Rig, nodes: list[LaggingNode]
) -> None:
    intent = rig.intent()
    rig.run()
    final = Chain.objects.get()
    assert (
        final.finalized_hash == rpc_call("eth_getBlockByNumber", hex(final.finalized_number), False)["hash"]
    )

    def other_final(request: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
        if request["params"][:1] == [hex(final.finalized_number)]:
            return {**answer, "result": {**answer["result"], "hash": ZERO}}
        return answer

    nodes[2].faults.tell = other_final
    with pytest.raises(Disagreement, match="endpoint 2"):
        heads.follow()
    assert "endpoint 2" in Chain.objects.get().halted_reason
    assert state(intent) == "filled"
    assert intent.settled_at is not None
    mend(nodes)
    heads.follow()
    assert Chain.objects.get().halted_reason == ""
    settle(rig, nodes, intent)

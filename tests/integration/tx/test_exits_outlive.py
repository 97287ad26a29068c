"""Exits that end for good although nothing final speaks against them."""

from typing import Any

from execution_app.models import Position, TxIntent
from execution_app.states import Action
from tests import invariants
from tests.execution.test_exits import opened
from tests.integration.tx.test_nodes_that_lie import Tell, nodes  # noqa: F401
from tests.rig import Rig
from tests.timers import pass_a_minute


def reverting(reason: str) -> Tell:
    """One node that says so of every trial: behind, paused in another way, or with an oracle that jumps."""

    def tell(request: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
        if request["method"] != "eth_estimateGas":
            return answer
        error = {"code": 3, "message": f"execution reverted: {reason}"}
        return {"jsonrpc": "2.0", "id": request["id"], "error": error}

    return tell


def test_an_exit_outlives_one_nodes_revert(rig: Rig, nodes: list[Any]) -> None:  # noqa: F811
    position = opened(rig)
    for reason in ("PRICE_DEVIATION_TOO_HIGH", "INVALID_AMOUNT", "EnforcedPause()"):
        nodes[0].faults.tell = reverting(reason)
        close = rig.intent(Action.CLOSE, position=position, only_position=True)
        rig.submit()
        close.refresh_from_db()
        assert close.state in {"pending", "held"}, f"{reason}: {close.state} {close.reason_detail}"
    nodes[0].faults.tell = None
    for _ in range(3):
        pass_a_minute()
        rig.run()
    position.refresh_from_db()
    assert position.state == "closed"
    states = set(TxIntent.objects.filter(action=Action.CLOSE).values_list("state", flat=True))
    assert states == {"filled", "no_op"}
    assert Position.objects.filter(state="open").count() == 0
    for node in nodes:
        invariants.check(node)

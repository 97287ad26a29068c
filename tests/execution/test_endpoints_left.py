"""One that is of no use in the middle of a connection: reads go on to the next."""

import json
from typing import Any

import pytest

from execution_app.node import rpc
from execution_app.node.breaker import BreakerState
from execution_app.node.rpc import Endpoint
from tests.execution.rpc_server import Handler, Server, calls, echo
from tests.execution.test_endpoints import both, error, node, other  # noqa: F401


def test_reads_go_on_to_the_next_where_one_talks_nonsense(
    both: tuple[Endpoint, ...],  # noqa: F811
    node: Server,  # noqa: F811
) -> None:
    def nonsense(handler: Handler, body: Any) -> None:
        if isinstance(body, list):
            echo(handler, body)
        else:
            handler.say(json.dumps({"id": body["id"], "result": {}}).encode())

    node.answer = nonsense
    assert rpc.read("eth_getBalance", "0x7") == "0x7"


@pytest.mark.parametrize("status", [401, 403])
def test_one_that_lets_nobody_in_any_more_is_passed_over_in_reads_and_rests(
    both: tuple[Endpoint, ...],  # noqa: F811
    node: Server,  # noqa: F811
    status: int,
) -> None:
    """A provider that ends an account does so in the middle of a connection, and names the call that it does not answer."""
    assert rpc.read("echo", "0x1") == "0x1"
    before = len(node.requests)
    # Words and id: ethereum-optimism/evmgateway-starter#2; status: trufflesecurity/trufflehog#3713.
    node.answer = error("App is inactive. Please create a new app or contact support", status)
    for _ in range(3):
        assert rpc.read("echo", "0x1") == "0x1"
        both[0].breaker._rests_until_s = float("-inf")
    assert rpc.read_batch(calls(5)) == list(range(5))
    assert len(node.requests) > before
    assert both[0].breaker.state() is BreakerState.OPEN

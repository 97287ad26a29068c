"""The relay before the node does each of its faults, and a fault that did not come about is told from one that did."""

import http.server
import json
import socket
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from ops.rehearsal.rpc import Node, NodeUnreachableError
from ops.rollout.drills import database, stand_in
from ops.rollout.drills.compose import ComposeParts
from ops.rollout.drills.relay import SENDS, Fault, Relay
from ops.rollout.drills.report import CannotRun, NotInjected


class Answering(http.server.BaseHTTPRequestHandler):
    """A node that remembers what it was asked."""

    protocol_version = "HTTP/1.1"
    asked: list[str]

    def do_POST(self) -> None:
        question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append(question["method"])
        body = json.dumps({"jsonrpc": "2.0", "id": question["id"], "result": "0x1"}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Says nothing."""


@pytest.fixture
def asked() -> Iterator[tuple[list[str], int]]:
    found: list[str] = []
    handler = type("Handler", (Answering,), {"asked": found})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield found, server.server_port
    server.shutdown()
    server.server_close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_what_is_lost_was_done(asked: tuple[list[str], int]) -> None:
    done, upstream = asked
    with Relay(free_port(), upstream) as relay:
        node = Node(f"http://127.0.0.1:{relay.port}")
        assert node.request("eth_chainId") == "0x1"
        relay.inject(Fault.LOSE, losing=SENDS)
        assert node.request("eth_chainId") == "0x1"
        with pytest.raises(NodeUnreachableError):
            node.request("eth_sendRawTransaction", "0x00")
        assert done[-1] == "eth_sendRawTransaction"
        assert relay.lost == 1
        relay.inject(Fault.REFUSE)
        with pytest.raises(NodeUnreachableError, match="refused"):
            node.request("eth_chainId")
        relay.inject(Fault.SLOW, delay_s=0.2)
        assert node.request("eth_chainId") == "0x1"
        relay.inject(Fault.NONE)
        assert node.request("eth_sendRawTransaction", "0x00") == "0x1"


def test_a_port_that_somebody_has_is_no_fault(asked: tuple[list[str], int]) -> None:
    with pytest.raises(NotInjected, match="cannot be taken"), Relay(asked[1], asked[1]):
        pytest.fail("the relay took a port that is in use")


def test_a_server_that_was_not_started_anew_is_no_fault() -> None:
    """What the drill ended was another server than that of DATABASE_URL."""
    impatient: Any = SimpleNamespace(timing=SimpleNamespace(recovery_s=0.1))
    with pytest.raises(NotInjected, match="not started anew"):
        database._await_another(impatient, database._server())


def test_a_node_that_mines_on_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that takes the order to stop and does not follow it."""
    real = stand_in.ask
    node = Node(stand_in.node_url())

    def deaf(asked_node: Node, method: str, *params: Any) -> Any:
        if method == "evm_setIntervalMining":
            return None
        if method == "eth_blockNumber":
            real(asked_node, "anvil_mine", "0x1")
        return real(asked_node, method, *params)

    monkeypatch.setattr(stand_in, "ask", deaf)
    with pytest.raises(NotInjected, match="goes on mining"):
        stand_in.stop_mining(node)


def test_a_node_outside_of_the_stack_is_left_alone() -> None:
    with pytest.raises(CannotRun, match="outside"):
        stand_in.require_embedded(ComposeParts(("docker", "compose")))

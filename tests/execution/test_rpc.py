"""JSON-RPC against a server that answers badly: one request each, and one of three ends."""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from execution_app.errors import Retryable
from execution_app.node import identity, rpc
from execution_app.node.rpc import Endpoint, NodeError, RpcFault
from tests.execution.rpc_server import Handler, Server, calls, closed_port, echo, result, serving


@pytest.fixture
def node() -> Iterator[Server]:
    with serving() as server:
        yield server


@pytest.fixture
def two_nodes(settings: Any, node: Server) -> Iterator[list[str]]:
    """The configured endpoints: a port where nobody listens, then the node."""
    urls = [f"http://127.0.0.1:{closed_port()}", node.url]
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(update={"base_rpc_url": ",".join(urls)})
    rpc.endpoints.cache_clear()
    identity.expect_genesis("")  # what an earlier test of this process traded on
    yield urls
    rpc.endpoints.cache_clear()


def test_a_result_comes_back(node: Server) -> None:
    assert Endpoint(node.url).call("echo", "0x1") == "0x1"
    assert node.requests[0]["method"] == "echo"
    assert node.requests[0]["jsonrpc"] == "2.0"


def test_null_is_a_result(node: Server) -> None:
    assert Endpoint(node.url).call("echo", None) is None


@pytest.mark.parametrize("count", [0, 1, 2, 49, 50, 51, 100, 120])
def test_batches_are_split_and_keep_their_order(node: Server, count: int) -> None:
    assert Endpoint(node.url).batch(calls(count)) == list(range(count))
    sizes = [len(body) if isinstance(body, list) else 1 for body in node.requests]
    assert sum(sizes) == count
    assert all(size <= rpc.BATCH_LIMIT for size in sizes)


def test_errors_stay_in_their_place_of_a_batch(node: Server) -> None:
    def every_third_fails(handler: Handler, body: Any) -> None:
        answers = [result(call) for call in body]
        for answer in answers[::3]:
            answer.pop("result")
            answer["error"] = {"code": -32000, "message": "no", "data": "0xdd"}
        handler.say(json.dumps(answers).encode())

    node.answer = every_third_fails
    answers = Endpoint(node.url).batch(calls(7))
    assert [isinstance(answer, NodeError) for answer in answers] == [n % 3 == 0 for n in range(7)]
    assert answers[0] == NodeError(-32000, "no", "0xdd")
    assert answers[1] == 1


def test_an_error_is_raised_by_a_single_call(node: Server) -> None:
    node.answer = lambda handler, body: handler.say(
        json.dumps({"id": body["id"], "error": {"code": 3, "message": "execution reverted"}}).encode()
    )
    with pytest.raises(NodeError, match="execution reverted"):
        Endpoint(node.url).call("eth_call")


@pytest.mark.parametrize("status", [400, 429, 500, 503])
def test_an_error_inside_a_bad_status_is_the_nodes_word(node: Server, status: int) -> None:
    node.answer = lambda handler, body: handler.say(
        json.dumps({"id": body["id"], "error": {"code": -32000, "message": "nonce too low"}}).encode(), status
    )
    with pytest.raises(NodeError, match="nonce too low"):
        Endpoint(node.url).call("eth_sendRawTransaction", "0x")


GARBAGE: dict[str, bytes] = {
    "nothing": b"",
    "a page": b"<html>Bad Gateway</html>",
    "cut JSON": b'{"jsonrpc":"2.0","id":1,"resu',
    "null": b"null",
    "a number": b"7",
    "text": b'"0x1"',
    "no answers": b"[]",
    "an empty object": b"{}",
    "an answer of nothing": b"[null]",
    "nested lists": b"[[]]",
    "no outcome": b'{"id":1}',
    "another id": b'{"id":999,"result":"0x1"}',
    "the id as text": b'{"id":"1","result":"0x1"}',
    "no id": b'{"result":"0x1"}',
    "null id": b'{"id":null,"error":{"code":-32700,"message":"parse error"}}',
    "a list as id": b'{"id":[1],"result":"0x1"}',
    "an error as text": b'{"id":1,"error":"bad"}',
    "an error as list": b'{"id":1,"error":["bad"]}',
    "a code as text": b'{"id":1,"error":{"code":"E1","message":"x"}}',
    "a code that is null": b'{"id":1,"error":{"code":null,"message":"x"}}',
    "a code without end": b'{"id":1,"error":{"code":1e999,"message":"x"}}',
    "bad UTF-8": b'{"id":1,"result":"\xff\xfe"}',
    "deep nesting": b"[" * 200_000,
}


@pytest.mark.parametrize("name", GARBAGE)
@pytest.mark.parametrize("status", [200, 502])
def test_garbage_is_a_fault(node: Server, name: str, status: int) -> None:
    node.answer = lambda handler, body: handler.say(GARBAGE[name], status)
    with pytest.raises(RpcFault):
        Endpoint(node.url).call("eth_sendRawTransaction", "0x")
    assert len(node.requests) == 1


def test_a_batch_with_an_answer_missing_is_a_fault(node: Server) -> None:
    node.answer = lambda handler, body: handler.say(json.dumps([result(c) for c in body[1:]]).encode())
    with pytest.raises(RpcFault):
        Endpoint(node.url).batch(calls(5))


def test_a_fault_in_the_second_request_is_a_fault_of_all(node: Server) -> None:
    def first_only(handler: Handler, body: Any) -> None:
        if len(node.requests) == 1:
            echo(handler, body)
        else:
            handler.hang_up()

    node.answer = first_only
    with pytest.raises(RpcFault):
        Endpoint(node.url).batch(calls(70))


def test_a_lost_answer_is_a_fault_and_is_not_asked_again(node: Server) -> None:
    """A hidden retry of a broadcast would turn a success into `nonce too low`."""
    node.answer = lambda handler, body: handler.hang_up()
    with pytest.raises(RpcFault):
        Endpoint(node.url).call("eth_sendRawTransaction", "0x")
    assert len(node.requests) == 1


def test_a_kept_connection_that_died_is_not_asked_again(node: Server) -> None:
    endpoint = Endpoint(node.url)
    endpoint.call("echo", 1)
    node.answer = lambda handler, body: handler.hang_up()
    with pytest.raises(RpcFault):
        endpoint.call("echo", 2)
    assert len(node.requests) == 2
    node.answer = echo
    assert endpoint.call("echo", 3) == 3


def test_an_answer_cut_short_is_a_fault(node: Server) -> None:
    def cut(handler: Handler, body: Any) -> None:
        content = json.dumps(result(body)).encode()
        handler.say(content, length=len(content) + 10)
        handler.hang_up()

    node.answer = cut
    with pytest.raises(RpcFault):
        Endpoint(node.url).call("echo", 1)


def test_a_silent_node_is_a_fault_in_time(node: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rpc, "READ_TIMEOUT_S", 0.2)

    def keep_silent(handler: Handler, body: Any) -> None:
        node.released.wait(20)
        handler.hang_up()

    node.answer = keep_silent
    with pytest.raises(RpcFault, match="Timeout"):
        Endpoint(node.url).call("echo", 1)
    assert len(node.requests) == 1


@pytest.mark.parametrize(
    "head", [b"HTTP/1.1 200 OK\r\nX-Slow: ", b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n"]
)
def test_a_node_that_drips_is_left_in_time(
    node: Server, monkeypatch: pytest.MonkeyPatch, head: bytes
) -> None:
    """Each byte comes in time, and none is the last: it would keep whoever follows the chain for ever."""
    monkeypatch.setattr(rpc, "READ_TIMEOUT_S", 0.3)

    def drip(handler: Handler, body: Any) -> None:
        handler.wfile.write(head)
        for _ in range(400):
            if node.released.wait(0.05):
                return
            handler.wfile.write(b" ")

    node.answer = drip
    endpoint, begun_s = Endpoint(node.url), time.monotonic()
    with pytest.raises(RpcFault, match="Timeout"):
        endpoint.call("echo", 1)
    assert time.monotonic() - begun_s < 15.0, "it drips for 20 s"
    assert len(node.requests) == 1
    node.answer = echo
    assert endpoint.call("echo", 2) == 2


def test_an_endless_answer_is_a_fault(node: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rpc, "BODY_LIMIT", 10_000)
    node.answer = lambda handler, body: handler.say(b" " * 20_000)
    endpoint = Endpoint(node.url)
    with pytest.raises(RpcFault, match="above"):
        endpoint.call("echo", 1)
    node.answer = echo
    assert endpoint.call("echo", 2) == 2


def test_a_redirect_is_not_followed(node: Server) -> None:
    node.answer = lambda handler, body: handler.say(b"", 307, Location=node.url + "/elsewhere")
    with pytest.raises(RpcFault):
        Endpoint(node.url).call("eth_sendRawTransaction", "0x")
    assert len(node.requests) == 1


def test_nobody_listens() -> None:
    with pytest.raises(RpcFault):
        Endpoint(f"http://127.0.0.1:{closed_port()}").call("eth_chainId")


def test_a_fault_may_be_tried_again_and_tells_no_url() -> None:
    """Endpoints carry keys in their paths."""
    with pytest.raises(Retryable) as caught:
        Endpoint(f"http://127.0.0.1:{closed_port()}/v2/secret-key", 3).call("eth_chainId")
    assert "secret-key" not in str(caught.value)
    assert "endpoint 3" in str(caught.value)


def test_threads_get_their_own_answers(node: Server) -> None:
    endpoint = Endpoint(node.url)
    with ThreadPoolExecutor(8) as pool:
        got = list(pool.map(lambda number: endpoint.call("echo", number), range(80)))
    assert got == list(range(80))
    ids = [body["id"] for body in node.requests]
    assert len(set(ids)) == len(ids)


def test_reads_go_on_to_the_next_endpoint(two_nodes: list[str], node: Server) -> None:
    assert rpc.read("echo", "0x7") == "0x7"
    assert rpc.read_batch(calls(60)) == list(range(60))


def test_reads_of_no_node_are_a_fault(two_nodes: list[str], node: Server) -> None:
    node.answer = lambda handler, body: handler.hang_up()
    with pytest.raises(RpcFault):
        rpc.read("echo", 1)


def test_a_nodes_error_is_not_asked_of_another(two_nodes: list[str], node: Server) -> None:
    def refuse_calls(handler: Handler, body: Any) -> None:
        if isinstance(body, list):
            echo(handler, body)
        else:
            handler.say(json.dumps({"id": body["id"], "error": {"code": 3, "message": "no"}}).encode())

    node.answer = refuse_calls
    with pytest.raises(NodeError):
        rpc.read("eth_call", {})
    assert [body["method"] for body in node.requests if isinstance(body, dict)] == ["eth_call"]

"""Several endpoints: who is asked, who rests, who is out; batches answered by halves; one request for each offer."""

import json
import socket
import struct
import time
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from pytest_django.fixtures import Settings

from execution_app import meters
from execution_app.engine import offers
from execution_app.models import TxSend
from execution_app.node import identity, node_errors, quorum, rpc
from execution_app.node.breaker import BreakerState
from execution_app.node.rpc import Endpoint, NodeError, RpcFault
from tests.execution.rpc_server import Answer, Handler, Server, calls, echo, result, serving

FOREIGN = {"eth_chainId": "0x1", "eth_getBlockByNumber": {"hash": "0x" + "ab" * 32}}


@pytest.fixture
def node() -> Iterator[Server]:
    with serving() as server:
        yield server


@pytest.fixture
def other() -> Iterator[Server]:
    with serving() as server:
        yield server


@pytest.fixture
def servers(node: Server, other: Server) -> tuple[Server, Server]:
    return node, other


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch, both: object) -> None:
    """Nobody is waited for long."""
    monkeypatch.setattr(rpc, "READ_TIMEOUT_S", 0.3)
    rpc.endpoints.cache_clear()


@pytest.fixture
def both(node: Server, other: Server, settings: Settings) -> Iterator[tuple[Endpoint, ...]]:
    changes = {"base_rpc_url": f"{node.url},{other.url}", "rpc_rest_s": 0.001, "rpc_rest_limit_s": 0.001}
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(update=changes)
    rpc.endpoints.cache_clear()
    yield rpc.endpoints()
    rpc.endpoints.cache_clear()
    identity.expect_genesis("")


def error(message: str, status: int = 200, key: Any = ...) -> Answer:
    def say(handler: Handler, body: Any) -> None:
        requests = body if isinstance(body, list) else [body]
        answers = [
            {"id": r["id"] if key is ... else key, "error": {"code": -32000, "message": message}}
            for r in requests
        ]
        whole = answers if isinstance(body, list) and key is ... else answers[0]
        handler.say(json.dumps(whole).encode(), status)

    return say


def hang_up(handler: Handler, _: Any) -> None:
    handler.hang_up()


def reset(handler: Handler, _: Any) -> None:
    """RST instead of an end."""
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.close_connection = True
    handler.connection.close()
    handler.rfile.close()


def half(handler: Handler, body: Any) -> None:
    content = json.dumps([result(call) for call in body] if isinstance(body, list) else result(body)).encode()
    handler.say(content[: len(content) // 2], length=len(content))
    handler.hang_up()


def stall(handler: Handler, _: Any) -> None:
    handler.say(b"{", length=100)
    handler.wfile.flush()
    handler.server.released.wait(20)
    handler.hang_up()


def silent(handler: Handler, _: Any) -> None:
    handler.server.released.wait(20)
    handler.hang_up()


FAULTS: dict[str, Answer] = {
    "reset": reset,
    "closed": hang_up,
    "silence": silent,
    "half an answer": half,
    "an answer that stalls": stall,
    "500": lambda handler, _: handler.say(b"oops", 500),
    "503 with words": error("no such words", 503),
    "429": lambda handler, _: handler.say(b"", 429),
    "429 with words": error("Too Many Requests", 429),
    "a redirect": lambda handler, _: handler.say(b"", 308, Location="/elsewhere"),
}


@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.parametrize("count", [1, 2])
def test_an_offer_is_one_request_whatever_goes_wrong(
    both: tuple[Endpoint, ...], servers: tuple[Server, Server], hasty: None, name: str, count: int
) -> None:
    """No library repeats it: the answer to a repeat would be `already known`, or `nonce too low`."""
    for server in servers:
        server.answer = FAULTS[name]
    sends = [TxSend(raw=bytes([number]), tx_hash="0x") for number in range(count)]
    said = offers._ask_endpoints(sends, float("inf"))
    assert [len(server.requests) for server in servers] == [1, 1]
    assert {outcome.value for of_send in said for outcome in of_send} <= {"unknown", "rpc_fault"}


@pytest.mark.parametrize("name", sorted(set(FAULTS) - {"a redirect", "500"}))
def test_provider_faults_open_the_breaker(node: Server, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(rpc, "READ_TIMEOUT_S", 0.1)
    endpoint = Endpoint(node.url)
    node.answer = FAULTS[name]
    for _ in range(3):
        with pytest.raises((RpcFault, NodeError)):
            endpoint.call("eth_getBalance", "0x")
    assert endpoint.breaker.state() is BreakerState.OPEN


@pytest.mark.parametrize(
    "said",
    [
        "nonce too low",
        "insufficient funds",
        "execution reverted: Too Many Requests",
        "no such words",
        "txpool is full",
    ],
)
@pytest.mark.parametrize("status", [200, 400])
def test_what_is_said_about_a_transaction_never_opens_it(node: Server, said: str, status: int) -> None:
    endpoint = Endpoint(node.url)
    node.answer = error(said, status)
    for _ in range(20):
        assert endpoint.offer([("eth_sendRawTransaction", ("0x",))]) == [NodeError(-32000, said)]
    assert endpoint.breaker.state() is BreakerState.CLOSED


def test_a_revert_is_the_nodes_word_whatever_the_status(node: Server) -> None:
    node.answer = error("execution reverted: NO_TRADE", 500)
    with pytest.raises(NodeError, match="NO_TRADE"):
        Endpoint(node.url).call("eth_estimateGas", {})


def test_one_that_is_busy_with_itself_is_passed_over_in_reads(
    both: tuple[Endpoint, ...], node: Server
) -> None:
    node.answer = error("header not found")
    assert rpc.read("echo", "0x1") == "0x1"
    assert rpc.read_batch(calls(5)) == list(range(5))


def test_one_that_rests_is_offered_nothing_and_when_all_rest_all_are(
    both: tuple[Endpoint, ...], settings: Settings
) -> None:
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(update={"rpc_rest_s": 500.0})
    rpc.endpoints.cache_clear()
    first, second = rpc.endpoints()
    first.breaker.fail(time.monotonic(), 60)
    assert list(rpc.awake()) == [second]
    second.breaker.fail(time.monotonic(), 60)
    assert list(rpc.awake()) == [first, second]
    assert rpc.read("echo", 1) == 1, "reads, too, are better late than never"


def test_a_turn_after_a_rest_is_taken_by_nobody_who_does_not_ask(both: tuple[Endpoint, ...]) -> None:
    """Else the next one that wants its vote would have to do without, again and again."""
    second = rpc.endpoints()[1]
    second.breaker.fail(time.monotonic() - 120, 60)
    assert next(rpc.awake()).position == 0
    assert [one.position for one in rpc.awake()] == [0, 1]


def test_changes_of_a_breaker_are_counted_by_position(node: Server) -> None:
    counter = meters.RPC_BREAKER.labels("5", "open")
    before = counter._value.get()
    Endpoint(node.url, 5).breaker.fail(time.monotonic(), 60)
    assert counter._value.get() == before + 1


# --- Who is it? ---


def as_foreign(handler: Handler, body: Any) -> None:
    requests = body if isinstance(body, list) else [body]
    answers = [{"id": r["id"], "result": FOREIGN.get(r["method"], "foreign")} for r in requests]
    handler.say(json.dumps(answers if isinstance(body, list) else answers[0]).encode())


def test_another_chain_is_out_for_good(both: tuple[Endpoint, ...], node: Server) -> None:
    node.answer = as_foreign
    assert rpc.read("echo", "ours") == "ours"
    assert "is on chain 1" in both[0].identity.foreign
    node.answer = echo
    before = len(node.requests)
    assert rpc.read("echo", "ours") == "ours"
    assert list(rpc.awake()) == [both[1]]
    assert len(node.requests) == before, "not even when it says that it came back"


def test_another_genesis_is_another_chain(both: tuple[Endpoint, ...]) -> None:
    assert rpc.read("echo", 1) == 1
    identity.expect_genesis("0x" + "cd" * 32)
    with pytest.raises(RpcFault, match="began with block"):
        rpc.read("echo", 1)
    assert all(endpoint.identity.foreign for endpoint in both)


def test_it_is_asked_again_after_each_reconnect(both: tuple[Endpoint, ...], node: Server) -> None:
    """The address leads to another machine now."""
    rpc.read("echo", 1)
    rpc.read("echo", 1)
    assert len(node.requests) == 3, "its two answers, and who it is, once"

    def last_word(handler: Handler, body: Any) -> None:
        handler.close_connection = True
        echo(handler, body)

    node.answer = last_word
    rpc.read("echo", 1)
    node.answer = as_foreign
    assert rpc.read("echo", "ours") == "ours"
    assert both[0].identity.foreign


def test_it_is_asked_again_after_a_rest(both: tuple[Endpoint, ...], node: Server) -> None:
    rpc.read("echo", 1)
    both[0].breaker.fail(0.0, 60)  # its rest is over long ago
    node.answer = as_foreign
    assert rpc.read("echo", "ours") == "ours"
    assert both[0].identity.foreign


def test_what_another_chain_says_to_an_offer_counts_for_nothing(
    both: tuple[Endpoint, ...], node: Server, other: Server
) -> None:
    """`invalid chain id` from the wrong node would have the slot cancelled."""

    def invalid(handler: Handler, body: Any) -> None:
        if isinstance(body, list):
            as_foreign(handler, body)
        else:
            error("invalid chain id for signer")(handler, body)

    node.answer, other.answer = invalid, hang_up
    said = offers._ask_endpoints([TxSend(raw=b"1", tx_hash="0x")], float("inf"))
    assert [outcome.value for outcome in said[0]] == ["unknown", "unknown"]


# --- Batches that are answered by halves ---


def spoil(change: Any) -> Answer:
    def say(handler: Handler, body: Any) -> None:
        handler.say(json.dumps(change([result(call) for call in body])).encode())

    return say


HALVES: dict[str, Any] = {
    "fewer": lambda answers: answers[1:],
    "a foreign id": lambda answers: [{**answers[0], "id": 10**9}, *answers[1:]],
    "an id as text": lambda answers: [{**answers[0], "id": str(answers[0]["id"])}, *answers[1:]],
    "garbage among them": lambda answers: ["?", None, 7, [], *answers[1:]],
    "two that contradict": lambda answers: [{**answers[0], "result": "lie"}, *answers],
    "neither result nor error": lambda answers: [{"id": answers[0]["id"]}, *answers[1:]],
    "an error as text": lambda answers: [{"id": answers[0]["id"], "error": "bad"}, *answers[1:]],
}


@pytest.mark.parametrize("name", HALVES)
def test_each_call_of_an_offered_batch_has_an_end_of_its_own(node: Server, name: str) -> None:
    node.answer = spoil(HALVES[name])
    answers = Endpoint(node.url).offer(calls(3))
    assert isinstance(answers[0], RpcFault)
    assert answers[1:] == [1, 2]
    assert len(node.requests) == 1
    with pytest.raises(RpcFault):
        Endpoint(node.url).batch(calls(3))


def test_the_same_answer_twice_is_an_answer(node: Server) -> None:
    node.answer = spoil(lambda answers: answers * 2)
    assert Endpoint(node.url).offer(calls(3)) == [0, 1, 2]


@pytest.mark.parametrize("whole", [[], {}, None, "no", 7])
def test_a_batch_without_answers_is_a_fault_of_all_and_not_repeated(node: Server, whole: Any) -> None:
    node.answer = spoil(lambda _: whole)
    assert all(isinstance(answer, RpcFault) for answer in Endpoint(node.url).offer(calls(3)))
    assert len(node.requests) == 1


def one_by_one(refusal: Answer) -> Answer:
    def say(handler: Handler, body: Any) -> None:
        (refusal if isinstance(body, list) else echo)(handler, body)

    return say


@pytest.mark.parametrize(
    "refusal",
    [
        error("batch requests are not supported", key=None),
        error("Invalid Request", 400, key=None),
        error("no batches in this plan", 403, key=None),
        lambda handler, _: handler.say(b"<html>", 405),
        lambda handler, _: handler.say(b"", 413),
    ],
)
def test_a_server_that_takes_no_batches_is_asked_one_by_one_and_that_is_remembered(
    node: Server, refusal: Answer
) -> None:
    node.answer = one_by_one(refusal)
    endpoint = Endpoint(node.url)
    assert endpoint.offer(calls(3)) == [0, 1, 2]
    assert [isinstance(body, list) for body in node.requests] == [True, False, False, False]
    assert endpoint.batch(calls(2)) == [0, 1]
    assert not isinstance(node.requests[4], list)
    assert endpoint.breaker.state() is BreakerState.CLOSED


def test_a_limit_on_a_whole_batch_is_no_reason_to_ask_more_often(node: Server) -> None:
    node.answer = error("daily request count exceeded, request rate limited", 429, key=None)
    assert all(isinstance(answer, RpcFault) for answer in Endpoint(node.url).offer(calls(3)))
    assert len(node.requests) == 1


def test_asking_one_by_one_ends_with_the_first_silence_and_with_the_lease(node: Server) -> None:
    def deaf_after_two(handler: Handler, body: Any) -> None:
        if isinstance(body, list):
            error("no batches", key=None)(handler, body)
        elif len(node.requests) > 3:
            handler.hang_up()
        else:
            echo(handler, body)

    node.answer = deaf_after_two
    answers = Endpoint(node.url).offer(calls(5))
    assert answers[:2] == [0, 1]
    assert isinstance(answers[2], RpcFault)
    assert answers[3:] == [None, None], "not made, and not said to be"
    node.answer, left = one_by_one(error("no batches", key=None)), [True, True, True, False]
    assert Endpoint(node.url).offer(calls(4), lambda: left.pop(0)) == [0, 1, None, None]


def test_an_unknown_text_is_counted_each_time_and_said_once(
    both: tuple[Endpoint, ...], node: Server, other: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_errors, "UNRECOGNISED", node_errors.Vocabulary())

    def strange(handler: Handler, body: Any) -> None:
        (echo if isinstance(body, list) else error("moon phase 7"))(handler, body)

    node.answer = other.answer = strange
    counter = meters.RPC_UNRECOGNISED.labels("0")
    before = counter._value.get()
    with structlog.testing.capture_logs() as logs:
        for _ in range(3):
            offers._ask_endpoints([TxSend(raw=b"1", tx_hash="0x")], float("inf"))
    assert counter._value.get() == before + 3
    assert [line["said"] for line in logs if line["event"] == "a node's words are in no table"] == [
        "moon phase 7"
    ]


def test_one_endpoint_alone_is_said_once(node: Server, settings: Settings) -> None:
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(update={"base_rpc_url": node.url})
    rpc.endpoints.cache_clear()
    quorum._say_once.cache_clear()
    with structlog.testing.capture_logs() as logs:
        assert [quorum.needed() for _ in range(3)] == [1, 1, 1]
    assert len([line for line in logs if "one endpoint only" in line["event"]]) == 1
    rpc.endpoints.cache_clear()

"""JSON-RPC without hidden retries: every call is made once, and its end is one of three things.

A result, an error the node stated (NodeError), or no usable answer (RpcFault),
which proves nothing about what the node did.
"""

import json
import threading
import time
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import urllib3
from django.conf import settings

from execution_app import meters
from execution_app.node.faults import NodeError, RpcFault

__all__ = ["NodeError", "RpcFault"]  # known by this name to everybody who asks a node

CONNECT_TIMEOUT_S = 2.0
READ_TIMEOUT_S = 8.0
BATCH_LIMIT = 50
# A node that hangs would cost each read its whole timeout, and a pass over the chain makes many.
REST_S = 10.0
BODY_LIMIT = 32 * 1024 * 1024


Call = tuple[str, Sequence[Any]]


class Endpoint:
    """One node, behind a small pool of kept connections. Thread-safe."""

    def __init__(self, url: str, position: int = 0) -> None:
        self.url = url
        self.position = position
        self.rests_until_s = 0.0  # time.monotonic()
        self._pool = urllib3.PoolManager(
            num_pools=1,
            maxsize=8,
            retries=False,
            timeout=urllib3.Timeout(connect=CONNECT_TIMEOUT_S, read=READ_TIMEOUT_S),
        )
        self._ids = iter(range(1, 2**62))
        self._ids_lock = threading.Lock()

    def call(self, method: str, *params: Any) -> Any:
        """One call. Raises NodeError or RpcFault."""
        answer = self.batch([(method, params)])[0]
        if isinstance(answer, NodeError):
            raise answer
        return answer

    def batch(self, calls: Sequence[Call]) -> list[Any]:
        """Several calls in requests of at most BATCH_LIMIT; answers in the calls' order, NodeErrors in place.

        Raises RpcFault when any request got no usable answer.
        """
        answers: list[Any] = []
        for start in range(0, len(calls), BATCH_LIMIT):
            answers += self._request(calls[start : start + BATCH_LIMIT])
        return answers

    def _request(self, calls: Sequence[Call]) -> list[Any]:
        with self._ids_lock:
            ids = [next(self._ids) for _ in calls]
        body = [
            {"jsonrpc": "2.0", "id": key, "method": method, "params": list(params)}
            for key, (method, params) in zip(ids, calls, strict=True)
        ]
        try:
            answers = self._post(body if len(body) > 1 else body[0])
            by_id = {answer["id"]: answer for answer in answers}
            found = [_outcome(by_id[key]) for key in ids]
        except RpcFault:
            self._count(calls, "fault")
            raise
        except (KeyError, TypeError, ValueError) as error:
            self._count(calls, "fault")
            raise RpcFault(
                f"endpoint {self.position}: answer is not JSON-RPC ({type(error).__name__})"
            ) from error
        for call, outcome in zip(calls, found, strict=True):
            self._count([call], "error" if isinstance(outcome, NodeError) else "ok")
        return found

    def _post(self, body: Any) -> list[dict[str, Any]]:
        try:
            answer = self._pool.request(
                "POST",
                self.url,
                body=json.dumps(body).encode(),
                headers={"Content-Type": "application/json"},
                preload_content=False,
                redirect=False,
            )
            try:
                raw = answer.read(BODY_LIMIT + 1)
            finally:
                answer.release_conn()
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise RpcFault(f"endpoint {self.position}: {type(error).__name__}") from error
        if len(raw) > BODY_LIMIT:
            raise RpcFault(f"endpoint {self.position}: answer above {BODY_LIMIT} bytes")
        parsed = _parse(raw)
        # Some nodes answer 4xx with a proper JSON-RPC error inside; anything else is a fault.
        if parsed is None:
            raise RpcFault(f"endpoint {self.position}: HTTP {answer.status}, not JSON-RPC")
        return parsed

    def _count(self, calls: Sequence[Call], outcome: str) -> None:
        for method, _ in calls:
            meters.RPC_REQUESTS.labels(str(self.position), method, outcome).inc()


def _parse(raw: bytes) -> list[dict[str, Any]] | None:
    try:
        parsed = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    if isinstance(parsed, dict):
        parsed = [parsed]
    if not isinstance(parsed, list) or not all(isinstance(item, dict) and "id" in item for item in parsed):
        return None
    return parsed


def _outcome(answer: dict[str, Any]) -> Any:
    error = answer.get("error")
    if error is not None:
        if not isinstance(error, dict):
            raise TypeError("the error is not an object")
        data = error.get("data")
        return NodeError(
            int(error.get("code", 0)), str(error.get("message", "")), data if isinstance(data, str) else ""
        )
    if "result" not in answer:
        raise ValueError("neither result nor error")
    return answer["result"]


@lru_cache(maxsize=1)
def endpoints() -> tuple[Endpoint, ...]:
    """The configured nodes; reads go to the first that answers, broadcasts to all."""
    return tuple(Endpoint(url, position) for position, url in enumerate(settings.ENVIRONMENT.rpc_urls))


def read_batch(calls: Sequence[Call]) -> list[Any]:
    """A batch of reads from the first endpoint that answers; one node answers the whole batch.

    One that did not answer is asked last for a while. Raises RpcFault when none does.
    """
    fault: RpcFault | None = None
    now_s = time.monotonic()
    for endpoint in sorted(endpoints(), key=lambda one: one.rests_until_s > now_s):
        try:
            return endpoint.batch(calls)
        except RpcFault as error:
            fault = error
            endpoint.rests_until_s = time.monotonic() + REST_S
    raise fault or RpcFault("no endpoint is configured")


def read(method: str, *params: Any) -> Any:
    """One read. Raises NodeError or RpcFault."""
    answer = read_batch([(method, params)])[0]
    if isinstance(answer, NodeError):
        raise answer
    return answer


def eth_call(to: str, data: bytes) -> Call:
    return ("eth_call", ({"to": to, "data": "0x" + data.hex()}, "latest"))


def read_views(views: Sequence[tuple[str, bytes]]) -> list[bytes]:
    """Several contract views at the latest block. Raises NodeError or RpcFault when any fails."""
    answers = read_batch([eth_call(to, data) for to, data in views])
    for answer in answers:
        if isinstance(answer, NodeError):
            raise answer
    return [bytes.fromhex(str(answer)[2:]) for answer in answers]

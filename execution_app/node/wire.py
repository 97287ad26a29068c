"""JSON-RPC's envelopes: what is asked, and which answer belongs to which call."""

import json
from collections.abc import Sequence
from typing import Any

from execution_app.node import node_errors
from execution_app.node.faults import NodeError, RpcFault
from execution_app.states import SendOutcome

Call = tuple[str, Sequence[Any]]
BUSY = frozenset({402, 408, 429, 500, 502, 503, 504})
# Of a server that does not let us in, or not any more: an account that ended, in the middle of a connection.
SHUT = frozenset({401, 403})
# What servers say that take no batches; others mean something else.
NO_BATCHES = frozenset({400, 405, 413, 415, 422, 501})
# What an envelope that is none raises; a code of 1e999 is the last.
NONSENSE = (KeyError, TypeError, ValueError, OverflowError)


class BatchRefused(Exception):  # noqa: N818  (named like the errors above it)
    """The server answered a batch as a whole; whether it takes the calls one by one is worth a try."""


def body(ids: Sequence[int], calls: Sequence[Call]) -> Any:
    requests = [
        {"jsonrpc": "2.0", "id": key, "method": method, "params": list(params)}
        for key, (method, params) in zip(ids, calls, strict=True)
    ]
    return requests if len(requests) > 1 else requests[0]


def parse(raw: bytes) -> Any:
    """Whatever JSON is in it; None where it is none."""
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        return None


def outcomes(ids: Sequence[int], status: int, parsed: Any) -> list[Any]:
    """Per call its result, its NodeError, or an RpcFault where nothing usable answers it.

    Raises RpcFault where nothing of the answer is of use, BatchRefused where a
    batch was answered by one error that is about the batch.
    """
    if len(ids) > 1 and not isinstance(parsed, list):
        if isinstance(parsed, dict) and parsed.get("error") is not None:
            _refused_whole(parsed["error"], status)
        if parsed is None and status in NO_BATCHES:
            raise BatchRefused(f"HTTP {status}")
    answers = parsed if isinstance(parsed, list) else [parsed]
    by_id: dict[int, list[dict[str, Any]]] = {}
    for answer in answers:
        key = answer.get("id") if isinstance(answer, dict) else None
        if isinstance(key, int) and not isinstance(key, bool):
            by_id.setdefault(key, []).append(answer)
    if not by_id.keys() & set(ids):
        raise RpcFault(f"HTTP {status}, not JSON-RPC")
    return [_outcome(by_id.get(key, []), status) for key in ids]


def _refused_whole(said: Any, status: int) -> None:
    try:
        error = _error(said)
    except NONSENSE as problem:
        raise RpcFault(f"an answer is not JSON-RPC ({type(problem).__name__})") from problem
    if node_errors.is_provider_fault(error) or (status in BUSY and is_providers(error, status)):
        raise RpcFault(str(error)[:200])
    raise BatchRefused(str(error)[:200])


def is_providers(error: NodeError, status: int) -> bool:
    """Whether the error says nothing about the call: the provider's words, or no known ones from a server that is busy or shut."""
    if node_errors.is_provider_fault(error):
        return True
    unknown = node_errors.classify(error) is SendOutcome.UNKNOWN and "revert" not in error.message.lower()
    return status in BUSY | SHUT and unknown


def _outcome(answers: list[dict[str, Any]], status: int) -> Any:
    if not answers:
        return RpcFault("a call of the batch has no answer")
    answer = answers[0]
    if any(other != answer for other in answers[1:]):
        return RpcFault("a call of the batch has two answers")
    try:
        if answer.get("error") is None:
            return answer["result"]
        error = _error(answer["error"])
    except NONSENSE as problem:
        return RpcFault(f"an answer is not JSON-RPC ({type(problem).__name__})")
    if status in BUSY | SHUT and is_providers(error, status):
        return RpcFault(f"HTTP {status}: {str(error)[:200]}")
    return error


def _error(error: Any) -> NodeError:
    if not isinstance(error, dict):
        raise TypeError("the error is not an object")
    data = error.get("data")
    return NodeError(
        int(error.get("code", 0)), str(error.get("message", "")), data if isinstance(data, str) else ""
    )

"""The two ways in which a call to a node ends badly."""

from dataclasses import dataclass

from execution_app.errors import Retryable


class RpcFault(Retryable):
    """No usable answer: refused, reset, timed out, 5xx, not JSON-RPC, or a provider that is busy with itself."""


@dataclass(unsafe_hash=True)  # not frozen: whoever passes an exception on notes its traceback on it
class NodeError(Exception):
    """The node's own error. Classify by text per client, never by code."""

    code: int
    message: str
    data: str = ""

    def __str__(self) -> str:
        return f"{self.message} ({self.code})"

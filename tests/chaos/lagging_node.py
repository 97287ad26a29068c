"""A node that stopped following: it goes on answering, truthfully, as of an old head."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.proxy import Proxy


class LaggingNode(Proxy):
    """Before the real node; while `behind`, nothing above its frozen head exists for it."""

    def __init__(self, upstream: str) -> None:
        super().__init__(upstream)
        self._head: int | None = None
        self._final: int = 0

    @contextmanager
    def behind(self, blocks: int) -> Iterator[None]:
        """Stay this many blocks below what is now the latest."""
        head, final = (self._number(tag) for tag in ("latest", "finalized"))
        self._head, self._final = head - blocks, min(final, head - blocks)
        try:
            yield
        finally:
            self._head = None

    def forward(self, body: Any) -> Any:
        head = self._head
        if head is None:
            return super().forward(body)
        if isinstance(body, list):
            return [self._as_of(request, head) for request in body]
        return self._as_of(body, head)

    def _as_of(self, request: dict[str, Any], head: int) -> dict[str, Any]:
        tags = {"latest": hex(head), "pending": hex(head), "finalized": hex(self._final)}
        text = json.dumps(request["params"])
        for tag, number in tags.items():
            text = text.replace(f'"{tag}"', f'"{number}"')
        answer: dict[str, Any] = super().forward({**request, "params": json.loads(text)})
        found = answer.get("result")
        if isinstance(found, dict):
            at = found.get("blockNumber") or found.get("number")
            if at is not None and int(at, 16) > head:
                return {**answer, "result": None}
        return answer

    def _number(self, tag: str) -> int:
        request = {"jsonrpc": "2.0", "id": 1, "method": "eth_getBlockByNumber", "params": [tag, False]}
        return int(super().forward(request)["result"]["number"], 16)

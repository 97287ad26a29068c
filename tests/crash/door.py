"""The node's proxy for thousands of trials: what needs no look goes through as bytes, and trouble comes by count."""

import json
import socket
import socketserver
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.proxy import Proxy

KINDS = ("lost", "refused", "slow", "5xx", "reset")
SLOW_S = 0.03
SENDS = 2  # requests with raw transactions that a trouble meets
EVERY = 9  # and every so manyeth of the others
UNSAID = "the upstream sequencer is having a moment"


@dataclass
class Trouble:
    """What befalls requests until somebody calls `calm`; blank is nothing."""

    kind: str = ""
    sends: int = 0
    others: int = 0

    def meets(self, *, sends: bool) -> bool:
        if not self.kind:
            return False
        if sends:
            self.sends += 1
            return self.sends <= SENDS
        self.others += 1
        return self.kind != "refused" and self.others % EVERY == 0


@dataclass(frozen=True)
class Note:
    """Something that the world outside did; `at_s` is time.monotonic()."""

    at_s: float
    word: str
    hashes: list[str] = field(default_factory=list)


class Door(Proxy):
    """A proxy that is steered by more words, and is cheap where nothing goes wrong."""

    def __init__(self, upstream: str) -> None:
        super().__init__(upstream)
        self.trouble = Trouble()
        self.notes: list[Note] = []
        self.bare_receipts = 0
        self.turns = False  # whether a batch is answered from its end to its beginning
        host, _, port = upstream.removeprefix("http://").partition(":")
        self.address = (host, int(port))
        self._server.RequestHandlerClass = type("Handler", (_Handler,), {"door": self})

    def reset(self) -> None:
        super().reset()
        self.trouble = Trouble()
        self.bare_receipts = 0
        self.notes.clear()

    def pool(self) -> tuple[Any, ...]:
        return dict(self._pool), list(self._held), list(self.log), self.faults.hold

    def put_back(self, pool: tuple[Any, ...]) -> None:
        """Know again what was known when `pool` was asked."""
        with self._lock:
            known, held, log, hold = pool
            self._pool, self._held, self.log = dict(known), list(held), list(log)
            self.faults.hold = hold

    def answer(self, request: dict[str, Any]) -> dict[str, Any] | None:
        verbs: dict[str, Callable[..., Any]] = {
            "proxy_trouble": self._begin_trouble,
            "proxy_calm": self._calm,
            "proxy_refuse": self._refuse,
            "proxy_refuse_first": self._refuse_first,
            "proxy_fail": self._fail,
            "proxy_bare": self._bare,
            "proxy_hide": self._hide,
            "proxy_forget": self.reset_pool,
            "proxy_note": lambda word, hashes: self.notes.append(Note(time.monotonic(), word, hashes)),
        }
        verb = verbs.get(str(request["method"]))
        if verb is None:
            answer = super().answer(request)
            if (
                request["method"] == "eth_getTransactionReceipt"
                and self.bare_receipts
                and answer
                and answer["result"]
            ):
                self.bare_receipts -= 1
                answer["result"]["logs"] = []
            return answer
        return {"jsonrpc": "2.0", "id": request["id"], "result": verb(*request["params"])}

    def _begin_trouble(self, kind: str) -> None:
        assert kind in KINDS
        self.trouble = Trouble(kind)

    def _calm(self) -> None:
        self.trouble = Trouble()
        self.faults.lose_next = self.faults.refuse_next = self.faults.http_5xx_next = 0
        self.bare_receipts = 0
        self._hide(False)

    def _hide(self, hidden: bool) -> None:
        self.faults.hide_receipts = hidden

    def _fail(self, count: int) -> None:
        self.faults.http_5xx_next = count

    def _bare(self, count: int) -> None:
        self.bare_receipts = count

    def _refuse(self, count: int, words: str) -> None:
        self.faults.refuse_next, self.faults.refusal = count, words

    def _refuse_first(self, nonce: int, words: str) -> None:
        """Whatever comes first for this slot is never taken; recovery does not change that."""
        self.faults.refuse_nonce, self.faults.refusal = nonce, words


class _Handler(socketserver.StreamRequestHandler):
    """HTTP/1.1 as our clients speak it: a POST with a length, answered on the same connection."""

    disable_nagle_algorithm = True
    door: Door
    _upstream: socket.socket | None = None

    def handle(self) -> None:
        while (request := self._read()) is not None:
            answer = self._answer(*request)
            if answer is None:
                return
            self.wfile.write(answer)

    def _read(self) -> tuple[bytes, bytes] | None:
        try:
            head, length = self.rfile.readline(), 0
            while (line := self.rfile.readline()) not in (b"\r\n", b""):
                name, _, value = line.partition(b":")
                if name.lower() == b"content-length":
                    length = int(value)
            return (head, self.rfile.read(length)) if head and length else None
        except OSError:
            return None

    def _answer(self, head: bytes, body: bytes) -> bytes | None:
        door = self.door
        if b"/steer" in head:
            return _told(json.dumps(door.answer(json.loads(body))).encode())
        door.requests += 1
        sends = b'"eth_sendRawTransaction"' in body
        troubled = door.trouble.kind if door.trouble.meets(sends=sends) else ""
        if troubled == "5xx" or door.faults.http_5xx_next:
            door.faults.http_5xx_next = max(0, door.faults.http_5xx_next - 1)
            return b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 11\r\n\r\nbad gateway"
        if troubled == "reset":
            return None
        if troubled == "slow":
            time.sleep(SLOW_S)
        receipts = b'"eth_getTransactionReceipt"' in body
        if sends or (receipts and (door.bare_receipts or door.faults.hide_receipts)):
            if troubled == "refused":
                door.faults.refuse_next, door.faults.refusal = 1, UNSAID
            requests = json.loads(body)
            answers = [door.answer(one) for one in (requests if isinstance(requests, list) else [requests])]
            if None in answers or troubled == "lost":
                return None
            whole = answers[:: -1 if door.turns else 1] if isinstance(requests, list) else answers[0]
            return _told(json.dumps(whole).encode())
        answer = self._pass_on(body)
        if troubled == "lost":
            return None
        return _turned(answer) if door.turns and body[:1] == b"[" else answer

    def _pass_on(self, body: bytes) -> bytes:
        if self._upstream is None:
            self._upstream = socket.create_connection(self.door.address, timeout=15)
            self._upstream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._upstream.sendall(
            b"POST / HTTP/1.1\r\nHost: node\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
            % len(body)
            + body
        )
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += self._more()
        head, _, rest = answer.partition(b"\r\n\r\n")
        length = next(
            int(line.partition(b":")[2])
            for line in head.split(b"\r\n")
            if line.lower().startswith(b"content-length")
        )
        chunks, got = [answer], len(rest)
        while got < length:
            chunks.append(self._more())
            got += len(chunks[-1])
        return b"".join(chunks)

    def _more(self) -> bytes:
        assert self._upstream is not None
        chunk = self._upstream.recv(1 << 20)
        if not chunk:
            raise ConnectionResetError("the node closed the connection")
        return chunk

    def finish(self) -> None:
        super().finish()
        if self._upstream is not None:
            self._upstream.close()


def _turned(answer: bytes) -> bytes:
    """A batch's answers from the last to the first: JSON-RPC promises no order, and ids alone say which is whose."""
    answers = json.loads(answer.partition(b"\r\n\r\n")[2])
    return _told(json.dumps(answers[::-1]).encode()) if isinstance(answers, list) else answer


def _told(content: bytes) -> bytes:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    return head % len(content) + content

"""The gateway's HTTP: one port, under it the venue's services by their path prefixes."""

import json
import logging
import re
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

from execution_app.venues import messages
from execution_app.venues.typed_data import CLOSE, INCREASE, LEVELS, OPEN
from ops.rehearsal.deployment import Deployment
from ops.rehearsal.gateway import builder
from ops.rehearsal.gateway.books import Books, refused_words
from ops.rehearsal.gateway.faults import OK, Faults
from ops.rehearsal.gateway.ledger import TERMINAL, Event, Ledger, Request, Stage
from ops.rehearsal.gateway.operator import LEVELS as LEVELS_TYPE
from ops.rehearsal.gateway.operator import Operator
from ops.rehearsal.gateway.reads import READS, ok
from ops.rehearsal.rpc import Node, NodeRefusedError, NodeUnreachableError

HEARTBEAT_S = 15.0
STREAM_S = 60.0
BODY_LIMIT = 64 * 1024
KEPT = 10_000
MINED_WITHIN_S, STEP_S = 3.0, 0.01
KINDS = {0: OPEN, 1: CLOSE, 9: INCREASE}

log = logging.getLogger("gateway")
Answer = tuple[int, Any]


class Gateway:
    """Everything behind one port; `operator.step` is for whoever drives the operator's account. A context manager.

    Nothing is signed but for the rehearsal chain, whose id the operator's transactions carry.
    """

    def __init__(self, rpc_url: str, deployment: Deployment, port: int = 0) -> None:
        node = Node(rpc_url)
        self.faults = Faults()
        self.ledger = Ledger()
        self.books = Books(node, deployment)
        self.operator = Operator(Node(rpc_url), deployment, self.ledger, self.faults)
        self.posts: deque[bytes] = deque(maxlen=KEPT)  # bodies of the last order requests, as they came
        handler = type("Handler", (_Handler,), {"gateway": self})
        self._server = _Server(("127.0.0.1", port), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=5)

    def step(self) -> int:
        """One look of the operator, and more until what it sent is mined; returns how many requests are under way.

        For who drives the operator's account by hand, on a node that mines at once.
        """
        self.operator.step()
        deadline_s = time.monotonic() + MINED_WITHIN_S
        while time.monotonic() < deadline_s:
            if not any(request.stage is Stage.SENT for request in self.ledger.under_way()):
                break
            time.sleep(STEP_S)
            self.operator.step()
        return len(self.ledger.under_way())

    def reset(self) -> None:
        """As at the start, for a chain that was taken back."""
        self.faults.set(Faults().shown())
        self.ledger.forget()
        self.posts.clear()

    def accept(self, body: Mapping[str, Any]) -> Request:
        """Take an order. Raises ValueError for what is none."""
        kind = body.get("orderType")
        signed = body.get("erc712")
        if not isinstance(kind, int) or kind not in KINDS or not isinstance(signed, dict):
            raise ValueError("orderType must be 0, 1 or 9, erc712 an object")
        return self._take(kind, KINDS[kind], signed.get("userIntent"), signed.get("userSignature"))

    def accept_levels(self, body: Mapping[str, Any]) -> Request:
        """As `accept`. What a reorg undid is carried out again when it is asked for again."""
        request = self._take(LEVELS_TYPE, LEVELS, body.get("userIntent"), body.get("signedMessage"))
        if request.stage is Stage.ENDED and self.operator.is_undone(request):
            request.stage = Stage.ACCEPTED
        return request

    def _take(self, kind: int, name: str, intent: object, signature: object) -> Request:
        data, signed = _bytes(intent, "userIntent"), _bytes(signature, "the signature")
        if len(signed) != 65:  # noqa: PLR2004 - r, s and v
            raise ValueError("the signature has not 65 bytes")
        message = messages.decode(name, data)
        if message.deadline_ms < time.time() * 1000 - 3_600_000:
            raise ValueError("_deadline is over")
        return self.ledger.accept(kind, message, data, signed, again=self.faults.again)

    def get(self, path: str, asked: Mapping[str, str]) -> Answer:
        """What the reading routes answer. Raises LookupError and ValueError."""
        if path.startswith(("/feed/", "/data/")):
            time.sleep(self.faults.feed_hang_s)
            if self.faults.feed_status != OK:
                return self.faults.feed_status, {"message": "rehearsed refusal"}
        for pattern, read in READS:
            if found := re.fullmatch(pattern, path):
                return 200, read(self, asked, *found.groups())
        raise LookupError(f"no such route: {path}")

    def status(self, tracking_id: str, after_seq: int) -> dict[str, Any]:
        time.sleep(self.faults.hang_s)
        request = self.ledger.get(tracking_id)
        if request is None:
            raise LookupError(f"no such trackingId: {tracking_id}")
        events = [] if self.faults.mute else self.ledger.after(request, after_seq)
        told = [{"seq": e.seq, "type": e.type, "payload": e.payload} for e in events]
        return {"trackingId": tracking_id, "events": [one for e in told for one in [e] * self.copies]}

    @property
    def copies(self) -> int:
        return 2 if self.faults.double else 1


def _bytes(value: object, name: str) -> bytes:
    if not isinstance(value, str) or not value.startswith("0x"):
        raise ValueError(f"{name} must be 0x-hex")
    return bytes.fromhex(value[2:])


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Whoever asked may be gone before it is answered; every other fault is a fault of this file."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    gateway: Gateway

    def do_GET(self) -> None:
        path, query = self._asked()
        self._guarded(lambda: self.gateway.get(path, query))

    def do_PUT(self) -> None:
        path, _ = self._asked()
        body = self._body()
        if path == "/rehearsal/faults":
            self._guarded(lambda: self._set_faults(body))
        elif path.startswith("/core/price-triggers/global-"):
            self._take_levels(body)
        else:
            self._say(404, {"message": f"no such route: {path}"})

    def do_POST(self) -> None:
        path, _ = self._asked()
        body = self._body()
        if path == "/batched-market/market/execute-batched":
            self._execute(body)
        elif path == "/rehearsal/step":
            self._guarded(lambda: (200, self.gateway.step()))
        elif path == "/rehearsal/forget":
            self._guarded(lambda: (200, self.gateway.ledger.forget()))
        elif found := re.fullmatch("/tx-builder/v2/(intents|trade|position)/(open|close|increase)", path):
            make = builder.intent if found[1] == "intents" else builder.calldata
            self._guarded(lambda: (200, ok(make(self.gateway.books, found[2], body))))
        else:
            self._say(404, {"message": f"no such route: {path}"})

    def _take_levels(self, body: Mapping[str, Any]) -> None:
        faults = self.gateway.faults
        time.sleep(faults.hang_s)
        if faults.spend("refuse_next"):
            self._say(faults.refuse_status, {"message": "rehearsed refusal"})
        elif faults.spend("swallow_next"):
            self._guarded(lambda: (502, {"message": f"not told: {self.gateway.accept_levels(body).kind}"}))
        elif faults.spend("drop_next"):
            self._guarded(lambda: (200, {"success": bool(self.gateway.accept_levels(body).kind)}))
        else:
            self._guarded(lambda: (200, {"trackingId": self.gateway.accept_levels(body).tracking_id}))

    def _set_faults(self, body: Mapping[str, Any]) -> Answer:
        self.gateway.faults.set(body)
        return 200, self.gateway.faults.shown()

    def _execute(self, body: Mapping[str, Any]) -> None:
        faults = self.gateway.faults
        time.sleep(faults.hang_s)
        if faults.spend("refuse_next"):
            self._say(faults.refuse_status, {"message": "rehearsed refusal"})
            return
        try:
            request = self.gateway.accept(body)
        except ValueError as problem:
            self._say(400, {"message": [str(problem)]})
            return
        if faults.spend("swallow_next"):
            self._say(502, {"message": "rehearsed: accepted, and not told"})
            return
        self._stream(request, cut_after=faults.drop_after if faults.spend("drop_next") else None)

    def _stream(self, request: Request, *, cut_after: str | None) -> None:
        """Server-sent events until the terminal one; `cut_after` breaks off behind that event, blank at once."""
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        seq, ends_at_s = -1, time.monotonic() + STREAM_S
        while cut_after != "":
            events = self.gateway.ledger.after(request, seq, HEARTBEAT_S)
            for event in events:
                self._tell(event)
                seq = event.seq
                if event.type in TERMINAL or event.type == cut_after:
                    return
            if time.monotonic() > ends_at_s:
                late = {"code": "STREAM_TIMEOUT", "message": "the stream timed out"}
                self.wfile.write(f"event: Error\ndata: {json.dumps(late)}\n\n".encode())
                return
            if not events:
                self.wfile.write(b": hb\n\n")

    def _tell(self, event: Event) -> None:
        words = f"id: {event.seq}\nevent: {event.type}\ndata: {json.dumps(event.payload)}\n\n"
        self.wfile.write(words.encode() * self.gateway.copies)
        self.wfile.flush()

    def _guarded(self, answer: Callable[[], Answer]) -> None:
        try:
            status, content = answer()
        except LookupError as missing:
            status, content = 404, {"message": str(missing)}
        except (ValueError, KeyError) as wrong:
            status, content = 400, {"message": str(wrong)}
        except NodeRefusedError as refusal:
            status, content = 422, {"message": refused_words(refusal)}
        except NodeUnreachableError as fault:
            status, content = 503, {"message": str(fault)}
        self._say(status, content)

    def _asked(self) -> tuple[str, dict[str, str]]:
        url = urlsplit(self.path)
        return url.path, dict(parse_qsl(url.query))

    def _body(self) -> dict[str, Any]:
        length = int(self.headers.get("Content-Length") or 0)
        raw = self.rfile.read(min(length, BODY_LIMIT))
        if self.path.endswith("/execute-batched") or "/price-triggers/" in self.path:
            self.gateway.posts.append(raw)
        try:
            found = json.loads(raw or b"{}")
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    def _say(self, status: int, content: Any) -> None:
        words = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(words)))
        self.end_headers()
        self.wfile.write(words)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  (the base class's name)
        log.debug("event=http words=%s", format % args)

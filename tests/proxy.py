"""A JSON-RPC proxy before the test node: it remembers every raw transaction, and it can misbehave.

It applies geth's pool rules, which the test node does not: a replacement pays a
tenth more in both fields, and known bytes are `already known`. Tests in other
processes steer it by JSON-RPC methods that begin with `proxy_`.
"""

import json
import random
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import rlp  # type: ignore[import-untyped]
import urllib3
from eth_account import Account
from eth_utils.crypto import keccak

PRICE_BUMP_PCT = 10  # geth's txpool.pricebump default


@dataclass(frozen=True)
class Offer:
    """A raw transaction as it arrived; `at_s` is time.monotonic(), fees in wei."""

    at_s: float
    tx_hash: str
    raw: str
    sender: str
    nonce: int
    tip_wei: int
    max_fee_wei: int


LIES = {
    "wrong hash": "0x" + "ee" * 32,
    "already known": "already known",
    "nonce too low": "nonce too low: next nonce 1000000, tx nonce 0",
}


@dataclass
class Faults:
    """What goes wrong next. Counts run down by one per raw transaction or request."""

    lose_next: int = 0  # forward a raw transaction, then break the connection without an answer
    lose_rate: float = 0.0
    lose_request_rate: float = 0.0  # the same for whole HTTP requests, however many they hold
    refuse_next: int = 0  # answer `refusal` instead of forwarding
    refusal: str = "the upstream sequencer is having a moment"  # as it stands, an error that no table knows
    refuse_nonce: int | None = None  # answer `refusal` to the first bytes of this slot, again and again
    http_5xx_next: int = 0  # answer 502 to whole requests; nothing is forwarded
    delay_s: float = 0.0  # before each request with a raw transaction is looked at
    until: threading.Event | None = None  # the same, for as long as it is not set
    hide_receipts: bool = False
    l1_fee_wei: int = 0  # in every receipt, as OP chains have it
    hide_logs: bool = False  # find no log at all
    forget_state: bool = False  # know no state of past blocks, as most nodes do
    broken: str = (
        ""  # reset, black hole or half-open: what becomes of every request, before anything is forwarded
    )
    duplicate: bool = False  # give the node each raw transaction twice, and tell the second answer
    lie: str = ""  # a key of LIES: what is answered to raw transactions, which are dropped
    tell: Callable[[dict[str, Any], dict[str, Any]], dict[str, Any]] | None = (
        None  # rewrites answers to reads
    )
    hold: bool = False  # accept raw transactions, and keep them from the node until released
    dice: random.Random = field(default_factory=lambda: random.Random(0))


class Proxy:
    """One upstream node behind one port. Use as a context manager."""

    def __init__(self, upstream: str) -> None:
        self.upstream = upstream
        self.faults = Faults()
        self.log: list[Offer] = []
        self.requests = 0
        self.send_requests = 0  # HTTP requests with raw transactions
        self.lost = 0
        self._pool: dict[tuple[str, int], Offer] = {}
        self._held: list[Offer] = []
        self._lock = threading.RLock()
        self.mended = threading.Event()
        self._http = urllib3.PoolManager(retries=False, timeout=urllib3.Timeout(15), maxsize=8)
        handler = type("Handler", (_Handler,), {"proxy": self})
        self._server = _Server(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.mended.set()
        self._shut()

    def _shut(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=5)

    @contextmanager
    def refusing(self) -> Iterator[None]:
        """Nobody listens at its port for that time; connections that are kept stay."""
        address = self._server.server_address
        self._shut()
        try:
            yield
        finally:
            self._server = _Server(address[:2], type("Handler", (_Handler,), {"proxy": self}))
            self._server.daemon_threads = True
            self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
            self._thread.start()

    def reset(self) -> None:
        """Forget everything, for a chain that was taken back."""
        with self._lock:
            self.faults = Faults()
            self.log.clear()
            self._pool.clear()
            self._held.clear()

    def reset_pool(self) -> None:
        """Know no transaction, as the test node does after a reorg."""
        with self._lock:
            self._pool.clear()

    def first_seen(self) -> dict[str, float]:
        """When each hash arrived for the first time."""
        seen: dict[str, float] = {}
        for offer in list(self.log):
            seen.setdefault(offer.tx_hash, offer.at_s)
        return seen

    def hold(self) -> None:
        self.faults.hold = True

    def release(self, which: str = "all") -> list[str]:
        """End the hold. `first` gives the node the oldest bytes of each slot and drops what replaced them.

        `none` drops everything, as a node that restarts does.
        """
        with self._lock:
            self.faults.hold = False
            held, self._held = self._held, []
            for offer in held:
                self._pool.pop((offer.sender, offer.nonce), None)
            slots: set[tuple[str, int]] = set()
            given = []
            for offer in held if which != "none" else []:
                slot = (offer.sender, offer.nonce)
                if which == "first" and slot in slots:
                    continue
                slots.add(slot)
                answer = self.forward(_call("eth_sendRawTransaction", offer.raw))
                if "result" in answer:
                    self._pool[slot] = offer
                    given.append(offer.tx_hash)
            return given

    def forward(self, body: Any) -> Any:
        answer = self._http.request("POST", self.upstream, json=body)
        return json.loads(answer.data)

    def answer(self, request: dict[str, Any]) -> dict[str, Any] | None:
        """Answer one request; None breaks the connection."""
        method = str(request["method"])
        if method.startswith("proxy_"):
            verbs: dict[str, Callable[..., Any]] = {
                "proxy_hold": self.hold,
                "proxy_release": self.release,
                "proxy_lose": self._lose,
            }
            verb = verbs[method]
            return _result(request, verb(*request["params"]))
        if method == "eth_sendRawTransaction":
            return self._send(request)
        if method == "eth_getTransactionReceipt" and self.faults.hide_receipts:
            return _result(request, None)
        if method == "eth_getLogs" and self.faults.hide_logs:
            return _result(request, [])
        if self.faults.forget_state and method == "eth_getTransactionCount":
            tag = request["params"][1]
            head = self.forward(_call("eth_getBlockByNumber", "finalized", False))["result"]["number"]
            if tag.startswith("0x") and int(tag, 16) < int(head, 16):
                return _error(request, "missing trie node")
        forwarded: dict[str, Any] = self.forward(request)
        if method == "eth_getTransactionReceipt" and self.faults.l1_fee_wei and forwarded.get("result"):
            forwarded["result"]["l1Fee"] = hex(self.faults.l1_fee_wei)
        return self.faults.tell(request, forwarded) if self.faults.tell else forwarded

    def _lose(self, count: int) -> None:
        self.faults.lose_next = count

    def _send(self, request: dict[str, Any]) -> dict[str, Any] | None:
        faults = self.faults
        with self._lock:
            offer = read_raw(request["params"][0])
            self.log.append(offer)
            if faults.refuse_next:
                faults.refuse_next -= 1
                return _error(request, faults.refusal)
            if faults.lie:
                said = LIES[faults.lie]
                return _result(request, said) if said.startswith("0x") else _error(request, said)
            if faults.duplicate:
                self._accept(request, offer)
            if offer.nonce == faults.refuse_nonce and offer.tx_hash == self._first_of(offer):
                return _error(request, faults.refusal)
            answer = self._pool_rules(request, offer) or self._accept(request, offer)
            lost = faults.lose_next > 0 or faults.dice.random() < faults.lose_rate
            faults.lose_next = max(0, faults.lose_next - 1)
            self.lost += lost
            return None if lost else answer

    def loses_request(self) -> bool:
        """Whether the answer to this request with raw transactions, which are with the node by now, gets lost."""
        with self._lock:
            self.send_requests += 1
            rate = self.faults.lose_request_rate
            lost = rate > 0 and self.faults.dice.random() < rate
            self.lost += lost
            return lost

    def _first_of(self, offer: Offer) -> str:
        """The hash that came first for the slot."""
        slot = (offer.sender, offer.nonce)
        return next(seen.tx_hash for seen in self.log if (seen.sender, seen.nonce) == slot)

    def _pool_rules(self, request: dict[str, Any], offer: Offer) -> dict[str, Any] | None:
        count = int(self.forward(_call("eth_getTransactionCount", offer.sender, "latest"))["result"], 16)
        if offer.nonce < count:
            return _error(request, f"nonce too low: next nonce {count}, tx nonce {offer.nonce}")
        known = self._pool.get((offer.sender, offer.nonce))
        if known is None:
            return None
        if known.tx_hash == offer.tx_hash:
            return _error(request, "already known")
        enough = 100 + PRICE_BUMP_PCT
        if (
            offer.tip_wei * 100 < known.tip_wei * enough
            or offer.max_fee_wei * 100 < known.max_fee_wei * enough
        ):
            return _error(request, "replacement transaction underpriced")
        return None

    def _accept(self, request: dict[str, Any], offer: Offer) -> dict[str, Any]:
        if self.faults.hold:
            self._held.append(offer)
            answer = _result(request, offer.tx_hash)
        else:
            answer = self.forward(request)
        if "result" in answer:
            self._pool[offer.sender, offer.nonce] = offer
        return answer


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Whoever asked may be gone before it is answered; every other fault is a fault of this file."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    proxy: Proxy

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        proxy, requests = self.proxy, body if isinstance(body, list) else [body]
        proxy.requests += 1
        if proxy.faults.broken and not requests[0]["method"].startswith("proxy_"):
            self._break(proxy.faults.broken)
            return
        sends = any(request["method"] == "eth_sendRawTransaction" for request in requests)
        if sends and proxy.faults.delay_s:
            time.sleep(proxy.faults.delay_s)
        if sends and proxy.faults.until is not None:
            proxy.faults.until.wait(30)
        if proxy.faults.http_5xx_next and not requests[0]["method"].startswith("proxy_"):
            proxy.faults.http_5xx_next -= 1
            self._say(502, b"bad gateway")
            return
        faults = proxy.faults
        odd = (
            faults.hide_receipts
            or faults.hide_logs
            or faults.forget_state
            or faults.l1_fee_wei
            or faults.tell
        )
        plain = not (sends or odd or requests[0]["method"].startswith("proxy_"))
        try:
            answers = proxy.forward(body) if plain else [proxy.answer(request) for request in requests]
        except urllib3.exceptions.HTTPError:
            self._say(502, b"no upstream")
            return
        if (not plain and None in answers) or (sends and proxy.loses_request()):
            self.close_connection = True  # all was done, and nobody is told
            return
        whole = answers if plain or isinstance(body, list) else answers[0]
        self._say(200, json.dumps(whole).encode())

    def _break(self, how: str) -> None:
        self.close_connection = True
        if how == "half-open":  # headers of a longer answer, some of it, and then nothing
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b'[{"jsonrpc"')
            self.wfile.flush()
        if how == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.rfile.close()
            self.connection.close()
        else:
            self.proxy.mended.wait(30)

    def _say(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  (the base class's name)
        """Tests read the proxy's log, not this one."""


@contextmanager
def proxied(upstream: str) -> Iterator[Proxy]:
    with Proxy(upstream) as proxy:
        yield proxy


def read_raw(raw: str) -> Offer:
    """What an EIP-1559 transaction says."""
    return Offer(time.monotonic(), *_content(raw))


@lru_cache(maxsize=1024)
def _content(raw: str) -> tuple[str, str, str, int, int, int]:
    """The same bytes are read again and again, and to recover who signed them is slow."""
    content = bytes.fromhex(raw[2:])
    fields = rlp.decode(content[1:])
    nonce, tip, cap = (int.from_bytes(fields[at]) for at in (1, 2, 3))
    return "0x" + keccak(content).hex(), raw, Account.recover_transaction(raw), nonce, tip, cap


def _call(method: str, *params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)}


def _result(request: dict[str, Any], result: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": request["id"], "result": result}


def _error(request: dict[str, Any], message: str) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": request["id"], "error": {"code": -32000, "message": message}}

"""Both ends of alerting as the real servers meet them: what is scraped, and who is told."""

import json
import re
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

TOKEN = "7301548296:Qm4Zt8Kx2Vb9Lw6Rn3Yp7Hd5Gs1Fc0JaUe"
PAGES, TICKETS = -1001234567890, -1009876543210
# Of Telegram's Bot API.
TEXT_LIMIT = 4096
_FIRING = re.compile(r"^(?:\[\w+\] )?(?:PAGE|ticket) (\w+): (.*)$", re.MULTILINE)
_RESOLVED = re.compile(r"^(?:\[\w+\] )?RESOLVED (\w+): (.*)$", re.MULTILINE)
# Of each alert the summaries in a message, which hold the labels that tell one from another.
Instances = dict[str, set[str]]


class _Server:
    """One HTTP server in a thread; `answer` gets method, path and body, and answers status, type and body."""

    def __init__(self) -> None:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def _any(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                status, kind, body = outer.answer(self.path, self.rfile.read(length))
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = _any  # noqa: N815 -- http.server's names

            def log_message(self, *_: object) -> None:
                """Pytest's own lines are enough."""

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._http.server_address[1]}"

    def answer(self, path: str, body: bytes) -> tuple[int, str, bytes]:
        raise NotImplementedError

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()


@dataclass(frozen=True)
class Grows:
    """A counter, or a time, that is larger by `each` at every scrape."""

    each: float


@dataclass(frozen=True)
class Ago:
    """A moment so many seconds before the scrape; negative, after it."""

    s: float


ABSENT = None
Value = float | Grows | Ago | None


class Exporter(_Server):
    """/metrics with the series that it is told; a counter keeps what it has grown to."""

    def __init__(self, series: Mapping[str, Value]) -> None:
        super().__init__()
        self._healthy = dict(series)
        self._faults: dict[str, Value] = {}
        self._grown: dict[str, float] = {}
        self._lock = threading.Lock()
        self.answers = True

    def now(self, faults: Mapping[str, Value]) -> None:
        """Exactly these faults, over what is healthy."""
        with self._lock:
            self._faults = dict(faults)

    def restart(self) -> None:
        """Every counter begins anew."""
        with self._lock:
            self._grown.clear()

    def answer(self, path: str, body: bytes) -> tuple[int, str, bytes]:
        if path != "/metrics" or not self.answers:
            return 503, "text/plain", b""
        with self._lock:
            lines = [
                f"{series} {self._told(series, value):.6f}\n"
                for series, value in (self._healthy | self._faults).items()
                if value is not ABSENT
            ]
        return 200, "text/plain; version=0.0.4", "".join(lines).encode()

    def _told(self, series: str, value: Value) -> float:
        if isinstance(value, Ago):
            return time.time() - value.s
        if isinstance(value, Grows):
            self._grown[series] = self._grown.get(series, 0.0) + value.each
            value = self._healthy[series]
            if not isinstance(value, (int, float)):
                value = 0.0
        assert value is not None
        return value + self._grown.get(series, 0.0)


@dataclass(frozen=True)
class Message:
    """One message of the bot."""

    chat_id: int
    text: str
    silent: bool

    @property
    def firing(self) -> Instances:
        return _by_alert(_FIRING.findall(self.text))

    @property
    def resolved(self) -> Instances:
        return _by_alert(_RESOLVED.findall(self.text))


def _by_alert(told: Iterable[tuple[str, str]]) -> Instances:
    found: Instances = {}
    for alert, summary in told:
        found.setdefault(alert, set()).add(summary)
    return found


class Receivers(_Server):
    """Telegram's Bot API as far as sendMessage and getChat go, and the URL that the dead man's switch tells."""

    def __init__(self) -> None:
        super().__init__()
        self._messages: list[Message] = []
        self._pings: list[dict[str, Any]] = []
        self.refused: list[str] = []
        self.dead_man_status = 200

    @property
    def messages(self) -> list[Message]:
        return list(self._messages)

    @property
    def pings(self) -> list[dict[str, Any]]:
        return list(self._pings)

    def forget(self) -> None:
        self._messages.clear()

    def answer(self, path: str, body: bytes) -> tuple[int, str, bytes]:
        if path.startswith(f"/bot{TOKEN}/getChat?chat_id="):
            known = int(path.rpartition("=")[2]) in {PAGES, TICKETS}
            return (200, "application/json", b'{"ok":true}') if known else self._refuse(400, "chat not found")
        if not body:
            return self._refuse(404, f"Not Found: {path}")
        told = json.loads(body)
        if path == "/dead-man":
            if self.dead_man_status == 200:
                self._pings.append(told)
            return self.dead_man_status, "text/plain", b""
        if path != f"/bot{TOKEN}/sendMessage":
            return self._refuse(401, "Unauthorized")
        text = str(told.get("text", ""))
        if not 0 < len(text.strip()) <= len(text) <= TEXT_LIMIT or told.get("parse_mode"):
            return self._refuse(400, f"Bad Request: {len(text)} characters, {told.get('parse_mode')!r}")
        if int(told["chat_id"]) not in {PAGES, TICKETS}:
            return self._refuse(400, "Bad Request: chat not found")
        silent = str(told.get("disable_notification", "")).lower() == "true"
        self._messages.append(Message(int(told["chat_id"]), text, silent))
        return 200, "application/json", b'{"ok":true,"result":{"message_id":1,"date":1,"chat":{"id":1}}}'

    def _refuse(self, status: int, why: str) -> tuple[int, str, bytes]:
        self.refused.append(why)
        return (
            status,
            "application/json",
            json.dumps({"ok": False, "error_code": status, "description": why}).encode(),
        )


def names(messages: Iterable[Message]) -> Counter[str]:
    """How many messages say of each alert that it fires."""
    return Counter(name for message in messages for name in message.firing)


def ended(messages: Iterable[Message]) -> Counter[str]:
    """How many messages say of each alert that it is over."""
    return Counter(name for message in messages for name in message.resolved)

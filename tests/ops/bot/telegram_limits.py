"""How much Telegram takes from one bot, and how the requests of a bot are spelt."""

import json
from collections import defaultdict, deque
from collections.abc import Mapping
from email.parser import BytesParser
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs

Json = dict[str, Any]
COUNTED = frozenset({"sendMessage", "sendPhoto", "editMessageText"})


class Limits:
    """About 30 messages within any second, and one a second into a chat with short bursts; who asks for more waits a second."""

    def __init__(self, all_per_s: int = 30, chat_per_s: float = 1.0, chat_burst: int = 3) -> None:
        self.refused = 0
        self._all_per_s = all_per_s
        self._chat_per_s = chat_per_s
        self._chat_burst = chat_burst
        self._times_s: deque[float] = deque()
        self._left: dict[int, float] = defaultdict(lambda: float(chat_burst))
        self._seen_s: dict[int, float] = {}

    def retry_after_s(self, method: str, chat_id: int, now_s: float) -> int:
        """0 where the request is taken."""
        if method not in COUNTED:
            return 0
        while self._times_s and self._times_s[0] <= now_s - 1:
            self._times_s.popleft()
        passed_s = now_s - self._seen_s.get(chat_id, now_s)
        self._left[chat_id] = min(self._chat_burst, self._left[chat_id] + passed_s * self._chat_per_s)
        self._seen_s[chat_id] = now_s
        if len(self._times_s) >= self._all_per_s or self._left[chat_id] < 1:
            self.refused += 1
            return 1
        self._times_s.append(now_s)
        self._left[chat_id] -= 1
        return 0


def markup_of(fields: Mapping[str, Any]) -> Json | None:
    raw = fields.get("reply_markup")
    return json.loads(raw) if isinstance(raw, str) and raw else raw or None


def body_of(request: BaseHTTPRequestHandler) -> bytes:
    """A body of known length, or in chunks, as a picture comes."""
    if "chunked" not in request.headers.get("Transfer-Encoding", ""):
        return request.rfile.read(int(request.headers.get("Content-Length", 0)))
    body = b""
    while size := int(request.rfile.readline(), 16):
        body += request.rfile.read(size)
        request.rfile.readline()
    request.rfile.readline()
    return body


def fields_of(body: bytes, kind: str) -> Json:
    """The parameters of a request, in any of the three spellings that Telegram takes."""
    if kind.startswith("application/json"):
        return dict(json.loads(body))
    if kind.startswith("application/x-www-form-urlencoded"):
        return {name: values[-1] for name, values in parse_qs(body.decode()).items()}
    if kind.startswith("multipart/form-data"):
        form = BytesParser(policy=HTTP).parsebytes(f"Content-Type: {kind}\r\n\r\n".encode() + body)
        found: Json = {}
        for part in form.iter_parts():
            name, content = part.get_param("name", header="content-disposition"), part.get_content()
            if isinstance(content, bytes) and not part.get_filename():
                content = content.decode()
            found[str(name)] = content
        return found
    return {}

"""The door of the Bot API: how requests are spelt, and how they are answered."""

import json
import sys
from collections.abc import Callable
from email.message import Message
from email.parser import BytesParser
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BufferedIOBase
from typing import Any
from urllib.parse import parse_qs

from tests.ops.bot.telegram_rules import ApiError

Json = dict[str, Any]


class Server(ThreadingHTTPServer):
    """As it is, but that whoever asked may go away in the middle of it."""

    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


def handler(
    handle: Callable[[str, str, Json], Any], note: Callable[[str, Json, int], None]
) -> type[BaseHTTPRequestHandler]:
    """`handle` is asked by token, method and fields; `note` is told method, fields and code before they are answered."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = read_body(self.headers, self.rfile)
            _, bot, method = self.path.split("/", 2)
            fields = read_fields(body, self.headers.get("Content-Type", ""))
            code, answer = 200, {}
            try:
                answer = {"ok": True, "result": handle(bot.removeprefix("bot"), method, fields)}
            except ApiError as problem:
                code = problem.code
                answer = {"ok": False, "error_code": code, "description": problem.description}
                if problem.parameters:
                    answer["parameters"] = problem.parameters
            note(method, fields, code)
            said = json.dumps(answer).encode()
            try:
                self.send_response(code)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(said)))
                self.end_headers()
                self.wfile.write(said)
            except OSError:  # whoever asked has gone
                self.close_connection = True

        def log_message(self, *_: object) -> None:
            """Tests read `calls`."""

    return Handler


def read_body(headers: "Message[str, str]", stream: BufferedIOBase) -> bytes:
    """A request's body, in one piece or in chunks, as files are sent."""
    if headers.get("Transfer-Encoding", "").lower() != "chunked":
        return stream.read(int(headers.get("Content-Length", 0)))
    body = b""
    while size := int(stream.readline().split(b";")[0], 16):
        body += stream.read(size)
        stream.readline()
    while stream.readline().strip():  # trailers
        pass
    return body


def read_fields(body: bytes, kind: str) -> dict[str, Any]:
    """The parameters of a request, in any of the three spellings that Telegram takes."""
    if kind.startswith("application/json"):
        return dict(json.loads(body))
    if kind.startswith("application/x-www-form-urlencoded"):
        return {name: values[-1] for name, values in parse_qs(body.decode()).items()}
    if kind.startswith("multipart/form-data"):
        form = BytesParser(policy=HTTP).parsebytes(f"Content-Type: {kind}\r\n\r\n".encode() + body)
        found: dict[str, Any] = {}
        for part in form.iter_parts():
            name, content = part.get_param("name", header="content-disposition"), part.get_content()
            if isinstance(content, bytes) and not part.get_filename():
                content = content.decode()
            found[str(name)] = content
        return found
    return {}

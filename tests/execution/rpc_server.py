"""A node of a test's own: a real HTTP server that answers as badly as it is told, and counts."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from execution_app.node import rpc

Answer = Callable[["Handler", Any], None]


class Handler(BaseHTTPRequestHandler):
    """Hands each request to the server's answer."""

    protocol_version = "HTTP/1.1"
    server: "Server"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append(body)
        self.server.answer(self, body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (the library's name)
        """Keep quiet."""

    def say(self, content: bytes, status: int = 200, length: int | None = None, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content) if length is None else length))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def hang_up(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[Any] = []
        self.answer: Answer = echo
        self.released = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


def result(call: dict[str, Any]) -> dict[str, Any]:
    """Each call's first parameter is its result, but for who it is."""
    said = WHO.get(call["method"]) or call["params"][0]
    return {"jsonrpc": "2.0", "id": call["id"], "result": said}


WHO = {"eth_chainId": "0x7a69", "eth_getBlockByNumber": {"hash": "0x" + "ab" * 32}}


def echo(handler: Handler, body: Any) -> None:
    answers = [result(call) for call in reversed(body)] if isinstance(body, list) else result(body)
    handler.say(json.dumps(answers).encode())


@contextmanager
def serving() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.released.set()
        server.shutdown()
        thread.join(timeout=10)
        server.server_close()


def closed_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def calls(count: int) -> list[rpc.Call]:
    return [("echo", (number,)) for number in range(count)]

"""A real webhook server, and requests to it byte by byte."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ops.rehearsal.parts import port
from ops.rehearsal.stack_commands import SERVICES
from tests.real_parts import ROOT
from tests.signals.sender import open_body, sign

START_S = 60
PATIENCE_S = 15
Header = tuple[str, str | bytes]


@dataclass(frozen=True)
class Answer:
    """`status` 0 means that the server closed the connection without a word."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def message(self) -> str:
        """What a sender reads: the message, and the errors of the fields."""
        if not self.headers.get("content-type", "").startswith("application/json"):
            return self.body.decode("utf-8", "replace")
        content = json.loads(self.body)
        faults = "; ".join(f"{error['field']}: {error['message']}" for error in content.get("errors", []))
        return f"{content.get('status')}: {content.get('message', content.get('error'))} {faults}"


@contextmanager
def server() -> Iterator[int]:
    """The webhook as the stack runs it, but for one worker; yields its port."""
    number = port.any_free()
    arguments = [a.format(port=number) for a in SERVICES["webhook"][0]]
    arguments[arguments.index("--workers") + 1] = "1"
    arguments[arguments.index("--host") + 1] = "127.0.0.1"
    process = subprocess.Popen(
        [sys.executable, *arguments], cwd=ROOT, env={**os.environ, "LOG_LEVEL": "ERROR"}
    )
    try:
        until_s = time.monotonic() + START_S
        while not _answers(number):
            assert process.poll() is None, "the webhook ended"
            assert time.monotonic() < until_s, "the webhook does not answer"
            time.sleep(0.1)
        yield number
    finally:
        process.terminate()
        process.wait(timeout=20)


def _answers(number: int) -> bool:
    try:
        return (
            send(number, b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").status
            == 200
        )
    except OSError:
        return False


def send(number: int, raw: bytes, *, then_close: bool = False) -> Answer:
    """Send bytes as they are and read the answer to its end."""
    with socket.create_connection(("127.0.0.1", number), timeout=PATIENCE_S) as connection:
        connection.sendall(raw)
        if then_close:
            connection.shutdown(socket.SHUT_WR)
        return read(connection)


def read(connection: socket.socket) -> Answer:
    heard = b""
    try:
        while part := connection.recv(65_536):
            heard += part
    except ConnectionResetError:
        pass  # closed with our bytes unread; what was answered before counts
    head, _, body = heard.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n").partition(b"\r\n\r\n")
    if not head:
        return Answer(0, {}, b"")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return Answer(int(first.split(" ")[1]), headers, body)


def request(
    body: bytes | dict[str, Any] | None = None,
    *more: Header,
    without: tuple[str, ...] = (),
    method: str = "POST",
    path: str = "/signals",
    version: str = "HTTP/1.1",
) -> bytes:
    """A signed request; `more` are headers that replace or join ours, `without` names ours to leave out."""
    given = open_body() if body is None else body
    raw = given if isinstance(given, bytes) else json.dumps(given).encode()
    ours: list[Header] = [
        ("Host", "localhost"),
        ("Connection", "close"),
        ("Content-Type", "application/json"),
        ("Content-Length", str(len(raw))),
        ("X-Signature", sign(raw)),
    ]
    left_out = {name.lower() for name in without} | {name.lower() for name, _ in more}
    headers = [header for header in ours if header[0].lower() not in left_out] + list(more)
    lines = [f"{method} {path} {version}".encode()]
    for name, value in headers:
        spelled = value if isinstance(value, bytes) else value.encode("latin-1")
        lines.append(name.encode() + b": " + spelled)
    return b"\r\n".join(lines) + b"\r\n\r\n" + raw


def chunked(body: bytes, *more: Header) -> bytes:
    """The same in one chunk, whose length stands before it."""
    head, _, raw = request(
        body, ("Transfer-Encoding", "chunked"), *more, without=("Content-Length",)
    ).partition(b"\r\n\r\n")
    return head + b"\r\n\r\n" + f"{len(raw):x}\r\n".encode() + raw + b"\r\n0\r\n\r\n"

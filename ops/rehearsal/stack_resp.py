"""The Redis protocol on a socket: commands out, replies in, every kind of reply told apart.

redis-py turns OK, a number and an array into what Python likes; whoever prints like redis-cli needs
to know which of them it was.
"""

import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

CONNECT_TIMEOUT_S = 10.0
LINE_LIMIT = 64 * 1024
BULK_LIMIT = 512 * 1024 * 1024  # what Redis itself allows


@dataclass(frozen=True)
class Status:
    """A simple string, such as OK."""

    text: bytes


@dataclass(frozen=True)
class Fault:
    """The server's error reply."""

    text: bytes


@dataclass(frozen=True)
class Double:
    """A floating-point number as the server spelled it."""

    text: bytes


@dataclass(frozen=True)
class Map:
    """Pairs in the server's order; a key may be any reply."""

    pairs: "tuple[tuple[Reply, Reply], ...]"


Reply: TypeAlias = "Status | Fault | Double | Map | bytes | int | bool | list[Reply] | None"


class ProtocolError(ConnectionError):
    """The server closed the connection or does not speak this protocol."""


class Wire:
    """One connection. Replies have no deadline: a blocking command blocks."""

    def __init__(self, host: str, port: int, *, tls: bool, timeout_s: float = CONNECT_TIMEOUT_S) -> None:
        """Raises OSError when there is no connection within the timeout."""
        plain = socket.create_connection((host, port), timeout_s)
        self._socket = ssl.create_default_context().wrap_socket(plain, server_hostname=host) if tls else plain
        self._socket.settimeout(None)
        self._reader = self._socket.makefile("rb")

    def close(self) -> None:
        self._reader.close()
        self._socket.close()

    def ask(self, words: Sequence[bytes]) -> Reply:
        """Raises OSError, ProtocolError among them."""
        self._socket.sendall(
            b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)
        )
        return self.read()

    def read(self) -> Reply:
        """One reply, or one message of a subscription."""
        line = self._reader.readline(LINE_LIMIT)
        if not line.endswith(b"\r\n"):
            raise ProtocolError("Server closed the connection")
        kind, rest = line[:1], line[1:-2]
        try:
            return self._reply(kind, rest)
        except ValueError:
            raise ProtocolError(f"Protocol error, got {line[:32]!r}") from None

    def _reply(self, kind: bytes, rest: bytes) -> Reply:
        found: Reply
        match kind:
            case b"+":
                found = Status(rest)
            case b"-":
                found = Fault(rest)
            case b":" | b"(":
                found = int(rest)
            case b"$" | b"=" | b"!":
                found = self._bulk(kind, int(rest))
            case b"*" | b"~" | b">":
                found = None if rest == b"-1" else [self.read() for _ in range(int(rest))]
            case b"%":
                found = Map(tuple((self.read(), self.read()) for _ in range(int(rest))))
            case b"#":
                found = rest == b"t"
            case b",":
                found = Double(rest)
            case b"_":
                found = None
            case _:
                raise ValueError("not a kind of reply")
        return found

    def _bulk(self, kind: bytes, length: int) -> Reply:
        if length < 0:
            return None
        if length > BULK_LIMIT:
            raise ValueError("longer than Redis allows")
        content = self._reader.read(length + 2)
        if len(content) != length + 2:
            raise ProtocolError("Server closed the connection")
        content = content[:-2]
        if kind == b"!":
            return Fault(content)
        return content[4:] if kind == b"=" else content  # =15\r\ntxt:…

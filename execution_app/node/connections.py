"""Pools of kept connections that count how often they were made, and answers that have to be whole in time.

A connection that the server closed is made anew without a word, and may end at
another machine: who asks by it wants to know.
"""

import io
import itertools
import socket
import time
from http.client import HTTPResponse
from typing import Any

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

KEPT = 8


class Dials:
    """How many connections were begun. Thread-safe."""

    def __init__(self) -> None:
        self._counter = itertools.count(1)
        self.count = 0

    def note(self) -> None:
        self.count = max(self.count, next(self._counter))


class _Timely(io.RawIOBase):
    """What a socket still says within its timeout from now on.

    The timeout alone is for each byte: a server that drips them would be listened to for ever.
    """

    def __init__(self, connection: socket.socket, raw: io.RawIOBase) -> None:
        self._socket, self._raw = connection, raw
        self._patience_s = connection.gettimeout()
        self._begun_s = time.monotonic()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if self._patience_s is None:
            return self._raw.readinto(buffer)
        left_s = self._begun_s + self._patience_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("the answer drips")
        self._socket.settimeout(left_s)
        try:
            return self._raw.readinto(buffer)
        finally:
            self._socket.settimeout(self._patience_s)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Answer(HTTPResponse):
    """Whole within the read timeout, its head too."""

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp = io.BufferedReader(_Timely(sock, self.fp.detach()))


def timely(manager: urllib3.PoolManager, dials: Dials | None = None) -> urllib3.PoolManager:
    """Have every answer of this manager be whole within the read timeout of its request, or be none."""
    counted = dials or Dials()

    class Plain(HTTPConnection):
        response_class = _Answer

        def connect(self) -> None:
            counted.note()
            super().connect()

    class Sealed(HTTPSConnection):
        response_class = _Answer

        def connect(self) -> None:
            counted.note()
            super().connect()

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = Plain

    class SealedPool(HTTPSConnectionPool):
        ConnectionCls = Sealed

    classes: dict[str, Any] = {"http": PlainPool, "https": SealedPool}
    manager.pool_classes_by_scheme = classes
    return manager


def pool(dials: Dials, connect_timeout_s: float, read_timeout_s: float) -> urllib3.PoolManager:
    """A pool for one host."""
    manager = urllib3.PoolManager(
        num_pools=1,
        maxsize=KEPT,
        retries=False,
        timeout=urllib3.Timeout(connect=connect_timeout_s, read=read_timeout_s),
    )
    return timely(manager, dials)

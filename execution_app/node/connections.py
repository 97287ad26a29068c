"""Kept HTTP connections that never retry and never follow, and that tell how often they were made.

A connection that the server closed is made anew without a word, and may end at
another machine: who asks by it wants to know.
"""

import itertools
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


def pool(dials: Dials, connect_timeout_s: float, read_timeout_s: float) -> urllib3.PoolManager:
    """A pool for one host."""

    class Plain(HTTPConnection):
        def connect(self) -> None:
            dials.note()
            super().connect()

    class Sealed(HTTPSConnection):
        def connect(self) -> None:
            dials.note()
            super().connect()

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = Plain

    class SealedPool(HTTPSConnectionPool):
        ConnectionCls = Sealed

    manager = urllib3.PoolManager(
        num_pools=1,
        maxsize=KEPT,
        retries=False,
        timeout=urllib3.Timeout(connect=connect_timeout_s, read=read_timeout_s),
    )
    classes: dict[str, Any] = {"http": PlainPool, "https": SealedPool}
    manager.pool_classes_by_scheme = classes
    return manager

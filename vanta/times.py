"""Times of the database, read by the compiled reader of the library."""

from datetime import UTC, datetime
from typing import Any

import psycopg
from psycopg.abc import AdaptContext, Buffer
from psycopg.adapt import Loader
from psycopg.pq import Format

# The library's own reader of times, compiled where it is. In a session whose zone is UTC, as all of ours, it answers what
# Django's answers, which takes twenty times as long; some twenty times are read for each intent.
_Reader: Any = psycopg.adapters.get_loader(psycopg.adapters.types["timestamptz"].oid, Format.TEXT)


class _Times(Loader):
    timezone = UTC  # by which Django tells that it need not put another in its place

    def __init__(self, oid: int, context: AdaptContext | None = None) -> None:
        super().__init__(oid, context)
        self.load = _Reader(oid, context).load  # type: ignore[method-assign]

    def load(self, data: Buffer) -> datetime:
        raise NotImplementedError  # each has its reader's in its place


def read_compiled(connection: Any, **_: Any) -> None:
    """Have this session's `timestamptz` read so; a receiver of Django's `connection_created`."""
    connection.connection.adapters.register_loader("timestamptz", _Times)

"""The audit log read in batches, every column as the text that was hashed."""

from collections.abc import Iterator
from typing import Any

from django.db import connection

from ops.audit.verifier import COLUMNS, Entry

BATCH = 2_000
_BEFORE_ALL = -(2**63)
# A moment that the common form cannot tell from another one is taken as PostgreSQL writes it.
_AT = """CASE WHEN at BETWEEN '0001-01-01 00:00:00+00' AND '9999-12-31 00:00:00+00'
THEN to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') ELSE at::text END"""
_TEXTS = ", ".join(_AT if name == "at" else f"{name}::text" for name in COLUMNS)
_NEXT = f"SELECT {_TEXTS} FROM audit_log WHERE audit_log.seq > %s ORDER BY audit_log.seq LIMIT %s"  # noqa: S608  (constants only)
_NEWEST = f"SELECT {_TEXTS} FROM audit_log ORDER BY audit_log.seq DESC LIMIT %s"  # noqa: S608


def entries(after: int | None = None, batch: int = BATCH) -> Iterator[Entry]:
    """Every entry after this number, oldest first; None begins before whatever there is."""
    last = _BEFORE_ALL if after is None else after
    while True:
        found = _read(_NEXT, last, batch)
        yield from found
        if len(found) < batch:
            return
        last = int(found[-1]["seq"] or 0)


def newest(limit: int) -> list[Entry]:
    """The last entries, oldest first."""
    return _read(_NEWEST, limit)[::-1]


def _read(question: str, *values: Any) -> list[Entry]:
    with connection.cursor() as cursor:
        cursor.execute(question, values)
        return [dict(zip(COLUMNS, row, strict=True)) for row in cursor.fetchall()]

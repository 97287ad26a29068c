"""Archives: rows of one table and one UTC day as lines of JSON, compressed, beside a manifest that says what they are.

A file is read back and compared with the database line by line before anything leaves. It explains itself: `zcat`
and the manifest are enough where nothing of this is at hand.
"""

import gzip
import hashlib
import json
import os
import re
import zlib
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import date
from itertools import zip_longest
from pathlib import Path
from typing import Any, NoReturn

from django.conf import settings

from execution_app.errors import Refused
from execution_app.models import ArchivedTable
from ops.rollout import sealed_files
from ops.rollout.sealed_files import MANIFEST, PARTIAL

FORMAT = 1
NAME = re.compile(r"(?P<table>[a-z_]+)-(?P<day>\d{4}-\d\d-\d\d)\.(?P<part>\d{1,3})\.jsonl\.gz")
MOST_PARTS = 100  # of one table and day; more means that something else is wrong
_COMPRESSION = 6


@dataclass(frozen=True)
class Former:
    """What the bytes of a file were before it was written anew (ops.rollout.rewriting)."""

    size_bytes: int
    sha256: str
    content_sha256: str


@dataclass(frozen=True)
class ArchiveFile:
    """One file as its manifest describes it; `columns` are (name, type of PostgreSQL) in the table's order.

    `formers` are what it was before, the newest last. Between two steps of its rewriting the manifest tells of the new
    bytes while the newest former's are there still: these are read then, and `is_half` says so.
    """

    path: Path
    table: ArchivedTable
    day: date
    part: int
    rows: int
    first_id: int
    last_id: int
    size_bytes: int
    sha256: str
    content_sha256: str
    columns: tuple[tuple[str, str], ...]
    formers: tuple[Former, ...] = ()

    @property
    def lineage(self) -> frozenset[str]:
        """Of itself and of everything that it was."""
        return frozenset({self.sha256, *(former.sha256 for former in self.formers)})


def alone_in(folder: Path) -> AbstractContextManager[None]:
    """Make the folder, and be the only one who archives into it. Raises Refused."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise Refused(f"{folder}: {error.strerror}") from None
    return sealed_files.alone_in(folder, f"somebody else archives into {folder}", f".*{PARTIAL}")


def write(
    folder: Path,
    table: ArchivedTable,
    day: date,
    lines: Iterable[str],
    *,
    facts: dict[str, Any],
    first_part: int,
) -> ArchiveFile:
    """Write the lines, in the order of their ids, under the first part that is free.

    A file of the same content that is there already, left by a run that was
    killed or known to a database that is gone, is taken instead: the same rows
    make the same bytes. Raises Refused where the disk does not do it.
    """
    draft = folder / f".{table}-{day}{PARTIAL}"
    count, ids = 0, (0, 0)

    def counted() -> Iterator[str]:
        nonlocal count, ids
        for line in lines:
            count += 1
            row_id = int(json.loads(line)["id"])
            ids = (ids[0] if count > 1 else row_id, row_id)
            yield line

    try:
        content_sha256 = pack(draft, counted())
        path, known = _free(folder, table, day, first_part, content_sha256)
        if known is not None:
            draft.unlink()
            return known
        told = {
            "format": FORMAT,
            "file": path.name,
            "table": table.value,
            "day": day.isoformat(),
            "rows": count,
            "first_id": ids[0],
            "last_id": ids[1],
            "bytes": draft.stat().st_size,
            "sha256": sealed_files.digest(draft),
            "content_sha256": content_sha256,
            "chain_id": settings.ENVIRONMENT.chain_id,
            "version": settings.VERSION,
            "what": "one row a line, as JSON of PostgreSQL (row_to_json), by id; bytes are \\x and hex, times are in UTC",
            **facts,
        }
        sealed_files.publish(draft, path, told)
    except OSError as error:
        raise Refused(f"{error.filename or folder}: {error.strerror}") from None
    return read(path)


def pack(draft: Path, lines: Iterable[str]) -> str:
    """Write a draft, compressed, onto the disk; returns SHA-256 of the lines. The same lines make the same bytes. Raises OSError."""
    content = hashlib.sha256()
    descriptor = os.open(draft, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
    with open(descriptor, "wb") as sink:  # noqa: PTH123 -- an open descriptor
        # Without a name and a time in it, so that it depends on its content alone.
        with gzip.GzipFile("", "wb", _COMPRESSION, sink, mtime=0) as packed:
            for line in lines:
                raw = line.encode() + b"\n"
                packed.write(raw)
                content.update(raw)
        sink.flush()
        os.fsync(sink.fileno())
    return content.hexdigest()


def _free(
    folder: Path, table: ArchivedTable, day: date, first_part: int, content_sha256: str
) -> tuple[Path, ArchiveFile | None]:
    for part in range(first_part, first_part + MOST_PARTS):
        path = folder / f"{table}-{day}.{part}.jsonl.gz"
        if not sealed_files.manifest_of(path).exists():
            return path, None  # what has no manifest was never finished
        if (there := read(path)).content_sha256 == content_sha256:
            return path, there
    raise Refused(f"{folder} has {MOST_PARTS} parts of {table} of {day}: look into it before anything leaves")


def read(path: Path) -> ArchiveFile:
    """What the manifest says. Raises Refused where there is none, or it is damaged."""
    told = sealed_files.read_manifest(path, FORMAT)
    named = NAME.fullmatch(path.name)
    try:
        if named is None or (told["file"], told["table"], told["day"]) != (
            path.name,
            named["table"],
            named["day"],
        ):
            raise Refused(f"{path.name} is not what its manifest is about")
        return ArchiveFile(
            path,
            ArchivedTable(told["table"]),
            date.fromisoformat(told["day"]),
            int(named["part"]),
            int(told["rows"]),
            int(told["first_id"]),
            int(told["last_id"]),
            int(told["bytes"]),
            str(told["sha256"]),
            str(told["content_sha256"]),
            tuple((str(name), str(kind)) for name, kind in told["columns"]),
            tuple(
                Former(int(one["bytes"]), str(one["sha256"]), str(one["content_sha256"]))
                for one in told.get("rewritten_from", ())
            ),
        )
    except (ValueError, TypeError, KeyError) as error:
        raise Refused(f"{path.name}{MANIFEST} is damaged: {type(error).__name__}") from None


def listed(
    folder: Path, table: ArchivedTable | None = None, since: date | None = None, until: date | None = None
) -> list[ArchiveFile]:
    """Those with a manifest, of these days (both included), by table, day and part. Raises Refused."""
    found = []
    for path in folder.glob("*.jsonl.gz"):
        if NAME.fullmatch(path.name) and sealed_files.manifest_of(path).exists():
            archive = read(path)
            if (
                table in (None, archive.table)
                and (since is None or archive.day >= since)
                and (until is None or archive.day <= until)
            ):
                found.append(archive)
    return sorted(found, key=lambda one: (one.table, one.day, one.part))


def lines_of(archive: ArchiveFile) -> Iterator[str]:
    """Each row's JSON; after the last one it is known that this was all. Raises Refused where it is not what was written."""
    content, count = hashlib.sha256(), 0
    wanted = archive.content_sha256
    try:
        if is_half(archive):
            wanted = archive.formers[-1].content_sha256
        elif _there(archive) != (archive.sha256, archive.size_bytes):
            _damaged(archive, "its bytes are not those that were written")
        with gzip.open(archive.path, "rb") as source:
            for raw in source:
                content.update(raw)
                count += 1
                yield raw.decode().removesuffix("\n")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        _damaged(archive, getattr(error, "strerror", None) or type(error).__name__)
    if (count, content.hexdigest()) != (archive.rows, wanted):
        _damaged(archive, f"{count} rows, the manifest says {archive.rows}")


def is_half(archive: ArchiveFile) -> bool:
    """Whether its rewriting was cut off: the manifest is the new one, the bytes are those of before. Raises OSError."""
    if not archive.formers:
        return False
    return _there(archive) == (archive.formers[-1].sha256, archive.formers[-1].size_bytes)


def _there(archive: ArchiveFile) -> tuple[str, int]:
    return sealed_files.digest(archive.path), archive.path.stat().st_size


def compare(archive: ArchiveFile, lines: Iterable[str]) -> None:
    """Read the file back and hold it against what the database says, line by line. Raises Refused at the first difference."""
    for number, (kept, held) in enumerate(zip_longest(lines_of(archive), lines), 1):
        if kept != held:
            _damaged(archive, f"line {number} is not the row that the database has")


def _damaged(archive: ArchiveFile, why: str) -> NoReturn:
    raise Refused(f"{archive.path}: {why}; nothing leaves the database by it")

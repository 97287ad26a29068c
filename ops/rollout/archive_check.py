"""Whether archives are what was written and the database knows of no other, and their rows in a schema of their own."""

import re
from collections import deque
from collections.abc import Iterable
from datetime import date
from itertools import islice
from pathlib import Path

from psycopg import errors, sql

from execution_app.errors import Refused
from execution_app.models import Archive, ArchivedTable
from ops.rollout import archives, rewriting
from ops.rollout.archives import ArchiveFile
from ops.rollout.findings import Finding
from ops.rollout.postgres_tools import Place

LOADED_ROWS = 1_000
SCHEMA = re.compile(r"[a-z][a-z0-9_]{0,62}")
FINISH = "manage.py privacy rewrite FILE, as it was begun"
FORGET = "manage.py privacy rewrite FILE notes it; after a restore first forget again whoever was forgotten since the backup"
COPY = "take it from the copy that is kept elsewhere; the database has these rows no more"


def examine(folder: Path, since: date | None, until: date | None, *, database: bool) -> list[Finding]:
    """A finding a file that is not right, and one that sums up. Raises Refused for a manifest that cannot be read."""
    found = archives.listed(folder, since=since, until=until)
    findings = [problem for archive in found if (problem := _of_rows(archive))]
    if database:
        findings += _of_database(folder, found, since, until)
    rows = sum(archive.rows for archive in found)
    if not any(finding.status == "fail" for finding in findings):
        findings.append(
            Finding("archives", "ok", f"{rows} rows in {len(found)} files, each as it was written")
        )
    return findings


def _of_rows(archive: ArchiveFile) -> Finding | None:
    try:
        deque(archives.lines_of(archive), maxlen=0)  # that all of it can be read is what is asked
        if archives.is_half(archive):
            words = "its rewriting was cut off: whole, and still with whoever was to be taken out"
            return Finding(archive.path.name, "warn", words, FINISH)
    except Refused as error:
        return Finding(archive.path.name, "fail", str(error), COPY)
    return None


def _of_database(
    folder: Path, found: list[ArchiveFile], since: date | None, until: date | None
) -> list[Finding]:
    rows, now = Archive.objects.order_by("table_name", "day", "part"), rewriting.noted()
    noted = {row.file: now[row.file] for row in rows if (since or row.day) <= row.day <= (until or row.day)}
    there = {archive.path.name: archive for archive in found}
    findings = [
        Finding(name, "fail", f"noted in the database, and not in {folder}", COPY)
        for name in noted.keys() - there.keys()
    ]
    findings += [
        Finding(name, "fail", "another file than the one that the database noted", COPY)
        for name in noted.keys() & there.keys()
        if noted[name] not in there[name].lineage
    ]
    findings += [
        Finding(name, "warn", "it was rewritten, and the database has no entry of that", FORGET)
        for name in noted.keys() & there.keys()
        if noted[name] != there[name].sha256 and noted[name] in there[name].lineage
    ]
    # Of a database that was replaced by a restore, or of a run that was killed: the next one takes it.
    findings += [
        Finding(name, "warn", "the database does not know of it") for name in there.keys() - noted.keys()
    ]
    return sorted(findings, key=lambda finding: finding.name)


def load(chosen: Iterable[ArchiveFile], table: ArchivedTable, schema: str) -> int:
    """Rows into a new schema, in one transaction; the table has the columns of today and no constraint. Raises Refused, Retryable."""
    if not SCHEMA.fullmatch(schema) or schema.startswith("pg_"):
        raise Refused(f"{schema!r} is no name for a schema of its own: a-z, 0-9 and _, not pg_…")
    place = Place.configured()
    home, kind = sql.Identifier(schema, table.value), sql.Identifier("public", table.value)
    rows = 0
    with place.connected(place.name) as session, session.transaction():
        try:
            session.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))
        except errors.DuplicateSchema:
            raise Refused(f"the schema {schema} is there already: choose another one, or drop it") from None
        session.execute(sql.SQL("CREATE TABLE {} AS SELECT * FROM {} WITH NO DATA").format(home, kind))
        words = sql.SQL(
            "INSERT INTO {} SELECT r.* FROM unnest(%s::text[]) line, json_populate_record(NULL::{}, line::json) r"
        ).format(home, kind)
        for archive in chosen:
            lines = archives.lines_of(archive)
            while some := list(islice(lines, LOADED_ROWS)):
                rows += session.execute(words, [some]).rowcount
    return rows

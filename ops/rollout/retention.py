"""What grows and decides nothing any more leaves the database, day by day, once an archive of it was read back.

For each table and UTC day: write the file, read it back and compare, note it in `archives` with an audit entry, and only
then let the rows go, in batches. A run that dies anywhere is finished by the next one.
"""

import json
import os
import time
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path

import psycopg
import structlog
from django.db import transaction
from django.db.models.functions import Now

from execution_app import audit
from execution_app.audit_words import AuditAction
from execution_app.errors import Refused, Retryable
from execution_app.models import Archive, ArchivedTable, Heartbeat
from ops.rollout import archives, rewriting
from ops.rollout.archives import ArchiveFile
from ops.rollout.leaving import LEAVING, Leaving
from ops.rollout.postgres_tools import Connection, Place
from ops.watch.liveness import RETENTION

log = structlog.get_logger(__name__)

# Nothing looks back further: caps and figures end at 30 days. The database holds the same number (0028_archives).
LEAST_DAYS = 35
DEFAULT_DAYS, MOST_DAYS = 90, 36_500
BATCH_ROWS = 1_000
FETCHED_ROWS = 2_000
SESSIONS_AT_ONCE = 1_000
# Nobody who trades waits for this longer than they would wait for one another.
LOCK_TIMEOUT, BATCH_TIMEOUT = "2s", "30s"
# Any number of ours: one run at a time, into whichever folder.
LOCK = 0x76616E7472


@dataclass(frozen=True)
class Due:
    """Rows of one table that ended on one day and may leave now."""

    table: ArchivedTable
    day: date
    rows: int
    first_id: int
    last_id: int


@dataclass
class Run:
    """What one run did. `refused` says by table and day why rows stayed."""

    files: list[str] = field(default_factory=list)
    rows: int = 0
    left: int = 0
    sessions: int = 0
    refused: list[str] = field(default_factory=list)


def due(session: Connection, keep_days: int) -> list[Due]:
    """What is older than so many whole UTC days, the oldest first. Raises Refused for fewer days than LEAST_DAYS and more than MOST_DAYS."""
    if not LEAST_DAYS <= keep_days <= MOST_DAYS:
        raise Refused(
            f"--keep-days {keep_days}: at least {LEAST_DAYS} days are kept, since what happened lately is still asked for, and at most {MOST_DAYS:,}"
        )
    row = session.execute("SELECT (now() AT TIME ZONE 'UTC')::date").fetchone()
    assert row is not None
    before = row[0] - timedelta(days=keep_days)
    found = []
    for table, leaving in LEAVING.items():
        rows = session.execute(
            f"SELECT ({leaving.ended} AT TIME ZONE 'UTC')::date, count(*), min(t.id), max(t.id)"  # noqa: S608 -- words of ours
            f" FROM {leaving.source} WHERE {leaving.ended} < %s AND {leaving.only} GROUP BY 1",
            [f"{before} 00:00:00+00"],
        ).fetchall()
        found += [Due(table, *values) for values in rows]
    return sorted(found, key=lambda one: (one.day, one.table))


def run(folder: Path, keep_days: int) -> Run:
    """Archive and let go what is due; expired sessions go, too.

    Safe to kill and to repeat. Raises Refused, also when another run is under
    way, and Retryable where the server is away; a day that is refused by itself
    is named in the answer, and the other days go on.
    """
    place = Place.configured()
    done = Run()
    with archives.alone_in(folder), place.connected(place.name) as session, _one_at_a_time(session):
        for one in due(session, keep_days):
            try:
                _day(session, folder, one, done)
            except Refused as why:
                done.refused.append(f"{one.table} of {one.day}: {why}")
        done.sessions = _forget_sessions(session)
    if not done.refused:
        _note(done)
    return done


@contextmanager
def _one_at_a_time(session: Connection) -> Iterator[None]:
    try:
        # The server needs a moment to notice that a command was killed.
        session.execute("SET lock_timeout = '3s'")
        session.execute("SELECT pg_advisory_lock(%s)", [LOCK])
        session.execute(f"SET lock_timeout = '{LOCK_TIMEOUT}'")
    except psycopg.errors.LockNotAvailable:
        raise Refused("another retention works on this database") from None
    try:
        yield
    except psycopg.OperationalError as error:
        raise Retryable(f"the database did not do it: {error}".strip()) from None


def _day(session: Connection, folder: Path, one: Due, done: Run) -> None:
    """First what an earlier run noted and did not finish; a further part for what is then still there."""
    noted = Archive.objects.filter(table_name=one.table, day=one.day).order_by("part")
    parts = [row.part for row in noted]
    now = rewriting.noted() if parts else {}
    for row in noted:
        archive = archives.read(folder / row.file)
        if now[row.file] not in archive.lineage:
            raise Refused(f"{archive.path} is another file than the one that was noted")
        done.left += _let_go(session, archive)
    if not (rest := _count(session, one)):
        return
    facts = {"columns": _columns(session, one.table), "leaves": LEAVING[one.table].what}
    with closing(_lines(session, one)) as lines:
        archive = archives.write(
            folder, one.table, one.day, lines, facts=facts, first_part=max(parts, default=0) + 1
        )
    with closing(_lines(session, one)) as lines:
        archives.compare(archive, lines)
    _record(archive)
    done.files.append(archive.path.name)
    done.rows += rest
    done.left += _let_go(session, archive)


def _lines(session: Connection, one: Due) -> Generator[str, None, None]:
    """Each row as JSON, by id."""
    leaving = LEAVING[one.table]
    with session.transaction(), session.cursor("leaving") as cursor:
        cursor.itersize = FETCHED_ROWS
        cursor.execute(
            f"SELECT row_to_json(t)::text FROM {_of_day(leaving)} ORDER BY t.id",  # noqa: S608 -- words of ours
            _bounds(one),
        )
        for (line,) in cursor:
            yield str(line)


def _count(session: Connection, one: Due) -> int:
    row = session.execute(f"SELECT count(*) FROM {_of_day(LEAVING[one.table])}", _bounds(one)).fetchone()  # noqa: S608
    return int(row[0]) if row else 0


def _of_day(leaving: Leaving) -> str:
    # By ids, which the primary key finds; not every table has an index by time.
    return (
        f"{leaving.source} WHERE t.id BETWEEN %s AND %s AND {leaving.ended} >= %s AND {leaving.ended} < %s"
        f" AND {leaving.only}"
    )


def _bounds(one: Due) -> list[object]:
    days = (one.day, one.day + timedelta(days=1))
    return [one.first_id, one.last_id, *(f"{day} 00:00:00+00" for day in days)]


def _columns(session: Connection, table: ArchivedTable) -> list[list[str]]:
    rows = session.execute(
        "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute"
        " WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
        [table.value],
    ).fetchall()
    return [list(row) for row in rows]


def _record(archive: ArchiveFile) -> None:
    """From here on the database lets these rows go."""
    facts = {"rows": archive.rows, "sha256": archive.sha256, "bytes": archive.size_bytes}
    with transaction.atomic():
        Archive.objects.create(
            table_name=archive.table,
            day=archive.day,
            part=archive.part,
            file=archive.path.name,
            sha256=archive.sha256,
            rows=archive.rows,
            first_id=archive.first_id,
            last_id=archive.last_id,
        )
        audit.record(AuditAction.ROWS_ARCHIVED, archive.path.name, after=facts)
    log.info("archived", file=archive.path.name, **facts)


def _let_go(session: Connection, archive: ArchiveFile) -> int:
    """Remove what the file has, in batches that each wait for nobody; as much rest between them as they took."""
    leaving = LEAVING[archive.table]
    gone = 0
    for ids in _batches(archive, leaving.owner):
        began_s = time.monotonic()
        try:
            with session.transaction():
                session.execute(f"SET LOCAL statement_timeout = '{BATCH_TIMEOUT}'")
                touched = session.execute(leaving.leave, [ids]).rowcount
        except psycopg.IntegrityError as error:
            raise Refused(f"the database keeps them: {error}".strip()) from None
        gone += touched
        if touched:
            time.sleep(min(time.monotonic() - began_s, 1.0))
    return gone


def _batches(archive: ArchiveFile, owner: str) -> Iterator[list[int]]:
    """Ids of the file, so that those of one owner stay together. Raises Refused where the file is damaged."""
    rows = (json.loads(line) for line in archives.lines_of(archive))
    ordered = sorted((int(row[owner]), int(row["id"])) for row in rows)
    batch: list[int] = []
    last = None
    for who, row_id in ordered:
        if len(batch) >= BATCH_ROWS and who != last:
            yield batch
            batch = []
        batch.append(row_id)
        last = who
    if batch:
        yield batch


def _forget_sessions(session: Connection) -> int:
    """Sessions that ended: nothing is archived of them, since a session is a key."""
    gone = 0
    while True:
        touched = session.execute(
            "DELETE FROM django_session WHERE session_key IN"
            " (SELECT session_key FROM django_session WHERE expire_date < now() LIMIT %s)",
            [SESSIONS_AT_ONCE],
        ).rowcount
        gone += touched
        if touched < SESSIONS_AT_ONCE:
            return gone


def _note(done: Run) -> None:
    """The heartbeat by which its age is told."""
    row = {
        "pid": os.getpid(),
        "started_at": Now(),
        "at": Now(),
        "note": f"{len(done.files)} files, {done.left} rows",
    }
    with transaction.atomic():
        if not Heartbeat.objects.filter(component=RETENTION).update(**row):
            Heartbeat.objects.create(component=RETENTION, **row)

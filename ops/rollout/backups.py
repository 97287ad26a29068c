"""A backup: one dump of one moment, and beside it a manifest that says what must be in it.

The manifest is written last, so a backup is there when its manifest is. Everything in it
was read in the very snapshot that pg_dump wrote down.
"""

import fcntl
import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import structlog
from django.conf import settings
from django.db import transaction
from psycopg import sql

from execution_app import audit
from execution_app.audit_words import AuditAction
from execution_app.errors import Refused
from execution_app.models import Heartbeat
from ops.rollout import postgres_tools
from ops.rollout.postgres_tools import Connection, Place
from ops.watch.liveness import BACKUP

log = structlog.get_logger(__name__)

FORMAT = 1
NAME = re.compile(r"vanta-\d{8}T\d{6}\.\d{3}Z\.dump")
MANIFEST = ".json"
PARTIAL = ".partial"
CHUNK_BYTES = 2**20
# What two databases are compared by, beside the rows of every table.
CONTENTS = ("counts", "wallets", "migrations", "epoch", "audit_head")


@dataclass(frozen=True)
class Contents:
    """What a database holds, as far as a copy can be checked by it. Nonces are by wallet: next, and highest owned."""

    counts: dict[str, int]
    wallets: list[dict[str, Any]]
    migrations: list[list[str]]
    epoch: int
    audit_head: list[Any]


@dataclass(frozen=True)
class Backup:
    """A dump and what its manifest says; `taken_at` is the moment of its snapshot, UTC."""

    path: Path
    taken_at: datetime
    sha256: str
    size_bytes: int
    chain_id: int
    contents: Contents
    told: dict[str, Any]


def take(folder: Path) -> Backup:
    """Dump the database into `folder`, read the dump back, and note that there is a backup.

    Raises Refused where a tool or the disk does not do it, Retryable where the server is away.
    Nothing counts until the manifest is there.
    """
    place = Place.configured()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _locked(folder):
            path, manifest = _dump(place, folder)
            try:
                postgres_tools.read_through(place, path)
            except Refused:
                path.unlink()
                raise
            final = folder / path.name.removeprefix(".").removesuffix(PARTIAL)
            told = manifest | {"file": final.name, "sha256": digest(path), "bytes": path.stat().st_size}
            _write(final.with_name(final.name + MANIFEST), told, path, final)
    except OSError as error:
        raise Refused(f"{error.filename or folder}: {error.strerror}") from None
    made = read(final)
    _note(made)
    return made


def _dump(place: Place, folder: Path) -> tuple[Path, dict[str, Any]]:
    with place.connected(place.name) as session:
        system, timeline = _server(session)
        server_version = session.info.server_version
        with session.transaction():
            session.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            row = session.execute("SELECT transaction_timestamp(), pg_export_snapshot()").fetchone()
            assert row is not None
            taken_at, snapshot = row
            contents = contents_of(session)
            stamp = f"{taken_at.astimezone(UTC):%Y%m%dT%H%M%S}.{taken_at.microsecond // 1000:03d}Z"
            path = folder / f".vanta-{stamp}.dump{PARTIAL}"
            # So that nobody else may read it at any moment.
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600))
            try:
                postgres_tools.dump(place, snapshot, path)
            except Refused:
                path.unlink()
                raise
    with path.open("rb") as written:
        os.fsync(written.fileno())
    return path, {
        "format": FORMAT,
        "taken_at": taken_at.astimezone(UTC).isoformat(),
        "chain_id": settings.ENVIRONMENT.chain_id,
        "version": settings.VERSION,
        "database": place.name,
        "system_identifier": system,
        "timeline": timeline,
        "server_version": server_version,
        **asdict(contents),
    }


def _server(session: Connection) -> tuple[str, int]:
    """System identifier and timeline; blank where this login may not ask, as on some managed servers."""
    try:
        row = session.execute(
            "SELECT system_identifier::text, timeline_id FROM pg_control_system(), pg_control_checkpoint()"
        ).fetchone()
    except psycopg.errors.InsufficientPrivilege:
        return "", 0
    return (str(row[0]), int(row[1])) if row else ("", 0)


def contents_of(session: Connection) -> Contents:
    """Read it, in one snapshot where the caller holds one. Raises Refused for what is no database of ours."""
    try:
        tables = session.execute(
            "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' ORDER BY 1"
        ).fetchall()
        counts = {}
        for (table,) in tables:
            row = session.execute(
                sql.SQL("SELECT count(*) FROM public.{}").format(sql.Identifier(table))
            ).fetchone()
            counts[table] = int(row[0]) if row else 0
        wallets = session.execute(
            "SELECT chain_id, address, next_nonce, (SELECT max(nonce) FROM tx_intents WHERE wallet_id = wallets.id)"
            " FROM wallets ORDER BY chain_id, address"
        ).fetchall()
        migrations = session.execute("SELECT app, name FROM django_migrations ORDER BY app, name").fetchall()
        epoch = session.execute("SELECT epoch FROM control WHERE id = 1").fetchone()
        head = session.execute("SELECT seq, hash FROM audit_log ORDER BY seq DESC LIMIT 1").fetchone()
    except psycopg.errors.UndefinedTable as error:
        raise Refused(f"this is no database of ours: {error}".strip()) from None
    names = ("chain_id", "address", "next_nonce", "highest_nonce")
    return Contents(
        counts,
        [dict(zip(names, row, strict=True)) for row in wallets],
        [list(row) for row in migrations],
        int(epoch[0]) if epoch else 0,
        list(head) if head else [0, ""],
    )


def _write(path: Path, told: dict[str, Any], partial: Path, final: Path) -> None:
    """The dump under its name, then its manifest, each whole or not at all, and on the disk."""
    draft = path.with_name(f".{path.name}{PARTIAL}")
    descriptor = os.open(draft, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
    with open(descriptor, "w", encoding="utf-8") as sink:  # noqa: PTH123 -- an open descriptor
        sink.write(json.dumps(told | {"seal": _seal(told)}, indent=1) + "\n")
        sink.flush()
        os.fsync(sink.fileno())
    partial.rename(final)
    draft.rename(path)
    _sync(path.parent)


def _seal(told: dict[str, Any]) -> str:
    """Against a manifest that was changed by accident; whoever means it can make another one."""
    plain = {name: value for name, value in told.items() if name != "seal"}
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One backup at a time in a folder; what a killed one left half written goes first. Raises Refused."""
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Refused(f"another backup is being written into {folder}") from None
        for path in folder.glob(f".vanta-*{PARTIAL}"):
            path.unlink()
        yield


def _note(made: Backup) -> None:
    """The heartbeat by which its age is told, and the audit log: a copy of everything has left the database."""
    with transaction.atomic():
        row = {
            "pid": os.getpid(),
            "started_at": made.taken_at,
            "at": made.taken_at,
            "note": made.path.name[:120],
        }
        if not Heartbeat.objects.filter(component=BACKUP).update(**row):
            Heartbeat.objects.create(component=BACKUP, **row)
        audit.record(
            AuditAction.DATABASE_BACKED_UP,
            made.path.name,
            after={"sha256": made.sha256, "bytes": made.size_bytes, "taken_at": made.taken_at.isoformat()},
        )


def digest(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    found = hashlib.sha256()
    with path.open("rb") as source:
        while chunk := source.read(CHUNK_BYTES):
            found.update(chunk)
    return found.hexdigest()


def read(path: Path) -> Backup:
    """What the manifest beside a dump says. Raises Refused where there is none, or it is damaged."""
    manifest = path.with_name(path.name + MANIFEST)
    try:
        told = json.loads(manifest.read_text(encoding="utf-8"))
        if told["format"] != FORMAT:
            raise Refused(f"{manifest.name} is of format {told['format']}, not {FORMAT}")
        if told.get("seal") != _seal(told):
            raise Refused(f"{manifest.name} was changed after it was written")
        return Backup(
            path,
            datetime.fromisoformat(told["taken_at"]),
            str(told["sha256"]),
            int(told["bytes"]),
            int(told["chain_id"]),
            Contents(**{name: told[name] for name in CONTENTS}),
            told,
        )
    except OSError as error:
        raise Refused(f"no manifest {manifest}: {error.strerror}") from None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise Refused(f"{manifest.name} is damaged: {type(error).__name__}") from None


def listed(folder: Path) -> list[Path]:
    """The dumps of our own naming that have a manifest, oldest first."""
    found = (path for path in folder.glob("vanta-*.dump") if NAME.fullmatch(path.name))
    return sorted(path for path in found if path.with_name(path.name + MANIFEST).exists())


def prune(folder: Path, keep: int | None, keep_days: int | None) -> list[Path]:
    """Remove what neither rule keeps; never the newest, and nothing that another hand named. Returns what went."""
    if keep is None and keep_days is None:
        return []
    with _locked(folder):
        dumps = listed(folder)
        kept = set(dumps[-max(1, keep or 1) :])
        if keep_days is not None:
            since = datetime.now(UTC) - timedelta(days=keep_days)
            kept |= {path for path in dumps if read(path).taken_at >= since}
        gone = [path for path in dumps if path not in kept]
        for path in gone:
            # Without its manifest it is no backup any more, whatever happens next.
            path.with_name(path.name + MANIFEST).unlink()
            path.unlink()
        _sync(folder)
    return gone

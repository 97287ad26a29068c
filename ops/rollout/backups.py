"""A backup: one dump of one moment, and beside it a manifest that says what must be in it.

The manifest is written last, so a backup is there when its manifest is. Everything in it
was read in the very snapshot that pg_dump wrote down.
"""

import os
import re
from contextlib import AbstractContextManager
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
from ops.rollout import postgres_tools, sealed_files
from ops.rollout.postgres_tools import Connection, Place
from ops.rollout.sealed_files import MANIFEST, PARTIAL, digest
from ops.watch.liveness import BACKUP

log = structlog.get_logger(__name__)

FORMAT = 1
NAME = re.compile(r"vanta-\d{8}T\d{6}\.\d{3}Z\.dump")
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
        with _alone_in(folder):
            path, manifest = _dump(place, folder)
            try:
                postgres_tools.read_through(place, path)
            except Refused:
                path.unlink()
                raise
            final = folder / path.name.removeprefix(".").removesuffix(PARTIAL)
            told = manifest | {"file": final.name, "sha256": digest(path), "bytes": path.stat().st_size}
            sealed_files.publish(path, final, told)
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


def _alone_in(folder: Path) -> AbstractContextManager[None]:
    busy = f"another backup is being written into {folder}"
    return sealed_files.alone_in(folder, busy, f".vanta-*{PARTIAL}")


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


def read(path: Path) -> Backup:
    """What the manifest beside a dump says. Raises Refused where there is none, or it is damaged."""
    told = sealed_files.read_manifest(path, FORMAT)
    try:
        return Backup(
            path,
            datetime.fromisoformat(told["taken_at"]),
            str(told["sha256"]),
            int(told["bytes"]),
            int(told["chain_id"]),
            Contents(**{name: told[name] for name in CONTENTS}),
            told,
        )
    except (ValueError, TypeError, KeyError) as error:
        raise Refused(f"{path.name}{MANIFEST} is damaged: {type(error).__name__}") from None


def listed(folder: Path) -> list[Path]:
    """The dumps of our own naming that have a manifest, oldest first."""
    found = (path for path in folder.glob("vanta-*.dump") if NAME.fullmatch(path.name))
    return sorted(path for path in found if path.with_name(path.name + MANIFEST).exists())


def prune(folder: Path, keep: int | None, keep_days: int | None) -> list[Path]:
    """Remove what neither rule keeps; never the newest, and nothing that another hand named. Returns what went."""
    if keep is None and keep_days is None:
        return []
    with _alone_in(folder):
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
        sealed_files.sync(folder)
    return gone

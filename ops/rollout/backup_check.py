"""Whether a backup is one: its bytes, every row that can be unpacked, and a restore beside the database in use."""

from dataclasses import asdict

from execution_app.errors import Refused
from ops.rollout import backups, postgres_tools, sealed_files
from ops.rollout.backups import Backup, Contents
from ops.rollout.findings import Finding
from ops.rollout.postgres_tools import Place

SCRATCH = "verify"
TOLD = 5  # differences that are named
AGAIN = "take another backup; keep this file apart"


def examine(made: Backup, *, scratch: bool) -> list[Finding]:
    """Every check in turn; what cannot be read is not restored. Raises Retryable where the server is away."""
    findings = [of_bytes(made)]
    if findings[-1].status == "ok":
        findings.append(_of_reading(made))
    if findings[-1].status == "ok" and scratch:
        findings.append(_of_scratch(made))
    return findings


def of_bytes(made: Backup) -> Finding:
    """Whether the file is the one that was written."""
    try:
        size_bytes, found = made.path.stat().st_size, sealed_files.digest(made.path)
    except OSError as error:
        return Finding("checksum", "fail", f"{made.path}: {error.strerror}", AGAIN)
    if (size_bytes, found) == (made.size_bytes, made.sha256):
        return Finding("checksum", "ok", f"{size_bytes} bytes, sha256 {found[:16]}…")
    detail = (
        f"{size_bytes} bytes, sha256 {found[:16]}…; the manifest says {made.size_bytes}, {made.sha256[:16]}…"
    )
    return Finding("checksum", "fail", detail, AGAIN)


def _of_reading(made: Backup) -> Finding:
    try:
        postgres_tools.read_through(Place.configured(), made.path)
    except Refused as error:
        return Finding("reading", "fail", str(error), AGAIN)
    return Finding("reading", "ok", "pg_restore unpacked all of it")


def _of_scratch(made: Backup) -> Finding:
    """Restore into a database of its own, which is dropped afterwards, and compare with the manifest."""
    place = Place.configured()
    with place.connected() as session, postgres_tools.alone(session):
        postgres_tools.drop_leftovers(session, f"{place.name}_{SCRATCH}_")
        name = postgres_tools.beside(place.name, SCRATCH)
        try:
            postgres_tools.create(session, name, place.name)
            postgres_tools.restore_into(place, made.path, name)
            wrong = compare(place, name, made.contents)
        except Refused as error:
            return Finding("scratch restore", "fail", str(error), AGAIN)
        finally:
            postgres_tools.drop(session, name)
    if wrong:
        return Finding("scratch restore", "fail", "; ".join(wrong), AGAIN)
    rows = sum(made.contents.counts.values())
    return Finding(
        "scratch restore", "ok", f"{rows} rows in {len(made.contents.counts)} tables, as in the manifest"
    )


def compare(place: Place, name: str, wanted: Contents) -> list[str]:
    """How a restored database differs from what the manifest says, in words. Raises Refused, Retryable."""
    with place.connected(name) as session:
        found = backups.contents_of(session)
    tables = sorted(wanted.counts.keys() | found.counts.keys())
    wrong = [
        f"{table} has {found.counts.get(table, 'no table')} rows, the manifest says {wanted.counts.get(table, 'none')}"
        for table in tables
        if found.counts.get(table) != wanted.counts.get(table)
    ]
    others = {key: value for key, value in asdict(wanted).items() if key != "counts"}
    wrong += [f"{key} differ" for key, value in others.items() if asdict(found)[key] != value]
    return wrong[:TOLD]

"""Archives written anew without people who were forgotten since: their pseudonym stands in the place of the id, and `meta` is empty.

Who is meant is asked of the database, where forgetting put the pseudonym into the signal's row. The new file is read back
and held against the old one line by line, then takes its place in two steps: the manifest, which tells of the old bytes,
too, and then the bytes. So a reader finds the whole of the one or of the other whenever it looks. It is noted last, in
the audit log: `archives` keeps what was archived. What is killed anywhere is finished by the next run; what fails is put
back as it was.
"""

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any, NoReturn

import structlog
from django.db import transaction

from execution_app import audit, people
from execution_app.audit_words import AuditAction, AuditOrigin
from execution_app.errors import Refused
from execution_app.models import Archive, ArchivedTable, AuditEntry
from execution_app.models.people import PSEUDONYMS_BEGIN
from ops.rollout import archives, sealed_files
from ops.rollout.archives import ArchiveFile, Former
from ops.rollout.sealed_files import PARTIAL
from signals_app.models import Signal

log = structlog.get_logger(__name__)

BATCH = 1_000
LEAST_REASON = 3


@dataclass(frozen=True)
class Rewritten:
    """`changed` of so many rows are of people who were forgotten since the file was written."""

    file: str
    rows: int
    changed: int


def noted() -> dict[str, str]:
    """SHA-256 of each file as the database knows it: of its archiving, or of its newest rewriting."""
    found = dict(Archive.objects.values_list("file", "sha256"))
    rewritings = AuditEntry.objects.filter(action=AuditAction.ROWS_ARCHIVED, before__isnull=False)
    for entry in rewritings.order_by("seq"):
        if entry.subject in found:
            found[entry.subject] = str((entry.after or {})["sha256"])
    return found


def look(folder: Path, name: str) -> Rewritten:
    """What a rewriting would change. Raises Refused where there could be none."""
    archive = _named(folder, name)
    return Rewritten(name, archive.rows, sum(old != new for old, new in _pairs(archive)))


def rewrite(folder: Path, name: str, *, by: str, reason: str) -> Rewritten:
    """Take who was forgotten out of one file; safe to kill and to repeat. Raises Refused, and then all is as it was."""
    if not by.strip() or len(reason.strip()) < LEAST_REASON:
        raise Refused("it takes a name and a reason")
    if people.names_somebody(reason):
        raise Refused("the reason tells of somebody by their id, who would be known again by that")
    if not folder.is_dir():
        raise Refused(f"there is no folder {folder}")
    with archives.alone_in(folder):
        archive = _named(folder, name)
        draft = archive.path.with_name(f".{name}{PARTIAL}")
        try:
            found = look(folder, name)
            if not found.changed and not archives.is_half(archive):
                _note_what_is_there(archive, by, reason)
                return found
            content_sha256 = archives.pack(draft, (new for _, new in _pairs(archive)))
            made = replace(
                archive,
                path=draft,
                size_bytes=draft.stat().st_size,
                sha256=sealed_files.digest(draft),
                content_sha256=content_sha256,
                formers=(),
            )
            others_sha256 = _hold_against(archive, made, found.changed)
            told = {"rewritten": found.changed, "others_sha256": others_sha256}
            _exchange(archive, made, lambda: _note(archive, made, told, by, reason))
        except OSError as error:
            raise Refused(f"{error.filename or folder}: {error.strerror}") from None
        finally:
            draft.unlink(missing_ok=True)
    log.warning("an archive was rewritten", file=name, changed=found.changed, by=by)
    return found


def _named(folder: Path, name: str) -> ArchiveFile:
    """An archive of signals that the database knows, in this folder. Raises Refused."""
    if not archives.NAME.fullmatch(name):
        raise Refused(f"{name} is no name of an archive")
    archive = archives.read(folder / name)
    if archive.table is not ArchivedTable.SIGNALS:
        raise Refused(f"{name} names nobody: only archives of {ArchivedTable.SIGNALS} do")
    known = set(Archive.objects.filter(file=name).values_list("sha256", flat=True))
    if not known:
        raise Refused(f"the database does not know {name}: manage.py retention takes it first")
    if not archive.lineage & (known | {noted()[name]}):
        raise Refused(f"{name} is another file than the one that was noted")
    return archive


def _pairs(archive: ArchiveFile) -> Iterator[tuple[str, str]]:
    """Each line as it is and as it is to be. Raises Refused."""
    lines = archives.lines_of(archive)
    while some := list(islice(lines, BATCH)):
        rows = [json.loads(line, parse_float=str) for line in some]
        asked = Signal.objects.filter(pk__in=[row["id"] for row in rows])
        known = {pk: rest for pk, *rest in asked.values_list("pk", "source", "signal_id", "tg_user_id")}
        for line, row in zip(some, rows, strict=True):
            yield line, _without_person(archive, line, row, known.get(row["id"]))


def _without_person(archive: ArchiveFile, line: str, row: dict[str, Any], held: list[Any] | None) -> str:
    if held is None or held[:2] != [row["source"], row["signal_id"]]:
        _no(archive, f"signal {row['id']} is not the one that the database has under this number")
    if held[2] == row["tg_user_id"]:
        return line
    if held[2] < PSEUDONYMS_BEGIN:
        _no(
            archive,
            f"signal {row['id']} is somebody else's in the database: after a restore forget them again first",
        )
    return edited(line, {"tg_user_id": str(held[2]), "meta": "{}"})


def edited(line: str, values: dict[str, str]) -> str:
    """One JSON object with other values of these keys; every other character stays as it is."""
    decoder, parts, kept = json.JSONDecoder(), list[str](), 0
    at = line.index("{")
    while line[at] != "}":
        key, at = decoder.raw_decode(line, _next(line, at + 1))
        begins = _next(line, line.index(":", at) + 1)
        _, at = decoder.raw_decode(line, begins)
        if key in values:
            parts += [line[kept:begins], values[key]]
            kept = at
        at = _next(line, at)
    return "".join([*parts, line[kept:]])


def _next(line: str, at: int) -> int:
    """Behind whatever white space stands there."""
    return at + len(line[at:]) - len(line[at:].lstrip())


def _hold_against(old: ArchiveFile, new: ArchiveFile, changed: int) -> str:
    """Read both back: as many lines, those of others the same, the rest the same but for who it was.

    Returns SHA-256 of the lines of others. Raises Refused.
    """
    others, different = sha256(), 0
    for number, (before, after) in enumerate(zip_longest(archives.lines_of(old), archives.lines_of(new)), 1):
        if before is None or after is None:
            _no(old, f"line {number} is in one of both files alone")
        if before == after:
            others.update(after.encode() + b"\n")
            continue
        was, now = (json.loads(line, parse_float=str) for line in (before, after))
        if now["tg_user_id"] < PSEUDONYMS_BEGIN or now != was | {"tg_user_id": now["tg_user_id"], "meta": {}}:
            _no(old, f"line {number} would not be what it was without its person")
        different += 1
    if different != changed:
        _no(old, f"{different} lines would differ, {changed} are of people who were forgotten")
    return others.hexdigest()


def _exchange(old: ArchiveFile, new: ArchiveFile, note: Callable[[], None]) -> None:
    """The new manifest, then the new bytes, then the note; what fails at any of them is put back."""
    path, manifest = old.path, sealed_files.manifest_of(old.path)
    was = manifest.read_text(encoding="utf-8")
    told = json.loads(was) | {
        "bytes": new.size_bytes,
        "sha256": new.sha256,
        "content_sha256": new.content_sha256,
        "rewritten_from": [_as_told(former) for former in _formers(old)],
    }
    told.pop("seal")
    draft = sealed_files.draft_of(manifest, sealed_files.sealed(told))
    before = path.with_name(f".{path.name}.before{PARTIAL}")
    os.link(path, before)
    try:
        draft.rename(manifest)
        sealed_files.sync(path.parent)
        new.path.rename(path)
        sealed_files.sync(path.parent)
        note()
    except BaseException:
        draft.unlink(missing_ok=True)
        before.rename(path)
        sealed_files.draft_of(manifest, was).rename(manifest)
        sealed_files.sync(path.parent)
        raise
    finally:
        before.unlink(missing_ok=True)


def _formers(old: ArchiveFile) -> tuple[Former, ...]:
    """Of what is to come; a rewriting that was cut off has told of these bytes already."""
    if archives.is_half(old):
        return old.formers
    return (*old.formers, Former(old.size_bytes, old.sha256, old.content_sha256))


def _as_told(former: Former) -> dict[str, Any]:
    return {"bytes": former.size_bytes, "sha256": former.sha256, "content_sha256": former.content_sha256}


def _note_what_is_there(archive: ArchiveFile, by: str, reason: str) -> None:
    """A rewriting that was killed before it was noted is noted now."""
    if noted()[archive.path.name] != archive.sha256:
        _note(archive, archive, {}, by, reason)


def _note(old: ArchiveFile, new: ArchiveFile, told: dict[str, Any], by: str, reason: str) -> None:
    name = old.path.name
    with transaction.atomic(durable=True):
        audit.record(
            AuditAction.ROWS_ARCHIVED,
            name,
            reason=reason,
            before={"rows": old.rows, "sha256": noted()[name]},
            after={"rows": new.rows, "sha256": new.sha256, "bytes": new.size_bytes, **told},
            who=audit.by(by, AuditOrigin.COMMAND),
        )


def _no(archive: ArchiveFile, why: str) -> NoReturn:
    raise Refused(f"{archive.path.name}: {why}; nothing was changed")

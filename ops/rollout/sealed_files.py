"""Files that are there whole or not at all, with a manifest beside each that is written last."""

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from execution_app.errors import Refused

MANIFEST = ".json"
PARTIAL = ".partial"
CHUNK_BYTES = 2**20


def manifest_of(path: Path) -> Path:
    return path.with_name(path.name + MANIFEST)


def publish(partial: Path, final: Path, told: dict[str, Any]) -> None:
    """The file under its name, then its manifest, each whole and on the disk; without the manifest it counts for nothing."""
    manifest = manifest_of(final)
    draft = draft_of(manifest, sealed(told))
    partial.rename(final)
    draft.rename(manifest)
    sync(final.parent)


def sealed(told: dict[str, Any]) -> str:
    """A manifest as it stands in its file."""
    return json.dumps(told | {"seal": seal(told)}, indent=1) + "\n"


def draft_of(final: Path, text: str) -> Path:
    """Text beside the file that it is to become, on the disk."""
    draft = final.with_name(f".{final.name}{PARTIAL}")
    descriptor = os.open(draft, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
    with open(descriptor, "w", encoding="utf-8") as sink:  # noqa: PTH123 -- an open descriptor
        sink.write(text)
        sink.flush()
        os.fsync(sink.fileno())
    return draft


def read_manifest(path: Path, wanted_format: int) -> dict[str, Any]:
    """What stands beside a file. Raises Refused where there is none, or it is damaged."""
    manifest = manifest_of(path)
    try:
        told = json.loads(manifest.read_text(encoding="utf-8"))
        if told["format"] != wanted_format:
            raise Refused(f"{manifest.name} is of format {told['format']}, not {wanted_format}")
        if told.get("seal") != seal(told):
            raise Refused(f"{manifest.name} was changed after it was written")
    except OSError as error:
        raise Refused(f"no manifest {manifest}: {error.strerror}") from None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise Refused(f"{manifest.name} is damaged: {type(error).__name__}") from None
    return dict(told)


def seal(told: dict[str, Any]) -> str:
    """Against a manifest that was changed by accident; whoever means it can make another one."""
    plain = {name: value for name, value in told.items() if name != "seal"}
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def digest(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    found = hashlib.sha256()
    with path.open("rb") as source:
        while chunk := source.read(CHUNK_BYTES):
            found.update(chunk)
    return found.hexdigest()


def sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def alone_in(folder: Path, busy: str, leftovers: str) -> Iterator[None]:
    """One writer at a time in a folder; what a killed one left half written goes first. Raises Refused, saying `busy`."""
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Refused(busy) from None
        for path in folder.glob(leftovers):
            path.unlink()
        yield

"""Death by loss of power, for files: what was written to a signer's journal and not synced is not on the disk.

A SIGKILL alone leaves the kernel's cache as it is, and would forgive a sync that was forgotten. The database syncs by itself.
Nor is a journal there whose folder was not synced since it was made.
"""

import os
from pathlib import Path
from typing import Any

from django.conf import settings

SUFFIX = ".synced"  # beside each journal, since others write it, too
NAMED = ".named"  # beside each whose name was on the disk by then


def watch() -> None:
    """From now on note how far this process and those it forks have synced each journal."""
    for path in _journals():
        path.with_suffix(NAMED).touch()
        _note(path, path.stat().st_size)
    fsync = os.fsync

    def noted(fd: Any) -> None:
        fsync(fd)
        path = Path(f"/proc/self/fd/{fd}").readlink()
        if path.suffix == ".journal":
            _note(path, os.fstat(fd).st_size)
        elif path.is_dir():
            for named in path.glob("*.journal"):
                named.with_suffix(NAMED).touch()

    os.fsync = noted


def fail() -> None:
    """Take away what nobody has synced."""
    for path in _journals():
        if not path.with_suffix(NAMED).exists():
            path.unlink()  # its folder was not synced since it is there, so nobody finds it, whatever is on the disk
            continue
        noted = path.with_suffix(SUFFIX)
        synced = int(noted.read_text(encoding="ascii")) if noted.exists() else 0
        if path.stat().st_size > synced:
            os.truncate(path, synced)


def _journals() -> list[Path]:
    return sorted(settings.ENVIRONMENT.signer_journal_dir.glob("*.journal"))


def _note(path: Path, size: int) -> None:
    path.with_suffix(SUFFIX).write_text(str(size), encoding="ascii")

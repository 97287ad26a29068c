"""Death by loss of power, for files: what was written to a signer's journal and not synced is not on the disk.

A SIGKILL alone leaves the kernel's cache as it is, and would forgive a sync that was forgotten. The database syncs by itself.
"""

import os
from pathlib import Path
from typing import Any

from django.conf import settings

SUFFIX = ".synced"  # beside each journal, since others write it, too


def watch() -> None:
    """From now on note how far this process and those it forks have synced each journal."""
    for path in _journals():
        _note(path, path.stat().st_size)
    fsync = os.fsync

    def noted(fd: Any) -> None:
        fsync(fd)
        path = Path(f"/proc/self/fd/{fd}").readlink()
        if path.suffix == ".journal":
            _note(path, os.fstat(fd).st_size)

    os.fsync = noted


def fail() -> None:
    """Take away what nobody has synced."""
    for path in _journals():
        noted = path.with_suffix(SUFFIX)
        synced = int(noted.read_text(encoding="ascii")) if noted.exists() else 0
        if path.stat().st_size > synced:
            os.truncate(path, synced)


def _journals() -> list[Path]:
    return sorted(settings.ENVIRONMENT.signer_journal_dir.glob("*.journal"))


def _note(path: Path, size: int) -> None:
    path.with_suffix(SUFFIX).write_text(str(size), encoding="ascii")

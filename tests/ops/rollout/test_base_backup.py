"""The recipe of a base backup, as docs/backups.md has it: a server copied while it works, and brought to a moment after that."""

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import psycopg

from ops.rehearsal.parts import place
from ops.rehearsal.parts.postgres import Postgres
from tests.e2e.stack import wait_until
from tests.real_parts import ROOT

RECIPE = (
    (ROOT / "docs" / "backups.md")
    .read_text(encoding="utf-8")
    .partition("## A base backup")[2]
    .partition("## ")[0]
)


def of_recipe(name: str) -> str:
    """The value of a setting as the document has it."""
    found = re.search(rf"{name} = ('[^']*'|\w+)", RECIPE)
    assert found, f"the recipe says nothing of {name}"
    return found[1]


def configure(server: Postgres, **settings: str) -> None:
    with (server.home / "postgresql.conf").open("a") as conf:
        conf.writelines(f"{name} = {value}\n" for name, value in settings.items())


def give(path: Path, server: Postgres) -> None:
    """To the account that the server runs as, which is not root."""
    owner = server.folder.stat()
    for one in (path, *path.rglob("*")):
        os.chown(one, owner.st_uid, owner.st_gid)


def ask(server: Postgres, statement: str, *values: Any) -> Any:
    with psycopg.connect(server.url, autocommit=True) as session:
        row = session.execute(statement, values).fetchone() if "SELECT" in statement else None
        if row is None:
            session.execute(statement, values)
        return row and row[0]


def run(server: Postgres, line: str) -> str:
    """A line of the recipe by the server's own programs."""
    program, *words = shlex.split(line)
    given = {"PGPASSWORD": (server.folder / "password").read_text(), "PATH": os.defpath, "LC_ALL": "C"}
    done = subprocess.run(
        [str(server.programs / program), *words],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=given,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_copy_is_brought_to_a_moment(tmp_path: Path) -> None:
    first, second = (
        Postgres(tmp_path / "first" / "pg", durable=False),
        Postgres(tmp_path / "second" / "pg", durable=False),
    )
    first.prepare()
    archive, base = first.folder.resolve() / "archive", tmp_path / "base"
    archive.mkdir()
    give(archive, first)
    archive_command = of_recipe("archive_command").replace("/archive/", f"{archive}/")
    configure(first, archive_mode=of_recipe("archive_mode"), archive_command=archive_command)
    try:
        with first:
            ask(first, "CREATE TABLE known (id int)")
            ask(first, "INSERT INTO known VALUES (1)")
            copying = next(line for line in RECIPE.splitlines() if line.startswith("pg_basebackup"))
            options = copying.partition("-X")[2]
            run(first, f"pg_basebackup -h 127.0.0.1 -p {first.port} -U vanta -w -D {base} -X{options}")
            assert "successfully verified" in run(first, f"pg_verifybackup {base}")
            ask(first, "INSERT INTO known VALUES (2)")
            moment = ask(first, "SELECT clock_timestamp()")
            ask(first, "INSERT INTO known VALUES (3)")
            last = ask(first, "SELECT pg_walfile_name(pg_switch_wal())")
            wait_until((archive / last).exists, 60, "the log is archived")
        second.folder.parent.mkdir()
        place.own_folder(second._account, second.folder)
        shutil.copytree(base, second.home)
        second.home.chmod(0o700)
        shutil.copy(first.folder / "password", second.folder / "password")
        (second.home / "recovery.signal").touch()
        configure(
            second,
            archive_mode="off",
            restore_command=of_recipe("restore_command").replace("/archive/", f"{archive}/"),
            recovery_target_time=f"'{moment.isoformat()}'",
            recovery_target_action=of_recipe("recovery_target_action"),
        )
        give(second.folder.resolve(), first)
        with second:
            wait_until(lambda: not ask(second, "SELECT pg_is_in_recovery()"), 60, "it is promoted")
            assert ask(second, "SELECT array_agg(id ORDER BY id) FROM known") == [1, 2], (
                "that moment, not the last"
            )
            ask(second, "CHECKPOINT")
            assert ask(second, "SELECT timeline_id FROM pg_control_checkpoint()") == 2, (
                "so every wallet halts"
            )
    finally:
        second.destroy()
        first.destroy()

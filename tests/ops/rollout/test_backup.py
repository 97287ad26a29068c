"""`manage.py backup|verify-backup`: one moment, read back; whatever is not whole is told and refused."""

import fcntl
import json
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from execution_app.models import AuditEntry, Heartbeat
from ops.rollout import backups, postgres_tools, sealed_files
from ops.rollout.postgres_tools import Place
from tests.execution import rows


def run(capsys: pytest.CaptureFixture[str], *words: object) -> dict[str, Any]:
    """The command's JSON; a refusal is raised after what it printed was dropped."""
    capsys.readouterr()
    call_command(*map(str, words), "--json")
    return dict(json.loads(capsys.readouterr().out))


def databases() -> list[str]:
    with Place.configured().connected() as session:
        return [str(name) for (name,) in session.execute("SELECT datname FROM pg_database ORDER BY 1")]


@pytest.fixture
def made(database: None, tmp_path: Path) -> backups.Backup:
    rows.wallet(next_nonce=7)
    return backups.take(tmp_path / "backups")


def reseal(path: Path, **changes: object) -> None:
    """A manifest that somebody made on purpose."""
    manifest = path.with_name(path.name + sealed_files.MANIFEST)
    told = json.loads(manifest.read_text()) | changes
    manifest.write_text(json.dumps(told | {"seal": sealed_files.seal(told)}))


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def test_a_backup_says_what_is_in_it(
    database: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wallet = rows.wallet(next_nonce=7)
    before = databases()
    said = run(capsys, "backup", "--to", tmp_path / "b", "--reason", "before a migration")
    path = Path(said["file"])
    told = json.loads(path.with_name(path.name + ".json").read_text())
    assert told["counts"]["wallets"] == 1
    address = rows.one("SELECT address FROM wallets WHERE id = %s", wallet)
    assert told["wallets"] == [
        {"chain_id": 31337, "address": address, "next_nonce": 7, "highest_nonce": None}
    ]
    assert ["execution_app", "0021_restore_points"] in told["migrations"]
    system = rows.one("SELECT system_identifier::text FROM pg_control_system()")
    assert (told["system_identifier"], told["timeline"], told["sha256"]) == (
        system,
        1,
        sealed_files.digest(path),
    )
    assert [oct(one.stat().st_mode & 0o777) for one in (path, path.parent)] == ["0o600", "0o700"]
    beat = Heartbeat.objects.get(component="backup")
    assert beat.at.isoformat() == told["taken_at"], "its age is that of the moment it holds"
    assert AuditEntry.objects.get(action="database_backed_up").reason == "before a migration"
    assert run(capsys, "verify-backup", "--in", path.parent)["ok"]
    assert databases() == before, "nothing is left of the scratch database"


@pytest.mark.parametrize("where", ["head", "middle", "end"])
def test_one_flipped_bit_is_told(
    made: backups.Backup, where: str, capsys: pytest.CaptureFixture[str]
) -> None:
    flip(made.path, {"head": 3, "middle": made.size_bytes // 2, "end": made.size_bytes - 1}[where])
    with pytest.raises(CommandError, match="1 of 1 checks failed") as refusal:
        run(capsys, "verify-backup", made.path)
    assert refusal.value.returncode == 1
    database = Place.configured().name
    with pytest.raises(CommandError, match="the backup is damaged"):
        run(
            capsys, "restore", made.path, "--yes-restore", database, "--reason", "a test of it", "--terminate"
        )
    assert not [name for name in databases() if name.startswith(f"{database}_")]


def test_what_the_manifest_says_must_be_there(
    made: backups.Backup, capsys: pytest.CaptureFixture[str]
) -> None:
    """A dump that can be read and holds something else."""
    reseal(made.path, counts=made.contents.counts | {"wallets": 2})
    with pytest.raises(CommandError):
        call_command("verify-backup", str(made.path))
    assert "wallets has 1 rows, the manifest says 2" in capsys.readouterr().out
    assert run(capsys, "verify-backup", made.path, "--no-scratch")["ok"], "which it says it did not look at"


def test_a_dump_that_cannot_be_unpacked(made: backups.Backup, capsys: pytest.CaptureFixture[str]) -> None:
    made.path.write_bytes(made.path.read_bytes()[: made.size_bytes // 2])
    reseal(made.path, bytes=made.path.stat().st_size, sha256=sealed_files.digest(made.path))
    with pytest.raises(CommandError):
        call_command("verify-backup", str(made.path))
    assert "fail  reading: pg_restore ended with 1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "words"),
    [("", "damaged"), ("[]", "damaged"), ('{"format": 2}', "format 2"), (None, "no manifest")],
)
def test_a_manifest_that_is_none(
    made: backups.Backup, content: str | None, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = made.path.with_name(made.path.name + sealed_files.MANIFEST)
    manifest.unlink() if content is None else manifest.write_text(content)
    with pytest.raises(CommandError, match=words):
        run(capsys, "verify-backup", made.path)


def test_a_manifest_with_another_number(made: backups.Backup, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = made.path.with_name(made.path.name + sealed_files.MANIFEST)
    manifest.write_text(manifest.read_text().replace('"next_nonce": 7', '"next_nonce": 8'))
    with pytest.raises(CommandError, match="was changed after it was written"):
        run(capsys, "verify-backup", made.path)


@pytest.fixture
def writer(database: None) -> Iterator[None]:
    """Somebody commits rows all the time."""
    ended = threading.Event()

    def write() -> None:
        while not ended.is_set():
            rows.trader()
        connection.close()

    thread = threading.Thread(target=write)
    thread.start()
    yield
    ended.set()
    thread.join()


def test_a_backup_is_of_one_moment(writer: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = run(capsys, "backup", "--to", tmp_path)
    assert run(capsys, "verify-backup", said["file"])["ok"]
    assert (
        rows.one("SELECT count(*) FROM traders") > backups.read(Path(said["file"])).contents.counts["traders"]
    )


def test_two_at_once_and_what_a_killed_one_left(
    made: backups.Backup, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = made.path.parent
    torn = folder / ".vanta-20260101T000000.000Z.dump.partial"
    torn.write_text("half")
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(CommandError, match="another backup is being written"):
            run(capsys, "backup", "--to", folder)
    assert backups.listed(folder) == [made.path]
    run(capsys, "backup", "--to", folder)
    assert not torn.exists()
    assert len(backups.listed(folder)) == 2


def test_what_is_kept(made: backups.Backup, capsys: pytest.CaptureFixture[str]) -> None:
    folder = made.path.parent
    by_hand = folder / "vanta-preprod-2026-01-01.dump"
    by_hand.write_text("of another hand")
    old = []
    for days in (40, 20, 3):
        at = made.taken_at - timedelta(days=days)
        path = folder / f"vanta-{at:%Y%m%dT%H%M%S}.000Z.dump"
        path.write_bytes(b"")
        manifest = made.path.with_name(made.path.name + sealed_files.MANIFEST)
        path.with_name(path.name + sealed_files.MANIFEST).write_text(manifest.read_text())
        reseal(path, taken_at=at.isoformat())
        old.append(path)
    assert backups.prune(folder, None, None) == []
    assert backups.prune(folder, 1, 30) == [old[0]], "what either rule keeps is kept"
    assert backups.prune(folder, 2, None) == [old[1]]
    said = run(capsys, "backup", "--to", folder, "--keep", "1")
    assert said["removed"] == [old[2].name, made.path.name]
    left = sorted(path.name for path in folder.iterdir())
    assert left == sorted([".lock", Path(said["file"]).name, f"{Path(said['file']).name}.json", by_hand.name])
    with pytest.raises(CommandError, match="above zero"):
        call_command("backup", "--to", str(folder), "--keep", "0")


def test_a_server_that_is_away(database_away: None, made_elsewhere: Path) -> None:
    """Said as such, and no file is left."""
    with pytest.raises(CommandError, match="no connection") as refusal:
        call_command("backup", "--to", str(made_elsewhere))
    assert refusal.value.returncode == 2
    assert not list(made_elsewhere.glob("*.dump*"))


@pytest.fixture
def made_elsewhere(tmp_path: Path, settings: Any) -> Path:
    url = settings.ENVIRONMENT.database_url.get_secret_value()
    away = url.replace(f":{Place.configured().port}/", ":1/")
    secret = type(settings.ENVIRONMENT.database_url)(away)
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(update={"database_url": secret})
    return tmp_path


def test_programs_that_are_too_old(database: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What stands on the path is passed over where the server is newer."""
    old = tmp_path / "pg_dump"
    old.write_text("#!/bin/sh\necho 'pg_dump (PostgreSQL) 15.4'\n")
    old.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    found = postgres_tools.find(Place.configured(), "pg_dump")
    assert found != old
    assert found.name == "pg_dump"

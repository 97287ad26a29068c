"""`manage.py archive list|verify|read|load`: what left the database is read, checked and asked by SQL."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from ops.rollout import retention, sealed_files
from tests.execution import rows
from tests.guards import without_guards
from tests.ops.rollout import old_history
from tests.ops.rollout.old_history import OLD, OLDER


@pytest.fixture
def before(database: None, tmp_path: Path) -> dict[str, dict[int, str]]:
    old_history.make(intents=1)
    found = old_history.everything()
    retention.run(tmp_path, 90)
    return found


def command(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    capsys.readouterr()
    call_command(*map(str, words))
    return capsys.readouterr().out


def test_rows_are_read_as_they_were(
    before: dict[str, dict[int, str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = command(capsys, "archive", "read", "intent_transitions", "--in", tmp_path).splitlines()
    assert len(lines) == 8
    assert set(lines) <= set(before["intent_transitions"].values())
    day = command(
        capsys, "archive", "read", "intent_transitions", "--in", tmp_path, "--since", OLD, "--until", OLD
    )
    assert len(day.splitlines()) == 4
    intent = json.loads(lines[0])["intent_id"]
    of_one = command(
        capsys, "archive", "read", "intent_transitions", "--in", tmp_path, "--where", f"intent_id={intent}"
    )
    assert {json.loads(line)["intent_id"] for line in of_one.splitlines()} == {intent}


def test_a_sheet_keeps_amounts_exact(
    before: dict[str, dict[int, str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = command(capsys, "archive", "read", "shadow_fills", "--in", tmp_path, "--format", "csv")
    sheet = list(csv.DictReader(io.StringIO(text)))
    assert [row["price"] for row in sheet] == ["1.5000000000"] * 2
    assert sheet[0]["price_gap_pct"] == "", "what is not known is blank"
    added = command(
        capsys, "archive", "read", "signals", "--in", tmp_path, "--format", "csv", "--until", OLDER
    )
    (row,) = csv.DictReader(io.StringIO(added))
    assert json.loads(row["meta"]) == {"why": "a long story", "n": "1.10"}
    with pytest.raises(CommandError, match="no column nothing"):
        command(capsys, "archive", "read", "signals", "--in", tmp_path, "--where", "nothing=1")


def test_rows_come_back_for_sql(
    before: dict[str, dict[int, str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a schema of their own, as they were to the last digit; the table itself stays as it is."""
    try:
        for table, schema in (("risk_log", "looked"), ("signals", "looked_too")):
            here = rows.one(f"SELECT count(*) FROM {table}")
            command(capsys, "archive", "load", table, "--in", tmp_path, "--schema", schema)
            found = rows.one(f"SELECT json_object_agg(id, row_to_json(t)::text) FROM {schema}.{table} t")
            assert found
            assert {int(pk): line for pk, line in found.items()}.items() <= before[table].items()
            assert rows.one(f"SELECT count(*) FROM {table}") == here
        with pytest.raises(CommandError, match="is there already"):
            command(capsys, "archive", "load", "risk_log", "--in", tmp_path, "--schema", "looked")
    finally:
        rows.execute("DROP SCHEMA IF EXISTS looked, looked_too CASCADE")
    for name in ("pg_own", "Own", "a-b"):
        with pytest.raises(CommandError, match="no name for a schema"):
            command(capsys, "archive", "load", "risk_log", "--in", tmp_path, "--schema", name)


def verified(capsys: pytest.CaptureFixture[str], folder: Path, *words: str) -> dict[str, Any]:
    capsys.readouterr()
    code = 0
    try:
        call_command("archive", "verify", "--in", str(folder), "--json", *words)
    except CommandError as error:
        code = error.returncode
    found = dict(json.loads(capsys.readouterr().out))
    assert code == (0 if found["ok"] else 1)
    return found


def test_what_is_whole_is_said_to_be(
    before: dict[str, dict[int, str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verified(capsys, tmp_path)["ok"]
    told = json.loads(command(capsys, "archive", "list", "--in", tmp_path, "--json"))["archives"]
    assert len(told) == 10
    assert "10 files" in command(capsys, "archive", "list", "--in", tmp_path)


@pytest.mark.parametrize("harm", ["flipped", "cut", "gone", "another", "manifest"])
def test_what_is_not_whole_is_told(
    before: dict[str, dict[int, str]], tmp_path: Path, harm: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / f"risk_log-{OLD}.1.jsonl.gz"
    manifest = sealed_files.manifest_of(path)
    content = path.read_bytes()
    if harm == "manifest":
        manifest.write_text(manifest.read_text().replace('"rows": 2', '"rows": 3'))
        with pytest.raises(CommandError, match="was changed after it was written"):
            command(capsys, "archive", "verify", "--in", tmp_path)
        return
    if harm == "flipped":
        path.write_bytes(content[:40] + bytes([content[40] ^ 1]) + content[41:])
    elif harm == "cut":
        path.write_bytes(content[:-9])
    elif harm == "gone":
        path.unlink()
        manifest.unlink()
    else:
        other = tmp_path / f"risk_log-{OLDER}.1.jsonl.gz"
        path.write_bytes(other.read_bytes())
        told = json.loads(sealed_files.manifest_of(other).read_text()) | {"file": path.name, "day": str(OLD)}
        manifest.write_text(json.dumps(told | {"seal": sealed_files.seal(told)}))
    found = verified(capsys, tmp_path)
    assert not found["ok"]
    assert [one["name"] for one in found["checks"] if one["status"] == "fail"] == [path.name]
    assert "copy" in found["next"]


def test_a_file_that_the_database_does_not_know(
    before: dict[str, dict[int, str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """After a restore of an older database: no fault, since the next retention takes it."""
    with without_guards():
        rows.execute("DELETE FROM archives WHERE table_name = 'risk_log' AND day = %s", OLD)
    found = verified(capsys, tmp_path)
    assert found["ok"]
    assert [one["name"] for one in found["checks"] if one["status"] == "warn"] == [
        f"risk_log-{OLD}.1.jsonl.gz"
    ]
    assert [one["status"] for one in verified(capsys, tmp_path, "--no-database")["checks"]] == ["ok"]

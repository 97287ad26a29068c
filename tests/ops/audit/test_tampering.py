"""A superuser without triggers changes the log: verify says which entry and what does not fit."""

import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.db import transaction

from execution_app import audit
from execution_app.audit_words import AuditAction
from execution_app.models import AuditEntry
from ops.audit import verifier
from tests.execution import rows
from tests.guards import without_guards
from tests.real_parts import ROOT

ENTRIES = 7
TAMPERED = {
    "seq": "1000",
    "at": "at + interval '1 microsecond'",
    "actor": "'somebody else'",
    "origin": "'telegram'",
    "address": "address || ' '",
    "action": "'trader_disabled'",
    "subject": "'another trader'",
    "reason": "'a better one'",
    "before": "NULL",
    "after": """'{"enabled": true}'""",
    "digests": "replace(digests, 'actor:', 'actor:0')",
    "prev_hash": "repeat('a', 64)",
    "hash": "repeat('b', 64)",
}


@pytest.fixture
def log(database: None) -> None:
    for number in range(ENTRIES):
        with transaction.atomic():
            state = {"enabled": False, "number": number}
            audit.record(AuditAction.TRADER_ADDED, f"trader {number}", before={"was": 0}, after=state)


def tamper(statement: str, *values: object) -> None:
    with without_guards():
        assert rows.execute(statement, *values) > 0


def faults(*heads: str) -> list[tuple[int, str]]:
    """What `manage.py audit verify` names, by its JSON; its exit code must say the same."""
    out, code = io.StringIO(), 0
    try:
        call_command("audit", "verify", "--json", *(f"--head={head}" for head in heads), stdout=out)
    except CommandError as error:
        code = error.returncode
    told = json.loads(out.getvalue())
    found = [(fault["seq"], fault["column"]) for fault in told["faults"]]
    assert code == (verifier.BROKEN if found else verifier.INTACT)
    assert told["ok"] is not bool(found)
    assert found == offline(*heads)
    return found


def offline(*heads: str) -> list[tuple[int, str]]:
    """What the verifier names that has the exported file only."""
    out = io.StringIO()
    call_command("audit", "export", stdout=out)
    lines = out.getvalue().encode().splitlines(keepends=True)
    walk = verifier.verify_lines(lines, dict(verifier.read_head(head) for head in heads))
    return [(fault.seq, fault.column) for fault in walk.faults]


def head_now() -> str:
    seq, found = audit.head()
    return f"{seq}:{found}"


def test_what_nobody_touched_is_intact(log: None) -> None:
    assert faults() == []
    assert faults(head_now()) == []


def test_an_empty_log_is_intact(database: None) -> None:
    assert faults() == []


def test_every_column_is_tampered_with_here() -> None:
    assert set(TAMPERED) == {column.name for column in AuditEntry._meta.concrete_fields}
    assert set(TAMPERED) == set(verifier.COLUMNS)


@pytest.mark.parametrize("column", sorted(set(TAMPERED) - {"seq"}))
@pytest.mark.parametrize("seq", [1, 4, ENTRIES])
def test_a_touched_column_is_named_and_no_other(log: None, column: str, seq: int) -> None:
    tamper(f"UPDATE audit_log SET {column} = {TAMPERED[column]} WHERE seq = %s", seq)
    assert faults() == [(seq, column)]


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("before", "'null'::jsonb"),
        ("reason", "' '"),
        ("at", "'infinity'"),
        ("at", "(to_char(at, 'YYYY-MM-DD HH24:MI:SS.US+00') || ' BC')::timestamptz"),
    ],
)
def test_what_only_looks_the_same_is_named(log: None, column: str, value: str) -> None:
    tamper(f"UPDATE audit_log SET {column} = {value} WHERE seq = 3")
    assert faults() == [(3, column)]


def test_a_number_that_was_changed_is_named(log: None) -> None:
    tamper("UPDATE audit_log SET seq = 1000 WHERE seq = 4")
    found = faults()
    assert found[0] == (4, "seq")
    assert (1000, "seq") in found


def test_several_columns_are_all_named(log: None) -> None:
    tamper("UPDATE audit_log SET actor = 'x', after = NULL WHERE seq = 2")
    tamper("UPDATE audit_log SET reason = 'x' WHERE seq = 6")
    assert faults() == [(2, "actor"), (2, "after"), (6, "reason")]


@pytest.mark.parametrize(("gone", "named"), [("seq = 1", 1), ("seq = 4", 4), ("seq IN (3, 4, 5)", 3)])
def test_a_deletion_in_the_middle_is_named(log: None, gone: str, named: int) -> None:
    tamper(f"DELETE FROM audit_log WHERE {gone}")
    assert faults()[0] == (named, "seq")


def test_a_deletion_with_the_gap_closed_is_named(log: None) -> None:
    tamper("DELETE FROM audit_log WHERE seq = 4")
    tamper("UPDATE audit_log SET seq = seq - 1 WHERE seq > 4")
    assert {(4, "seq"), (4, "prev_hash")} <= set(faults())


def test_a_tail_that_was_cut_off_is_named_by_a_noted_head(log: None) -> None:
    noted = head_now()
    tamper("DELETE FROM audit_log WHERE seq >= 6")
    assert faults() == [], "what is left is a chain, so only the noted head can tell"
    assert faults(noted) == [(ENTRIES, "seq")]


def test_a_log_that_was_emptied_is_named_by_a_noted_head(log: None) -> None:
    noted = head_now()
    tamper("DELETE FROM audit_log")
    assert faults(noted) == [(ENTRIES, "seq")]


def test_a_tail_written_anew_is_named_by_a_noted_head(log: None) -> None:
    noted = head_now()
    tamper("DELETE FROM audit_log WHERE seq >= 6")
    for _ in range(3):
        with transaction.atomic():
            audit.record(AuditAction.TRADER_ADDED, "nothing happened")
    assert faults() == []
    assert faults(noted) == [(ENTRIES, "hash")]


def test_a_chain_that_grew_keeps_its_noted_heads(log: None) -> None:
    noted = head_now()
    with transaction.atomic():
        audit.record(AuditAction.TRADER_ADDED, "later")
    assert faults(noted, head_now()) == []


def test_entries_that_changed_places_are_named(log: None) -> None:
    tamper("UPDATE audit_log SET seq = 1000 WHERE seq = 3")
    tamper("UPDATE audit_log SET seq = 3 WHERE seq = 5")
    tamper("UPDATE audit_log SET seq = 5 WHERE seq = 1000")
    found = faults()
    assert {(3, "seq"), (5, "seq"), (3, "prev_hash"), (5, "prev_hash")} <= set(found)


def test_an_entry_that_was_slipped_in_is_named(log: None) -> None:
    tamper("UPDATE audit_log SET seq = seq + 1000 WHERE seq > 3")
    tamper("UPDATE audit_log SET seq = seq - 999 WHERE seq > 1000")
    tamper(
        "INSERT INTO audit_log SELECT 4, at, actor, origin, address, action, 'invented', reason, before, after,"
        " digests, prev_hash, hash FROM audit_log WHERE seq = 3"
    )
    found = faults()
    assert {(4, "seq"), (4, "subject"), (4, "prev_hash")} <= set(found)


def test_a_whole_log_of_faults_is_told_up_to_a_limit(log: None) -> None:
    for number in range(verifier.MAX_FAULTS):
        with transaction.atomic():
            audit.record(AuditAction.TRADER_ADDED, str(number))
    tamper("UPDATE audit_log SET actor = 'x'")
    assert len(faults()) == verifier.MAX_FAULTS


def exported(folder: Path) -> Path:
    path = folder / "audit.jsonl"
    call_command("audit", "export", str(path), stderr=io.StringIO())
    return path


def test_an_export_is_verified_offline_without_this_repository(log: None, tmp_path: Path) -> None:
    path = exported(tmp_path)
    alone = shutil.copy(verifier.__file__, tmp_path / "verifier.py")

    def run(*arguments: str) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-I", str(alone), *arguments], cwd=tmp_path, env={}, capture_output=True,
            text=True, timeout=60, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout + done.stderr

    assert run(str(path)) == (0, f"intact: {ENTRIES} entries, head {head_now()}\n")
    assert run(str(path), "--head", head_now(), "--json")[0] == 0
    assert run(str(path), "--head", f"{ENTRIES + 1}:{'0' * 64}")[0] == 1
    assert run(str(path), "--head", "nonsense")[0] == 2
    assert run(str(tmp_path / "missing"))[0] == 2
    lines = path.read_text().splitlines()
    assert json.loads(lines[3])["seq"] == 4
    lines[3] = re.sub(r"trader \d+", "trader 9", lines[3])
    path.write_text("\n".join([*lines, ""]))
    code, said = run(str(path))
    assert (code, said) == (1, "BROKEN: seq 4: subject does not fit: it was not written like this\n")


def test_the_module_runs_without_settings(log: None, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ops.audit.verifier", str(exported(tmp_path))],
        cwd=ROOT, env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def without_last(lines: list[bytes]) -> list[bytes]:
    return lines[:-1]


def without_two(lines: list[bytes]) -> list[bytes]:
    return lines[:-2] + lines[-1:]


@pytest.mark.parametrize(
    ("spoil", "column"),
    [
        (without_last, "head"),
        (without_two, "head"),
        (lambda lines: [*lines, lines[0]], "head"),
        (lambda lines: [b"{\n", *lines], "line"),
        (lambda lines: [b"[]\n", *lines], "line"),
        (lambda lines: [lines[0].replace(b'"actor"', b'"author"'), *lines[1:]], "line"),
        (lambda lines: [lines[0].replace(b'"seq": 1', b'"seq": "1"'), *lines[1:]], "line"),
        (lambda lines: [lines[0].replace(b'{"seq"', b'{"seq": 1, "seq"'), *lines[1:]], "line"),
        (lambda lines: [lines[0][:-2] + b" " * verifier.MAX_LINE_BYTES + b"}\n", *lines[1:]], "line"),
        (lambda lines: [*lines[:-1], b'{"head": 7}\n'], "line"),
    ],
)
def test_a_spoilt_file_is_not_intact(
    log: None, spoil: Callable[[list[bytes]], list[bytes]], column: str
) -> None:
    out = io.StringIO()
    call_command("audit", "export", stdout=out)
    walk = verifier.verify_lines(spoil(out.getvalue().encode().splitlines(keepends=True)), {})
    assert walk.faults[0].column == column


def test_an_export_never_overwrites(log: None, tmp_path: Path) -> None:
    path = exported(tmp_path)
    with pytest.raises(CommandError) as refused:
        call_command("audit", "export", str(path))
    assert refused.value.returncode == verifier.USAGE


def test_tail_tells_people_the_newest(log: None) -> None:
    with transaction.atomic():
        audit.record(AuditAction.WALLET_HALTED, "wallet \x1b[31m0x1", reason="chain knows more")
    out = io.StringIO()
    call_command("audit", "tail", "-n", "2", stdout=out)
    lines = out.getvalue().splitlines()
    assert [text.split()[0] for text in lines] == ["7", "8"]
    assert "wallet_halted  wallet �[31m0x1  by vanta (automatic, " in lines[1]
    assert "because: chain knows more" in lines[1]
    assert '{"was": 0} => {"number": 6, "enabled": false}' in lines[0]
    out = io.StringIO()
    call_command("audit", "tail", "-n", "1", "--json", stdout=out)
    assert json.loads(out.getvalue())["seq"] == 8


def test_wrong_usage_is_exit_code_2() -> None:
    for arguments in (["verify", "--head", "5"], ["tail", "-n", "-1"], ["nothing"], []):
        done = subprocess.run(
            [sys.executable, "manage.py", "audit", *arguments],
            cwd=ROOT, env=os.environ, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 2, done.stderr

"""`manage.py retention`: what is old leaves for a file that can be read back, and nothing else goes, whatever is killed."""

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import connection, connections
from django.test import Client

from execution_app.models import Archive, AuditEntry, Heartbeat
from execution_app.states import Action
from ops.rollout import archives, retention, sealed_files
from ops.rollout.postgres_tools import Place
from signals_app import decisions
from signals_app.models import Signal
from tests import invariants, stakes
from tests.execution import rows
from tests.guards import without_guards
from tests.ops.rollout import old_history
from tests.ops.rollout.old_history import LEAVES, OLD, OLDER, STAYS
from tests.processes import FORK
from tests.rig import Rig
from tests.signals.sender import open_body, post

Rows = dict[str, dict[int, str]]


@pytest.fixture
def before(database: None) -> Rows:
    old_history.make()
    return old_history.everything()


def run(capsys: pytest.CaptureFixture[str], *words: object) -> dict[str, Any]:
    capsys.readouterr()
    call_command("retention", *map(str, words), "--json")
    return dict(json.loads(capsys.readouterr().out))


def archived(folder: Path) -> Rows:
    """Each archived row by table and id; none of them twice."""
    found: Rows = {}
    for archive in archives.listed(folder):
        here = found.setdefault(archive.table, {})
        for line in archives.lines_of(archive):
            row_id = json.loads(line)["id"]
            assert row_id not in here, f"{archive.table} {row_id} is in two files"
            here[row_id] = line
    return found


def assert_whole(before: Rows, folder: Path) -> None:
    """Every row is here or there, as it was; what is neither old nor over is here; the log still adds up."""
    here, there = old_history.everything(), archived(folder)
    for table in STAYS:
        assert here[table] == before[table]
    for table in LEAVES:
        assert not here[table].keys() & there.get(table, {}).keys(), f"{table}: left, and still here"
        assert here[table] | there.get(table, {}) == before[table]
    assert here["signals"].keys() == before["signals"].keys()
    for pk, line in before["signals"].items():
        assert there.get("signals", {}).get(pk, line) == line
        if here["signals"][pk] != line:
            assert json.loads(here["signals"][pk]) == json.loads(line) | {"meta": {}}
            assert pk in there["signals"]
    changes = rows.one("SELECT coalesce(sum(change_usdc), 0) FROM risk_log")
    assert changes == rows.one("SELECT coalesce(sum(notional_usdc), 0) FROM risk_reservations")


def test_what_is_old_and_over_leaves(
    before: Rows, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "archives"
    capsys.readouterr()
    call_command("retention", "--to", str(folder), "--dry-run", "--json")
    due = json.loads(capsys.readouterr().out)["due"]
    assert not folder.exists(), "it was only asked"
    assert old_history.everything() == before
    said = run(capsys, "--to", folder, "--reason", "every night")
    assert said["refused"] == []
    assert (said["rows"], said["left"]) == (sum(one["rows"] for one in due),) * 2
    assert_whole(before, folder)
    # Of two old days: 3 intents with 4 moves, 2 changes of a reservation and an estimate each; a signal with something in it.
    found = {(one.table.value, one.day): one.rows for one in archives.listed(folder)}
    wanted = {"intent_transitions": 12, "risk_log": 6, "shadow_fills": 3, "signals": 1}
    each = {(table, day): count for table, count in wanted.items() for day in (OLDER, OLD)}
    assert found == each | {("django_admin_log", OLD): 1, ("price_ticks", OLD): 2}
    assert rows.one("SELECT count(*) FROM intent_transitions") == 12 + 1, "of today, and of what is not over"
    assert [oct(one.stat().st_mode & 0o777) for one in (folder, *folder.glob("*.gz*"))][:2] == [
        "0o700",
        "0o600",
    ]
    noted = {row.file: (row.rows, row.sha256) for row in Archive.objects.all()}
    assert noted == {one.path.name: (one.rows, one.sha256) for one in archives.listed(folder)}
    entries = AuditEntry.objects.filter(action="rows_archived")
    assert {entry.subject for entry in entries} == set(noted)
    assert {entry.reason for entry in entries} == {"every night"}
    assert Heartbeat.objects.get(component="retention").note == f"{len(found)} files, {said['left']} rows"
    again = run(capsys, "--to", folder)
    assert (again["files"], again["rows"], again["left"]) == ([], 0, 0)


def test_a_file_explains_itself(before: Rows, tmp_path: Path) -> None:
    retention.run(tmp_path, 90)
    path = tmp_path / f"risk_log-{OLD}.1.jsonl.gz"
    told = json.loads(sealed_files.manifest_of(path).read_text())
    assert (told["table"], told["day"], told["rows"], told["chain_id"]) == ("risk_log", str(OLD), 6, 31337)
    assert ["change_usdc", "numeric(36,10)"] in told["columns"]
    assert "released on that day" in told["leaves"]
    assert told["sha256"] == sealed_files.digest(path)


def test_an_archived_signal_is_never_executable_again(database: None, tmp_path: Path) -> None:
    """Its row is what says so, and that stays: the same again is a repeat, the same id with anything else is refused."""
    body = open_body(meta={"strategy": "x"})
    post(body)
    pk = Signal.objects.get().pk
    decisions.decide(pk)
    intents = rows.one("SELECT count(*) FROM tx_intents")
    with without_guards():
        rows.execute("UPDATE signals SET received_at = %s, decided_at = %s", OLD, OLD)
        rows.execute("UPDATE tx_intents SET settled_at = %s", OLD)
    moves = rows.one("SELECT count(*) FROM intent_transitions")
    done = retention.run(tmp_path, 90)
    assert (done.refused, done.rows) == ([], moves + 1)
    assert Signal.objects.get().meta == {}
    answer = post(body)
    assert (answer.status_code, answer.json()["status"]) == (200, "duplicate")
    assert answer.json()["state"] == "rejected"
    for changed in ({}, {"strategy": "y"}):
        assert post(body | {"meta": changed}).status_code == 409
    assert rows.one("SELECT count(*) FROM tx_intents") == intents
    decisions.decide(pk)  # a bell that was very late
    assert rows.one("SELECT count(*) FROM tx_intents") == intents
    stakes.check_held()


def test_what_is_still_held_is_closed_without_its_history(rig: Rig, tmp_path: Path) -> None:
    """The chain, the book and the caps do not look back: only what is told of the open has left."""
    opened = rig.intent()
    rig.run()
    with without_guards():
        rows.execute("UPDATE tx_intents SET settled_at = settled_at - interval '100 days'")
        rows.execute("UPDATE intent_transitions SET at = at - interval '101 days'")
        rows.execute("UPDATE risk_reservations SET reserved_at = reserved_at - interval '101 days'")
    told = rows.one("SELECT count(*) FROM risk_log")
    done = retention.run(tmp_path, 90)
    assert done.refused == []
    assert opened.transitions.count() == 0
    assert rows.one("SELECT count(*) FROM risk_log") == told > 0, "what is at stake stays told"
    invariants.check()
    close = rig.intent(Action.CLOSE)
    again = rig.intent()
    rig.finish(2)
    for intent in (close, again):
        intent.refresh_from_db()
        assert intent.state == "filled", intent.reason
    invariants.check()


def test_the_trace_names_the_files(database: None, tmp_path: Path, client: Client) -> None:
    body = open_body(meta={"strategy": "x"})
    post(body)
    decisions.decide(Signal.objects.get().pk)
    with without_guards():
        rows.execute("UPDATE signals SET received_at = %s, decided_at = %s", OLD, OLD)
        rows.execute("UPDATE tx_intents SET settled_at = %s", OLD)
    path = f"/signals/{body['source']}/{body['signal_id']}"
    token = settings.ENVIRONMENT.admin_token.get_secret_value()

    def ask() -> Any:
        return client.get(path, headers={"authorization": f"Bearer {token}"}).json()

    assert (ask()["history_archive"], ask()["signal"]["meta_archive"]) == (None, None)
    retention.run(tmp_path, 90)
    found = ask()
    assert found["history"] == []
    assert found["history_archive"] == f"intent_transitions-{OLD}.1.jsonl.gz"
    assert (found["signal"]["meta"], found["signal"]["meta_archive"]) == ({}, f"signals-{OLD}.1.jsonl.gz")


def test_fewer_days_than_are_looked_back_on(before: Rows, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="at least 35 days") as refusal:
        call_command("retention", "--to", str(tmp_path), "--keep-days", "34")
    assert refusal.value.returncode == 1
    assert old_history.everything() == before


def test_two_at_once(before: Rows, tmp_path: Path) -> None:
    with archives.alone_in(tmp_path), pytest.raises(CommandError, match="somebody else archives"):
        call_command("retention", "--to", str(tmp_path))
    with Place.configured().connected(Place.configured().name) as session:
        session.execute("SELECT pg_advisory_lock(%s)", [retention.LOCK])
        with pytest.raises(CommandError, match="another retention"):
            call_command("retention", "--to", str(tmp_path))
    assert old_history.everything() == before


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("harm", [damage, Path.unlink], ids=["a flipped bit", "gone"])
def test_nothing_leaves_by_a_file_that_is_not_whole(
    before: Rows, tmp_path: Path, harm: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the file and the rows something happens to the disk: its day is refused, and told, and the others go on."""
    wrote, path = archives.write, tmp_path / f"intent_transitions-{OLD}.1.jsonl.gz"

    def write(*args: Any, **kwargs: Any) -> archives.ArchiveFile:
        made = wrote(*args, **kwargs)
        if made.path == path:
            harm(path)
        return made

    monkeypatch.setattr(archives, "write", write)
    with pytest.raises(CommandError, match=f"intent_transitions of {OLD}: .*nothing leaves") as refusal:
        call_command("retention", "--to", str(tmp_path))
    assert refusal.value.returncode == 1
    assert rows.one("SELECT count(*) FROM intent_transitions") == 12 + 12 + 1, "that day's are still here"
    assert not Archive.objects.filter(table_name="intent_transitions", day=OLD).exists()
    assert not Heartbeat.objects.filter(component="retention").exists(), "so the alert fires"


def test_a_row_that_came_later_gets_a_part_of_its_own(before: Rows, tmp_path: Path) -> None:
    retention.run(tmp_path, 90)
    old_history.settled(OLD)
    whole = {
        table: found | archived(tmp_path).get(table, {}) for table, found in old_history.everything().items()
    }
    whole["signals"] = before["signals"]
    done = retention.run(tmp_path, 90)
    assert f"risk_log-{OLD}.2.jsonl.gz" in done.files
    assert_whole(whole, tmp_path)


def test_a_database_from_before_takes_the_same_files(before: Rows, tmp_path: Path) -> None:
    """As after a restore: the rows are back, what was archived is forgotten, the files are there."""
    retention.run(tmp_path, 90)
    files = {path.name: path.read_bytes() for path in tmp_path.glob("*.gz")}
    there = archived(tmp_path)
    with without_guards():
        rows.execute("DELETE FROM archives")
        for table, found in there.items():
            if table == "signals":
                rows.execute(
                    "UPDATE signals SET meta = %s WHERE id = ANY(%s)",
                    '{"n": 1.10, "why": "a long story"}',
                    list(found),
                )
                continue
            rows.execute(
                f"INSERT INTO {table} SELECT r.* FROM unnest(%s::text[]) line, json_populate_record(NULL::{table}, line::json) r",
                list(found.values()),
            )
    assert old_history.everything() == before
    retention.run(tmp_path, 90)
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*.gz")} == files
    assert_whole(before, tmp_path)


def test_expired_sessions_go(database: None, tmp_path: Path) -> None:
    for key, ends in (("a", "now() - interval '1 s'"), ("b", "now() + interval '1 h'")):
        rows.execute(f"INSERT INTO django_session VALUES (%s, '', {ends})", key)
    assert retention.run(tmp_path, 90).sessions == 1
    assert rows.one("SELECT session_key FROM django_session") == "b"


OURS = {retention.__file__, archives.__file__, sealed_files.__file__}
LEAST_KILLS = 20


def die_at(line: int, folder: Path) -> None:
    """In a child: killed when the code under test is about to run its `line`th line. Ends with 0 where there are fewer."""
    connections.close_all()
    passed = 0

    def watch(frame: FrameType, event: str, _arg: object) -> Any:
        nonlocal passed
        if frame.f_code.co_filename not in OURS:
            return None
        if event == "line":
            passed += 1
            if passed == line:
                os.kill(os.getpid(), signal.SIGKILL)
        return watch

    sys.settrace(watch)
    retention.run(folder, 90)
    sys.settrace(None)
    (folder / "lines").write_text(str(passed))
    os._exit(0)


def child(line: int, folder: Path) -> int | None:
    connections.close_all()
    process = FORK.Process(target=die_at, args=(line, folder))
    process.start()
    process.join(60)
    return process.exitcode


def test_a_run_that_is_killed_at_any_line_is_finished_by_the_next(
    before: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Later and later, until one ends; each run goes on where the killed one before has left it."""
    monkeypatch.setattr(retention, "BATCH_ROWS", 5)
    killed, line = 0, 1
    # A killed run leaves less to do to the next, so the steps grow.
    while (code := child(line, tmp_path)) == -signal.SIGKILL:
        killed += 1
        assert_whole_meanwhile(before, tmp_path)
        line += max(1, line // 8)
    assert code == 0, f"a run ended by itself with {code}"
    assert killed >= LEAST_KILLS
    assert_whole(before, tmp_path)
    assert not list(tmp_path.glob(".*.partial"))
    assert Archive.objects.count() == len(archives.listed(tmp_path)) == 10


def assert_whole_meanwhile(before: Rows, folder: Path) -> None:
    """Of what is here no more each row is in a file; what one owner had is here or gone, not in between."""
    here, there = old_history.everything(), archived(folder)
    for table in LEAVES:
        gone = before[table].keys() - here[table].keys()
        assert gone <= there.get(table, {}).keys(), f"{table}: rows are nowhere"
    assert {count for (count,) in counts()} <= {1, 4}, "an intent has all its moves or none"


def counts() -> list[tuple[int]]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM intent_transitions GROUP BY intent_id")
        return list(cursor.fetchall())

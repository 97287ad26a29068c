"""`manage.py privacy rewrite`: an archive loses whoever was forgotten, and nothing else, whatever fails or is killed."""

import json
import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connections

from execution_app import people
from execution_app.errors import Refused
from execution_app.models import Archive, AuditEntry, Person
from ops.audit import reader, verifier
from ops.rollout import archive_check, archives, retention, rewriting, sealed_files
from signals_app.models import Signal
from tests.execution import rows
from tests.guards import without_guards
from tests.ops.rollout.old_history import OLD
from tests.processes import FORK

WHO, OTHER = 123, 456
NAME = f"signals-{OLD}.1.jsonl.gz"
WHY: dict[str, Any] = {"by": "ann", "reason": "asked for by letter"}
META = '{"n": 1.10, "why": "Bob said \\"sell\\", {123}"}'


@pytest.fixture
def folder(database: None, tmp_path: Path) -> Path:
    """An archive with five signals of two people, one of whom was forgotten since."""
    for number, user in enumerate((WHO, OTHER, WHO, OTHER, WHO)):
        at = f"{OLD} 12:00:0{number}+00"
        told = {"signal_id": f"s{number}", "meta": META, "decided_at": at, "decision": "rejected"}
        rows.signal(received_at=at, tg_user_id=user, **told)
    retention.run(tmp_path, 90)
    forget(WHO)
    return tmp_path


def forget(tg_user_id: int) -> int:
    number = people.pseudonym_of(tg_user_id)
    Signal.objects.filter(tg_user_id=tg_user_id).update(tg_user_id=number, meta={})
    Person.objects.all().delete()
    return number


def lines(folder: Path) -> list[str]:
    return list(archives.lines_of(archives.read(folder / NAME)))


def statuses(folder: Path) -> dict[str, str]:
    """What `archive verify` says of each file that it names."""
    return {one.name: one.status for one in archive_check.examine(folder, None, None, database=True)}


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != ".lock"}


def entries() -> list[AuditEntry]:
    return list(AuditEntry.objects.filter(action="rows_archived", before__isnull=False))


def test_whoever_was_forgotten_is_a_number_and_all_else_is_as_it_was(folder: Path) -> None:
    before, number = lines(folder), Signal.objects.exclude(tg_user_id=OTHER).first().tg_user_id  # type: ignore[union-attr]
    noted = Archive.objects.get().sha256
    assert rewriting.look(folder, NAME) == rewriting.Rewritten(NAME, 5, 3)
    assert lines(folder) == before, "it was only asked"
    assert rewriting.rewrite(folder, NAME, **WHY).changed == 3
    after = lines(folder)
    for old, new in zip(before, after, strict=True):
        if f'"tg_user_id":{OTHER}' in old:
            assert new == old, "to the last character"
        else:
            meta = old[old.index('"meta":') + 7 : old.index(',"received_at"')]
            assert new == old.replace(f'"tg_user_id":{WHO}', f'"tg_user_id":{number}').replace(meta, "{}")
    assert sum(str(number) in line for line in after) == 3
    held = archives.read(folder / NAME)
    (entry,) = entries()
    assert (entry.subject, entry.actor, entry.origin, entry.reason) == (NAME, "ann", "command", WHY["reason"])
    assert entry.before == {"rows": 5, "sha256": noted}
    told = dict(entry.after or {})
    assert len(told.pop("others_sha256")) == 64
    assert told == {"rows": 5, "rewritten": 3, "sha256": held.sha256, "bytes": held.size_bytes}
    assert (folder / NAME).stat().st_mode & 0o777 == 0o600
    assert sorted(files(folder)) == [NAME, f"{NAME}.json"], "nothing of the old one is left"
    assert statuses(folder) == {"archives": "ok"}
    walk = verifier.Walk()
    for one in reader.entries():
        walk.step(one)
    walk.end()
    assert walk.is_intact
    content = files(folder)
    assert rewriting.rewrite(folder, NAME, **WHY).changed == 0
    assert (files(folder), len(entries())) == (content, 1), "a second time does nothing"
    assert retention.run(folder, 90).refused == [], "whoever archives takes it for what it is"


def test_what_a_line_says_beside_it_stays_to_the_character() -> None:
    line = '{ "id" : 7,"a":1.10,"tg_user_id":123 ,"meta":{"tg_user_id": 123, "x": "\\"}{"},"b":["tg_user_id",123],"c":null}'
    assert rewriting.edited(line, {"tg_user_id": "9", "meta": "{}"}) == (
        '{ "id" : 7,"a":1.10,"tg_user_id":9 ,"meta":{},"b":["tg_user_id",123],"c":null}'
    )
    assert rewriting.edited(line, {}) == line


def test_somebody_who_came_back_under_the_same_id_stays_in_it(folder: Path) -> None:
    """Who trades later with that id is a new person, and a second forgetting takes the second one."""
    at = f"{OLD} 13:00:00+00"
    rows.signal(received_at=at, tg_user_id=WHO, signal_id="s9", meta=META, decided_at=at, decision="rejected")
    retention.run(folder, 90)
    second = NAME.replace(".1.", ".2.")
    assert rewriting.rewrite(folder, second, **WHY).changed == 0
    assert rewriting.rewrite(folder, NAME, **WHY).changed == 3
    forget(WHO)
    assert rewriting.rewrite(folder, NAME, **WHY).changed == 0
    assert rewriting.rewrite(folder, second, **WHY).changed == 1


def flipped(folder: Path) -> None:
    path = folder / NAME
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def of_another(folder: Path) -> None:
    """A file that is whole, and is not the one that was noted."""
    held = archives.read(folder / NAME)
    told = json.loads(sealed_files.manifest_of(held.path).read_text()) | {"version": "9"}
    draft = folder / ".x.partial"
    content = archives.pack(draft, [line.replace("s0", "s7") for line in archives.lines_of(held)])
    told |= {
        "bytes": draft.stat().st_size,
        "sha256": sealed_files.digest(draft),
        "content_sha256": content,
    }
    told.pop("seal")
    sealed_files.publish(draft, held.path, told)


def unknown(_folder: Path) -> None:
    with without_guards():
        Archive.objects.all().delete()


def other_signal(_folder: Path) -> None:
    """As in a database of another history, where the number is another signal's."""
    with without_guards():
        Signal.objects.filter(signal_id="s0").update(signal_id="t0")


def known_again(_folder: Path) -> None:
    with without_guards():
        Signal.objects.filter(signal_id="s0").update(tg_user_id=789)


@pytest.mark.parametrize(
    ("harm", "why"),
    [
        (flipped, "not those that were written"),
        (of_another, "another file than the one that was noted"),
        (unknown, "does not know"),
        (other_signal, "not the one that the database has"),
        (known_again, "forget them again first"),
    ],
)
def test_what_is_not_as_it_should_be_is_left_as_it_is(folder: Path, harm: Any, why: str) -> None:
    harm(folder)
    content = files(folder)
    with pytest.raises(Refused, match=why):
        rewriting.rewrite(folder, NAME, **WHY)
    assert files(folder) == content
    assert entries() == []


def test_the_command_says_first_what_it_would_do(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = files(folder)

    def command(*words: str) -> dict[str, int]:
        capsys.readouterr()
        call_command("privacy", "rewrite", *words, "--in", str(folder), "--reason", "asked for", "--json")
        return dict(json.loads(capsys.readouterr().out))

    with pytest.raises(CommandError, match="nothing was changed; it takes --yes"):
        command(NAME)
    assert json.loads(capsys.readouterr().out) == {NAME: 3}
    assert files(folder) == content
    for words, why in (
        (("risk_log-2026-01-01.1.jsonl.gz",), "no manifest"),
        (("../x",), "no name of an archive"),
    ):
        with pytest.raises(CommandError, match=why):
            command(*words, "--yes")
    with pytest.raises(CommandError, match="by their id"):
        call_command(
            "privacy", "rewrite", NAME, "--in", str(folder), "--reason", f"telegram {WHO} asked", "--yes"
        )
    with pytest.raises(CommandError, match="no folder"):
        call_command("privacy", "rewrite", NAME, "--in", str(folder / "x"), "--reason", "asked for", "--yes")
    assert not (folder / "x").exists()
    assert command(NAME, "--yes") == {NAME: 3}
    assert command(NAME, "--yes") == {NAME: 0}
    assert not Person.objects.exists(), "nobody is known again by it"


def test_a_database_from_before_says_what_it_does_not_know(folder: Path) -> None:
    """After a restore: the file is rewritten, its entry is gone, and whoever was forgotten is known again."""
    rewriting.rewrite(folder, NAME, **WHY)
    with without_guards():
        AuditEntry.objects.filter(pk=entries()[0].pk).delete()
    assert statuses(folder) == {NAME: "warn", "archives": "ok"}
    assert retention.run(folder, 90).refused == []
    assert rewriting.rewrite(folder, NAME, **WHY).changed == 0
    assert statuses(folder) == {"archives": "ok"}
    assert len(entries()) == 1


OURS = {rewriting.__file__, archives.__file__, sealed_files.__file__}
# What writes; that to read may fail or be killed changes nothing is seen by the first lines of these.
WRITERS = {"rewrite", "_exchange", "_formers", "_note", "pack", "draft_of", "sync"}
LEAST = 30


def watched(at: int, do: Any) -> Any:
    """A trace that does something before the `at`th line of those that write, each counted once."""
    passed: set[tuple[str, int]] = set()

    def watch(frame: FrameType, event: str, _arg: object) -> Any:
        code = frame.f_code
        if code.co_filename not in OURS or code.co_name not in WRITERS:
            return None
        line = (code.co_filename, frame.f_lineno)
        if event == "line" and line not in passed:
            passed.add(line)
            if len(passed) == at:
                do()
        return watch

    return watch


class PlannedError(Exception):
    """As a disk or a database would fail, wherever it does."""


def fail() -> None:
    raise PlannedError


def test_what_fails_at_any_line_is_as_it_was(folder: Path) -> None:
    """Until the note is committed nothing has happened; what fails behind it has happened, whole."""
    content, at = files(folder), 0
    while not entries():
        at += 1
        sys.settrace(watched(at, fail))
        try:
            rewriting.rewrite(folder, NAME, **WHY)
        except PlannedError:
            left = {name: raw for name, raw in files(folder).items() if not name.endswith(".partial")}
            assert entries() or left == content, f"line {at}"
        finally:
            sys.settrace(None)
    assert at >= LEAST
    assert rewriting.rewrite(folder, NAME, **WHY).changed == 0
    assert statuses(folder) == {"archives": "ok"}
    assert sorted(files(folder)) == [NAME, f"{NAME}.json"]


def child(at: int, folder: Path) -> int | None:
    """Killed before that line, or ended with 0."""

    def run() -> None:
        connections.close_all()
        sys.settrace(watched(at, lambda: os.kill(os.getpid(), signal.SIGKILL)))
        rewriting.rewrite(folder, NAME, **WHY)
        sys.settrace(None)
        os._exit(0)

    connections.close_all()
    process = FORK.Process(target=run)
    process.start()
    process.join(60)
    return process.exitcode


def test_what_is_killed_at_any_line_is_whole_and_finished_by_the_next(folder: Path) -> None:
    before, content = lines(folder), files(folder)
    after: list[str] = []
    at, code, seen = 1, child(1, folder), set[str]()
    while code == -signal.SIGKILL and not entries():
        found, told = lines(folder), statuses(folder)
        after = after or (found if found != before else [])
        assert found in (before, after), "wholly the one or the other"
        assert "fail" not in told.values()
        seen.add(f"{told.get(NAME, 'ok')} {'new' if found == after else 'old'}")
        # Put back, so that the next death finds the whole way before it.
        for name, raw in content.items():
            (folder / name).write_bytes(raw)
        at += 1
        code = child(at, folder)
    assert at >= LEAST
    assert seen == {"ok old", "warn old", "warn new"}, "each state between two steps was met"
    assert rewriting.rewrite(folder, NAME, **WHY).changed == 0
    assert statuses(folder) == {"archives": "ok"}
    assert sorted(files(folder)) == [NAME, f"{NAME}.json"]
    assert len(entries()) == 1


@pytest.mark.parametrize("cut_off", ["_formers", "_note"])
def test_a_rewriting_that_was_cut_off_is_finished(folder: Path, cut_off: str) -> None:
    """With the new manifest and the old bytes, and with both new and no entry."""
    before = lines(folder)
    path = folder / NAME
    old, manifest = path.read_bytes(), sealed_files.manifest_of(path)
    rewriting.rewrite(folder, NAME, **WHY)
    new, after = manifest.read_text(), lines(folder)
    with without_guards():
        AuditEntry.objects.filter(pk=entries()[0].pk).delete()
    if cut_off == "_formers":
        path.write_bytes(old)
        assert lines(folder) == before
        assert statuses(folder) == {NAME: "warn", "archives": "ok"}
    assert rewriting.rewrite(folder, NAME, **WHY).changed == (3 if cut_off == "_formers" else 0)
    assert (lines(folder), manifest.read_text()) == (after, new)
    assert statuses(folder) == {"archives": "ok"}

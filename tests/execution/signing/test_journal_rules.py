"""The journal where its file fails it, and what a group and another's file mean; no process is started."""

import errno
import fcntl
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from execution_app.node.signing.journal import Journal, JournalUnusableError, NonceUsedError
from tests.execution.signing.test_journal import OTHER_WALLET, file, folder, slot, syncs

__all__ = ["folder", "syncs"]  # fixtures


def open_here(folder: Path) -> list[str]:
    """What of a folder this process holds open: a lock that is kept would be waited for, for ever."""
    found = []
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            path = descriptor.readlink()
        except OSError:  # the one that lists them
            continue
        if path == folder or folder in path.parents:
            found.append(path.name)
    return found


def lines(folder: Path) -> list[str]:
    return [line.rsplit(" ", 2)[0] for line in file(folder).read_text().splitlines()]


def failing(error: int) -> Callable[..., Any]:
    def fail(*_: object) -> None:
        raise OSError(error, os.strerror(error))

    return fail


VERBS: list[Callable[[Journal], object]] = [
    lambda journal: journal.check(slot()),
    lambda journal: journal.note(slot()),
    lambda journal: journal.bind([slot()]),
]


@pytest.mark.parametrize("verb", VERBS)
def test_nothing_stays_open_or_locked(folder: Path, verb: Callable[[Journal], object]) -> None:
    verb(Journal(folder))
    assert open_here(folder) == []


def test_a_journal_makes_its_folder_and_the_folders_above(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b" / "journal"
    assert Journal(folder).bind([slot()]) == [None]
    assert Journal(folder).bind([slot(key="b", sender=OTHER_WALLET)]) == [None], "the folder is there already"
    assert len(list(folder.iterdir())) == 2


@pytest.mark.parametrize("verb", VERBS)
def test_a_file_that_cannot_be_locked_or_read_signs_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch, verb: Callable[[Journal], object]
) -> None:
    journal = Journal(folder)
    journal.bind([slot(6)])
    words = "cannot be read"
    for module, name in ((fcntl, "flock"), (os, "fstat")):
        with monkeypatch.context() as broken:
            broken.setattr(module, name, failing(errno.EIO))
            told = words if name == "flock" else "cannot be opened"
            with pytest.raises(JournalUnusableError, match=rf"{told} \(Input/output error\)$"):
                verb(journal)
        assert open_here(folder) == []
    with file(folder).open("ab") as torn:
        torn.write(b"x")
    with monkeypatch.context() as broken:
        broken.setattr(os, "pread", failing(errno.EIO))
        with pytest.raises(JournalUnusableError, match=rf"{words} \(Input/output error\)$"):
            verb(journal)
    assert open_here(folder) == []
    verb(journal)
    with pytest.raises(NonceUsedError):
        journal.check(slot(6, key="b"))


def test_a_folder_that_cannot_be_synced_signs_nothing_and_is_synced_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever made the file may have gone in between: an empty one has its folder synced by whoever opens it."""
    journal = Journal(folder)
    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", failing(errno.EIO))
        for _ in range(2):
            with pytest.raises(JournalUnusableError, match=r"cannot be opened \(Input/output error\)$"):
                journal.note(slot())
            assert open_here(folder) == []
    assert file(folder).read_bytes() == b""
    assert journal.bind([slot()]) == [None]


@pytest.mark.parametrize("verb", VERBS[1:])
def test_a_disk_that_takes_nothing_signs_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch, verb: Callable[[Journal], object]
) -> None:
    journal = Journal(folder)
    journal.bind([slot(6)])
    with monkeypatch.context() as full:
        full.setattr(os, "write", failing(errno.ENOSPC))
        with pytest.raises(JournalUnusableError, match=r"cannot be written \(No space left on device\)$"):
            verb(journal)
        assert open_here(folder) == []
    assert lines(folder) == ["bound 6"]
    assert journal.bind([slot(key="b"), slot(6)]) == [None, None], "what was not written counts for nothing"


def test_what_is_read_in_parts_is_read_whole(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = Journal(folder)
    Journal(folder).bind([slot(5)])
    reader.check(slot(5))
    Journal(folder).bind([slot(6), slot(7)])
    real, asked = os.pread, [0]

    def some(descriptor: int, size: int, offset: int) -> bytes:
        asked[0] += 1
        assert asked[0] < 100, "nothing more is read"
        return real(descriptor, min(size, 17), offset)

    monkeypatch.setattr(os, "pread", some)
    for nonce in (5, 6, 7):
        with pytest.raises(NonceUsedError):
            reader.check(slot(nonce, key="b"))
    assert asked[0] >= 8, "in several parts"


def test_another_file_in_its_place_is_read_from_its_beginning(folder: Path) -> None:
    """Moved away by an operator, and begun anew by another process, which has bound the nonce to its own order."""
    journal = Journal(folder)
    journal.bind([slot()])
    file(folder).rename(folder / "away")
    Journal(folder).bind([slot(key="sig:test:2")])
    assert file(folder).stat().st_size == (folder / "away").stat().st_size
    journal.check(slot(key="sig:test:2"))
    with pytest.raises(NonceUsedError):
        journal.check(slot())


def test_what_was_read_of_a_damaged_file_is_forgotten(folder: Path) -> None:
    Journal(folder).bind([slot(5), slot(6)])
    first, second = file(folder).read_text().splitlines(keepends=True)
    journal = Journal(folder)
    file(folder).write_text(first + "damaged\n")
    for _ in range(2):
        with pytest.raises(JournalUnusableError, match="is damaged; move it away only after comparing"):
            journal.check(slot(5))
    file(folder).write_text(second)
    journal.check(slot(5, key="b"))
    with pytest.raises(NonceUsedError):
        journal.check(slot(6, key="b"))


@pytest.mark.parametrize("kind", ["bounds", "BOUND", "", "spent"])
def test_a_record_of_no_kind_is_damage_though_it_adds_up(folder: Path, kind: str) -> None:
    Journal(folder).bind([slot(6)])
    words = f"{kind} 5 {slot().order.hex()}"
    with file(folder).open("a") as later:
        later.write(f"{words} {zlib.crc32(words.encode()):08x}\n")
    with pytest.raises(JournalUnusableError, match="is damaged"):
        Journal(folder).check(slot(7))


# Groups


def test_the_first_of_a_group_is_refused_at_once(folder: Path) -> None:
    """So that this order alone is held, and all else of the group goes on."""
    Journal(folder).bind([slot(5)])
    journal = Journal(folder)
    with journal.group():
        for _ in range(2):
            with pytest.raises(NonceUsedError):
                journal.note(slot(5, key="b"))
            journal.note(slot(6))
    assert lines(folder) == ["bound 5", "tentative 6"]


def test_a_group_within_a_group_is_a_part_of_it(folder: Path, syncs: list[int]) -> None:
    journal = Journal(folder)
    journal.note(slot(0))
    before = len(syncs)
    with journal.group():
        journal.note(slot(1))
        with journal.group():
            journal.note(slot(2))
        journal.note(slot(3))
        assert (len(syncs), lines(folder)) == (before, ["tentative 0"])
    assert lines(folder) == [f"tentative {nonce}" for nonce in range(4)]
    assert len(syncs) == before + 1
    journal.note(slot(4))
    assert len(syncs) == before + 2, "the group has ended"


def test_nothing_of_a_group_that_fails_is_written(folder: Path) -> None:
    journal = Journal(folder)
    journal.note(slot(0))

    def fail() -> None:
        with journal.group():
            journal.note(slot(1))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert lines(folder) == ["tentative 0"]
    with journal.group():
        journal.note(slot(2))
    assert lines(folder) == ["tentative 0", "tentative 2"]

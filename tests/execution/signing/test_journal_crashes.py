"""The signer's journal behind a process that died at it, and a disk that failed: what counts is on the disk."""

import os
import signal
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from execution_app.errors import Retryable
from execution_app.node.signing.journal import Journal, JournalUnusableError, NonceUsedError
from tests.execution.signing.test_journal import file, folder, slot, syncs
from tests.real_parts import ROOT

__all__ = ["folder", "syncs"]  # the fixtures

# A worker that dies as it is about to sync for the nth time: what it wrote is whole, and only in memory.
DIES = """
import os, signal, sys
from pathlib import Path
from execution_app.node.signing.journal import Journal
from execution_app.node.signing.slots import Slot, order_of
left, real = [int(sys.argv[2])], os.fsync

def sync(descriptor):
    left[0] -= 1
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
    real(descriptor)

def slot(nonce):
    order = order_of("sig:test:1", "0x" + "bb" * 20, 7, 900_000, b"order")
    return Slot(31337, "0x" + "aa" * 20, nonce, "0x" + "bb" * 20, 7, 900_000, b"order", order=order)

os.fsync = sync
journal = Journal(Path(sys.argv[1]))
verb = sys.argv[3]
if verb == "bind":
    journal.bind([slot(5), slot(6)])
else:
    with journal.group():
        journal.note(slot(5))
        journal.note(slot(6))
"""
# What is synced first, and then; a group opens the file twice before there is anything in it.
FOLDER, FILE, FILE_OF_GROUP = "1", "2", "3"


def dies(folder: Path, at: str, verb: str = "bind") -> None:
    ended = subprocess.run([sys.executable, "-c", DIES, str(folder), at, verb], cwd=ROOT, check=False)
    assert ended.returncode == -signal.SIGKILL


def fail(_: int) -> None:
    raise OSError(5, "Input/output error")


def note_all(journal: Journal, *nonces: int) -> None:
    with journal.group():
        for nonce in nonces:
            journal.note(slot(nonce))


def lines(folder: Path) -> list[str]:
    return [line.split(" ")[1] for line in file(folder).read_text().splitlines()]


def test_what_a_process_wrote_and_never_synced_is_synced_by_whoever_goes_on(
    folder: Path, syncs: list[int]
) -> None:
    """Its lines are read at once, and would else be gone with the power while the bytes have left."""
    dies(folder, FILE)
    assert lines(folder) == ["5", "6"]
    journal = Journal(folder)
    with pytest.raises(NonceUsedError):
        journal.check(slot(5, key="b"))
    assert syncs == [], "what is refused needs no disk"
    assert journal.bind([slot(5)]) == [None]
    assert len(syncs) == 1
    assert journal.bind([slot(5), slot(6)]) == [None, None]
    assert len(syncs) == 1, "once for all of it"
    assert lines(folder) == ["5", "6"]


def test_a_signature_that_was_noted_and_never_synced_is_synced_when_it_is_made_again(
    folder: Path, syncs: list[int]
) -> None:
    dies(folder, FILE_OF_GROUP, "note")
    journal = Journal(folder)
    with journal.group():
        journal.note(slot(5))
    assert (len(syncs), lines(folder)) == (1, ["5", "6"])


def test_what_others_write_between_two_calls_is_not_taken_for_synced(folder: Path, syncs: list[int]) -> None:
    mine, other = Journal(folder), Journal(folder)
    assert mine.bind([slot(4)]) == [None]
    dies(folder, "1")  # the file is there, so its first sync is the file's
    before = len(syncs)
    assert mine.bind([slot(6)]) == [None]
    assert len(syncs) == before + 1
    assert other.bind([slot(4)]) == [None]
    assert len(syncs) == before + 2, "each process knows of its own syncs alone"


def test_where_the_disk_cannot_keep_anothers_lines_nothing_leaves(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dies(folder, FILE)
    journal = Journal(folder)
    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", fail)
        for _ in range(2):
            with pytest.raises(JournalUnusableError, match="Input/output error"):
                journal.bind([slot(5)])
    assert journal.bind([slot(5), slot(6)]) == [None, None]


def test_a_new_journal_whose_maker_died_is_on_the_disk_before_its_first_record(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dies(folder, FOLDER)
    assert file(folder).stat().st_size == 0
    synced: list[str] = []
    real = os.fsync

    def told(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", told)
    Journal(folder).bind([slot(5)])
    assert synced == [folder.name, file(folder).name]


def test_what_could_not_be_synced_is_cut_off_for_every_process(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal, other = Journal(folder), Journal(folder)
    journal.bind([slot(0)])
    other.bind([slot(0)])
    whole = file(folder).read_bytes()
    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", fail)
        with pytest.raises(JournalUnusableError):
            journal.bind([slot(1), slot(2)])
        assert file(folder).read_bytes() == whole
        with pytest.raises(Retryable):
            note_all(journal, 1, 2, 3)
        assert file(folder).read_bytes() == whole
    assert other.bind([slot(1, key="b")]) == [None]
    (used,) = journal.bind([slot(1)])
    assert isinstance(used, NonceUsedError), "the one that is on the disk"


def test_after_a_group_that_failed_one_at_a_time_until_the_disk_is_well(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(folder)
    journal.bind([slot(0)])
    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", fail)
        with pytest.raises(Retryable), journal.group():
            journal.note(slot(1))
        for _ in range(2):
            with journal.group(), pytest.raises(JournalUnusableError):
                journal.note(slot(1))
    synced: list[int] = []
    real = os.fsync

    def counted(descriptor: int) -> None:
        synced.append(descriptor)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", counted)
    with journal.group():
        journal.note(slot(1))
        assert (len(synced), lines(folder)) == (1, ["0", "1"]), (
            "at once: it is asked whether the disk is well"
        )
        journal.note(slot(2))
        journal.note(slot(3))
        assert len(synced) == 1
    assert (len(synced), lines(folder)) == (2, ["0", "1", "2", "3"])


def test_a_disk_that_takes_nothing_back_either_is_told_as_one_that_cannot_be_used(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever asks holds its order and goes on; what stays in the file counts for nobody without a sync."""
    journal = Journal(folder)
    journal.bind([slot(0)])
    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", fail)
        broken.setattr(os, "ftruncate", lambda *_: fail(0))
        for _ in range(2):
            with pytest.raises(JournalUnusableError, match="Input/output error"):
                journal.bind([slot(1)])
        with pytest.raises(Retryable), journal.group():
            journal.note(slot(2))
    assert journal.bind([slot(1)]) == [None]


def test_a_group_that_was_torn_is_known_as_far_as_it_is_whole(folder: Path, syncs: list[int]) -> None:
    dies(folder, FILE_OF_GROUP, "note")
    content = file(folder).read_bytes()
    file(folder).write_bytes(content[:-40])
    journal = Journal(folder)
    assert journal.bind([slot(6, key="b")]) == [None], "the torn one counts for nothing"
    assert len(syncs) == 2, "what was cut off, then the record"
    with journal.group():
        journal.note(slot(5))
    assert len(syncs) == 2, "the whole one was synced with what was cut off"
    with pytest.raises(NonceUsedError):
        Journal(folder).note(slot(6))


@pytest.mark.parametrize(("module", "verb"), [("fcntl", "flock"), ("os", "pread"), ("os", "fstat")])
def test_a_journal_that_cannot_be_read_signs_nothing_and_forgets_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch, module: str, verb: str
) -> None:
    Journal(folder).bind([slot(5)])
    journal = Journal(folder)
    with monkeypatch.context() as broken:
        broken.setattr(f"{module}.{verb}", lambda *_: fail(0))
        with pytest.raises(JournalUnusableError, match="Input/output error"):
            journal.check(slot(6))
    with pytest.raises(NonceUsedError):
        journal.check(slot(5, key="b"))


def test_a_group_within_a_group_is_written_with_it(folder: Path, syncs: list[int]) -> None:
    """Whoever places a batch signs within a group, and so does each order of it."""
    journal = Journal(folder)
    journal.note(slot(0))
    before = len(syncs)
    with journal.group():
        journal.note(slot(1))
        with journal.group():
            journal.note(slot(2))
        assert (len(syncs), lines(folder)) == (before, ["0"])
        journal.note(slot(3))
    assert (len(syncs), lines(folder)) == (before + 1, ["0", "1", "2", "3"])


def test_the_first_of_a_group_is_refused_as_soon_as_it_is_noted(folder: Path) -> None:
    """Not with all the others at the group's end."""
    Journal(folder).bind([slot(5)])
    journal = Journal(folder)
    with journal.group():
        with pytest.raises(NonceUsedError):
            journal.note(slot(5, key="b"))
        journal.note(slot(6))
    assert lines(folder) == ["5", "6"]


def test_nothing_stays_open(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process signs for months; with a journal's every use it would else have one file less to open."""

    def opened() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    journal = Journal(folder)
    journal.bind([slot(0)])
    before = opened()
    for nonce in range(1, 4):
        journal.note(slot(nonce))
        Journal(folder.with_name(f"other-{nonce}")).bind([slot(nonce)])
        with monkeypatch.context() as broken:
            broken.setattr(os, "fsync", fail)
            with pytest.raises(JournalUnusableError):
                journal.note(slot(9))
            with pytest.raises(JournalUnusableError, match="cannot be opened"):
                Journal(folder.with_name(f"failed-{nonce}")).bind([slot(nonce)])
    assert opened() == before


def test_a_journal_of_many_pages_is_read_to_its_end(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a wallet that has signed for years; the system hands out as much at once as it likes."""
    journal = Journal(folder)
    journal.bind([slot(nonce) for nonce in range(40)])
    real = os.pread
    monkeypatch.setattr(os, "pread", lambda descriptor, size, at: real(descriptor, min(size, 1_000), at))
    again = Journal(folder)
    for nonce in (0, 20, 39):
        with pytest.raises(NonceUsedError):
            again.check(slot(nonce, key="b"))
    again.check(slot(40))


def test_a_journal_in_anothers_place_is_read_anew_whatever_its_length(folder: Path) -> None:
    """An operator has moved it away, and another process has begun the new one already."""
    journal = Journal(folder)
    journal.bind([slot(5)])
    file(folder).rename(folder / "old")
    Journal(folder).bind([slot(5, key="b")])
    assert file(folder).stat().st_size == (folder / "old").stat().st_size
    with pytest.raises(NonceUsedError):
        journal.check(slot(5))
    journal.check(slot(5, key="b"))


def test_a_journal_that_was_emptied_after_its_damage_says_nothing(folder: Path) -> None:
    Journal(folder).bind([slot(5)])
    with file(folder).open("a") as damaged:
        damaged.write("hello\n")
    journal = Journal(folder)
    with pytest.raises(JournalUnusableError, match="is damaged"):
        journal.check(slot(6))
    os.truncate(file(folder), 0)
    assert journal.bind([slot(5, key="b")]) == [None]


def test_a_record_of_another_kind_is_none(folder: Path) -> None:
    """However well its check fits: a later version may mean something by it."""
    Journal(folder).bind([slot(5)])
    words = f"loose 5 {slot().order.hex()}"
    with file(folder).open("a") as newer:
        newer.write(f"{words} {zlib.crc32(words.encode()):08x}\n")
    with pytest.raises(JournalUnusableError, match="is damaged"):
        Journal(folder).check(slot(6))


def test_a_disk_that_takes_no_record_signs_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(folder)
    journal.bind([slot(5)])
    with monkeypatch.context() as broken:
        broken.setattr(os, "write", lambda *_: fail(0))
        with pytest.raises(JournalUnusableError, match="cannot be written"):
            journal.bind([slot(6)])
    assert journal.bind([slot(6, key="b")]) == [None]
    assert lines(folder) == ["5", "6"]


def test_the_folders_above_a_journal_are_made(folder: Path) -> None:
    below = folder / "of" / "signers"
    assert Journal(below).bind([slot(5)]) == [None]
    assert lines(below) == ["5"]

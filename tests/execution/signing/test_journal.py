"""The signer's journal: one order a nonce, whatever happens to the database, the process or the disk."""

import fcntl
import os
import resource
import subprocess
import sys
import threading
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from execution_app.errors import Refused, Retryable
from execution_app.node.signing.journal import Journal, JournalUnusableError, NonceUsedError
from execution_app.node.signing.slots import Slot, order_of
from tests.real_parts import ROOT

WALLET = "0x" + "aa" * 20
OTHER_WALLET = "0x" + "cc" * 20
VENUE = "0x" + "bb" * 20


def slot(nonce: int = 5, key: str = "sig:test:1", **fields: Any) -> Slot:
    data = fields.pop("data", b"order")
    sound = Slot(31337, WALLET, nonce, VENUE, 7, 900_000, data, order=order_of(key, VENUE, 7, 900_000, data))
    return replace(sound, **fields)


def file(folder: Path, wallet: str = WALLET) -> Path:
    return folder / f"31337-{wallet}.journal"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "journal"


@pytest.fixture
def syncs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Counts what is really synced."""
    found: list[int] = []
    real = os.fsync

    def counted(descriptor: int) -> None:
        found.append(descriptor)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", counted)
    return found


OTHERS = {
    "another intent": slot(key="sig:test:2"),
    "another recipient": slot(order=order_of("sig:test:1", WALLET, 7, 900_000, b"order")),
    "another value": slot(order=order_of("sig:test:1", VENUE, 8, 900_000, b"order")),
    "another gas limit": slot(order=order_of("sig:test:1", VENUE, 7, 900_001, b"order")),
    "another calldata": slot(data=b"another"),
    "shifted fields": slot(order=order_of("sig:test:1" + VENUE, "", 7, 900_000, b"order")),
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_nonce_is_one_orders(folder: Path, name: str) -> None:
    assert Journal(folder).bind([slot()]) == [None]
    for journal in (Journal(folder), Journal(folder)):  # each as another process
        with pytest.raises(NonceUsedError, match=r"nonce 5 .* database is an old copy"):
            journal.check(OTHERS[name])
        (used,) = journal.bind([OTHERS[name]])
        assert isinstance(used, NonceUsedError)
        with pytest.raises(NonceUsedError):
            journal.note(OTHERS[name])
    assert len(file(folder).read_text().splitlines()) == 1


def test_a_bump_and_a_cancel_of_the_same_order_are_its_own(folder: Path, syncs: list[int]) -> None:
    journal = Journal(folder)
    journal.bind([slot()])
    size, synced = file(folder).stat().st_size, len(syncs)
    cancel = slot(to=WALLET, value_wei=0, gas_limit=21_000, data=b"", order=slot().order)
    for own in (slot(), cancel):
        journal.check(own)
        journal.note(own)
        assert journal.bind([own]) == [None]
    assert (file(folder).stat().st_size, len(syncs)) == (size, synced), "nothing new had to be written"


def test_other_wallets_chains_and_nonces_are_apart(folder: Path) -> None:
    journal = Journal(folder)
    journal.bind([slot()])
    others = [slot(key="b", sender=OTHER_WALLET), slot(key="c", chain_id=8453), slot(6, key="d")]
    assert journal.bind(others) == [None, None, None]
    assert len(list(folder.iterdir())) == 3


def test_the_case_of_an_address_does_not_matter(folder: Path) -> None:
    journal = Journal(folder)
    journal.bind([slot()])
    with pytest.raises(NonceUsedError):
        journal.check(slot(key="b", sender=WALLET.upper().replace("0X", "0x")))


def test_an_order_is_the_same_in_whatever_letters_its_recipient_is_written() -> None:
    """Else a wallet would be halted for a replacement of its own order."""
    assert order_of("a", "0x" + "BB" * 20, 7, 9, b"x") == order_of("a", VENUE, 7, 9, b"x")


def test_what_was_noted_only_gives_way(folder: Path) -> None:
    """A local signature whose transaction was never committed has gone nowhere: another order may take the nonce."""
    Journal(folder).note(slot())
    second = Journal(folder)
    second.note(slot(key="b"))
    assert second.bind([slot(key="b")]) == [None]
    with pytest.raises(NonceUsedError):
        Journal(folder).note(slot())


def test_two_orders_of_one_call_do_not_share_a_nonce(folder: Path) -> None:
    first, second = Journal(folder).bind([slot(), slot(key="b")])
    assert first is None
    assert isinstance(second, NonceUsedError)


def test_one_sync_for_a_group(folder: Path, syncs: list[int]) -> None:
    journal = Journal(folder)
    journal.note(slot(0))
    before = len(syncs)
    with journal.group():
        for nonce in range(1, 21):
            journal.note(slot(nonce))
        assert len(syncs) == before
    assert len(syncs) == before + 1
    journal.bind([slot(nonce) for nonce in range(40)])
    assert len(syncs) == before + 2
    journal.note(slot(41))
    assert len(syncs) == before + 3, "outside of a group each is synced"


def test_a_group_ends_where_another_process_has_bound_one_of_its_nonces_meanwhile(folder: Path) -> None:
    journal = Journal(folder)

    def note_two() -> None:
        with journal.group():
            journal.note(slot(1))
            journal.note(slot(2))
            Journal(folder).bind([slot(2, key="b")])

    with pytest.raises(NonceUsedError, match="nonce 2 "):
        note_two()
    assert len(file(folder).read_bytes().splitlines()) == 1, "nothing of the group is written"
    with journal.group():
        journal.note(slot(3))
        with pytest.raises(NonceUsedError):
            journal.note(slot(2))
    assert len(file(folder).read_bytes().splitlines()) == 2


@pytest.mark.parametrize("cut", [1, 2, 40, 70])
def test_a_torn_last_line_is_cut_off(folder: Path, cut: int, caplog: pytest.LogCaptureFixture) -> None:
    journal = Journal(folder)
    journal.bind([slot(5), slot(6)])
    content = file(folder).read_bytes()
    file(folder).write_bytes(content[:-cut])
    again = Journal(folder)
    with pytest.raises(NonceUsedError):
        again.check(slot(5, key="b"))
    assert again.bind([slot(6, key="b")]) == [None], (
        "the torn record was never synced, so it counts for nothing"
    )
    assert "torn last line" in caplog.text
    with pytest.raises(NonceUsedError):
        Journal(folder).check(slot(6))


def test_zeros_of_a_file_system_that_lost_power_are_cut_off(folder: Path) -> None:
    Journal(folder).bind([slot()])
    with file(folder).open("ab") as torn:
        torn.write(bytes(512))
    again = Journal(folder)
    assert again.bind([slot(6)]) == [None]
    with pytest.raises(NonceUsedError):
        Journal(folder).check(slot(key="b"))


DAMAGE = {
    "a flipped digit": lambda text: text.replace(" 5 ", " 4 ", 1),
    "a foreign line": lambda text: "hello\n" + text,
    "an empty line": lambda text: "\n" + text,
    "a line without its check": lambda text: text.rsplit(" ", 1)[0] + "\n",
    "two records in one line": lambda text: text.replace("\n", " ", 1),
    "a record in other letters": lambda text: text.upper(),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_journal_signs_nothing(folder: Path, name: str) -> None:
    Journal(folder).bind([slot(5), slot(6)])
    file(folder).write_text(DAMAGE[name](file(folder).read_text()))
    journal = Journal(folder)
    for verb in (journal.check, journal.note, lambda one: journal.bind([one])):
        with pytest.raises(JournalUnusableError, match="is damaged"):
            verb(slot(7))


def test_an_unreadable_journal_signs_nothing(folder: Path) -> None:
    folder.mkdir()
    file(folder).mkdir()  # a folder in its place, which root cannot read as a file either
    with pytest.raises(JournalUnusableError, match="cannot be opened") as caught:
        Journal(folder).note(slot())
    assert str(file(folder)) in str(caught.value)
    assert isinstance(caught.value, Refused)


def test_a_folder_that_cannot_be_made_signs_nothing(tmp_path: Path) -> None:
    (tmp_path / "journal").write_text("a file in its place")
    with pytest.raises(JournalUnusableError, match="cannot be opened"):
        Journal(tmp_path / "journal").bind([slot()])


def test_a_full_disk_signs_nothing(folder: Path) -> None:
    """The limit of a file's size stands for the disk's: the write falls short, in the middle of a line."""
    journal = Journal(folder)
    journal.bind([slot(5)])
    size = file(folder).stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 30, hard))
    try:
        for verb in (journal.note, lambda one: journal.bind([one])):
            with pytest.raises(JournalUnusableError, match="cannot be written"):
                verb(slot(6))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert journal.bind([slot(6, key="b")]) == [None], "what was not written counts for nothing"
    with pytest.raises(NonceUsedError):
        Journal(folder).check(slot(6))


def test_a_sync_that_fails_signs_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(folder)
    journal.bind([slot(0)])

    def fail(_: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(JournalUnusableError, match="Input/output error"):
        journal.bind([slot(1)])
    with pytest.raises(JournalUnusableError):
        journal.note(slot(2))
    with pytest.raises(Retryable, match="Input/output error"), journal.group():
        journal.note(slot(3))
    with journal.group(), pytest.raises(JournalUnusableError):
        journal.note(slot(3))  # at once, so that whoever asks can say why it waits


def test_a_journal_that_was_moved_away_begins_anew(folder: Path) -> None:
    """What an operator does once the wallet was compared with the chain."""
    journal = Journal(folder)
    journal.bind([slot()])
    file(folder).rename(folder / "old")
    assert journal.bind([slot(key="b")]) == [None]


def test_the_name_of_a_new_journal_is_on_the_disk_before_its_first_record_counts(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file whose folder was not synced may be gone after a power cut, and with it what every nonce was used for."""
    synced: list[str] = []
    real = os.fsync

    def told(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", told)
    Journal(folder).bind([slot(5)])
    assert synced == [folder.name, file(folder).name]
    with file(folder).open("ab") as torn:
        torn.write(b"bound 6")
    del synced[:]
    Journal(folder).check(slot(5))
    assert synced == [file(folder).name], "nor does a torn line come back"


def test_a_journal_waits_for_whoever_has_locked_it(folder: Path) -> None:
    journal = Journal(folder)
    journal.bind([slot(5)])
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.extend(journal.bind([slot(6)])))
    with file(folder).open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        thread.start()
        thread.join(0.3)
        assert answers == []
        assert len(file(folder).read_text().splitlines()) == 1
    thread.join(60)
    assert answers == [None]


def test_a_journal_that_was_shortened_is_read_anew(folder: Path) -> None:
    journal = Journal(folder)
    journal.bind([slot(5), slot(6)])
    os.truncate(file(folder), file(folder).read_bytes().index(b"\n") + 1)
    assert journal.bind([slot(6, key="b")]) == [None]
    with pytest.raises(NonceUsedError):
        journal.check(slot(5, key="b"))


@pytest.mark.parametrize(("digits", "is_read"), [(80, True), (81, False)])
def test_a_record_has_160_bytes_at_most(folder: Path, digits: int, is_read: bool) -> None:
    Journal(folder).bind([slot()])
    words = f"bound {'9' * digits} {slot().order.hex()}"
    with file(folder).open("a") as longer:
        longer.write(f"{words} {zlib.crc32(words.encode()):08x}\n")
    if is_read:
        Journal(folder).check(slot())
    else:
        with pytest.raises(JournalUnusableError, match="is damaged"):
            Journal(folder).check(slot())


def test_it_is_the_owners_alone(folder: Path) -> None:
    Journal(folder).bind([slot()])
    assert (folder.stat().st_mode & 0o777, file(folder).stat().st_mode & 0o777) == (0o700, 0o600)


def test_threads_agree_on_who_has_a_nonce(folder: Path) -> None:
    journal = Journal(folder)
    won: list[int] = []

    def race(number: int) -> None:
        mine = [nonce for nonce in range(50) if journal.bind([slot(nonce, key=f"k{number}")]) == [None]]
        won.extend(mine)

    threads = [threading.Thread(target=race, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(won) == list(range(50))


RACE = """
import sys
from pathlib import Path
from execution_app.node.signing.journal import Journal
from execution_app.node.signing.slots import Slot, order_of
journal, key = Journal(Path(sys.argv[1])), sys.argv[2]
for nonce in range(200):
    order = order_of(key, "0xb", 7, 9, b"")
    if journal.bind([Slot(31337, "0x" + "aa" * 20, nonce, "0xb", 7, 9, b"", order=order)]) == [None]:
        print("won", nonce, flush=True)
"""


def test_processes_agree_on_who_has_a_nonce(folder: Path) -> None:
    racing = [
        subprocess.Popen(
            [sys.executable, "-c", RACE, str(folder), f"k{n}"], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        for n in range(3)
    ]
    told = [process.communicate(timeout=60)[0].splitlines() for process in racing]
    won = [int(line[4:]) for lines in told for line in lines if line.startswith("won ")]
    assert [process.returncode for process in racing] == [0, 0, 0]
    assert sorted(won) == list(range(200))
    assert len(file(folder).read_text().splitlines()) == 200

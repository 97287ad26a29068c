"""What is not synced when the power fails is gone; what is, stays."""

import os
from pathlib import Path

import pytest
from django.conf import settings

from tests.crash import power


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    own = settings.ENVIRONMENT.model_copy(update={"signer_journal_dir": tmp_path})
    monkeypatch.setattr(settings, "ENVIRONMENT", own)
    monkeypatch.setattr(os, "fsync", os.fsync)  # given back afterwards
    return tmp_path


def _write(path: Path, words: bytes, *, synced: bool) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, words)
    if synced:
        os.fsync(descriptor)
    os.close(descriptor)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def test_only_what_was_synced_is_left(folder: Path) -> None:
    path = folder / "1-0xabc.journal"
    path.write_bytes(b"before\n")
    power.watch()
    _write(path, b"synced\n", synced=True)
    _write(path, b"written\n", synced=False)
    power.fail()
    assert path.read_bytes() == b"before\nsynced\n"


def test_a_journal_that_nobody_synced_is_empty(folder: Path) -> None:
    power.watch()
    path = folder / "1-0xabc.journal"
    _write(path, b"written\n", synced=False)
    _sync(folder)
    power.fail()
    assert path.read_bytes() == b""


def test_a_journal_whose_folder_nobody_synced_is_not_there(folder: Path) -> None:
    power.watch()
    path = folder / "1-0xabc.journal"
    _write(path, b"written\n", synced=True)
    power.fail()
    assert not path.exists()


def test_what_somebody_syncs_later_stays(folder: Path) -> None:
    power.watch()
    path = folder / "1-0xabc.journal"
    _write(path, b"one\n", synced=False)
    _sync(folder)
    _write(path, b"two\n", synced=True)
    power.fail()
    assert path.read_bytes() == b"one\ntwo\n"

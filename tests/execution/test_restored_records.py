"""The record that is kept of the database outside of it: what it says, where it is looked for, and whom it halts."""

import json
import stat
from pathlib import Path
from typing import Any

import pytest
import redis as redis_py
from pytest_django.fixtures import Settings

from execution_app.engine import restored
from execution_app.engine.restored import Sight, difference
from execution_app.models import AuditEntry, Wallet
from tests.execution import rows

KNOWN = Sight("77", 1, 5, {"8453:0xb": 3, "8453:0xa": 0})


@pytest.fixture
def folder(settings: Settings, tmp_path: Path, valkey: redis_py.Redis) -> Path:
    """STATE_DIR, which is not there yet."""
    found = tmp_path / "vanta" / "state"
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(update={"state_dir": found})
    return found


def without_redis(settings: Settings) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:1/0"


def told(sight: Sight = KNOWN, **changes: Any) -> str:
    return json.dumps({**vars(sight), **changes})


def test_what_was_ever_signed_for_makes_a_database_a_used_one() -> None:
    assert KNOWN.is_used
    assert not Sight(next_nonces={"8453:0xa": 0}).is_used
    assert not Sight().is_used


@pytest.mark.parametrize(
    ("now", "words"),
    [
        (Sight("78", 1, 5, KNOWN.next_nonces), "another PostgreSQL: system 78, it was 77"),
        (
            Sight("77", 2, 5, KNOWN.next_nonces),
            "a standby was promoted or a backup restored: timeline 2, it was 1",
        ),
        (
            Sight("77", 1, 5, {"8453:0xb": 2, "8453:0xa": 0}),
            "an older copy of the database: next_nonce of 0xb 2 < 3",
        ),
        (Sight("77", 1, 5, {"8453:0xa": 0}), "an older copy of the database: next_nonce of 0xb 0 < 3"),
        (Sight("77", 1, 4, KNOWN.next_nonces), "an older copy of the database: intent 4 < 5"),
        (Sight("77", 1, 5, {"8453:0xb": 3, "8453:0xa": 1}), ""),
        (Sight("77", 1, 5, {"8453:0xb": 3}), ""),
        (Sight("", 0, 5, KNOWN.next_nonces), ""),
        (Sight("78", 2, 0, {}), ""),
        (Sight("78", 2, 0, {"8453:0xc": 0}), ""),
        (Sight("78", 1, 5, {"8453:0xc": 1}), "another PostgreSQL: system 78, it was 77"),
        (Sight("78", 1, 5, {"8453:0xa": 0}), "another PostgreSQL: system 78, it was 77"),
    ],
)
def test_it_is_said_how_a_database_differs(now: Sight, words: str) -> None:
    assert difference(KNOWN, now) == words


def test_all_nonces_that_went_back_are_named() -> None:
    known = Sight("77", 1, 5, {"1:0xb": 3, "1:0xa": 2})
    assert difference(known, Sight("77", 1, 5, {"1:0xa": 1, "1:0xb": 1})).endswith(
        "next_nonce of 0xa 1 < 2, 0xb 1 < 3"
    )


@pytest.mark.parametrize("known", [Sight("", 0, 5, {"1:0xb": 3}), Sight("77", 0, 5, {"1:0xb": 3})])
def test_what_was_not_known_is_held_against_nobody(known: Sight) -> None:
    assert difference(known, Sight("77", 4, 5, {"1:0xb": 3})) == ""


def test_every_wallet_is_halted_and_knows_what_it_has_signed_elsewhere(database: None, folder: Path) -> None:
    behind, level, further = (Wallet.objects.get(pk=rows.wallet(next_nonce=at)) for at in (2, 4, 1))
    Wallet.objects.filter(pk=further.pk).update(seen_next_nonce=9)
    restored.compare()
    record = folder / restored.FILE
    kept = json.loads(record.read_text())
    nonces = {f"31337:{behind.address}": 5, f"31337:{level.address}": 4, f"31337:{further.address}": 7}
    assert kept["next_nonces"].keys() == nonces.keys()
    record.write_text(json.dumps(kept | {"next_nonces": nonces}))
    restored.compare()
    found = {wallet.pk: wallet for wallet in Wallet.objects.all()}
    assert all("an older copy of the database" in one.halted_reason for one in found.values())
    assert [found[one.pk].seen_next_nonce for one in (behind, level, further)] == [5, None, 9]
    assert AuditEntry.objects.filter(action="wallet_halted").count() == 3
    assert json.loads(record.read_text()) == kept, "it is said once"


def test_what_is_as_it_was_is_not_written_again(database: None, folder: Path, valkey: redis_py.Redis) -> None:
    rows.wallet()
    restored.compare()
    valkey.delete(restored.REDIS_KEY)
    restored.compare()
    assert valkey.get(restored.REDIS_KEY) is None
    rows.wallet()
    restored.compare()
    assert valkey.get(restored.REDIS_KEY) == (folder / restored.FILE).read_text()


def test_the_record_is_nobody_elses_and_whole(folder: Path, valkey: redis_py.Redis) -> None:
    restored._store(KNOWN)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert [path.name for path in folder.iterdir()] == ["database.json"], "no draft is left"
    restored._store(Sight("78"))
    assert restored.load() == Sight("78")
    assert valkey.get("database_seen") == (folder / "database.json").read_text()


def test_a_folder_that_takes_nothing_leaves_redis_its_record(folder: Path, valkey: redis_py.Redis) -> None:
    folder.parent.write_text("a file where a folder should be")
    restored._store(KNOWN)
    assert restored.load() == KNOWN


def test_without_redis_the_file_has_it(folder: Path, settings: Settings) -> None:
    without_redis(settings)
    restored._store(KNOWN)
    assert restored.load() == KNOWN


@pytest.mark.parametrize("unreadable", ["missing", "folder", "not text"])
def test_redis_is_asked_where_the_file_cannot_be_read(
    folder: Path, settings: Settings, valkey: redis_py.Redis, unreadable: str
) -> None:
    folder.mkdir(parents=True)
    if unreadable == "folder":
        (folder / restored.FILE).mkdir()
    elif unreadable == "not text":
        (folder / restored.FILE).write_bytes(b"\xff\xfe")
    assert restored.load() is None, "nobody knows"
    valkey.set(restored.REDIS_KEY, told())
    assert restored.load() == KNOWN
    valkey.set(restored.REDIS_KEY, b"\xff\xfe{")
    assert restored.load() is None
    without_redis(settings)
    assert restored.load() is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "7",
        "null",
        "{}",
        told(next_nonces=[]),
        told(timeline="x"),
        told(next_nonces={"a": None}),
    ],
)
def test_a_damaged_record_is_none(folder: Path, text: str) -> None:
    folder.mkdir(parents=True)
    (folder / restored.FILE).write_text(text)
    assert restored.load() is None


def test_the_servers_words_are_read_as_they_are(database: None) -> None:
    rows.wallet(next_nonce=3)
    first = rows.intent()
    sight = restored.look()
    timeline = rows.one("SELECT timeline_id FROM pg_control_checkpoint()")
    assert sight.system == rows.one("SELECT system_identifier::text FROM pg_control_system()")
    assert (sight.timeline, sight.highest_intent) == (timeline, first)
    assert list(sight.next_nonces.values()) == [3]

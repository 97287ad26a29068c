"""What a database that is not the one it was comes to: its wallets halt in one order, and the record is on the disk first."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import redis as redis_py
import structlog
from django.db import connection

from execution_app.engine import reconcile, restored
from execution_app.engine.restored import Sight, difference
from execution_app.models import AuditEntry, Wallet
from tests.execution import rows
from tests.execution.test_restored_records import KNOWN, folder

__all__ = ["folder"]  # the fixture


def wallet(**fields: object) -> Wallet:
    return Wallet.objects.get(pk=rows.wallet(**fields))


def at(wallet: Wallet) -> str:
    return f"{wallet.chain_id}:{wallet.address}"


def test_nothing_is_known_of_a_database_before_it_was_seen() -> None:
    assert Sight() == Sight("", 0, 0, {})


def test_a_wallet_that_is_gone_had_signed() -> None:
    known = Sight("77", 1, 5, {"1:0xa": 1, "1:0xb": 1})
    assert difference(known, Sight("77", 1, 5, {"1:0xa": 1})).endswith("next_nonce of 0xb 0 < 1")


def test_a_wallet_that_nobody_knew_has_signed_nothing_elsewhere(database: None) -> None:
    unknown, behind = wallet(), wallet(next_nonce=1)
    restored._halt_all("an older copy", Sight("77", 1, 5, {at(behind): 2}))
    assert dict(Wallet.objects.values_list("pk", "seen_next_nonce")) == {unknown.pk: None, behind.pk: 2}
    assert set(Wallet.objects.values_list("halted_reason", flat=True)) == {"an older copy"}


def test_what_an_earlier_copy_had_signed_is_not_taken_back(database: None) -> None:
    further, less = wallet(next_nonce=1, seen_next_nonce=9), wallet(next_nonce=1, seen_next_nonce=2)
    restored._halt_all("an older copy", Sight("77", 1, 5, {at(further): 5, at(less): 5}))
    assert dict(Wallet.objects.values_list("pk", "seen_next_nonce")) == {further.pk: 9, less.pk: 5}


def test_wallets_halt_in_their_order_and_with_as_many_words_as_there_is_room_for(database: None) -> None:
    first, second = wallet(), wallet()
    rows.update("wallets", first.pk, {"balance_wei": 1})  # stored behind the other one now
    restored._halt_all("w" * 300, KNOWN)
    entries = AuditEntry.objects.filter(action="wallet_halted").order_by("seq")
    assert list(entries.values_list("subject", "reason")) == [
        (f"wallet {one.address}", "w" * 200) for one in (first, second)
    ]


def test_a_wallets_halt_and_what_it_has_signed_are_one_commit(
    database: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("in between")

    mine = wallet(next_nonce=1)
    monkeypatch.setattr(reconcile, "halt_wallet", fail)
    with pytest.raises(RuntimeError, match="in between"):
        restored._halt_all("an older copy", Sight("77", 1, 5, {at(mine): 2}))
    mine.refresh_from_db()
    assert mine.seen_next_nonce is None


def test_only_what_is_halted_in_rows_is_forgotten_in_the_file(
    database: None, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("in between")

    wallet(next_nonce=1)
    restored._store(Sight("of another server", 1, 0, {"1:0xa": 1}))
    kept = (folder / restored.FILE).read_text()
    monkeypatch.setattr(reconcile, "halt_wallet", fail)
    with pytest.raises(RuntimeError, match="in between"):
        restored.compare()
    assert (folder / restored.FILE).read_text() == kept


@pytest.mark.parametrize(("next_nonce", "told"), [(0, []), (1, ["warning"])])
def test_a_used_database_without_a_record_is_told(
    database: None, folder: Path, next_nonce: int, told: list[str]
) -> None:
    wallet(next_nonce=next_nonce)
    with structlog.testing.capture_logs() as logs:
        restored.compare()
    begun = [entry["log_level"] for entry in logs if "no record of this database" in entry["event"]]
    assert begun == told
    assert set(Wallet.objects.values_list("halted_reason", flat=True)) == {""}
    assert (folder / restored.FILE).exists()


def test_a_server_that_does_not_name_itself_is_known_by_its_rows(
    database: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = wallet(next_nonce=4)
    intent = rows.intent()
    monkeypatch.setattr(restored, "_SERVER", "pg_not_for_this_login(), '0'")
    assert restored.look() == Sight("", 0, intent, {at(mine): 4})
    assert connection.is_usable()


def test_a_timeline_is_read_as_the_server_writes_it(database: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restored, "_SERVER", "'77', '0000001A'")
    assert restored.look() == Sight("77", 26)


def test_an_empty_database_has_seen_nothing(database: None) -> None:
    sight = restored.look()
    assert (sight.highest_intent, sight.next_nonces, sight.is_used) == (0, {}, False)


def test_the_record_is_whole_on_the_disk_before_it_takes_its_place(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_disk: list[tuple[int, bool]] = []

    def fsync(descriptor: int) -> None:
        on_disk.append((os.fstat(descriptor).st_size, (folder / restored.FILE).exists()))

    monkeypatch.setattr(os, "fsync", fsync)
    restored._store(KNOWN)
    text = (folder / restored.FILE).read_text()
    assert on_disk == [(len(text), False)]
    told: dict[str, Any] = {"highest_intent": 5, "next_nonces": {"8453:0xa": 0, "8453:0xb": 3}}
    assert text == json.dumps(told | {"system": "77", "timeline": 1})


@pytest.mark.parametrize("fault", [redis_py.TimeoutError("silent"), ConnectionResetError("gone")])
def test_a_redis_that_fails_in_whatever_way_stops_nobody(
    folder: Path, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    def fail() -> None:
        raise fault

    monkeypatch.setattr(restored, "_redis", fail)
    assert restored.load() is None
    restored._store(KNOWN)
    assert restored.load() == KNOWN


def test_a_redis_that_is_silent_is_not_waited_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every pass over the chain asks, and signs nothing meanwhile."""
    monkeypatch.setattr(restored, "REDIS_TIMEOUT_S", 0.3)
    told = restored._redis().connection_pool.connection_kwargs
    assert (told["socket_timeout"], told["socket_connect_timeout"], told["retry"]) == (0.3, 0.3, None)

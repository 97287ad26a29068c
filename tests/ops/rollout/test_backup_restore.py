"""`manage.py restore`: the copy is closed before it has the name, and whatever is killed leaves one database there."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis as redis_py
from django.core.management import CommandError, call_command
from django.db import connections
from pydantic import SecretStr

from execution_app.gate import control, watch
from execution_app.models import AuditEntry, RestorePoint, Restriction, TxIntent, Wallet
from execution_app.states import Origin, RestrictionKind
from ops.rollout import backups, restoring, sealed_files
from ops.rollout.backups import Backup
from ops.rollout.postgres_tools import Place
from tests import real_parts
from tests.execution import rows
from tests.guards import without_guards
from tests.ops.rollout.restored_copies import aside, beside
from tests.processes import FORK

__all__ = ["aside"]  # the fixture
WHY = "the disk is gone"
CLOSED = {("emergency_stop", "command"), ("dry", "command")}


@pytest.fixture
def made(aside: None, valkey: redis_py.Redis, tmp_path: Path) -> Backup:
    rows.wallet(next_nonce=7)
    rows.wallet(next_nonce=1, halted_reason="the key was used elsewhere")
    return backups.take(tmp_path)


def restore(made: Backup, *words: str, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    capsys.readouterr()
    name = Place.configured().name
    given = ("--yes-restore", name, "--reason", WHY, "--by", "ann", "--terminate", *words)
    call_command("restore", str(made.path), *given, "--json")
    return dict(json.loads(capsys.readouterr().out))


def held() -> set[tuple[str, str]]:
    return {(row.kind, row.origin) for row in control.active()}


def is_closed() -> bool:
    return held() >= CLOSED and not Wallet.objects.filter(halted_reason="").exists()


def test_it_comes_back_closed_and_never_behind(
    made: Backup, valkey: redis_py.Redis, capsys: pytest.CaptureFixture[str]
) -> None:
    """What became stricter since the backup stays so, and no nonce or epoch that was given away comes again."""
    assert control.active() == []
    address = Wallet.objects.get(next_nonce=7).address
    Wallet.objects.filter(next_nonce=7).update(next_nonce=9)
    control.impose(RestrictionKind.REDUCE_ONLY, Origin.HTTP, by="bob", reason="a bad day")
    rows.execute("UPDATE control SET epoch = 5")
    valkey.set(watch.EPOCH_KEY, "8")
    late = rows.intent()
    said = restore(made, capsys=capsys)
    assert said["restored"]
    assert held() == {*CLOSED, ("reduce_only", "http")}
    assert control.epoch() == said["epoch"] == 9
    halts = dict(Wallet.objects.values_list("next_nonce", "halted_reason"))
    assert "restored from a backup" in halts[7]
    assert halts[1] == "the key was used elsewhere"
    assert Wallet.objects.get(address=address).seen_next_nonce == 9
    assert not TxIntent.objects.filter(pk=late).exists()
    point = RestorePoint.objects.get()
    assert (point.snapshot_at, point.backup_sha256, point.former) == (
        made.taken_at,
        made.sha256,
        said["former"],
    )
    assert point.restored_at > made.taken_at
    entries = AuditEntry.objects.filter(action="database_restored").order_by("seq")
    assert [(entry.actor, entry.reason) for entry in entries] == [("ann", WHY)] * 2
    assert entries[0].subject.startswith("backup of ")
    assert [one["action"] for one in said["forgotten"]] == [
        *("database_backed_up", "restriction_imposed", "restriction_imposed"),
    ]
    assert beside() == [said["former"]]
    with Place.configured().connected(said["former"]) as session:
        found = session.execute("SELECT count(*) FROM tx_intents WHERE id = %s", [late]).fetchone()
    assert found == (1,), "the former database is kept as it was"


@pytest.mark.parametrize(
    ("words", "refusal"),
    [
        ((), "1 sessions are connected"),
        (("--yes-restore", "other"), "not other"),
        (("--reason", "short"), "at least 8 characters"),
    ],
)
def test_it_is_refused(made: Backup, words: tuple[str, ...], refusal: str) -> None:
    name = Place.configured().name
    with Place.configured().connected(name), pytest.raises(CommandError, match=refusal) as error:
        call_command("restore", str(made.path), "--yes-restore", name, "--reason", WHY, *words)
    assert error.value.returncode == 1
    assert (held(), beside(), RestorePoint.objects.count()) == (set(), [], 0)


def test_without_the_typed_name_it_is_shown(made: Backup, capsys: pytest.CaptureFixture[str]) -> None:
    call_command("restore", str(made.path))
    assert f"nothing was changed; --yes-restore {Place.configured().name} does it" in capsys.readouterr().out
    assert (held(), beside()) == (set(), [])


def test_another_chain_and_a_newer_version(made: Backup, settings: Any) -> None:
    migrations = [*made.contents.migrations, ["execution_app", "9999_of_tomorrow"]]
    manifest = made.path.with_name(made.path.name + sealed_files.MANIFEST)
    told = made.told | {"migrations": migrations}
    manifest.write_text(json.dumps(told | {"seal": sealed_files.seal(told)}))
    with pytest.raises(CommandError, match="9999_of_tomorrow"):
        call_command("restore", str(made.path))
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(update={"chain_id": 8453})
    with pytest.raises(CommandError, match="of chain 31337, CHAIN_ID is 8453"):
        call_command("restore", str(made.path))


def test_where_the_former_database_is_broken_or_gone(
    made: Backup, capsys: pytest.CaptureFixture[str]
) -> None:
    """It says nothing, so the record outside of it and Redis do; then there is none at all."""
    (real_parts.FOLDER / "state").mkdir(exist_ok=True)
    record = real_parts.FOLDER / "state" / "database.json"
    address = Wallet.objects.get(next_nonce=7).address
    sight = {"system": "", "timeline": 0, "highest_intent": 0, "next_nonces": {f"31337:{address}": 12}}
    record.write_text(json.dumps(sight))
    rows.execute("ALTER TABLE mode_changes RENAME TO mode_changes_lost")
    try:
        said = restore(made, capsys=capsys)
    finally:
        rows.execute("ALTER TABLE IF EXISTS mode_changes_lost RENAME TO mode_changes")
    assert any("could not be read" in note for note in said["notes"])
    assert is_closed()
    assert Wallet.objects.get(address=address).seen_next_nonce == 12
    connections.close_all()
    with Place.configured().connected() as session:
        session.execute(f"DROP DATABASE {Place.configured().name} WITH (FORCE)")
    assert restore(made, capsys=capsys)["former"] == ""
    assert is_closed()
    record.unlink()


@pytest.mark.parametrize("moment", ["filled", "left", "closed", "set aside", "renamed", "swapped"])
def test_a_kill_leaves_one_database_under_its_name(
    made: Backup, moment: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Which one is either the former or the closed copy; then the restore is done again."""
    late = rows.intent()

    def die() -> None:
        def step(name: str) -> None:
            if name == moment:
                os._exit(9)

        restoring.restore(made, by="ann", reason=WHY, terminate=True, step=step)

    connections.close_all()
    child = FORK.Process(target=die)
    child.start()
    child.join(60)
    assert child.exitcode == 9, "it came to that moment"
    if TxIntent.objects.filter(pk=late).exists():
        assert moment != "swapped"
        assert not RestorePoint.objects.exists()
    else:
        assert moment == "swapped"
        assert is_closed()
    restore(made, capsys=capsys)
    assert is_closed()
    assert RestorePoint.objects.count() == 1
    assert not [name for name in beside() if "_restoring_" in name], "what was half made is gone"


@pytest.fixture
def reconnecting(aside: None) -> Iterator[None]:
    """Somebody who connects again at once whenever they are sent away, as the stack's processes do."""
    ended = FORK.Event()

    def connect() -> None:
        url = real_parts.postgres.url
        while not ended.is_set():
            try:
                with psycopg.connect(url, autocommit=True) as session:
                    while not ended.is_set():
                        session.execute("SELECT 1")
            except psycopg.Error:
                continue

    connections.close_all()
    crowd = [FORK.Process(target=connect) for _ in range(3)]
    for one in crowd:
        one.start()
    yield
    ended.set()
    for one in crowd:
        one.join(20)


def test_processes_that_come_back_at_once_find_the_closed_copy(
    made: Backup, reconnecting: None, capsys: pytest.CaptureFixture[str]
) -> None:
    restore(made, capsys=capsys)
    assert is_closed()


def test_a_login_that_may_make_no_database(
    made: Backup, settings: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """Refused before anything was changed but the stack's stop."""
    rows.execute("CREATE ROLE made_for_little LOGIN PASSWORD 'only-here'")
    place = Place.configured()
    url = f"postgresql://made_for_little:only-here@{place.host}:{place.port}/{place.name}"
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(update={"database_url": SecretStr(url)})
    try:
        with pytest.raises(CommandError, match="no database can be made"):
            restore(made, capsys=capsys)
    finally:
        rows.execute("DROP ROLE made_for_little")
    assert (held(), RestorePoint.objects.count()) == (set(), 0)


def test_a_stop_that_was_in_the_copy_is_not_set_twice(
    aside: None, valkey: redis_py.Redis, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    control.impose(RestrictionKind.STOP, Origin.COMMAND, by="bob", reason="before the backup")
    made = backups.take(tmp_path)
    control.lift(RestrictionKind.STOP, Origin.COMMAND, by="bob", reason="it is over")
    restore(made, capsys=capsys)
    assert held() == CLOSED
    assert Restriction.objects.get(kind="emergency_stop", lifted_at=None).reason == "before the backup"
    with without_guards():
        rows.execute("DELETE FROM restore_points")

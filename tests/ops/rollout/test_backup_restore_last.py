"""What is set in a database that is about to be replaced: a restore never loosens, whenever it is killed."""

import os
from pathlib import Path

import pytest
import redis as redis_py
from django.core.management import CommandError, call_command
from django.db import connections

from execution_app.gate import control, restore_points, watch
from execution_app.models import AuditEntry, Wallet
from execution_app.states import Origin, RestrictionKind
from ops.rollout import backups, postgres_tools, restoring
from ops.rollout.backups import Backup
from ops.rollout.postgres_tools import Place
from tests.execution import rows
from tests.ops.rollout.restored_copies import aside, beside
from tests.processes import FORK

__all__ = ["aside"]  # the fixture
WHY = "the disk is gone"
WORDS = ("--reason", WHY, "--by", "ann")
CLOSED = {("emergency_stop", "command"), ("dry", "command")}
LAST = {("emergency_stop", "http"), ("reduce_only", "redis")}


@pytest.fixture
def made(aside: None, valkey: redis_py.Redis, tmp_path: Path) -> Backup:
    rows.wallet(next_nonce=7)
    return backups.take(tmp_path)


def held() -> set[tuple[str, str]]:
    return {(row.kind, row.origin) for row in control.active()}


def set_last(valkey: redis_py.Redis) -> None:
    """What the former database answers as done while the copy is being closed."""
    with postgres_tools.pointed_at(Place.configured().name):
        control.impose(RestrictionKind.STOP, Origin.HTTP, by="bob", reason="at the last second")
        control.impose(RestrictionKind.REDUCE_ONLY, Origin.REDIS, by="redis", reason="at the last second")
        rows.execute("UPDATE wallets SET next_nonce = 11")
        valkey.set(watch.EPOCH_KEY, control.epoch())


def restore(made: Backup, step: restoring.Step = lambda _: None) -> restoring.Outcome:
    return restoring.restore(made, by="ann", reason=WHY, terminate=True, step=step)


def kill_at_the_swap(made: Backup, valkey: redis_py.Redis) -> None:
    """Between the commit of the swap and the last look."""

    def die() -> None:
        def step(name: str) -> None:
            if name == "left":
                set_last(valkey)
            if name == "swapped":
                os._exit(9)

        restore(made, step)

    connections.close_all()
    child = FORK.Process(target=die)
    child.start()
    child.join(60)
    assert child.exitcode == 9, "it came to that moment"
    assert held() == CLOSED
    assert restore_points.unread() is not None


@pytest.mark.parametrize("moment", ["left", "closed"])
def test_what_is_set_while_the_copy_is_closed(made: Backup, valkey: redis_py.Redis, moment: str) -> None:
    """By people whom the former database answered that it holds."""
    outcome = restore(made, lambda name: set_last(valkey) if name == moment else None)
    assert held() == CLOSED | LAST
    assert control.epoch() == outcome.epoch > int(str(valkey.get(watch.EPOCH_KEY)))
    assert Wallet.objects.get().seen_next_nonce == 11
    assert [one["subject"] for one in outcome.forgotten] == [
        *(made.path.name, "emergency_stop of command"),
        *("emergency_stop of http", "reduce_only of redis"),
    ], "each once"
    assert "taken over: emergency_stop of http, reduce_only of redis" in outcome.notes[-1]
    assert restore_points.unread() is None


def test_where_nothing_was_set_nothing_is_told(made: Backup) -> None:
    outcome = restore(made)
    assert (held(), outcome.epoch) == (CLOSED, control.epoch())
    assert not [note for note in outcome.notes if "taken over" in note]
    first, last = AuditEntry.objects.filter(action="database_restored").order_by("seq")
    assert first.subject.startswith("backup of ")
    assert last.subject == f"from the former database {outcome.former}"


def test_after_a_kill_nobody_resumes_without_it(made: Backup, valkey: redis_py.Redis) -> None:
    kill_at_the_swap(made, valkey)
    with pytest.raises(CommandError) as error:
        call_command("resume", *WORDS)
    told = str(error.value)
    assert "database_backed_up" in told, "nobody was told of anything since the backup"
    assert "restriction_imposed reduce_only of redis by redis" in told
    assert held() == CLOSED | LAST
    assert control.epoch() > int(str(valkey.get(watch.EPOCH_KEY)))
    assert restore_points.unread() is None
    with pytest.raises(CommandError, match="the stop is lifted last"):
        call_command("resume", *WORDS)


def test_after_a_kill_the_next_restore_takes_it_along(made: Backup, valkey: redis_py.Redis) -> None:
    kill_at_the_swap(made, valkey)
    outcome = restore(made)
    assert held() == CLOSED | LAST
    assert "reduce_only of redis" in {one["subject"] for one in outcome.forgotten}
    assert Wallet.objects.get().seen_next_nonce == 11


def test_a_former_database_that_is_gone_or_lost(made: Backup, valkey: redis_py.Redis) -> None:
    """Where it is there and does not answer nobody goes on; where it is gone that is said."""
    kill_at_the_swap(made, valkey)
    (former,) = beside()
    with Place.configured().connected() as session:
        session.execute(f"ALTER DATABASE {former} ALLOW_CONNECTIONS false")
        for _ in range(2):
            with pytest.raises(CommandError, match="where it is lost, rename or drop it"):
                call_command("resume", *WORDS)
        postgres_tools.drop(session, former)
    with pytest.raises(CommandError, match=f"{former} is gone"):
        call_command("resume", *WORDS)
    assert restore_points.unread() is None


def test_a_last_look_that_fails_is_made_up_for(made: Backup, valkey: redis_py.Redis) -> None:
    """The restore is done by then; that it is not whole is said."""

    def step(name: str) -> None:
        if name == "left":
            set_last(valkey)
        if name == "swapped":
            with Place.configured().connected() as session:
                session.execute(f"ALTER DATABASE {beside()[0]} ALLOW_CONNECTIONS false")

    outcome = restore(made, step)
    assert "was not looked at once more (OperationalError)" in outcome.notes[-1]
    with Place.configured().connected() as session:
        session.execute(f"ALTER DATABASE {outcome.former} ALLOW_CONNECTIONS true")
    with pytest.raises(CommandError, match="reduce_only of redis"):
        call_command("resume", *WORDS)
    assert held() == CLOSED | LAST

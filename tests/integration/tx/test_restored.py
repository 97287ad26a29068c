"""A restored or promoted database is noticed by what is kept outside of it, and nothing is sent until a person decides."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import redis as redis_py
from django.core.management import CommandError, call_command
from django.db import connection
from pytest_django.fixtures import Settings

from execution_app.engine import restored
from execution_app.engine.restored import Sight
from execution_app.models import AuditEntry, Wallet
from tests import database_copies, invariants, real_parts
from tests.integration.tx.test_nonce_watch import spend_elsewhere
from tests.proxy import Proxy
from tests.rig import Rig, rpc_call
from tests.timers import pass_a_minute

WHY = ("--reason", "checked by two people", "--by", "ann")


def record() -> Path:
    return real_parts.FOLDER / "state" / "database.json"


def rewrite(**changes: object) -> None:
    """The record as it would be if the database had been another one."""
    record().write_text(json.dumps(json.loads(record().read_text()) | changes))


def halt() -> str:
    return str(Wallet.objects.get().halted_reason)


def test_a_fresh_install_writes_its_record(rig: Rig) -> None:
    rig.track()
    told = json.loads(record().read_text())
    with connection.cursor() as cursor:
        cursor.execute("SELECT system_identifier::text FROM pg_control_system()")
        assert told["system"] == cursor.fetchone()[0]
    assert told["timeline"] == 1
    assert told["next_nonces"] == {f"31337:{rig.wallet.address}": 0}
    assert record().stat().st_mode & 0o077 == 0 or record().parent.stat().st_mode & 0o077 == 0
    rig.intent()
    rig.run()
    told = json.loads(record().read_text())
    assert (told["next_nonces"], told["highest_intent"]) == ({f"31337:{rig.wallet.address}": 1}, 1)
    assert halt() == ""


@pytest.mark.parametrize(
    ("change", "words"),
    [({"system": "1"}, "another PostgreSQL"), ({"timeline": 7}, "a standby was promoted")],
)
def test_another_server_halts_until_a_person_resumes(
    rig: Rig, node: Proxy, change: dict[str, object], words: str
) -> None:
    rig.intent()
    rig.run()
    rewrite(**change)
    sent = len(node.log)
    rig.track()
    assert words in halt()
    assert AuditEntry.objects.filter(action="wallet_halted").count() == 1
    waits = rig.intent(symbol="ETH-USD")
    pass_a_minute()
    rig.submit()
    waits.refresh_from_db()
    assert (waits.state, waits.reason, waits.nonce) == ("held", "wallet_halted", None)
    assert len(node.log) == sent
    call_command("wallet", "resume", "123", *WHY)
    rig.finish()
    waits.refresh_from_db()
    assert waits.state == "filled"
    assert halt() == "", "said once"
    invariants.check(node)


def test_a_restore_in_place_while_its_last_nonce_is_in_a_pool(rig: Rig, node: Proxy) -> None:
    """Same server, same timeline, and the chain's count says nothing yet: only the kept numbers tell."""
    rig.intent()
    rig.run()
    database_copies.take()
    node.hold()
    lost = rig.intent(symbol="ETH-USD")
    rig.submit()
    rig.track()
    database_copies.give_back()
    waits = rig.intent(symbol="SOL-USD")
    rig.track()
    rig.wallet.refresh_from_db()
    assert "an older copy of the database" in rig.wallet.halted_reason
    assert (rig.wallet.next_nonce, rig.wallet.seen_next_nonce) == (1, 2)
    with pytest.raises(CommandError, match="adopt comes first"):
        call_command("wallet", "resume", "123", *WHY)
    call_command("wallet", "adopt", "123", "--yes", *WHY)
    waits.refresh_from_db()
    assert (waits.state, waits.reason) == ("rejected", "may_be_executed"), "the lost slot may be its order"
    call_command("wallet", "resume", "123", *WHY)
    behind = rig.intent()
    rig.submit()
    behind.refresh_from_db()
    rig.wallet.refresh_from_db()
    assert (behind.nonce, len(node.first_seen())) == (None, 2), "the signer's journal knows whose nonce it is"
    assert "old copy" in rig.wallet.halted_reason
    node.release("first")  # what the lost database sent is mined in the slot
    rig.mine(5)
    rig.track()
    call_command("wallet", "adopt", "123", "--yes", *WHY)
    call_command("wallet", "resume", "123", *WHY)
    rig.finish(2)
    behind.refresh_from_db()
    assert (behind.state, behind.nonce) == ("filled", 2), "each once, in its own slot"
    assert len(invariants.executions(rig.wallet)) == 3
    assert lost.intent_key not in {key for (key,) in type(lost).objects.values_list("intent_key")}


def test_a_missing_file_is_begun_anew(rig: Rig, node: Proxy, valkey: redis_py.Redis) -> None:
    """Without Redis' word, too, an old database goes on: chain and counts still guard it."""
    rig.intent()
    rig.run()
    record().unlink()
    valkey.delete(restored.REDIS_KEY)
    rig.track()
    assert halt() == ""
    assert record().exists()
    invariants.check(node)


def test_redis_speaks_where_the_file_is_missing(rig: Rig, valkey: redis_py.Redis) -> None:
    rig.intent()
    rig.run()
    record().unlink()
    told = json.loads(str(valkey.get(restored.REDIS_KEY)))
    valkey.set(restored.REDIS_KEY, json.dumps(told | {"highest_intent": 99}))
    rig.track()
    assert "intent 1 < 99" in halt()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"system": 1}', "\0"])
def test_a_damaged_file_stops_nobody(rig: Rig, content: str) -> None:
    rig.track()
    record().write_text(content)
    rig.track()
    assert halt() == ""
    assert json.loads(record().read_text())["timeline"] == 1


def test_a_folder_that_takes_nothing_stops_nobody(rig: Rig, settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(update={"state_dir": tmp_path / "file" / "state"})
    rig.intent()
    rig.run()
    assert halt() == ""


def test_a_new_database_beside_an_old_record(rig: Rig) -> None:
    """Somebody begins anew: nothing of it is known, and nothing of it was ever sent."""
    rig.track()
    rewrite(system="1", next_nonces={"31337:0x" + "0" * 40: 9}, highest_intent=100)
    rig.track()
    assert halt() == ""
    assert json.loads(record().read_text())["highest_intent"] == 0


@pytest.mark.parametrize(
    ("now", "differs"),
    [
        (Sight("1", 1, 5, {"a:b": 3}), False),
        (Sight("1", 1, 6, {"a:b": 4, "a:c": 0}), False),
        (Sight("", 0, 5, {"a:b": 3}), False),
        (Sight("2", 1, 5, {"a:b": 3}), True),
        (Sight("1", 2, 5, {"a:b": 3}), True),
        (Sight("1", 1, 4, {"a:b": 3}), True),
        (Sight("1", 1, 5, {"a:b": 2}), True),
        (Sight("1", 1, 5, {"a:c": 9}), True),
        (Sight("1", 1, 5, {"a:b": 0}), True),
        (Sight("1", 1, 0, {}), False),
    ],
)
def test_what_counts_as_another_database(now: Sight, differs: bool) -> None:
    known = Sight("1", 1, 5, {"a:b": 3})
    assert bool(restored.difference(known, now)) is differs
    assert restored.difference(now, replace(now)) == ""


def test_a_worker_that_may_not_ask_the_server_still_counts(rig: Rig) -> None:
    rig.track()
    with connection.cursor() as cursor:
        cursor.execute("REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC")
        cursor.execute("CREATE ROLE nobody_special")
        try:
            cursor.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO nobody_special")
            cursor.execute("SET ROLE nobody_special")
            sight = restored.look()
        finally:
            cursor.execute("RESET ROLE")
            cursor.execute("DROP OWNED BY nobody_special")
            cursor.execute("DROP ROLE nobody_special")
            cursor.execute("GRANT EXECUTE ON FUNCTION pg_control_system() TO PUBLIC")
    assert (sight.system, sight.timeline, len(sight.next_nonces)) == ("", 0, 1)


def test_the_chain_knows_more_after_a_restore(rig: Rig) -> None:
    """Both say so; the first word stays."""
    rig.track()
    spend_elsewhere(rig, 0)
    rig.mine()
    rewrite(timeline=3)
    rig.intent()
    rig.track()
    assert halt()
    assert rpc_call("eth_getTransactionCount", rig.wallet.address, "latest") == "0x1"

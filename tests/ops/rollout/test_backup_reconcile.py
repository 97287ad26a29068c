"""After a restore: the chain's executions are taken over, what is old is refused, and only then a person goes on."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from execution_app.book.drift import compare
from execution_app.gate import control
from execution_app.models import AuditEntry, Position, TxIntent, TxSend, Wallet
from execution_app.states import Action, IntentState, Reason
from ops.rollout import backups, reconciling
from ops.rollout.postgres_tools import Place
from signals_app.models import SourceGrant
from tests import invariants
from tests.execution import rows
from tests.guards import without_guards
from tests.integration.tx.conftest import node
from tests.ops.rollout.restored_copies import aside
from tests.proxy import Proxy
from tests.rig import Rig
from tests.signals.test_rules import decide

__all__ = ["aside", "node"]  # the fixtures
WHY = ("--reason", "checked by two people", "--by", "ann")
CLOSE = {"side": "CLOSE", "collateral_usdc": None, "leverage_x": None, "max_lag_s": None}


def restore(made: backups.Backup) -> None:
    name = Place.configured().name
    call_command("restore", str(made.path), "--yes-restore", name, "--terminate", *WHY)


def wallet(verb: str, *words: str) -> None:
    call_command("wallet", verb, "123", *words, *WHY)


def signal_times(**since: float) -> str:
    return (datetime.now(UTC) + timedelta(**since)).isoformat()


def grow_old() -> None:
    """The restore was a minute ago."""
    with without_guards():
        rows.execute(
            "UPDATE restore_points SET restored_at = restored_at - interval '1 minute',"
            " snapshot_at = snapshot_at - interval '1 minute',"
            " untimed_accepted_at = untimed_accepted_at - interval '1 minute'"
        )


@pytest.mark.parametrize("count", [1, 4])
def test_executions_since_the_backup_are_taken_over(
    rig: Rig, node: Proxy, aside: None, tmp_path: Path, count: int
) -> None:
    known = rig.intent()
    rig.run()
    made = backups.take(tmp_path)
    for _ in range(count):
        rig.intent(symbol="ETH-USD")
    rig.run()
    rig.mine(4)
    hashes = set(TxSend.objects.exclude(intent=known).values_list("tx_hash", flat=True))
    assert len(hashes) == count
    restore(made)
    sent = len(node.log)
    rig.track()
    assert control.active_kinds() == {"emergency_stop", "dry"}
    with pytest.raises(CommandError, match=r"the stop is lifted last: wallet 0x\w+ is halted"):
        call_command("resume", *WHY)
    asked = rig.intent(symbol="SOL-USD")
    rig.submit()
    asked.refresh_from_db()
    assert (asked.state, asked.reason) == (IntentState.REJECTED, Reason.EMERGENCY_STOP)
    assert (len(node.log), TxSend.objects.count()) == (sent, 1), "nothing is signed before the chain was read"
    wallet("adopt", "--yes")
    assert set(TxSend.objects.exclude(intent=known).values_list("tx_hash", flat=True)) == hashes
    wallet("resume")
    with pytest.raises(CommandError, match=f"{count} executions on the chain are not settled|positions? "):
        call_command("resume", *WHY)
    rig.track()
    rig.track()
    assert reconciling.differences() == ([], [])
    assert Position.objects.filter(state="open").count() == count + 1
    assert len(node.log) == sent
    assert control.active_kinds() == {"emergency_stop", "dry"}
    call_command("resume", *WHY)
    call_command("mode", "LIVE", *WHY)
    assert control.active_kinds() == set()
    rig.open_gate()
    after = rig.intent()
    rig.finish()
    after.refresh_from_db()
    assert (after.state, after.nonce) == ("filled", count + 1)
    assert len(invariants.executions(Wallet.objects.get())) == count + 2
    invariants.check(node)


def test_a_position_that_was_closed_since(rig: Rig, node: Proxy, aside: None, tmp_path: Path) -> None:
    """A close that the copy does not know: the position ends as the venue says, and until then nobody goes on."""
    rig.intent()
    rig.run()
    made = backups.take(tmp_path)
    rig.intent(Action.CLOSE)
    rig.run()
    rig.mine(4)
    restore(made)
    rig.track()
    wallet("adopt", "--yes")
    wallet("resume")
    with pytest.raises(CommandError, match="is not what the venue holds"):
        call_command("resume", *WHY)
    compare()
    rig.mine(4)
    compare()
    call_command("resume", *WHY)
    assert not Position.objects.filter(state="open").exists()


def test_an_old_signal_sent_again_is_refused(
    rig: Rig, node: Proxy, aside: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It was executed by the database that is gone; under its id this one knows nothing."""
    SourceGrant.objects.create(source="drill", tg_user_id=123)
    waits = rows.insert("signals", waiting_signal())
    made = backups.take(tmp_path)
    old = {"signal_id": "old", "ts": signal_times(), "max_lag_s": 3600}
    _, intent = decide(**old)
    assert intent.state == IntentState.PENDING
    _, untimed = decide(signal_id="untimed")
    assert untimed.state == IntentState.PENDING
    restore(made)
    for fields in (old, {"signal_id": "untimed"}, old | {"signal_id": "a-close", **CLOSE}):
        signal, again = decide(**fields)
        assert (again.state, again.reason) == (IntentState.REJECTED, Reason.OLDER_THAN_RESTORE)
        assert signal.reasons == [Reason.OLDER_THAN_RESTORE]
    assert TxIntent.objects.get(intent_key="sig:drill:waits").reason == Reason.OLDER_THAN_RESTORE, waits
    grow_old()
    _, fresh = decide(signal_id="fresh", ts=signal_times())
    assert fresh.state == IntentState.PENDING
    _, untimed = decide(signal_id="untimed-2")
    assert untimed.reason == Reason.OLDER_THAN_RESTORE
    with pytest.raises(CommandError, match="at least 8 characters"):
        call_command("restore", "--accept-untimed", "--reason", "short")
    capsys.readouterr()
    call_command("restore", "--accept-untimed", "--json", *WHY)
    assert json.loads(capsys.readouterr().out) == {"changed": True}
    assert AuditEntry.objects.get(action="untimed_accepted").actor == "ann"
    _, untimed = decide(signal_id="untimed-3")
    assert untimed.state == IntentState.PENDING
    _, timed = decide(**old | {"signal_id": "older", "ts": signal_times(minutes=-5)})
    assert timed.reason == Reason.OLDER_THAN_RESTORE, "what has an old time stays refused"
    assert not node.log


def waiting_signal() -> rows.Row:
    """Stored before the backup and decided by nobody yet; the database that is gone may have."""
    return {
        "source": "drill",
        "signal_id": "waits",
        "body_sha256": "0" * 64,
        "tg_user_id": 123,
        "symbol": "BTC-USD",
        "side": "LONG",
        "collateral_usdc": 5,
        "leverage_x": 2,
        "slippage_pct": "0.5",
        "order_type": "market",
        "meta": "{}",
        "decision": "",
        "reasons": "[]",
    }


def test_nothing_restored_nothing_to_accept(database: None) -> None:
    with pytest.raises(CommandError, match="was never restored"):
        call_command("restore", "--accept-untimed", *WHY)

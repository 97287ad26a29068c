"""`manage.py held approve`: for one held close of a live position, with a reason and a code; clear about all else."""

from collections.abc import Iterator

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.models.functions import Now
from django_otp.plugins.otp_totp.models import TOTPDevice
from pytest_django.fixtures import Settings

from execution_app.audit_words import AuditAction
from execution_app.gate import approval, control
from execution_app.models import AuditEntry, Chain, TxIntent, Wallet
from execution_app.moves import move
from execution_app.states import Action, IntentState, Origin, Reason, RestrictionKind
from tests.ops.rollout.test_switches import REASON, ann, code, run
from tests.redis_outages import await_mode, dead_redis
from tests.rig import Rig

__all__ = ["ann"]  # a fixture


@pytest.fixture
def close(rig: Rig) -> Iterator[TxIntent]:
    """A close of a live position, held because Redis is away."""
    rig.intent()
    rig.run()
    with dead_redis():
        await_mode("DRY")
        intent = rig.intent(Action.CLOSE)
        rig.submit()
        intent.refresh_from_db()
        assert intent.reason == "mode_degraded"
        yield intent


def is_unapproved(intent: TxIntent) -> bool:
    intent.refresh_from_db()
    return (intent.approved_at, intent.approved_by) == (None, "")


def refuse(key: str, match: str, *words: str) -> None:
    with pytest.raises(CommandError, match=match) as refused:
        call_command("held", "approve", key, "--reason", REASON, "--by", "ann", *words)
    assert refused.value.returncode == 1


def test_a_reason_and_a_code_approve_one_close_once(
    close: TxIntent, ann: TOTPDevice, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in (["--reason", "short"], ["--reason", REASON], ["--reason", REASON, "--code", "000000"]):
        with pytest.raises(CommandError):
            call_command("held", "approve", close.intent_key, "--by", "ann", *words)
        assert is_unapproved(close)
    TOTPDevice.objects.update(throttling_failure_count=0, throttling_failure_timestamp=None)
    good = ("--reason", REASON, "--by", "ann", "--code", code(ann))
    (row,) = run(capsys, "held", "approve", close.intent_key, *good)
    close.refresh_from_db()
    assert close.approved_at is not None
    assert row["approved_by"] == close.approved_by == "ann"
    assert row["approved_until"] == (close.approved_at + approval.UNUSED).isoformat()
    entry = AuditEntry.objects.get(action=AuditAction.INTENT_DECIDED)
    assert (entry.actor, entry.origin, entry.subject, entry.reason) == (
        "ann",
        "command",
        close.intent_key,
        REASON,
    )
    assert entry.address
    refuse(close.intent_key, "approved by ann until .* already", "--code", code(ann, 1))
    call_command("held", "list")
    assert "approved by ann until" in capsys.readouterr().out


def test_an_open_is_never_approved(rig: Rig, ann: TOTPDevice) -> None:
    with dead_redis():
        await_mode("DRY")
        opens = rig.intent()
        rig.submit()
        opens.refresh_from_db()
        assert opens.state == "held"
        refuse(opens.intent_key, "an open is never approved, it waits for the mode until its max lag")
    assert is_unapproved(opens)


def test_unknown_ended_and_other_intents_are_told_apart(close: TxIntent, rig: Rig) -> None:
    refuse("sig:nobody:1", "no intent is called sig:nobody:1")
    of_nothing = rig.intent(Action.CLOSE, symbol="SOL-USD")
    move(of_nothing, IntentState.HELD, why="x", by="test", reason=Reason.MODE_DEGRADED)
    refuse(of_nothing.intent_key, "closes no live position")
    gas = rig.intent(Action.CLOSE)
    move(gas, IntentState.HELD, why="x", by="test", reason=Reason.INSUFFICIENT_GAS, reason_detail="poor")
    refuse(gas.intent_key, "waits for insufficient_gas, not for the mode: poor")
    call_command("held", "reject", close.intent_key, "--reason", "closed by hand")
    refuse(close.intent_key, "is not held: it is rejected operator_rejected")


def test_what_no_approval_passes_is_said_before_a_code_is_used(
    close: TxIntent, ann: TOTPDevice, settings: Settings
) -> None:
    good = code(ann)
    for kind, words in (
        (RestrictionKind.STOP, "an emergency stop holds"),
        (RestrictionKind.DRY, "DRY was set"),
    ):
        control.impose(kind, Origin.ADMIN, by="test", reason="")
        refuse(close.intent_key, words, "--code", good)
        control.lift(kind, Origin.ADMIN, by="test")
    Wallet.objects.update(halted_reason="foreign nonce", halted_at=Now())
    refuse(close.intent_key, "foreign nonce", "--code", good)
    Wallet.objects.update(halted_reason="", halted_at=None)
    Chain.objects.update(halted_reason="chain and database disagree")
    refuse(close.intent_key, "chain and database disagree", "--code", good)
    Chain.objects.update(halted_reason="")
    environment = settings.ENVIRONMENT
    for fields, words in (
        ({"exec_mode": "DRY"}, "EXEC_MODE is DRY"),
        ({"force_dry": True}, "FORCE_DRY is set"),
    ):
        settings.ENVIRONMENT = environment.model_copy(update=fields)
        refuse(close.intent_key, words, "--code", good)
    settings.ENVIRONMENT = environment
    assert is_unapproved(close)
    call_command("held", "approve", close.intent_key, "--reason", REASON, "--by", "ann", "--code", good)
    assert not is_unapproved(close)


def test_without_its_audit_entry_nothing_is_approved(close: TxIntent, ann: TOTPDevice) -> None:
    import psycopg

    from tests import real_parts

    with psycopg.connect(real_parts.postgres.url) as holder:
        holder.execute("SELECT pg_advisory_xact_lock(1635083380)")
        refuse(close.intent_key, "the audit log is busy", "--code", code(ann))
    assert is_unapproved(close)
    assert connection.is_usable()

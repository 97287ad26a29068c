"""A stop does not wait for its own record, and whatever operators do leaves one."""

import time
from decimal import Decimal
from threading import Event, Thread

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import connection, transaction

from execution_app import audit
from execution_app.audit_words import AuditAction
from execution_app.engine import held
from execution_app.gate import cap_rows, control
from execution_app.models import AuditEntry, TxIntent
from execution_app.states import CapName, CapScope, IntentState, Origin, RestrictionKind
from signals_app import tokens
from tests.execution import rows

STOP = RestrictionKind.STOP


def test_a_stop_holds_although_somebody_keeps_the_audit_log(database: None) -> None:
    """Such as a person whose open transaction has written to it; the entry comes late."""
    holding, may_end = Event(), Event()

    def hold() -> None:
        with transaction.atomic():
            audit.record(AuditAction.LOGIN, "user slow")
            holding.set()
            may_end.wait(30)
        connection.close()

    keeper = Thread(target=hold)
    keeper.start()
    assert holding.wait(20)
    with connection.cursor() as cursor:
        cursor.execute("SET lock_timeout = '60s'")  # what any other lock is waited for
    began_s = time.monotonic()
    imposed = control.impose(STOP, Origin.COMMAND, by="test", reason="now")
    took_s = time.monotonic() - began_s
    assert imposed.changed
    assert control.active_kinds() == {STOP}
    may_end.set()
    keeper.join()
    assert took_s < 20, "it waited for the log's lock as for any other"


def test_the_entry_comes_late_where_the_log_is_free_again(
    database: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    holding, may_end = Event(), Event()

    def hold() -> None:
        with transaction.atomic():
            audit.record(AuditAction.LOGIN, "user slow")
            holding.set()
            may_end.wait(30)
        connection.close()

    def write_late(entry: control._Entry) -> None:
        """What was not written in time is written once whoever keeps the log has ended."""
        assert not AuditEntry.objects.filter(action=AuditAction.RESTRICTION_IMPOSED).exists()
        may_end.set()
        keeper.join()
        usual(entry)

    usual = control._write_late
    monkeypatch.setattr(control, "_write_late", write_late)
    keeper = Thread(target=hold)
    keeper.start()
    assert holding.wait(20)
    control.impose(STOP, Origin.COMMAND, by="test", reason="now")
    assert may_end.is_set(), "the entry was in time"
    entry = AuditEntry.objects.get(action=AuditAction.RESTRICTION_IMPOSED)
    assert (entry.actor, entry.reason) == ("test", "now")


def test_caps_tokens_devices_and_decisions_leave_an_entry(database: None) -> None:
    cap_rows.set_cap(CapName.EXPOSURE, CapScope.GLOBAL, "", Decimal(50), by="ann", reason="a quiet week")
    cap_rows.lift_cap(CapName.EXPOSURE, CapScope.GLOBAL, "", by="ann", reason="the week is over")
    tokens.create("grafana")
    tokens.revoke("grafana")
    User.objects.create_user("ann", password="not-used-here", is_staff=True)
    call_command("second_factor", "enrol", "ann")
    call_command("second_factor", "remove", "ann")
    intent = TxIntent.objects.get(pk=rows.intent_in(IntentState.HELD))
    held.reject(intent.intent_key, by="ann", reason="closed by hand")
    told = list(AuditEntry.objects.order_by("seq").values_list("action", "subject"))
    assert [action for action, _ in told] == [
        AuditAction.CAP_SET,
        AuditAction.CAP_REMOVED,
        AuditAction.TOKEN_ISSUED,
        AuditAction.TOKEN_REVOKED,
        AuditAction.SECOND_FACTOR_SET,
        AuditAction.INTENT_DECIDED,
    ]
    assert told[-1][1] == intent.intent_key
    call_command("audit", "verify")

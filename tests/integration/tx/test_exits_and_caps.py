"""Whoever sits on the caps' lock keeps opens waiting, and never an exit."""

from collections.abc import Mapping
from decimal import Decimal
from threading import Event, Thread

import pytest
from django.contrib.auth.models import User
from django.db import connection, transaction
from django.db.models.functions import Now
from django_otp.plugins.otp_totp.models import TOTPDevice

from execution_app import reservations
from execution_app.audit_words import AuditAction
from execution_app.engine import heads, receipts
from execution_app.errors import Refused
from execution_app.gate import cap_rows
from execution_app.models import AuditEntry, TxIntent, VenueOrder
from execution_app.states import Action, CapName, CapScope, IntentState
from tests import invariants
from tests.execution.test_exits import opened
from tests.proxy import Proxy
from tests.rig import Rig


def test_an_exit_leaves_while_somebody_sits_on_the_caps(rig: Rig, node: Proxy) -> None:
    position = opened(rig)
    sitting, may_end = Event(), Event()

    def sit() -> None:
        with transaction.atomic():
            reservations.lock()
            sitting.set()
            may_end.wait(30)
        connection.close()

    sitter = Thread(target=sit)
    sitter.start()
    try:
        assert sitting.wait(20)
        waiting, close = rig.intent(symbol="ETH-USD"), rig.intent(Action.CLOSE)
        rig.submit()
        close.refresh_from_db()
        waiting.refresh_from_db()
        assert (close.state, waiting.state) == ("pending_inclusion", "pending")
    finally:
        may_end.set()
        sitter.join()
    rig.finish(2)
    position.refresh_from_db()
    waiting.refresh_from_db()
    assert (position.state, waiting.state) == ("closed", "filled")
    invariants.check(node)


def test_a_wrong_code_for_a_cap_is_counted_and_told(database: None) -> None:
    """Inside the change's transaction its count would be rolled back with it: guesses without end."""
    user = User.objects.create_user("ann", password="not-used-here", is_staff=True)
    TOTPDevice.objects.create(user=user, name="app", confirmed=True)
    cap = CapName.EXPOSURE, CapScope.GLOBAL, ""
    cap_rows.set_cap(*cap, Decimal(50), by="ann", reason="a quiet week")
    for loosen in (
        lambda: cap_rows.set_cap(*cap, Decimal(60), by="ann", reason="not so quiet", code="000000"),
        lambda: cap_rows.lift_cap(*cap, by="ann", reason="not so quiet", code="000000"),
    ):
        with pytest.raises(Refused, match="code is wrong"):
            loosen()
    assert TOTPDevice.objects.get().throttling_failure_count >= 1
    assert AuditEntry.objects.filter(action=AuditAction.SECOND_FACTOR_REFUSED).count() == 2


def test_a_close_that_is_final_with_its_open_releases_after_it(
    rig: Rig, node: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    opening = rig.intent()
    rig.submit()
    rig.mine()
    rig.track()
    rig.keep()
    rig.track()
    closing = rig.intent(Action.CLOSE)
    rig.submit()
    rig.mine()
    rig.track()
    rig.keep()
    states = TxIntent.objects.filter(settled_at=None).order_by("id").values_list("state", flat=True)
    assert list(states) == ["filled", "ordered"]
    settle = receipts.settle

    def last(standing: Mapping[int, IntentState], finalized: int) -> None:
        # Where nobody asks for an order, rows come as they lie on the disk.
        TxIntent.objects.filter(pk=opening.pk).update(updated_at=Now())
        VenueOrder.objects.filter(intent=opening).update(scanned_to_block=None)
        with connection.cursor() as cursor:
            cursor.execute("SET enable_indexscan = off; SET enable_bitmapscan = off")
            settle(standing, finalized)
            cursor.execute("RESET enable_indexscan; RESET enable_bitmapscan")

    monkeypatch.setattr(heads, "settle", last)
    rig.mine(4)
    rig.track()
    opening.refresh_from_db()
    closing.refresh_from_db()
    open_at, close_at, released_at = opening.settled_at, closing.settled_at, opening.reservation.released_at
    assert open_at is not None
    assert close_at is not None
    assert released_at is not None
    assert open_at < close_at
    assert open_at <= released_at
    invariants.check(node)

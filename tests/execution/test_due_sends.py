"""Whether bytes are due for another offer is asked of the database first, without the wallet, and then of each send under it."""

from datetime import timedelta
from itertools import product

import pytest
from pytest_django.fixtures import Settings

from execution_app.engine import broadcast
from execution_app.engine.waiting import database_now
from execution_app.gate import control
from execution_app.models import TxSend
from tests.execution import rows
from tests.execution.test_constraints import undone

__all__ = ["undone"]  # the fixture: one transaction that is rolled back
# Seconds ago, around LEASE_S and the rebroadcast timer, which are 4 both in the product and 40 here, since this machine
# may lose some between one clock and the other; below zero: the clock was set back since.
AGES = (None, 10.0, 25.0, 55.0, 600.0, -25.0, -55.0)


def test_the_database_and_the_engine_call_the_same_sends_due(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert control.LEASE_S == settings.ENVIRONMENT.rebroadcast_after_s == 4
    monkeypatch.setattr(broadcast, "LEASE_S", 40.0)
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(update={"rebroadcast_after_s": 40})
    now = database_now()
    moments = [None if age is None else now - timedelta(seconds=age) for age in AGES]
    sends = [
        rows.send(leased_at=leased, last_offered_at=offered) for leased, offered in product(moments, repeat=2)
    ]
    found = set(TxSend.objects.filter(broadcast._are_due(), pk__in=sends).values_list("pk", flat=True))
    due = {send.pk for send in TxSend.objects.filter(pk__in=sends) if broadcast._is_due(send, now)}
    assert found == due
    assert 0 < len(due) < len(sends)

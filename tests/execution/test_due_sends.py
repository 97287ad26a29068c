"""Whether bytes are due for another offer is asked of the database first, without the wallet, and then of each send under it."""

from datetime import timedelta
from itertools import product

from execution_app.engine import broadcast
from execution_app.engine.waiting import database_now
from execution_app.models import TxSend
from tests.execution import rows
from tests.execution.test_constraints import undone

__all__ = ["undone"]  # the fixture: one transaction that is rolled back
# Seconds ago, around LEASE_S and the rebroadcast timer, which are 4 both; below zero: the clock was set back since.
AGES = (None, 1.0, 2.5, 5.5, 60.0, -2.5, -5.5)


def test_the_database_and_the_engine_call_the_same_sends_due() -> None:
    now = database_now()
    moments = [None if age is None else now - timedelta(seconds=age) for age in AGES]
    sends = [
        rows.send(leased_at=leased, last_offered_at=offered) for leased, offered in product(moments, repeat=2)
    ]
    found = set(TxSend.objects.filter(broadcast._are_due(), pk__in=sends).values_list("pk", flat=True))
    due = {send.pk for send in TxSend.objects.filter(pk__in=sends) if broadcast._is_due(send, now)}
    assert found == due
    assert 0 < len(due) < len(sends)

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


@pytest.mark.parametrize(
    ("leased", "offered", "due"),
    [
        (None, None, True),
        (None, 90.0, False),
        (None, 115.0, True),
        (None, -90.0, False),
        (None, -115.0, True),
        (30.0, None, False),
        (50.0, None, True),
        (-30.0, None, False),
        (-50.0, None, True),
        (30.0, 300.0, False),
        (50.0, 60.0, True),
        (60.0, 50.0, False),
        (300.0, 115.0, True),
        (50.0, 50.0, False),
    ],
)
def test_a_lease_has_a_timer_of_its_own_until_its_offer_was_made(
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    leased: float | None,
    offered: float | None,
    *,
    due: bool,
) -> None:
    """40 s for who was leased and did not come back; 100 s from the last offer on."""
    monkeypatch.setattr(broadcast, "LEASE_S", 40.0)
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(update={"rebroadcast_after_s": 100})
    now = database_now()
    ago = [None if age is None else now - timedelta(seconds=age) for age in (leased, offered)]
    send = TxSend.objects.get(pk=rows.send(leased_at=ago[0], last_offered_at=ago[1]))
    assert broadcast._is_due(send, now) is due
    assert TxSend.objects.filter(broadcast._are_due(), pk=send.pk).exists() is due


HELD = "2026-01-01T00:00:00Z"


@pytest.mark.parametrize(
    ("newer", "older", "goes"),
    [
        (("bump", None), "exec", True),
        (("bump", HELD), "exec", False),
        (("cancel", None), "exec", False),
        (("cancel", None), "cancel", True),
        (("bump", None), "cancel", True),
    ],
)
def test_older_bytes_go_along_where_nobody_holds_the_newer(
    newer: tuple[str, str | None], older: str, *, goes: bool
) -> None:
    kind, held_at = newer
    offered = TxSend(pk=2, intent_id=1, kind=kind, held_at=held_at)
    known = TxSend(pk=1, intent_id=1, kind=older, held_at=HELD)
    of_another = TxSend(pk=3, intent_id=2, kind="exec", held_at=HELD)
    assert broadcast._behind([offered], [known, of_another]) == ([known] if goes else [])
    assert broadcast._behind([known], [known]) == [], "it is offered itself"

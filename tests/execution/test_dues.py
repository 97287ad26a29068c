"""When whoever waits is looked at, and until when it is wanted."""

from datetime import timedelta

import pytest

from execution_app.engine import dues
from execution_app.models import TxIntent
from tests.execution import rows
from tests.execution.intents import shortly


@pytest.mark.parametrize(
    ("in_s", "now", "late"),
    [(None, True, True), (-90, True, True), (-20, True, False), (40, False, False), (90, True, True)],
)
def test_it_is_due_at_its_time_or_was_so_a_while_ago(
    database: None, monkeypatch: pytest.MonkeyPatch, *, in_s: float | None, now: bool, late: bool
) -> None:
    assert dues.RETRY_S == 0.5
    monkeypatch.setattr(dues, "RETRY_S", 50)  # this machine may lose some seconds
    rows.intent(next_try_at=None if in_s is None else shortly(in_s))
    assert TxIntent.objects.filter(dues.due()).exists() is now
    assert TxIntent.objects.filter(dues.due(timedelta(seconds=50))).exists() is late


@pytest.mark.parametrize(("in_s", "comes"), [(None, True), (-1, True), (50, False), (70, True)])
def test_what_its_keeper_has_is_not_executed_before_its_time(
    database: None, in_s: float | None, comes: bool
) -> None:
    registered: rows.Row = {"mode": "DRY", "wanted_price": 1}
    rows.intent(**({} if in_s is None else {**registered, "keeper_due_at": shortly(in_s)}))
    assert TxIntent.objects.filter(dues.executable()).exists() is comes


def test_what_its_keeper_has_is_late_by_the_keepers_doing_alone() -> None:
    now = shortly(0)
    end = TxIntent(expires_at=now)
    assert dues.ends_at(end) == now
    assert dues.ends_at(TxIntent()) is None
    assert dues.ends_at(TxIntent(keeper_due_at=now)) is None
    soon, beyond = now - timedelta(seconds=31), now - timedelta(seconds=29)
    assert dues.ends_at(TxIntent(expires_at=now, keeper_due_at=soon)) == now
    later = now + timedelta(seconds=1)
    assert dues.ends_at(TxIntent(expires_at=now, keeper_due_at=beyond)) == later

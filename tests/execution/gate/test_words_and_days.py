"""What no approval passes, in the words of each obstacle; and where a day of losses and gas begins."""

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest

from execution_app.gate import approval, usage, watch
from execution_app.gate.caps import Limit
from execution_app.gate.modes import Limits
from execution_app.states import CapName, CapScope, Mode, RestrictionKind


def test_what_no_approval_passes_is_said_in_words(database: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def obstacle(bound: Mode, *kinds: RestrictionKind) -> str:
        monkeypatch.setattr(watch, "limits", lambda: Limits(bound, why="FORCE_DRY is set"))
        return approval.obstacle(frozenset(kinds), 31337)

    stop, dry, reduce_only = (
        *(RestrictionKind.STOP, RestrictionKind.DRY, RestrictionKind.REDUCE_ONLY),
    )  # fmt: skip
    assert obstacle(Mode.DRY, stop, dry) == "FORCE_DRY is set, and no approval passes that"
    assert obstacle(Mode.LIVE, stop, dry) == "an emergency stop holds, and no approval passes it"
    operator = "DRY was set by an operator, and no approval passes that"
    assert obstacle(Mode.LIVE, dry, reduce_only) == operator
    assert obstacle(Mode.LIVE, reduce_only) == "chain and database have not been compared yet"


def test_a_day_is_one_of_utc_from_its_midnight(monkeypatch: pytest.MonkeyPatch) -> None:
    days: list[datetime] = []

    def told(day: datetime) -> Decimal:
        days.append(day)
        return Decimal(7)

    monkeypatch.setattr(usage, "_loss_usdc", lambda _, __, ___, day: told(day))
    monkeypatch.setattr(usage, "_gas_wei", lambda _, __, day, ___: told(day))
    midnight = datetime(2026, 3, 1, tzinfo=UTC)
    moments = [
        midnight,
        midnight + timedelta(hours=12, minutes=34, seconds=56, microseconds=789),
        midnight + timedelta(days=1, microseconds=-1),
        datetime(2026, 3, 2, 1, tzinfo=timezone(timedelta(hours=2))),
    ]
    for name in (CapName.DAILY_LOSS, CapName.GAS_PER_DAY):
        limit = Limit(name, Decimal(1))
        assert [usage.used(limit, Mode.LIVE, now) for now in moments] == [7] * 4
        assert days == [midnight] * 4
        assert usage.used(limit, Mode.LIVE, midnight + timedelta(days=1)) == 7
        assert days.pop() == midnight + timedelta(days=1)
        days.clear()
    assert usage.used(Limit(CapName.GAS_PER_DAY, Decimal(1)), Mode.DRY, midnight) == 0
    assert days == []


def test_a_profit_is_no_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage, "_loss_usdc", lambda *_: Decimal(-3))
    assert usage.used(Limit(CapName.DAILY_LOSS, Decimal(1)), Mode.LIVE, datetime(2026, 3, 1, tzinfo=UTC)) == 0


@pytest.mark.parametrize(
    ("scope", "named", "filters"),
    [
        (CapScope.GLOBAL, "", {}),
        (CapScope.TRADER, "55", {"p__a__tg_user_id": 55}),
        (CapScope.SOURCE, "drill", {"p__source": "drill"}),
        (CapScope.SYMBOL, "BTC-USD", {"p__symbol": "BTC-USD"}),
    ],
)
def test_the_rows_of_a_scope(scope: CapScope, named: str, filters: dict[str, Any]) -> None:
    assert usage._of(scope, named, "p__", trader="a__") == filters


def test_of_an_empty_house_nothing_is_used(database: None) -> None:
    found = usage.of_house(datetime(2026, 3, 1, 12, tzinfo=UTC))
    assert {mode for _, mode in found} == set(Mode)
    assert set(found.values()) == {Decimal(0)}

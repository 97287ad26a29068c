"""Levels of open positions: begun with the fill, changed by people with a trace, never looser without a second word."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db.models.functions import Now

from execution_app.audit_words import AuditAction
from execution_app.book import protections
from execution_app.engine.waiting import database_now
from execution_app.errors import Refused
from execution_app.models import AuditEntry, Position, Price, Protection, Trader, TxIntent
from tests.execution import rows

REASON = "the market turns"


@pytest.fixture
def trader(database: None) -> Trader:
    return Trader.objects.get(pk=rows.trader())


def position(trader: Trader, **fields: Any) -> Position:
    return Position.objects.get(pk=rows.position(trader_id=trader.pk, **fields))


def opening(trader: Trader, **levels: Any) -> TxIntent:
    return TxIntent.objects.get(pk=rows.intent(trader_id=trader.pk, **levels))


def change(held: Position, *, reason: str = REASON, by: str = "ann", **amend: Any) -> protections.Change:
    exact = {name: Decimal(value) if isinstance(value, str | int) else value for name, value in amend.items()}
    return protections.change(held.pk, exact, by=by, reason=reason)


def quote(price: int) -> None:
    Price.objects.all().delete()
    moments = dict.fromkeys(("published_at", "head_at", "seen_at", "first_seen_at"), Now())
    Price.objects.create(symbol="BTC-USD", price=price, **moments)


def current(held: Position) -> Protection:
    return Protection.objects.get(position=held, ended_at=None)


def test_what_an_open_asked_for_is_version_one(trader: Trader) -> None:
    held = position(trader)
    asked = opening(trader, take_profit=70_000, trailing_stop_pct="2.5", time_stop_s=60)
    protections.begin(held, asked)
    protections.begin(held, asked)  # its fill comes a second time, after a reorg
    row = Protection.objects.get()
    assert (row.version, row.take_profit, row.stop_loss) == (1, Decimal(70_000), None)
    assert (row.trailing_stop_pct, row.watermark) == (Decimal("2.5"), Decimal(60_000))
    assert row.closes_at is not None
    assert abs(row.closes_at - row.set_at - timedelta(seconds=60)) < timedelta(seconds=1)
    assert row.set_by == asked.intent_key


def test_an_open_without_levels_has_none(trader: Trader) -> None:
    protections.begin(position(trader), opening(trader))
    assert not Protection.objects.exists()


def test_levels_that_contradict_each_other_do_not_keep_a_fill_out_of_the_book(trader: Trader) -> None:
    protections.begin(position(trader), opening(trader, take_profit=50_000, stop_loss=55_000))
    row = Protection.objects.get()
    assert (row.take_profit, row.stop_loss) == (None, Decimal(55_000))


def test_a_change_is_a_new_version_and_is_told(trader: Trader) -> None:
    held = position(trader)
    first = change(held, stop_loss=50_000)
    assert (first.changed, first.before, current(held).version) == (True, None, 1)
    second = change(held, take_profit="70000.0000000001")
    assert second.before is not None
    assert (second.before.version, current(held).version) == (1, 2)
    assert (current(held).stop_loss, current(held).take_profit) == (50_000, Decimal("70000.0000000001"))
    entry = AuditEntry.objects.order_by("seq").last()
    assert entry is not None
    assert (entry.action, entry.actor, entry.subject) == (
        AuditAction.PROTECTION_SET,
        "ann",
        f"position {held.pk}",
    )
    assert entry.before
    assert entry.after
    assert (entry.before["take_profit"], entry.after["take_profit"]) == (None, "70000.0000000001")
    assert not change(held, stop_loss=50_000).changed
    assert AuditEntry.objects.count() == 2


def test_looser_needs_more_than_tighter(trader: Trader) -> None:
    held = position(trader)
    change(held, stop_loss=50_000, reason="go")
    change(held, stop_loss=51_000, reason="go")
    for looser in ({"stop_loss": 50_000}, {"stop_loss": None}):
        with pytest.raises(Refused, match="8 characters"):
            change(held, reason="go", **looser)
    assert current(held).stop_loss == 51_000
    change(held, stop_loss=None)
    assert (current(held).stop_loss, current(held).version) == (None, 3)


@pytest.mark.parametrize(
    ("amend", "words"),
    [
        ({"stop_loss": "0"}, "above 0"),
        ({"stop_loss": "NaN"}, "above 0"),
        ({"stop_loss": "Infinity"}, "above 0"),
        ({"stop_loss": "1e13"}, "at most 1000000000000"),
        ({"stop_loss": "0.00000000001"}, "at most 10 decimals"),
        ({"break_even_pct": "100.0001"}, "at most 100"),
        ({"trailing_stop_pct": "1.00001"}, "at most 4 decimals"),
        ({"trailing_stop_pct": "1", "trailing_stop_usd": "1"}, "not both"),
        ({"take_profit": "50", "stop_loss": "50"}, "above its stop_loss"),
        ({"stop_lose": "50"}, "no level"),
        ({"stop_loss": "60000"}, "crossed already at 60000"),
        ({"take_profit": "60000"}, "crossed already at 60000"),
    ],
)
def test_what_cannot_be_is_refused(trader: Trader, amend: dict[str, str], words: str) -> None:
    quote(60_000)
    held = position(trader)
    with pytest.raises(Refused, match=words):
        change(held, **amend)
    assert not Protection.objects.exists()
    assert not AuditEntry.objects.exists()


def test_a_time_that_has_passed_is_refused(trader: Trader) -> None:
    with pytest.raises(Refused, match="time_stop is crossed already; send a CLOSE"):
        change(position(trader), closes_at=database_now())


@pytest.mark.parametrize("state", ["closed", "void"])
def test_a_position_that_is_not_open_has_no_levels(trader: Trader, state: str) -> None:
    with pytest.raises(Refused, match=f"is {state}"):
        change(position(trader, state=state), stop_loss=1)
    with pytest.raises(Refused, match="no position 99999"):
        protections.change(99_999, {}, by="ann", reason=REASON)


def test_a_best_price_is_kept_while_something_follows_it(trader: Trader) -> None:
    held = position(trader)
    change(held, trailing_stop_pct=5)
    assert current(held).watermark is None, "it begins with the next look"
    for price in (61_000, 59_000, 62_000):
        protections.advance("BTC-USD", Decimal(price))
    assert current(held).watermark == 62_000
    change(held, take_profit=70_000)
    assert current(held).watermark == 62_000
    change(held, trailing_stop_pct=None)
    change(held, trailing_stop_usd=1_000)
    assert current(held).watermark is None


def test_a_best_price_is_of_its_symbol_and_its_side(trader: Trader) -> None:
    long, short = position(trader), position(trader, is_long=False, trade_index=1)
    other = position(trader, symbol="ETH-USD", trade_index=2)
    for held in (long, short, other):
        change(held, trailing_stop_pct=5)
    for price in (60_000, 61_000, 59_000):
        protections.advance("BTC-USD", Decimal(price))
    assert [current(held).watermark for held in (long, short, other)] == [61_000, 59_000, None]


def test_what_fired_is_armed_anew_by_the_same_levels(trader: Trader) -> None:
    held = position(trader)
    change(held, stop_loss=50_000)
    close = rows.intent(action="close", position_id=held.pk, only_position=True)
    rows.insert(
        "protection_triggers",
        {
            "protection_id": current(held).pk,
            "intent_id": close,
            "kind": "stop_loss",
            "price": 1,
            "level": 50_000,
        },
    )
    assert not protections.standing().exists()
    assert change(held, stop_loss=50_000).changed
    assert [row.version for row in protections.standing()] == [2]

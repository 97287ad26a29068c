"""What lasts and has no history of its own: drift, gas money, delegations, and trades that the venue has no more.

How each was told last is a row, changed in the transaction that tells of the change.
"""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet

from execution_app.engine.waiting import database_now
from execution_app.models import Position, Wallet
from execution_app.states import ENDED_BY_VENUE, Mode, PositionEnd, PositionState
from ops.bot.models import Condition, Event, Tally
from ops.bot.notices import News, post

# As the alerts VantaWalletLow, VantaDelegateExpiring and VantaDelegateEnding judge.
LOW_WEI = 2 * 10**15
ENOUGH_WEI = 5 * 10**15  # a balance that swings about the limit is told once
SOON = timedelta(days=7)
NOW = timedelta(days=1)
BATCH = 500
# Positions ended meanwhile in transactions that were still open; none lasts longer.
LOOK_BACK = timedelta(minutes=2)
GONE = "told closed_elsewhere"
NOT_BY_US = (*ENDED_BY_VENUE, PositionEnd.CLOSED_ELSEWHERE)


def look() -> int:
    """Tell what has begun, changed or ended; returns how many messages have to leave. Raises django.db.Error."""
    with transaction.atomic():
        now = database_now()
        return post([news for reader in READERS for news in reader(now)])


def _changed(
    event: Event, states: dict[str, str], prefix: str, now: datetime, make: Callable[[str, str], News | None]
) -> list[News]:
    """News of what is not as it was told last; a blank state is one that is as it should be."""
    known = {row.name: row for row in Condition.objects.select_for_update().filter(name__startswith=prefix)}
    found = []
    for name in sorted({*known, *states}):
        row, state = known.get(name), states.get(name, "")
        if (row.state if row else "") == state:
            continue
        row = row or Condition(name=name)
        row.times += not row.state
        row.state = state
        row.save()
        made = make(name, state)
        if made is not None:
            # One message from when it begins to when it ends; the next time is another.
            times = f"{name} {row.times}"
            key = f"{times} {state} {now.isoformat()}"
            found.append(News(event, times, key, now, made.owner, about=made.about, facts=made.facts))
    return found


def drifts(now: datetime) -> list[News]:
    """Open LIVE positions that the venue has otherwise."""
    rows = Position.objects.filter(mode=Mode.LIVE, state=PositionState.OPEN).exclude(drift="")
    held = {f"drift {row.pk}": row for row in rows.select_related("trader").order_by("id")[:BATCH]}
    told = (
        Condition.objects.filter(name__startswith="drift ").exclude(state="").values_list("name", flat=True)
    )
    missing = [int(name.split()[1]) for name in told if name not in held]
    ended = {
        f"drift {row.pk}": row for row in Position.objects.filter(pk__in=missing).select_related("trader")
    }

    def make(name: str, state: str) -> News | None:
        row = held.get(name) or ended.get(name)
        return None if row is None else _of(Event.DRIFT, row, {"drift": state})

    return _changed(Event.DRIFT, {name: row.drift for name, row in held.items()}, "drift ", now, make)


def gas(now: datetime) -> list[News]:
    """Wallets whose gas money runs out."""
    wallets = {f"gas {row.pk}": row for row in _wallets().filter(balance_wei__isnull=False)}
    low = {row.name for row in Condition.objects.filter(name__startswith="gas ").exclude(state="")}
    states = {}
    for name, row in wallets.items():
        limit = ENOUGH_WEI if name in low else LOW_WEI
        states[name] = "low" if Decimal(row.balance_wei or 0) < limit else ""

    def make(name: str, state: str) -> News | None:
        row = wallets.get(name)
        if row is None:
            return None
        return _of_wallet(Event.GAS, row, {"low": bool(state), "balance_wei": str(row.balance_wei)})

    return _changed(Event.GAS, states, "gas ", now, make)


def delegations(now: datetime) -> list[News]:
    """Wallets that may soon trade for their traders no more; a week before, a day before, and when it has come."""
    wallets = {f"delegate {row.pk}": row for row in _wallets().filter(delegated_until__isnull=False)}
    states = {}
    for name, row in wallets.items():
        assert row.delegated_until is not None
        left = row.delegated_until - now
        states[name] = (
            "ended" if left <= timedelta(0) else "day" if left < NOW else "week" if left < SOON else ""
        )

    def make(name: str, state: str) -> News | None:
        row = wallets.get(name)
        if row is None or row.delegated_until is None:
            return None
        facts = {"stage": state, "until": row.delegated_until.isoformat()}
        return _of_wallet(Event.DELEGATE, row, facts)

    return [
        # Each stage rings by itself.
        News(one.event, f"{one.thread} {one.facts['stage']}", one.key, one.at, one.owner, about=one.about, facts=one.facts)
        for one in _changed(Event.DELEGATE, states, "delegate ", now, make)
    ]  # fmt: skip


def gone(now: datetime) -> list[News]:
    """Trades that the venue or their owner ended, and simulated ones that a price liquidated."""
    since_us = int((now - LOOK_BACK).timestamp() * 1_000_000)
    # Whatever ended before the first look of all is history.
    begin_us = int(now.timestamp() * 1_000_000)
    known, created = Tally.objects.get_or_create(name=GONE, defaults={"number": begin_us})
    begun = datetime.fromtimestamp(known.number / 1_000_000, tz=now.tzinfo)
    rows = Position.objects.filter(ended_by__in=NOT_BY_US, updated_at__gte=begun)
    found = list(rows.select_related("trader").order_by("updated_at", "id")[:BATCH])
    if len(found) < BATCH and since_us > known.number:
        Tally.objects.filter(name=GONE).update(number=since_us)
    elif len(found) == BATCH:
        Tally.objects.filter(name=GONE).update(number=int(found[-1].updated_at.timestamp() * 1_000_000))
    if created:
        return []
    return [
        News(
            Event.LIQUIDATED,
            f"gone {row.pk}",
            f"gone {row.pk}",
            row.updated_at,
            row.trader.tg_user_id,
            about=_of(Event.LIQUIDATED, row, {}).about,
            facts=_ending(row),
        )
        for row in found
    ]


def _ending(row: Position) -> dict[str, Any]:
    """How it ended; with prices and what it came to where an event told."""
    facts: dict[str, Any] = {"how": row.ended_by, "mode": row.mode}
    last = row.fills.exclude(ended_by="").first()
    if last is not None and last.sent_to_trader_usdc is not None:
        gain_usdc = last.sent_to_trader_usdc - last.collateral_usdc
        facts |= {"price": format(last.price, "f"), "pnl_usdc": format(gain_usdc, "f")}
    return facts


READERS: tuple[Callable[[datetime], Sequence[News]], ...] = (gone, drifts, gas, delegations)


def _wallets() -> QuerySet[Wallet]:
    rows = Wallet.objects.filter(chain_id=settings.ENVIRONMENT.chain_id, trader__enabled=True)
    return rows.select_related("trader").order_by("id")


def _of_wallet(event: Event, row: Wallet, facts: dict[str, Any]) -> News:
    about = {"wallet": row.address, "whose": str(row.trader), "owner": row.trader.tg_user_id}
    return News(event, "", "", row.created_at, row.trader.tg_user_id, about=about, facts=facts)


def _of(event: Event, row: Position, facts: dict[str, Any]) -> News:
    about = {
        "position": row.pk,
        "symbol": row.symbol,
        "is_long": row.is_long,
        "collateral_usdc": format(row.collateral_usdc, "f"),
        "leverage_x": format(row.leverage_x, "f"),
        "whose": str(row.trader),
        "owner": row.trader.tg_user_id,
    }
    return News(event, "", "", row.updated_at, row.trader.tg_user_id, about=about, facts=facts)

"""A day replayed: prices on the chain, the watch over simulated positions, the engine that closes them, and an account."""

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any

from django.db import connection

from execution_app.engine import rounds
from execution_app.models import Fill, Position, ProtectionTrigger, TxIntent
from execution_app.states import Action
from tests.guarded import move_price
from tests.replay import oracle, path
from tests.replay.oracle import Asked, Fired, Look
from tests.rig import Rig

OPEN_CENTS = 100_000 * path.CENTS
SYMBOL = "BTC-USD"
KINDS = ("take_profit", "stop_loss", "trailing_stop", "break_even", "time_stop")
Say = Callable[[str], None]


class ReplayError(Exception):
    """Something fired twice, not at all, too late, or on the wrong side."""


@dataclass(frozen=True)
class Day:
    """`speed` is market seconds a second, 0 for as fast as it goes; `cents` are prices to take in place of made ones."""

    positions: int = 60
    hours: float = 24.0
    step_s: float = 30.0
    speed: float = 0.0
    seed: int = 1
    cents: tuple[int, ...] = ()


def replay(rig: Rig, day: Day, say: Say) -> dict[str, Any]:
    """Everything is simulated: the caller has made it DRY. Raises ReplayError."""
    dice = random.Random(day.seed)
    prices = day.cents or path.ticks(day.seed, OPEN_CENTS, day.step_s, day.hours)
    move_price(_usd(OPEN_CENTS))
    rounds.watch_levels()
    opened = [_open(rig, dice, _lasts_s(day, len(prices))) for _ in range(day.positions)]
    rig.submit()
    say(f"{len(opened)} positions, {len(prices)} prices, {day.hours:g} h of the market")
    looks, took_s = _look_at_all(rig, day, prices, say)
    found = _account(opened, looks)
    market_s = len(prices) * day.step_s
    return found | {
        "looks": len(looks),
        "took_s": round(took_s, 1),
        "speed": round(market_s / took_s),
        "look_ms": round(1000 * took_s / len(looks), 1),
    }


def _lasts_s(day: Day, count: int) -> float:
    return day.hours * 3600 / day.speed if day.speed else count * 0.05


def _open(rig: Rig, dice: random.Random, lasts_s: float) -> TxIntent:
    """One to three kinds of levels, from near ones that fire soon to far ones that never do."""
    is_long = dice.random() < 0.5
    sign = 1 if is_long else -1
    levels: dict[str, Any] = {}
    for kind in dice.sample(KINDS, dice.randint(1, 3)):
        pct = Decimal(dice.randint(20, 600)) / 100
        match kind:
            case "take_profit":
                levels["take_profit"] = _level(100 + sign * pct)
            case "stop_loss":
                levels["stop_loss"] = _level(100 - sign * pct)
            case "trailing_stop":
                levels["trailing_stop_pct"] = pct
            case "break_even":
                levels["break_even_pct"] = pct / 2
            case "time_stop":
                levels["time_stop_s"] = max(1, round(lasts_s * dice.uniform(0.05, 1.5)))
    return rig.intent(Action.OPEN, SYMBOL, is_long=is_long, slippage_pct=Decimal(1), **levels)


def _level(pct: Decimal) -> Decimal:
    return (_usd(OPEN_CENTS) * pct / 100).quantize(Decimal("0.01"))


def _usd(cents: int) -> Decimal:
    return Decimal(cents) / path.CENTS


def _look_at_all(rig: Rig, day: Day, prices: Sequence[int], say: Say) -> tuple[list[Look], float]:
    looks, begun_s = [], time.monotonic()
    for at, cents in enumerate(prices):
        if day.speed:
            time.sleep(max(0.0, begun_s + at * day.step_s / day.speed - time.monotonic()))
        move_price(_usd(cents))
        begun = _now()
        tick = rounds.watch_levels()
        looks.append(Look(path.usd(cents), begun, _now()))
        if tick.problems:
            raise ReplayError(f"look {at}: {tick.problems}")
        if tick.fired:
            rig.submit()
        if at and at % max(1, len(prices) // 10) == 0:
            say(f"  {100 * at // len(prices)} %, {ProtectionTrigger.objects.count()} fired")
    return looks, time.monotonic() - begun_s


def _now() -> datetime:
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        return cursor.fetchone()[0].astimezone(UTC)  # type: ignore[no-any-return]


def _account(opened: Sequence[TxIntent], looks: Sequence[Look]) -> dict[str, Any]:
    counts = dict.fromkeys(KINDS, 0)
    left = 0
    for intent in opened:
        position = Position.objects.get(fills__intent=intent)
        triggers = list(
            ProtectionTrigger.objects.filter(protection__position=position).select_related("intent")
        )
        wanted = oracle.expected(_asked(position), looks)
        if len(triggers) > 1:
            raise ReplayError(f"{position} fired {len(triggers)} times")
        got = _fired(triggers[0], looks) if triggers else None
        if got not in wanted:
            raise ReplayError(f"position {position.pk}: {got} where {wanted} is right")
        if got is None:
            left += 1
            _require_open(position)
        else:
            counts[got.kind] += 1
            _require_closed(position, triggers[0].intent, looks[got.look])
    return {"positions": len(opened), "left": left, "fired": counts}


def _asked(position: Position) -> Asked:
    row = position.protections.get(version=1)
    exact = {
        name: None if getattr(row, field) is None else Fraction(getattr(row, field))
        for name, field in (
            ("take_profit", "take_profit"),
            ("stop_loss", "stop_loss"),
            ("trailing_pct", "trailing_stop_pct"),
            ("break_even_pct", "break_even_pct"),
        )
    }
    return Asked(position.is_long, Fraction(position.open_price), **exact, closes_at=row.closes_at)


def _fired(trigger: ProtectionTrigger, looks: Sequence[Look]) -> Fired:
    at = next((n for n, look in enumerate(looks) if look.begun <= trigger.at <= look.ended), None)
    if at is None:
        raise ReplayError(f"trigger {trigger.pk} fired between two looks")
    if trigger.price is not None and Fraction(trigger.price) != looks[at].price:
        raise ReplayError(f"trigger {trigger.pk} at {trigger.price}, the price was {looks[at].price}")
    level = None if trigger.level is None else Fraction(trigger.level)
    return Fired(trigger.kind, at, level)


def _require_open(position: Position) -> None:
    if position.state != "open" or TxIntent.objects.filter(position=position, action=Action.CLOSE).exists():
        raise ReplayError(f"position {position.pk} has no trigger and is {position.state}")


def _require_closed(position: Position, close: TxIntent, look: Look) -> None:
    """Once, by this close, at this look's price: longs sell, shorts buy, neither better than the oracle's price."""
    closes = Fill.objects.filter(position=position, action=Action.CLOSE)
    if position.state != "closed" or [fill.intent_id for fill in closes] != [close.pk]:
        raise ReplayError(f"position {position.pk} is {position.state} after {len(closes)} closes")
    price = Fraction(closes[0].price)
    if (price > look.price) if position.is_long else (price < look.price):
        raise ReplayError(f"position {position.pk} closed on the wrong side of {float(look.price)}")
    if abs(price - look.price) > look.price / 100:
        raise ReplayError(f"position {position.pk} closed at {float(price)}, not at {float(look.price)}")

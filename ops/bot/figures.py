"""The numbers behind the pictures and the daily summary: one person's, or everybody's where no person is named.

Amounts leave as strings and moments as ISO texts, so that they can be kept in a notice until it is drawn.
"""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db.models import Count, F, Q, Sum
from django.db.models.functions import TruncDate

from execution_app.book import quotes
from execution_app.models import Fill, Position, Protection, Reservation, RiskLog
from execution_app.states import Action, Mode, PositionState

NOTHING = Decimal(0)
DAYS = 30
MOST_POINTS = 2_000


def begin_of(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def daily_pnl(owner: int | None, mode: Mode, until: date, days: int) -> list[tuple[str, str]]:
    """What the closes of each UTC day realised, the last of them `until`; a day without any has 0."""
    first = until - timedelta(days=days - 1)
    closes = Fill.objects.filter(
        action=Action.CLOSE,
        mode=mode,
        filled_at__gte=begin_of(first),
        filled_at__lt=begin_of(until + timedelta(days=1)),
        sent_to_trader_usdc__isnull=False,
        **_of(owner, "position__trader__tg_user_id"),
    )
    sums = dict(
        closes.annotate(day=TruncDate("filled_at", tzinfo=UTC))
        .values("day")
        .annotate(sum=Sum(F("sent_to_trader_usdc") - F("collateral_usdc")))
        .values_list("day", "sum")
    )
    each = (first + timedelta(days=passed) for passed in range(days))
    return [(day.isoformat(), format(sums.get(day) or NOTHING, "f")) for day in each]


def exposure(owner: int | None, mode: Mode, now: datetime, days: int) -> list[tuple[str, str]]:
    """The notional at stake after each change within these days, with its value at their begin and now."""
    begin = now - timedelta(days=days)
    changes = RiskLog.objects.filter(mode=mode, **_of(owner, "reservation__trader__tg_user_id"))
    at_stake = changes.filter(at__lt=begin).aggregate(sum=Sum("change_usdc"))["sum"] or NOTHING
    points = [(begin.isoformat(), format(at_stake, "f"))]
    for at, change_usdc in (
        changes.filter(at__gte=begin, at__lte=now).order_by("at", "id").values_list("at", "change_usdc")
    ):
        at_stake += change_usdc
        points.append((at.isoformat(), format(at_stake, "f")))
    if len(points) > MOST_POINTS:
        every = len(points) // MOST_POINTS + 1
        points = [*points[:-1:every], points[-1]]
    return [*points, (now.isoformat(), format(at_stake, "f"))]


def of_day(owner: int | None, mode: Mode, day: date) -> dict[str, Any]:
    """What one UTC day brought, and what is open now."""
    fills = Fill.objects.filter(
        mode=mode,
        filled_at__gte=begin_of(day),
        filled_at__lt=begin_of(day + timedelta(days=1)),
        **_of(owner, "position__trader__tg_user_id"),
    )
    closes = fills.filter(action=Action.CLOSE).aggregate(
        count=Count("id"),
        unknown=Count("id", filter=Q(sent_to_trader_usdc=None)),
        sum=Sum(F("sent_to_trader_usdc") - F("collateral_usdc")),
    )
    held = Position.objects.filter(mode=mode, state=PositionState.OPEN, **_of(owner, "trader__tg_user_id"))
    stake = Reservation.objects.filter(mode=mode, released_at=None, **_of(owner, "trader__tg_user_id"))
    return {
        "mode": mode.value,
        "pnl_usdc": format(closes["sum"] or NOTHING, "f"),
        "closes": closes["count"],
        "unknown": closes["unknown"],
        "opens": fills.filter(action=Action.OPEN).count(),
        "held": held.count(),
        "exposure_usdc": format(stake.aggregate(sum=Sum("notional_usdc"))["sum"] or NOTHING, "f"),
    }


def card(position: Position) -> dict[str, Any]:
    """One position as it stands at the newest price, between the levels that guard it now.

    The row itself has those that the venue watches, which on-chain stay as the open set them.
    """
    guard = Protection.objects.filter(position=position, ended_at=None).first() or position
    price = quotes.newest([position.symbol]).fresh.get(position.symbol)
    result = None
    if price is not None:
        way = 1 if position.is_long else -1
        result = position.collateral_usdc * position.leverage_x * (price / position.open_price - 1) * way
    values = {
        "collateral_usdc": position.collateral_usdc,
        "leverage_x": position.leverage_x,
        "entry": position.open_price,
        "now": price,
        "take_profit": guard.take_profit,
        "stop_loss": guard.stop_loss,
        "result_usdc": result,
    }
    return {
        "kind": "card",
        "mode": position.mode,
        "symbol": position.symbol,
        "is_long": position.is_long,
        "opened_at": position.opened_at.isoformat(),
        **{name: None if value is None else format(value, "f") for name, value in values.items()},
    }


def _of(owner: int | None, field: str) -> dict[str, Any]:
    return {} if owner is None else {field: owner}

"""Looks at what is held, ordered and earned. A trader sees their own; viewers and operators see everybody's."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from django.db.models import Count, F, Q, Sum

from execution_app.book import quotes
from execution_app.engine.waiting import database_now
from execution_app.models import Fill, IntentTransition, Position, TxIntent
from execution_app.states import Action, Mode, PositionState
from ops.bot import words
from ops.bot.models import Role, TelegramUser
from signals_app.models import Signal

MOST = 10
MOST_POSITIONS = 20
NOTHING = Decimal(0)


def own(person: TelegramUser, field: str = "tg_user_id") -> dict[str, Any]:
    return {field: person.tg_user_id} if person.role == Role.TRADER else {}


def positions(person: TelegramUser, _arguments: list[str]) -> str:
    """Open positions and what they would be worth at the newest price, without fees."""
    held = Position.objects.filter(state=PositionState.OPEN, **own(person, "trader__tg_user_id"))
    rows = list(held.select_related("trader").order_by("-id")[:MOST_POSITIONS])
    if not rows:
        return words.NO_POSITIONS
    newest = quotes.newest(sorted({row.symbol for row in rows}))
    lines = [position_line(row, newest.fresh.get(row.symbol), whose=not own(person)) for row in rows]
    more = held.count() - len(rows)
    return words.bullet_list("Open positions", [*lines, *([f"and {more} more"] if more else [])])


def position_line(row: Position, price: Decimal | None, *, whose: bool) -> str:
    size = (
        f"{words.usdc(row.collateral_usdc)} at {words.times(row.leverage_x)} from {words.usd(row.open_price)}"
    )
    worth = ""
    if price is not None:
        way = 1 if row.is_long else -1
        moved = row.collateral_usdc * row.leverage_x * (price / row.open_price - 1) * way
        worth = f", now {words.usdc(moved, signed=True)}"
    owner = f", {words.safe(row.trader)}" if whose else ""
    side = words.side(is_long=row.is_long)
    return f"\N{BULLET} #{row.pk} {row.mode} <b>{words.safe(row.symbol)} {side}</b> {size}{worth}{owner}"


def orders(person: TelegramUser, _arguments: list[str]) -> str:
    """What has not ended: waiting, held, or under way."""
    rows = TxIntent.objects.filter(settled_at=None, **own(person)).order_by("-id")[:MOST]
    return words.bullet_list("Under way", [_order(row) for row in rows]) if rows else words.NO_ORDERS


def history(person: TelegramUser, _arguments: list[str]) -> str:
    """What has ended, the newest first."""
    rows = TxIntent.objects.filter(settled_at__isnull=False, **own(person)).order_by("-settled_at")[:MOST]
    return words.bullet_list("Ended", [_order(row) for row in rows]) if rows else words.NO_HISTORY


def _order(row: TxIntent) -> str:
    size = ""
    if row.collateral_usdc is not None and row.leverage_x is not None:
        size = f" {words.usdc(row.collateral_usdc)} at {words.times(row.leverage_x)}"
    reason = f" ({words.safe(row.reason)})" if row.reason else ""
    side = words.side(is_long=row.is_long)
    return f"\N{BULLET} {words.safe(row.symbol)} {side}{size}: <b>{row.state}</b>{reason}\n   {words.code(row.intent_key)}"


def signals(person: TelegramUser, _arguments: list[str]) -> str:
    rows = Signal.objects.filter(**own(person)).order_by("-id")[:MOST]
    lines = [
        f"\N{BULLET} {words.moment(row.received_at)} {words.safe(row.symbol)} {row.side}: "
        f"<b>{row.decision or 'received'}</b> {words.safe(', '.join(row.reasons))}\n   {words.code(row.intent_key)}"
        for row in rows
    ]
    return words.bullet_list("Newest signals", lines) if lines else words.NO_SIGNALS


def why(person: TelegramUser, arguments: list[str]) -> str:
    """The road of one order, by its key or by the id of its signal."""
    if len(arguments) != 1:
        return words.USAGE.format(usage="/why ID")
    name = arguments[0]
    # A signal's id stands for itself at one source only; the newest is meant.
    keys = [
        row.intent_key for row in Signal.objects.filter(signal_id=name, **own(person)).order_by("-id")[:1]
    ]
    found = TxIntent.objects.filter(intent_key__in=[name, *keys], **own(person))
    row = found.select_related("fill").first()
    if row is None:
        return words.NOT_FOUND.format(what="order", name=words.code(name))
    lines = [_order(row)]
    if row.reason_detail:
        lines.append(words.safe(row.reason_detail))
    fill = getattr(row, "fill", None)
    if fill is not None:
        lines.append(f"Filled {fill.mode} at {words.usd(fill.price)}, {words.moment(fill.filled_at)}")
    moves = IntentTransition.objects.filter(intent=row).order_by("-id")[:MOST]
    lines += [
        f"{words.moment(step.at)} <b>{words.safe(step.to_state)}</b> {words.safe(step.why)}"
        for step in reversed(moves)
    ]
    return words.bullet_list("Why", lines)


def pnl(person: TelegramUser, _arguments: list[str]) -> str:
    """What the closes of this UTC day realised, DRY and LIVE apart; what is open is not in it."""
    day = database_now().astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    lines = [_day(person, mode, day) for mode in (Mode.LIVE, Mode.DRY)]
    return words.bullet_list(f"Realised on {day:%Y-%m-%d} (UTC)", lines)


def _day(person: TelegramUser, mode: Mode, day: datetime) -> str:
    closes = Fill.objects.filter(
        action=Action.CLOSE, mode=mode, filled_at__gte=day, **own(person, "position__trader__tg_user_id")
    )
    told = closes.aggregate(
        count=Count("id"),
        unknown=Count("id", filter=Q(sent_to_trader_usdc=None)),
        sum=Sum(F("sent_to_trader_usdc") - F("collateral_usdc")),
    )
    unknown = f", {told['unknown']} of unknown proceeds" if told["unknown"] else ""
    return f"{mode.value}: {words.usdc(told['sum'] or NOTHING, signed=True)} in {told['count']} close(s){unknown}"

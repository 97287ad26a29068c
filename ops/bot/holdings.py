"""Looks at what is held, ordered and earned. A trader sees their own; viewers and operators see everybody's."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, TypeVar

from django.db.models import Count, F, Q, Sum

from execution_app.book import positions as book
from execution_app.book import quotes
from execution_app.book.orders import terms as terms_of
from execution_app.engine.waiting import database_now
from execution_app.models import Fill, IntentTransition, Position, Protection, Trader, TxIntent
from execution_app.states import ORDER_CHANGES, Action, IntentState, Mode, OrderType, PositionState, Reason
from ops.bot import engine_words, words
from ops.bot.models import Role, TelegramUser
from signals_app.models import Signal

T = TypeVar("T")
MOST = 10
MOST_RESTING = 8
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
    guards = guards_of(rows)
    lines = [
        position_line(row, newest.fresh.get(row.symbol), whose=not own(person), guard=guards.get(row.pk))
        for row in rows
    ]
    more = held.count() - len(rows)
    rest = [words.AND_MORE.format(count=more)] if more else []
    return words.bullet_list(words.POSITIONS_TITLE, [*lines, *rest])


def guards_of(rows: Sequence[Position]) -> dict[int, Protection]:
    """What guards each now, where anything does or ever did."""
    return {one.position_id: one for one in Protection.objects.filter(position__in=rows, ended_at=None)}


def _levels(guard: Protection | None) -> str:
    if guard is None:
        return ""
    told = [
        *_told("take_profit", guard.take_profit, words.usd),
        *_told("stop_loss", guard.stop_loss, words.usd),
        *_told("trailing_stop", guard.trailing_stop_pct, words.percent),
        *_told("trailing_stop", guard.trailing_stop_usd, words.usd),
        *_told("break_even", guard.break_even_pct, words.percent),
        *_told("time_stop", guard.closes_at, words.moment),
    ]
    return words.POSITION_LEVELS.format(levels=", ".join(told)) if told else ""


def _told(name: str, value: T | None, spelled: Callable[[T], str]) -> list[str]:
    return [] if value is None else [f"{words.field(name)} {spelled(value)}"]


def position_line(
    row: Position, price: Decimal | None, *, whose: bool, guard: Protection | None = None
) -> str:
    worth = ""
    if price is not None:
        way = 1 if row.is_long else -1
        moved = row.collateral_usdc * row.leverage_x * (price / row.open_price - 1) * way
        worth = words.POSITION_WORTH.format(worth=words.usdc(moved, signed=True))
    return words.POSITION.format(
        id=row.pk,
        mode=row.mode,
        symbol=words.safe(row.symbol),
        side=words.side(is_long=row.is_long),
        collateral=words.usdc(row.collateral_usdc),
        leverage=words.times(row.leverage_x),
        price=words.usd(row.open_price),
        worth=worth,
        whose=words.POSITION_WHOSE.format(whose=words.safe(row.trader)) if whose else "",
        levels=_levels(guard),
    )


def orders(person: TelegramUser) -> str:
    """What has not ended: first what rests at the venue, then what waits, is held, or is under way."""
    rests = at_rest(person)
    unsettled = TxIntent.objects.filter(settled_at=None, **own(person))
    waiting = unsettled.exclude(pk__in=book.resting().values("pk")).select_related("trader")
    others = list(waiting.order_by("-id")[:MOST])
    more = unsettled.count() - len(rests) - len(others)
    told = [order_line(row, whose=not own(person)) for row in (*rests, *others)]
    lines = [*told, *([words.AND_MORE.format(count=more)] if more > 0 else [])]
    return words.bullet_list(words.ORDERS_TITLE, lines) if lines else words.NO_ORDERS


def at_rest(person: TelegramUser) -> list[TxIntent]:
    """Their orders that wait at the venue for their price, the newest first."""
    return list(book.resting().filter(**own(person)).select_related("trader").order_by("-id")[:MOST_RESTING])


def history(person: TelegramUser, _arguments: list[str]) -> str:
    """What has ended, the newest first."""
    ended = TxIntent.objects.filter(settled_at__isnull=False, **own(person)).select_related("trader")
    lines = [order_line(row, whose=not own(person)) for row in ended.order_by("-settled_at")[:MOST]]
    return words.bullet_list(words.HISTORY_TITLE, lines) if lines else words.NO_HISTORY


def order_line(row: TxIntent, *, whose: bool = False) -> str:
    size = ""
    if row.collateral_usdc is not None and row.leverage_x is not None:
        size = words.ORDER_SIZE.format(
            collateral=words.usdc(row.collateral_usdc), leverage=words.times(row.leverage_x)
        )
    return words.ORDER.format(
        symbol=words.safe(row.symbol),
        side=_does(row),
        size=size,
        state=_state(row),
        reason=words.ORDER_REASON.format(reason=words.reason(row.reason)) if row.reason else "",
        key=words.code(row.intent_key),
        whose=whose_is(row.trader, row.tg_user_id) if whose else "",
    )


def whose_is(trader: Trader | None, tg_user_id: int) -> str:
    """By what their trader is called; by the id where nobody trades under it."""
    return words.POSITION_WHOSE.format(whose=words.safe(trader or f"{words.scope('trader')} {tg_user_id}"))


def _does(row: TxIntent) -> str:
    """The side of an open, and what anything else does."""
    if row.action in (Action.LEVELS, Action.MARGIN, *ORDER_CHANGES):
        return words.text(f"DOES_{row.action.upper()}")
    return words.side(is_long=row.is_long)


def _state(row: TxIntent) -> str:
    if row.action == Action.MARGIN and row.state in (IntentState.CHANGED, IntentState.SIMULATED):
        return words.MARGIN_CHANGED
    if row.action in ORDER_CHANGES and row.state == IntentState.CHANGED:
        return words.ORDER_TAKEN_BACK if row.action == Action.CANCEL_ORDER else words.ORDER_CHANGED
    if row.order_type == OrderType.MARKET or row.limit_price is None:
        return words.state(row.state)
    kind, price = words.order_type(row.order_type), words.usd(row.limit_price)
    if row.state == IntentState.ORDERED:
        return words.ORDER_RESTS.format(kind=kind, price=words.usd(terms_of(row).limit_price))
    return words.ORDER_OF_TYPE.format(kind=kind, price=price, state=words.state(row.state))


def signals(person: TelegramUser, _arguments: list[str]) -> str:
    rows = list(Signal.objects.filter(**own(person)).order_by("-id")[:MOST])
    of_others = Trader.objects.filter(tg_user_id__in=[] if own(person) else {row.tg_user_id for row in rows})
    traders = {trader.tg_user_id: trader for trader in of_others}
    lines = [
        _signal_line(row, "" if own(person) else whose_is(traders.get(row.tg_user_id), row.tg_user_id))
        for row in rows
    ]
    return words.bullet_list(words.SIGNALS_TITLE, lines) if lines else words.NO_SIGNALS


def _signal_line(row: Signal, whose: str) -> str:
    reasons = "; ".join(map(words.reason, row.reasons))
    return words.SIGNAL.format(
        at=words.moment(row.received_at),
        symbol=words.safe(row.symbol),
        side=row.side,
        whose=whose,
        decision=words.state(row.decision) if row.decision else words.SIGNAL_RECEIVED,
        reasons=words.ORDER_REASON.format(reason=reasons) if reasons else "",
        key=words.code(row.intent_key),
    )


def why(person: TelegramUser, arguments: list[str]) -> str:
    """The road of one order, by its key or by the id of its signal."""
    if len(arguments) != 1:
        return words.USAGE.format(usage="/why ID")
    name = arguments[0]
    signal = _signal_called(person, name)
    keys = [name, *([signal.intent_key] if signal is not None else [])]
    found = TxIntent.objects.filter(intent_key__in=keys, **own(person))
    row = found.select_related("fill", "trader").first()
    if row is None and signal is not None:
        title = words.WHY_SIGNAL if signal.decision else words.WHY_SIGNAL_WAITS
        return words.bullet_list(title, [_signal_line(signal, "")])
    if row is None:
        return words.NOT_FOUND.format(what=words.WHAT_ORDER, name=words.code(name))
    lines = [order_line(row, whose=not own(person))]
    if row.reason_detail:
        lines.append(_detail(row))
    fill = getattr(row, "fill", None)
    if fill is not None:
        lines.append(
            words.WHY_FILLED.format(
                mode=fill.mode, price=words.usd(fill.price), at=words.moment(fill.filled_at)
            )
        )
    moves = IntentTransition.objects.filter(intent=row).order_by("-id")[:MOST]
    day = row.accepted_at.astimezone(UTC).date()
    lines += [
        words.WHY_MOVE.format(at=words.clock(step.at, day), state=words.state(step.to_state))
        for step in reversed(moves)
    ]
    return words.bullet_list(words.WHY_TITLE.format(day=day), lines)


def _signal_called(person: TelegramUser, name: str) -> Signal | None:
    """By its key; or by its id, which stands for itself at one source only, so the newest is meant."""
    kind, _, rest = name.partition(":")
    source, _, signal_id = rest.partition(":")
    theirs = Signal.objects.filter(**own(person)).order_by("-id")
    by_key = theirs.filter(source=source, signal_id=signal_id).first() if kind == "sig" else None
    return by_key or theirs.filter(signal_id=name).first()


def _detail(row: TxIntent) -> str:
    """What was written down beside the reason: translated where it is known, and else said to be another's words."""
    if row.reason == Reason.OPERATOR_REJECTED:
        return words.WHY_OPERATOR.format(detail=words.safe(row.reason_detail))
    if row.reason == Reason.VENUE_REVERT and " " not in row.reason_detail:
        return words.WHY_VENUE.format(detail=words.code(row.reason_detail))
    if engine_words.knows(row.reason_detail):
        return words.WHY_DETAIL.format(detail=engine_words.detail(row.reason_detail))
    return words.WHY_ENGINE.format(detail=words.safe(row.reason_detail))


def pnl(person: TelegramUser, _arguments: list[str]) -> str:
    """What the closes of this UTC day realised, DRY and LIVE apart; what is open is not in it."""
    day = database_now().astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    lines = [*(_day(person, mode, day) for mode in (Mode.LIVE, Mode.DRY)), words.PNL_FUNDING]
    return words.bullet_list(words.PNL_TITLE.format(day=f"{day:%Y-%m-%d}"), lines)


def _day(person: TelegramUser, mode: Mode, day: datetime) -> str:
    closes = Fill.objects.filter(
        action=Action.CLOSE, mode=mode, filled_at__gte=day, **own(person, "position__trader__tg_user_id")
    )
    told = closes.aggregate(
        count=Count("id"),
        unknown=Count("id", filter=Q(sent_to_trader_usdc=None)),
        sum=Sum(F("sent_to_trader_usdc") - F("collateral_usdc")),
    )
    unknown = words.PNL_UNKNOWN.format(count=told["unknown"]) if told["unknown"] else ""
    return words.PNL_DAY.format(
        mode=mode.value,
        sum=words.usdc(told["sum"] or NOTHING, signed=True),
        count=told["count"],
        unknown=unknown,
    )

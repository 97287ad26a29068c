"""Looks that are pictures: PnL, exposure, a position. A trader sees their own; viewers and operators see everybody's."""

from datetime import UTC
from decimal import Decimal
from typing import Any

from execution_app.engine.waiting import database_now
from execution_app.models import Position
from execution_app.states import Mode, PositionState
from ops.bot import figures, words
from ops.bot.models import Role, TelegramUser
from ops.bot.replies import Reply

MOST_DAYS = 365
MOST_DIGITS = 18


def chart(person: TelegramUser, arguments: list[str]) -> Reply:
    """`pnl` or `exposure`, of the last days, of the mode that is named or that has anything to show."""
    kinds = [word for word in arguments if word.lower() in {"pnl", "exposure"}]
    modes = [word for word in arguments if word.upper() in set(Mode)]
    days = [word for word in arguments if word.isascii() and word.isdecimal()]
    if len(kinds) > 1 or len(modes) > 1 or len(days) > 1 or len(kinds + modes + days) < len(arguments):
        return Reply(words.USAGE.format(usage="/chart [pnl|exposure] [DAYS] [LIVE|DRY]"))
    within = min(max(int(days[0][:4]), 1), MOST_DAYS) if days else figures.DAYS
    asked = (Mode(modes[0].upper()),) if modes else (Mode.LIVE, Mode.DRY)
    owner = person.tg_user_id if person.role == Role.TRADER else None
    make = _exposure if kinds and kinds[0].lower() == "exposure" else _pnl
    made = [make(owner, mode, within) for mode in asked]
    picture, caption = next(
        ((picture, said) for picture, said in made if any(Decimal(value) for _, value in picture["points"])),
        made[0],
    )
    return Reply(caption, picture=_draw(picture))


def _pnl(owner: int | None, mode: Mode, days: int) -> tuple[dict[str, Any], str]:
    today = database_now().astimezone(UTC).date()
    points = figures.daily_pnl(owner, mode, today, days)
    total = sum((Decimal(value) for _, value in points), Decimal(0))
    caption = words.CHART_CAPTION_PNL.format(days=days, mode=mode.value, sum=words.usdc(total, signed=True))
    return {"kind": "pnl", "mode": mode.value, "points": points}, caption


def _exposure(owner: int | None, mode: Mode, days: int) -> tuple[dict[str, Any], str]:
    points = figures.exposure(owner, mode, database_now(), days)
    caption = words.CHART_CAPTION_EXPOSURE.format(
        days=days, mode=mode.value, now=words.usdc(Decimal(points[-1][1]))
    )
    return {"kind": "exposure", "mode": mode.value, "points": points}, caption


def card(person: TelegramUser, arguments: list[str]) -> Reply:
    """One open position by its number, or the newest."""
    number = arguments[0].removeprefix("#") if arguments else ""
    if len(arguments) > 1 or (
        arguments and not (number.isascii() and number.isdecimal() and len(number) <= MOST_DIGITS)
    ):
        return Reply(words.USAGE.format(usage="/card [POSITION]"))
    held = Position.objects.filter(state=PositionState.OPEN).select_related("trader").order_by("-id")
    if person.role == Role.TRADER:
        held = held.filter(trader__tg_user_id=person.tg_user_id)
    position = (held.filter(pk=int(number)) if number else held).first()
    if position is None:
        other = words.NO_SUCH_POSITION.format(number=f"#{number}")
        return Reply(f"{words.begun(other)}." if number and held.exists() else words.NO_POSITIONS)
    own = position.trader.tg_user_id == person.tg_user_id
    whose = "" if own else words.WHOSE.format(whose=words.safe(position.trader))
    caption = words.CARD_CAPTION.format(position=position.pk, mode=position.mode, whose=whose)
    return Reply(caption, picture=_draw(figures.card(position)))


def _draw(picture: dict[str, Any]) -> bytes:
    from ops.bot import charts  # matplotlib, and only once somebody asks for a picture

    return charts.draw(picture)

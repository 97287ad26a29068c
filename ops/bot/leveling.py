"""/tp and /sl: the level at which a position is closed; shown first, and set by one tap."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from execution_app.audit_words import AuditOrigin
from execution_app.book import levels, protections
from execution_app.errors import Refused
from execution_app.gate import second_factor
from execution_app.models import Position, Protection, Trader
from ops.bot import amounts, confirmations, engine_words, flows, traders, words
from ops.bot.models import Step, TelegramUser
from ops.bot.replies import Button, Reply

ACTION = "levels"
REASON = "said in Telegram"
TWO_WORDS = 2


def take_profit(person: TelegramUser, arguments: list[str]) -> Reply:
    return _offer(person, arguments, "take_profit", words.TAKE_PROFIT, "/tp BTC-USD 120000")


def stop_loss(person: TelegramUser, arguments: list[str]) -> Reply:
    return _offer(person, arguments, "stop_loss", words.STOP_LOSS, "/sl BTC-USD 90000")


def take(
    trader: Trader, person: TelegramUser, order: dict[str, Any], code: str, also: Callable[[], object]
) -> None:
    """Change the one level; `also` is done in the same transaction, where there is one. Raises Refused."""
    position = Position.objects.filter(pk=int(order["position"]), trader=trader).first()
    if position is None:
        raise Refused(words.NO_SUCH_POSITION.format(number=order["position"]))
    price = order["price"]
    _, loosens = _compared(position, order["level"], Decimal(price) if price else None)
    if loosens and not code and second_factor.is_needed(person.account):
        raise Refused(words.LEVEL_CODE_MISSING)
    changed = protections.change(
        position.pk,
        {order["level"]: Decimal(price) if price else None},
        by=person.name,
        reason=REASON,
        code=code,
        origin=AuditOrigin.TELEGRAM,
        also=also,
    )
    if not changed.changed:
        raise Refused(words.LEVEL_IS_SO)


def _offer(person: TelegramUser, arguments: list[str], name: str, title: str, usage: str) -> Reply:
    if len(arguments) != TWO_WORDS:
        return Reply(f"{words.USAGE.format(usage=usage)}\n{words.LEVEL_USAGE}")
    try:
        price = amounts.level(arguments[1])
        trader = traders.of(person)
        position = traders.one(trader, arguments[0])
    except ValueError as problem:
        return Reply(words.safe(problem))
    except Refused as problem:
        return Reply(words.REFUSED.format(why=engine_words.said(problem)))
    before, loosens = _compared(position, name, None if price is None else Decimal(price))
    if before == (None if price is None else Decimal(price)):
        return Reply(f"{words.begun(words.LEVEL_IS_SO)}.")
    asked = {"action": ACTION, "position": position.pk, "level": name, "price": price}
    token = confirmations.offer(person.tg_user_id, asked)
    text = words.LEVEL_OFFER.format(
        title=title,
        number=position.pk,
        symbol=words.safe(position.symbol),
        side=words.side(is_long=position.is_long),
        before=words.NONE if before is None else words.usd(before),
        after=words.NONE if price is None else words.usd(Decimal(price)),
    )
    no = Button(words.LEAVE_IT, f"no:{token}")
    if loosens and second_factor.is_needed(person.account):
        if not person.account:
            return Reply(words.REFUSED.format(why=traders.without_account(person)))
        flows.begin(person.tg_user_id, Step.CODE, {"token": token})
        return Reply(f"{text}\n{words.LESS_PROTECTION}", [[no]], binds=(token,), asks=True)
    return Reply(f"{text}\n{words.LASTS}", [[Button(words.SET_IT, f"ok:{token}"), no]], binds=(token,))


def _compared(position: Position, name: str, price: Decimal | None) -> tuple[Decimal | None, bool]:
    """The level as it is, and whether the new one protects less."""
    row = Protection.objects.filter(position=position, ended_at=None).select_related("position").first()
    if row is None:
        return None, False
    old = protections.of(row)
    before: Decimal | None = getattr(old, name)
    fields = {field: getattr(old, field) for field in protections.LEVELS} | {name: price}
    new = levels.Levels(old.is_long, old.open_price, **fields, watermark=old.watermark)
    return before, levels.loosens(old, new)

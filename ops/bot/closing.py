"""/close and /reduce: the person's open positions, each with a button that needs one tap and no code."""

from decimal import ROUND_DOWN, Decimal
from typing import Any

from django.db import transaction

from execution_app.bells import ring
from execution_app.book import quotes
from execution_app.engine import exits
from execution_app.errors import Refused
from execution_app.gate import control
from execution_app.models import Position, Trader
from execution_app.states import Action, PositionState, RestrictionKind
from execution_app.tasks import submit
from ops.bot import amounts, confirmations, engine_words, holdings, traders, words
from ops.bot.models import TelegramUser
from ops.bot.replies import Button, Reply

BY = "telegram"
MOST = 8
HUNDRED = Decimal(100)
LEAST_USDC = Decimal("0.000001")
USAGE_REDUCE = "/reduce BTC-USD 50"
TWO_WORDS = 2


def close(person: TelegramUser, arguments: list[str]) -> Reply:
    """All of them, those of one symbol, or the one of a number."""
    return _listed(person, " ".join(arguments), HUNDRED)


def reduce(person: TelegramUser, arguments: list[str]) -> Reply:
    """So many percent of each that is named."""
    if len(arguments) != TWO_WORDS:
        return Reply(words.USAGE.format(usage=USAGE_REDUCE))
    try:
        percent = Decimal(amounts.percent(arguments[1]))
    except ValueError as problem:
        return Reply(words.safe(problem))
    return _listed(person, arguments[0], percent)


def take(trader: Trader, order: dict[str, Any], key: str) -> None:
    """Ask for the exit under the key, in the caller's transaction. Raises Refused where it is not theirs, or gone.

    Of a DRY position as of a LIVE one; what closes meanwhile ends as nothing to do.
    """
    number = int(order["position"])
    position = Position.objects.filter(pk=number, trader=trader, state=PositionState.OPEN).first()
    if position is None:
        raise Refused(words.NO_SUCH_POSITION.format(number=number))
    part = order.get("reduce_usdc")
    exit_ = exits.ask_intent(position, key=key, by=BY, reduce_usdc=Decimal(part) if part else None)
    if exit_ is None or exit_.wallet_id is None:
        raise Refused(words.NO_WALLET.format(user_id=trader.tg_user_id))
    wallet_id = exit_.wallet_id
    transaction.on_commit(lambda: ring(submit, wallet_id))


def _listed(person: TelegramUser, word: str, percent: Decimal) -> Reply:
    try:
        trader = traders.of(person)
    except Refused as problem:
        return Reply(words.REFUSED.format(why=engine_words.said(problem)))
    found = traders.held(trader, word)
    if not found:
        return Reply(words.safe(traders.without(trader, word)))
    rows = found[:MOST]
    newest = quotes.newest(sorted({row.symbol for row in rows}))
    tokens, buttons, lines = [], [], []
    for row in rows:
        lines.append(holdings.position_line(row, newest.fresh.get(row.symbol), whose=False))
        part_usdc = _part(row, percent)
        if part_usdc == 0:
            continue
        asked = {"action": Action.CLOSE.value, "position": row.pk}
        if part_usdc is not None:
            asked["reduce_usdc"] = str(part_usdc)
        token = confirmations.offer(person.tg_user_id, asked)
        tokens.append(token)
        buttons.append([Button(_label(row, part_usdc), f"ok:{token}")])
    if RestrictionKind.STOP in control.active_kinds():
        lines.append(words.CLOSES_REFUSED)
    if len(found) > MOST:
        lines.append(words.AND_MORE.format(count=len(found) - MOST))
    return Reply(words.bullet_list(words.WHICH_CLOSE, lines), buttons, binds=tuple(tokens))


def _part(row: Position, percent: Decimal) -> Decimal | None:
    """USDC of collateral, floored to what there is in units; None for all of it.

    An amount and no percentage is what the button promises, and what is taken whatever happens before it.
    """
    if percent == HUNDRED:
        return None
    collateral_usdc: Decimal = row.collateral_usdc
    return (collateral_usdc * percent / HUNDRED).quantize(LEAST_USDC, ROUND_DOWN)


def _label(row: Position, part_usdc: Decimal | None) -> str:
    """Exact, since it is what the tap asks for; the mode stands in the list above, and a phone's buttons are short."""
    if part_usdc is not None:
        return words.REDUCE_LABEL.format(number=row.pk, symbol=row.symbol, usdc=words.grouped(part_usdc))
    return words.CLOSE_LABEL.format(
        number=row.pk,
        symbol=row.symbol,
        side=words.side(is_long=row.is_long),
        usdc=words.grouped(row.collateral_usdc),
    )

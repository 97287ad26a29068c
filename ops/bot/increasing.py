"""/increase: more of one position, at the leverage that it has; a quote in one line, then one tap."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.db import transaction

from execution_app.bells import ring
from execution_app.engine import increases
from execution_app.engine.waiting import database_now
from execution_app.errors import Refused, Retryable
from execution_app.models import Position, Trader
from execution_app.states import Action, PositionState
from execution_app.tasks import submit
from execution_app.venues.interface import DEFAULT_MAX_LAG_S, DEFAULT_SLIPPAGE_PCT
from ops.bot import amounts, engine_words, offers, quoting, traders, words
from ops.bot.models import TelegramUser
from ops.bot.replies import Reply

Asked = dict[str, Any]
BY = "telegram"
USAGE = "/increase BTC-USD 5 0.5%"
FEWEST_WORDS, MOST_WORDS = 2, 3


def begin(person: TelegramUser, arguments: list[str]) -> Reply:
    """SYMBOL|#NUMBER USDC [SLIPPAGE%] of the one position that is meant."""
    if not FEWEST_WORDS <= len(arguments) <= MOST_WORDS:
        return Reply(words.USAGE.format(usage=USAGE))
    slippage = arguments[2] if len(arguments) == MOST_WORDS else str(DEFAULT_SLIPPAGE_PCT)
    try:
        asked = {"collateral_usdc": amounts.usdc(arguments[1]), "slippage_pct": amounts.slippage(slippage)}
        position = traders.one(traders.of(person), arguments[0])
    except ValueError as problem:
        return Reply(words.safe(problem))
    except Refused as problem:
        return Reply(words.REFUSED.format(why=engine_words.said(problem)))
    return quote(person, {**asked, "position": position.pk})


def quote(person: TelegramUser, asked: Asked) -> Reply:
    """What it would make of the position now, with a button that asks for it."""
    try:
        trader = traders.of(person)
        position = _held(trader, asked)
        size = increases.size(position, Decimal(asked["collateral_usdc"]))
        whole = {
            **{name: asked[name] for name in ("position", "collateral_usdc", "slippage_pct")},
            "action": Action.INCREASE.value,
            "symbol": position.symbol,
            "is_long": position.is_long,
            "leverage_x": str(size["leverage_x"]),
        }
        offer = offers.make_more(whole, position, trader)
    except (Refused, Retryable) as problem:
        return Reply(words.REFUSED.format(why=engine_words.said(problem)))
    return quoting.show(person, trader, whole, offer, title=words.INCREASE_THIS, yes=words.INCREASE_IT)


def take(trader: Trader, order: Asked, key: str) -> None:
    """Ask for it under the key, in the caller's transaction. Raises Refused where the position is not theirs, or gone."""
    intent = increases.ask(
        _held(trader, order),
        Decimal(order["collateral_usdc"]),
        key=key,
        by=BY,
        slippage_pct=Decimal(order["slippage_pct"]),
        expires_at=database_now() + timedelta(seconds=DEFAULT_MAX_LAG_S),
    )
    if intent is None or intent.wallet_id is None:
        raise Refused(words.NO_WALLET.format(user_id=trader.tg_user_id))
    wallet_id = intent.wallet_id
    transaction.on_commit(lambda: ring(submit, wallet_id))


def _held(trader: Trader, asked: Asked) -> Position:
    """The position, while it is open and the road to the venue increases it. Raises Refused."""
    number = int(asked["position"])
    position = Position.objects.filter(pk=number, trader=trader, state=PositionState.OPEN).first()
    if position is None:
        raise Refused(words.NO_SUCH_POSITION.format(number=number))
    if increases.unsupported(position, settings.ENVIRONMENT.venue):
        raise Refused(words.INCREASE_ONCHAIN)
    return position

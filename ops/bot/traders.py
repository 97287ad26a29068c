"""For whom somebody trades: the trader of their Telegram id, as signals name it, and what they have at stake."""

from decimal import Decimal

from django.conf import settings
from django.db.models import DecimalField, ExpressionWrapper, F, Sum

from execution_app.errors import Refused
from execution_app.gate import second_factor
from execution_app.models import Position, Reservation, Trader, TxIntent
from execution_app.states import GROWING, PositionState
from ops.bot import words
from ops.bot.amounts import as_symbol
from ops.bot.models import TelegramUser

NOTHING = Decimal(0)


def of(person: TelegramUser) -> Trader:
    """Raises Refused where they have none, or one that may not trade."""
    trader = Trader.objects.filter(tg_user_id=person.tg_user_id).first()
    if trader is None:
        raise Refused(words.NO_TRADER.format(user_id=person.tg_user_id))
    if not trader.enabled:
        raise Refused(words.TRADER_DISABLED.format(user_id=person.tg_user_id))
    return trader


def held(trader: Trader, word: str = "") -> list[Position]:
    """Their open positions, the newest first: all, of a symbol, or the one of a number such as #7."""
    rows = Position.objects.filter(trader=trader, state=PositionState.OPEN).order_by("-id")
    if word.lstrip("#").isdecimal() and word.isascii():
        rows = rows.filter(pk=int(word.lstrip("#")[:18]))
    elif word:
        rows = rows.filter(symbol=as_symbol(word))
    return list(rows)


def one(trader: Trader, word: str) -> Position:
    """The open position that a symbol or a number names. Raises ValueError where there is none, Refused for several."""
    found = held(trader, word)
    if not found:
        raise ValueError(without(trader, word))
    if len(found) > 1:
        numbers = ", ".join(f"#{row.pk}" for row in found)
        raise Refused(words.SEVERAL_POSITIONS.format(numbers=numbers))
    return found[0]


def without(trader: Trader, word: str) -> str:
    """What to say where nothing open of theirs goes by this symbol or number."""
    if not word or not held(trader):
        return words.NO_POSITIONS
    return f"{words.begun(words.NO_SUCH_POSITION.format(number=word))}."


def at_stake_usdc(trader: Trader) -> Decimal:
    """Notional of what is open and of opens and increases under way, DRY and LIVE alike."""
    size: DecimalField[Decimal, Decimal] = DecimalField(max_digits=36, decimal_places=10)
    opens = TxIntent.objects.filter(trader=trader, action__in=GROWING, settled_at=None)
    # Asked first: what gets its place meanwhile is counted twice, rather than not at all.
    waiting_usdc = opens.filter(reservation__isnull=True).aggregate(
        total=Sum(ExpressionWrapper(F("collateral_usdc") * F("leverage_x"), output_field=size))
    )["total"]
    places = Reservation.objects.filter(trader=trader, released_at=None)
    held_usdc = places.aggregate(total=Sum("notional_usdc"))["total"]
    return (held_usdc or NOTHING) + (waiting_usdc or NOTHING)


def needs_code(person: TelegramUser, trader: Trader, more_usdc: Decimal) -> bool:
    """Whether so much more at stake wants a one-time code: above TELEGRAM_CODE_ABOVE_USDC all in all.

    All that is at stake counts, or many small orders would go where one large may not. On the rehearsal chain nobody
    is asked who never enrolled.
    """
    above = at_stake_usdc(trader) + more_usdc > settings.ENVIRONMENT.telegram_code_above_usdc
    return above and second_factor.is_needed(person.account)


def check_code(person: TelegramUser, code: str) -> None:
    """Use up a one-time code of theirs. Raises Refused."""
    if not person.account:
        raise Refused(without_account(person))
    second_factor.verify(person.account, code)


def without_account(person: TelegramUser) -> str:
    """Why no code of theirs can be known, and the step that changes it."""
    return words.NO_ACCOUNT_OF_TRADER.format(user_id=person.tg_user_id, role=person.role)

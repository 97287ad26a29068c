"""One tap, one order: a quote's token is good once, for its person, under its message, for a minute.

The token is the key of what it asks for. It is used up in the transaction that takes the order down, so either both
are there or neither is: whoever taps twice, or taps again since no answer came, finds what the first tap did.
"""

import secrets
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any, TypeVar

from django.db import transaction
from django.db.models.functions import Now

from execution_app.engine.waiting import database_now
from execution_app.errors import Refused
from ops.bot import words
from ops.bot.models import TelegramConfirmation

T = TypeVar("T")
GOOD_FOR = timedelta(seconds=60)
TOKEN_BYTES = 16
KEPT = timedelta(days=30)


class Used(Refused):
    """It was decided already, by this person."""


class Old(Refused):
    """Its time is over, and it was not decided."""


def offer(tg_user_id: int, asked: dict[str, Any]) -> str:
    """A new token for an order; nobody can use it before `bind`."""
    token = secrets.token_urlsafe(TOKEN_BYTES)
    TelegramConfirmation.objects.create(
        token=token, tg_user_id=tg_user_id, asked=asked, expires_at=Now() + GOOD_FOR
    )
    return token


def bind(tokens: Iterable[str], message_id: int) -> None:
    """The quote stands under this message now, and under no other."""
    TelegramConfirmation.objects.filter(token__in=list(tokens), message_id=None).update(message_id=message_id)


def look(token: str, tg_user_id: int, message_id: int) -> TelegramConfirmation:
    """What the token asks for, if it could be used now; promises nothing. Raises Refused, Used or Old."""
    return _judged(TelegramConfirmation.objects.filter(token=token), tg_user_id, message_id)


def use(token: str, tg_user_id: int, message_id: int, act: Callable[[dict[str, Any], str], T]) -> T:
    """Use it up and act on the order, in one transaction; the second argument of `act` is the order's key.

    A second tap waits for the first, and then finds it used. Raises Refused, Used or Old; whatever `act` raises
    leaves the token as it was.
    """
    with transaction.atomic(durable=True):
        row = spend(token, tg_user_id, message_id)
        return act(row.asked, key(token))


def spend(token: str, tg_user_id: int, message_id: int) -> TelegramConfirmation:
    """Use it up within the caller's transaction. Raises as `use`."""
    row = _judged(
        TelegramConfirmation.objects.select_for_update().filter(token=token), tg_user_id, message_id
    )
    TelegramConfirmation.objects.filter(token=token).update(used_at=Now())
    return row


def asked_before(token: str, tg_user_id: int) -> dict[str, Any]:
    """What a token of theirs asked for, used or old, to quote it anew. Raises Refused."""
    row = TelegramConfirmation.objects.filter(token=token, tg_user_id=tg_user_id).first()
    if row is None:
        raise Refused(words.NO_QUOTE)
    asked: dict[str, Any] = row.asked
    return asked


def key(token: str) -> str:
    """By which the order is known everywhere."""
    return f"tg:{token}"


def forget() -> int:
    """Drop rows whose time is long over; the orders that they became keep their keys."""
    return TelegramConfirmation.objects.filter(expires_at__lt=Now() - KEPT).delete()[0]


def _judged(found: Any, tg_user_id: int, message_id: int) -> TelegramConfirmation:
    row: TelegramConfirmation | None = found.first()
    if row is None or row.tg_user_id != tg_user_id or row.message_id != message_id:
        raise Refused(words.NO_QUOTE)
    if row.used_at is not None:
        raise Used(words.QUOTE_USED)
    if row.expires_at <= database_now():
        raise Old(words.QUOTE_OLD)
    return row

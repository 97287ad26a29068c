"""What was signed on pages is judged here, and told in the chat with the next step."""

from datetime import UTC, datetime

import structlog
from django.db import transaction
from django.db.models.functions import Now

from execution_app.engine.waiting import database_now
from execution_app.errors import Refused, Retryable
from ops.bot import binding, engine_words, outbox, people, standing, words
from ops.bot.models import Event, Role, TelegramPage
from ops.bot.notices import News, post

log = structlog.get_logger(__name__)

MOST = 20


def look() -> int:
    """Judge what was answered; returns how many messages have to leave. Raises django.db.Error.

    Where too few nodes say what a contract thinks, it is asked again until the link's time is over.
    """
    rows = TelegramPage.objects.filter(answered_at__isnull=False, settled_at=None).order_by("answered_at")
    return sum(_settle(row) for row in rows[:MOST])


def _settle(row: TelegramPage) -> int:
    person = people.find(row.tg_user_id)
    said = ""
    if person is not None and people.at_least(person, Role.TRADER):
        with words.speaking(outbox.language_of(row.tg_user_id, row.language)):
            try:
                said = f"{binding.settle(person, row)}\n\n{standing.wallet(person, [])}"
            except Retryable as problem:
                if database_now() < row.expires_at:
                    return 0
                said = words.REFUSED.format(why=engine_words.said(problem))
            except (Refused, ValueError) as problem:
                said = words.REFUSED.format(why=engine_words.said(problem))
    # The proof is committed; told again after a death it says that it holds already.
    with transaction.atomic():
        if not TelegramPage.objects.filter(pk=row.pk, settled_at=None).update(settled_at=Now()):
            return 0
        if not said:
            return 0
        name = f"page {row.nonce}"
        news = News(Event.BOUND, name, name, datetime.now(UTC), facts={"text": said}, only=row.tg_user_id)
        return post([news])

"""Each update once: it is stored before anything is done about it, and only then confirmed to Telegram.

The order is what makes a stop safe. An update is confirmed by the next poll, so one whose row was not committed comes
again. One whose row is committed and not handled is handled by the next process that begins. So whenever the process
dies, an update is either with Telegram or in a row. The number is the row's key: the same update again finds it, and
does nothing.

An effect comes before the row is marked, since the other way round a death in between would lose it. What is done a
second time for that reason has to bear it: a stop that holds already changes nothing, a look is a look, and whatever
trades or loosens is good for one use by a row of its own. The rest is marked old and left.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

from django.db import connection, transaction
from django.db.models.functions import Now

from execution_app.errors import Refused
from execution_app.states import RestrictionKind
from ops.bot import people, words
from ops.bot.models import Role, TelegramUpdate, TelegramUser

KEPT = timedelta(days=30)  # Telegram itself forgets what nobody fetched within a day
# Whoever asked so long ago has asked again, or wants something else by now; a stop is never too old.
YOUNG = timedelta(seconds=60)
# Numbers rise as people write, but for a week of silence, after which Telegram begins anew anywhere.
ONE_SEQUENCE = timedelta(days=1)
_INSERT = """
INSERT INTO telegram_updates (update_id, tg_user_id, body, restricts) VALUES (%s, %s, %s::jsonb, %s)
ON CONFLICT (update_id) DO NOTHING RETURNING update_id
"""
_answered: ContextVar[int] = ContextVar("vanta_bot_update", default=0)


@dataclass(frozen=True)
class Incoming:
    """What one person said in private: a text, or the data of a button under one of our messages.

    `message_id` is the message's that was written, or that has the button; `query_id` is blank for a text.
    """

    update_id: int
    user_id: int
    message_id: int
    text: str
    query_id: str = ""
    # What their Telegram is set to, such as `de` or `pt-BR`; blank where it does not say.
    language: str = ""

    @property
    def chat_id(self) -> int:
        """A private chat has its person's id."""
        return self.user_id

    @property
    def command(self) -> str:
        """The first word without its slash, in lower case; `stop` of `/Stop@some_bot now` and of a button `stop`."""
        word = self.text.split(maxsplit=1)[0] if self.text.strip() else ""
        if self.query_id:
            return word.partition(":")[0]
        return word[1:].partition("@")[0].lower() if word.startswith("/") else ""

    @property
    def arguments(self) -> list[str]:
        return self.text.split()[1:]

    @property
    def is_stop(self) -> bool:
        return self.command == "stop"

    @property
    def restricts(self) -> str:
        """The restriction that is asked for, whoever asks; blank where none is."""
        said = [word.lower() for word in self.arguments[:1]]
        if self.is_stop:
            return RestrictionKind.STOP.value
        begins = (self.command == "reduceonly" and said != ["off"]) or (self.command, said) == (
            "flatten",
            ["yes"],
        )
        return RestrictionKind.REDUCE_ONLY.value if begins and not self.query_id else ""


def take(found: Sequence[Incoming]) -> list[Incoming]:
    """Store what is new and return it, stops first. Once this has returned the rest may be forgotten.

    Of somebody whom nobody knows only the first update of all is taken: they are answered once, and cannot fill the
    table. Raises django.db.Error, and then nothing is stored.
    """
    if not found:
        return []
    with transaction.atomic():
        strangers = {one.user_id for one in found}
        strangers -= people.known(strangers)
        seen = set(
            TelegramUpdate.objects.filter(tg_user_id__in=strangers).values_list("tg_user_id", flat=True)
        )
        new = []
        with connection.cursor() as cursor:
            for one in found:
                if one.user_id in seen:
                    continue
                said = json.dumps(asdict(one))
                cursor.execute(_INSERT, [one.update_id, one.user_id, said, one.restricts])
                if cursor.fetchone() is not None:
                    new.append(one)
                if one.user_id in strangers:
                    seen.add(one.user_id)
    return stops_first(new)


def left() -> list[Incoming]:
    """What a former process took and did not finish, stops first; what is no stop and old is given up."""
    rows = TelegramUpdate.objects.filter(handled_at=None).order_by("update_id")
    young = set(rows.filter(received_at__gt=Now() - YOUNG).values_list("update_id", flat=True))
    found = []
    for row in rows:
        one = of_row(row.body)
        if one.is_stop or row.pk in young:
            found.append(one)
        else:
            finish(row.pk)
    return stops_first(found)


def finish(update_id: int) -> None:
    """It is done, and what it said is forgotten."""
    TelegramUpdate.objects.filter(update_id=update_id).update(handled_at=Now(), body={})


@contextmanager
def answering(one: Incoming) -> Iterator[None]:
    """What is done meanwhile, in this thread, is done because this update asks for it."""
    token = _answered.set(one.update_id)
    try:
        yield
    finally:
        _answered.reset(token)


def require_last_word(kind: RestrictionKind) -> None:
    """That no operator has asked for this restriction since what is answered now was said. Raises Refused.

    A stop goes ahead of everything, and people are answered beside each other: what lifts may be the older word, that
    comes to its turn last. An update is stored before anything is done about it, so a later one is there in time.
    """
    mine = TelegramUpdate.objects.filter(pk=_answered.get()).first()
    if mine is None:
        return
    since = TelegramUpdate.objects.filter(
        pk__gt=mine.pk, restricts=kind.value, received_at__gt=mine.received_at - ONE_SEQUENCE
    )
    operators = TelegramUser.objects.filter(role=Role.OPERATOR)
    if since.filter(tg_user_id__in=operators.values("tg_user_id")).exists():
        raise Refused(words.SAID_SINCE.format(kind=words.restriction(kind.value)))


def forget() -> int:
    """Drop rows that no repetition can mean any more; returns how many."""
    return TelegramUpdate.objects.filter(handled_at__lt=Now() - KEPT).delete()[0]


def stops_first(found: Sequence[Incoming]) -> list[Incoming]:
    return sorted(found, key=lambda one: (not one.is_stop, one.update_id))


def of_row(body: dict[str, Any]) -> Incoming:
    return Incoming(**body)

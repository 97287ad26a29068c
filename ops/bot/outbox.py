"""What has to leave, and the three short commits about each message: begun, then delivered, put back or given up.

Telegram takes no key by which it would know a message again, so for a first message the moment between its answer and
our commit cannot be closed, only made small: `begun_at` is committed right before the request, and the answer right
after it. A death in between, or a request that nobody answered, leaves a message of which nobody knows whether it came
out. It is sent again, since an alarm that is told twice does no harm and one that is never told does; the second one says that
it may be one. What was not begun was not sent, and is sent once. An edit may be repeated as often as one likes: Telegram
says that nothing was changed, and that is as good as done. Who ends in peace waits for answers first, so only a kill, a
fault of the machine or of the network is ever in doubt.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import structlog
from django.db import connection, transaction
from django.db.models import Case, F, When
from django.db.models.functions import Coalesce, Greatest, Now

from execution_app import audit, people
from execution_app.audit_words import AuditAction
from ops.bot.models import Notice, TelegramChat

log = structlog.get_logger(__name__)

KEPT = timedelta(days=30)
# Longer than a request may take; a notice that was begun longer ago has no answer to come.
LEASE_S = 20
DELIVERED, FAILED = "delivered", "failed"
UNSIGNED = "unsigned"  # updates that were posted without the secret

# The oldest of each person who may still use the bot and whose chat is open; what is begun is begun in this statement, so
# nobody else has it. One that was begun by somebody who never said what came of it may have come out.
_BEGIN = """
WITH next AS (
    SELECT oldest.id FROM telegram_users person
    LEFT JOIN telegram_chats chat ON chat.tg_user_id = person.tg_user_id
    CROSS JOIN LATERAL (
        SELECT id, due_at FROM telegram_notices notice
        WHERE notice.tg_user_id = person.tg_user_id AND due_at IS NOT NULL AND urgent = %(urgent)s
          AND (begun_at IS NULL OR begun_at < now() - make_interval(secs => %(lease_s)s))
        ORDER BY due_at, id LIMIT 1
    ) oldest
    WHERE chat.closed_at IS NULL AND NOT person.tg_user_id = ANY(%(without)s)
    ORDER BY %(urgent)s AND person.role <> 'operator', oldest.due_at, oldest.id LIMIT %(most)s
), free AS (
    SELECT id FROM telegram_notices WHERE id IN (SELECT id FROM next) AND due_at IS NOT NULL
      AND (begun_at IS NULL OR begun_at < now() - make_interval(secs => %(lease_s)s))
    FOR UPDATE SKIP LOCKED
)
UPDATE telegram_notices notice
SET begun_at = now(), doubted = doubted OR (begun_at IS NOT NULL AND message_id IS NULL)
FROM free WHERE notice.id = free.id
RETURNING notice.id, tg_user_id, urgent, thread, about, steps, silent, doubted, coalesce(message_id, 0), coalesce((
    SELECT coalesce(nullif(asked_language, ''), language) FROM telegram_chats chat
    WHERE chat.tg_user_id = notice.tg_user_id
), '')
"""

_COUNT = """
INSERT INTO telegram_tallies AS tally (name, number) VALUES (%s, %s)
ON CONFLICT (name) DO UPDATE SET number = tally.number + excluded.number
"""


@dataclass(frozen=True)
class Job:
    """A message that was begun: what it is to tell, in which language, and where it stands; `message_id` 0 is a new one."""

    id: int
    chat_id: int
    urgent: bool
    thread: str
    about: dict[str, Any]
    steps: list[dict[str, Any]]
    silent: bool
    doubted: bool
    message_id: int
    language: str


def begin(most: int, *, urgent: bool, without: Sequence[int]) -> list[Job]:
    """Commit that one message of each of so many chats is about to leave, oldest first, none of the chats `without`.

    Alarms apart from the rest, those of operators first. Raises django.db.Error.
    """
    asked: dict[str, Any] = {"urgent": urgent, "without": list(without), "most": most, "lease_s": LEASE_S}
    with connection.cursor() as cursor:
        cursor.execute(_BEGIN, asked)
        rows = cursor.fetchall()
    return [
        # Rows have people by their pseudonyms; whoever is told of the stack may know who acted.
        Job(pk, chat_id, of_alarm, thread, json.loads(about), json.loads(people.unveiled(steps)), *rest)
        for pk, chat_id, of_alarm, thread, about, steps, *rest in rows
    ]


def delivered(job: Job, message_id: int) -> None:
    """Telegram took it: the message shows the steps of the job; what came meanwhile is still due. Raises django.db.Error."""
    shown = Greatest(F("delivered"), len(job.steps))
    with transaction.atomic():
        Notice.objects.filter(pk=job.id).update(
            delivered=shown,
            message_id=message_id,
            begun_at=None,
            due_at=Case(When(wanted__gt=shown, then=F("due_at")), default=None),
            sent_at=Coalesce(F("sent_at"), Now()),
        )
        count(DELIVERED)


def put_back(job: Job, *, doubtful: bool) -> None:
    """Not delivered, and still due; `doubtful` where it may have come out. Raises django.db.Error."""
    doubted = job.doubted or (doubtful and not job.message_id)
    Notice.objects.filter(pk=job.id).update(begun_at=None, doubted=doubted)


def gone(job: Job) -> None:
    """Somebody deleted the message; what it had yet to tell becomes a new one. Raises django.db.Error."""
    Notice.objects.filter(pk=job.id).update(begun_at=None, message_id=None, delivered=0)


def give_up(job: Job, why: str) -> None:
    """Telegram will never take it. Raises django.db.Error."""
    with transaction.atomic():
        Notice.objects.filter(pk=job.id).update(
            begun_at=None, due_at=None, failed_at=Now(), failed_why=why[:200] or "refused"
        )
        count(FAILED)
    log.error("a notice is given up", thread=job.thread, tg_user_id=job.chat_id, why=why)


def close(chat_id: int, why: str) -> bool:
    """Nothing is delivered there any more until they write again; said once. Raises django.db.Error."""
    with transaction.atomic():
        TelegramChat.objects.get_or_create(tg_user_id=chat_id)
        changed = TelegramChat.objects.filter(tg_user_id=chat_id, closed_at=None).update(
            closed_at=Now(), closed_why=why[:200] or "closed"
        )
        undelivered = Notice.objects.filter(tg_user_id=chat_id, due_at__isnull=False).update(
            begun_at=None, due_at=None, failed_at=Now(), failed_why=why[:200] or "closed"
        )
        if undelivered:
            count(FAILED, undelivered)
        if changed:
            audit.record(
                AuditAction.TELEGRAM_CLOSED,
                f"telegram {chat_id}",
                reason=why[:400],
                after={"undelivered": undelivered},
            )
    if changed:
        log.warning("a chat is closed to the bot", tg_user_id=chat_id, why=why, undelivered=undelivered)
    return bool(changed)


_spoken: dict[int, str] = {}  # of those who may use the bot, so not many


def language_of(chat_id: int, telegrams: str) -> str:
    """What they chose or, without a choice, what their Telegram is set to. Raises django.db.Error."""
    row = TelegramChat.objects.filter(tg_user_id=chat_id).first()
    spoken = telegrams if row is None else row.asked_language or telegrams or row.language
    _spoken[chat_id] = spoken
    return spoken


def last_language_of(chat_id: int, telegrams: str) -> str:
    """As far as this process knows, without asking the database: what is said while that is away is in it, too."""
    return _spoken.get(chat_id, telegrams)


def heard(chat_id: int, language: str) -> None:
    """Somebody wrote: their chat is open, and their Telegram is set to this language. Raises django.db.Error."""
    row = TelegramChat.objects.filter(tg_user_id=chat_id).first()
    language = language[:35] or (row.language if row is not None else "")
    if row is not None and row.closed_at is None and row.language == language:
        return
    opened = {"closed_at": None, "closed_why": "", "language": language}
    TelegramChat.objects.update_or_create(tg_user_id=chat_id, defaults=opened)
    if row is not None and row.closed_at is not None:
        log.info("a chat is open to the bot again", tg_user_id=chat_id)


def forget() -> int:
    """Drop what was delivered or given up long ago; returns how many. Raises django.db.Error."""
    old = Notice.objects.filter(created_at__lt=Now() - KEPT, due_at=None)
    return old.delete()[0]


def count(name: str, many: int = 1) -> None:
    """Add to a tally. Raises django.db.Error."""
    with connection.cursor() as cursor:
        cursor.execute(_COUNT, [name, many])

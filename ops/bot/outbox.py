"""What has to leave, and the three short commits about each message: begun, then delivered, put back or given up.

Telegram takes no key by which it would know a message again, so for a first message the moment between its answer and
our commit cannot be closed, only made small: `begun_at` is committed right before the request, and the answer right
after it. A death in between, or a request that nobody answered, leaves a message of which nobody knows whether it came
out. It is sent again, since an alarm that is told twice does no harm and one that is never told does; the second one says that
it may be one. What was not begun was not sent, and is sent once. An edit may be repeated as often as one likes: Telegram
says that nothing was changed, and that is as good as done. Who ends in peace waits for answers first, so only a kill, a
fault of the machine or of the network is ever in doubt.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog
from django.db import connection, transaction
from django.db.models import F, Q
from django.db.models.functions import Now

from execution_app import audit
from execution_app.audit_words import AuditAction
from ops.bot.models import Notice, Tally, TelegramChat

log = structlog.get_logger(__name__)

KEPT = timedelta(days=30)
# Longer than a request may take; a notice that was begun longer ago has no answer to come.
LEASE_S = 20
MOST_CHATS = 200
DELIVERED, FAILED = "delivered", "failed"

# The most urgent and then the oldest of each person who may still use the bot and whose chat is open.
_DUE = """
SELECT next.id, person.tg_user_id, next.urgent, next.due_at FROM telegram_users person
LEFT JOIN telegram_chats chat ON chat.tg_user_id = person.tg_user_id
CROSS JOIN LATERAL (
    SELECT id, urgent, due_at FROM telegram_notices notice
    WHERE notice.tg_user_id = person.tg_user_id AND notice.due_at IS NOT NULL
      AND (notice.begun_at IS NULL OR notice.begun_at < now() - make_interval(secs => %s))
    ORDER BY notice.urgent DESC, notice.due_at, notice.id LIMIT 1
) next
WHERE chat.closed_at IS NULL AND NOT person.tg_user_id = ANY(%s)
ORDER BY next.urgent DESC, next.due_at, next.id LIMIT %s
"""


@dataclass(frozen=True)
class Due:
    """The next message of one chat."""

    id: int
    chat_id: int
    urgent: bool
    due_at: datetime


@dataclass(frozen=True)
class Job:
    """A message that was begun: what it is to tell, in which language, and where it stands; `message_id` 0 is a new one."""

    id: int
    chat_id: int
    thread: str
    about: dict[str, Any]
    steps: list[dict[str, Any]]
    silent: bool
    doubted: bool
    message_id: int
    language: str


def due(busy: list[int]) -> list[Due]:
    """One message of each chat that has any and is not busy, alarms first. Raises django.db.Error."""
    with connection.cursor() as cursor:
        cursor.execute(_DUE, [LEASE_S, busy, MOST_CHATS])
        return [Due(*row) for row in cursor.fetchall()]


def begin(notice_id: int) -> Job | None:
    """Commit that it is about to leave; None where another process has it, or nothing of it is left. Raises django.db.Error."""
    ready = Q(begun_at=None) | Q(begun_at__lt=Now() - timedelta(seconds=LEASE_S))
    with transaction.atomic():
        row = (
            Notice.objects.select_for_update(skip_locked=True)
            .filter(ready, pk=notice_id, due_at__isnull=False)
            .first()
        )
        if row is None:
            return None
        # Begun by somebody who never said what came of it.
        row.doubted = row.doubted or (row.begun_at is not None and row.message_id is None)
        Notice.objects.filter(pk=row.pk).update(begun_at=Now(), doubted=row.doubted)
        chat = TelegramChat.objects.filter(tg_user_id=row.tg_user_id).first()
    return Job(
        row.pk,
        row.tg_user_id,
        row.thread,
        row.about,
        row.steps,
        row.silent,
        row.doubted,
        row.message_id or 0,
        "" if chat is None else chat.asked_language or chat.language,
    )


def delivered(job: Job, message_id: int) -> None:
    """Telegram took it: the message shows the steps of the job; what came meanwhile is still due. Raises django.db.Error."""
    with transaction.atomic():
        row = Notice.objects.select_for_update().get(pk=job.id)
        shown = max(row.delivered, len(job.steps))
        fields: dict[str, Any] = {"delivered": shown, "message_id": message_id, "begun_at": None}
        if shown >= row.wanted:
            fields["due_at"] = None
        if row.sent_at is None:
            fields["sent_at"] = Now()
        Notice.objects.filter(pk=row.pk).update(**fields)
        _count(DELIVERED)


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
        _count(FAILED)
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
            _count(FAILED, undelivered)
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


def language_of(chat_id: int, telegrams: str) -> str:
    """What they chose or, without a choice, what their Telegram is set to. Raises django.db.Error."""
    row = TelegramChat.objects.filter(tg_user_id=chat_id).first()
    return telegrams if row is None else row.asked_language or telegrams or row.language


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


def _count(name: str, many: int = 1) -> None:
    Tally.objects.get_or_create(name=name)
    Tally.objects.filter(name=name).update(number=F("number") + many)

"""A box of the home page: one question to one source, answered within a limit or told as unanswered.

Boxes know nothing of one another, so a source that fails costs its own box only.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime

import structlog
from django.contrib.auth.models import AbstractUser, AnonymousUser
from django.db import Error as DatabaseError
from django.db import connection, transaction

log = structlog.get_logger(__name__)

BOX_WITHIN_MS = 800
NEAR_PCT, FULL_PCT = 80, 100
GOOD, WARN, BAD = "good", "warn", "bad"


class UnreadError(Exception):
    """A source beside the database did not answer; its words are shown in the box."""


@dataclass(frozen=True)
class Line:
    """One fact. `tone` is how it bears on money, `share_pct` the part of a limit that is used, `href` where it is listed."""

    name: str
    value: str
    note: str = ""
    tone: str = ""
    mode: str = ""
    href: str = ""
    share_pct: int | None = None

    @property
    def bar_pct(self) -> int:
        """What a bar has room for."""
        return max(0, min(self.share_pct or 0, FULL_PCT))


@dataclass(frozen=True)
class Box:
    """`read` asks within BOX_WITHIN_MS and raises DatabaseError or UnreadError; `empty` says what to do without lines.

    It is given the time by the database's clock. `waits` says that its answer comes from a look that others make
    meanwhile: it is read behind the boxes that ask the database themselves.
    """

    key: str
    title: str
    permission: str
    read: Callable[[datetime], Sequence[Line]]
    empty: str
    href: str = ""
    waits: bool = False

    @property
    def list_name(self) -> str:
        """The URL's name of the list behind the box."""
        return f"admin:{self.href}_changelist"


@dataclass(frozen=True)
class Shown:
    """A box as it was answered; `problem` is why it was not."""

    box: Box
    lines: Sequence[Line] = field(default_factory=tuple)
    problem: str = ""

    @property
    def tone(self) -> str:
        tones = {line.tone for line in self.lines}
        if self.problem:
            return BAD
        return next((tone for tone in (BAD, WARN) if tone in tones), "")


def show(boxes: Sequence[Box], user: AbstractUser | AnonymousUser) -> list[Shown]:
    """Every box that this user may see, in order, each answered by itself.

    They share a transaction until one fails, since beginning and ending one for each takes as long as their questions.
    """
    seen = [box for box in boxes if user.has_perm(box.permission)]
    waiting = deque(sorted(seen, key=lambda box: box.waits))
    shown: list[Shown] = []
    while waiting:
        try:
            with bounded() as now:
                while waiting:
                    shown.append(_read(waiting[0], now))
                    waiting.popleft()
        except DatabaseError as problem:
            if not waiting:
                break  # all were answered, and a look has nothing to commit
            box, lost = waiting.popleft(), not connection.is_usable()
            log.warning("a box was not read", box=box.key, error=type(problem).__name__)
            shown.append(Shown(box, problem=_words(lost=lost)))
            if lost:
                # Connecting anew to a server that is gone would take its time for every box.
                shown += [Shown(one, problem=_words(lost=True)) for one in waiting]
                break
    return sorted(shown, key=lambda one: seen.index(one.box))


def _read(box: Box, now: datetime) -> Shown:
    try:
        return Shown(box, box.read(now))
    except UnreadError as problem:
        return Shown(box, problem=str(problem))


def _words(*, lost: bool) -> str:
    if lost:
        return "the database does not answer"
    return f"the database did not answer this within {BOX_WITHIN_MS} ms"


@contextmanager
def bounded(within_ms: int = BOX_WITHIN_MS) -> Iterator[datetime]:
    """A look that changes nothing and ends in time, begun at the database's time; raises DatabaseError."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            "SELECT set_config('statement_timeout', %s, true), set_config('transaction_read_only', 'on', true),"
            " clock_timestamp()",
            [str(within_ms)],
        )
        *_, now = cursor.fetchone()
        yield now


def share(used: float, limit: float) -> tuple[int, str]:
    """How much of a limit is used in per cent, rounded down, and its tone; a limit of 0 is full."""
    if limit <= 0:
        return FULL_PCT, BAD
    pct = int(used * 100 / limit)
    return pct, BAD if pct >= FULL_PCT else WARN if pct >= NEAR_PCT else GOOD

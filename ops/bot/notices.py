"""News becomes notices: for whom, how loudly, as which message. All of it in the caller's transaction.

News is made of rows that are there for good, and each piece has a key, so reading the same rows twice tells nothing twice.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from execution_app.engine.waiting import database_now
from execution_app.states import Origin
from ops.bot.models import Event, Level, Notice, NoticeLevel, Role, TelegramChat, TelegramUser

# Of one's own trades, and of what concerns everybody.
DEFAULTS: Mapping[Event, Level] = {
    Event.ACCEPTED: Level.ON,
    Event.REFUSED: Level.ON,
    Event.SENT: Level.SILENT,
    Event.REPLACED: Level.SILENT,
    Event.MINED: Level.SILENT,
    Event.FILLED: Level.ON,
    Event.REVERTED: Level.ON,
    Event.LEVEL: Level.ON,
    Event.LIQUIDATED: Level.ON,
    Event.DRIFT: Level.ON,
    Event.MODE: Level.ON,
    Event.GAS: Level.ON,
    Event.DELEGATE: Level.ON,
    Event.BOUND: Level.ON,
    Event.ROLE: Level.ON,
    Event.DAILY: Level.SILENT,
}
# Whoever watches everybody asks for everybody's trades.
OF_TRADES = frozenset(
    {Event.ACCEPTED, Event.REFUSED, Event.SENT, Event.REPLACED, Event.MINED, Event.FILLED, Event.REVERTED, Event.LEVEL}
)  # fmt: skip
ALARMS = frozenset({Event.LIQUIDATED, Event.DRIFT, Event.MODE})
CHANGED = ["steps", "wanted", "due_at", "urgent", "silent", "failed_at", "failed_why"]
MOST_STEPS = 40  # of one message; what would follow is in /why


@dataclass(frozen=True)
class News:
    """One thing that happened: a step of the message `thread`, once by its key.

    `owner` is whose affair it is, by Telegram id; None is everybody's. `only` is the one person it was made for. `by`
    is who did it, and is not told of it.
    """

    event: Event
    thread: str
    key: str
    at: datetime
    owner: int | None = None
    about: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    origin: str = ""
    by: str = ""
    only: int | None = None

    def step(self) -> dict[str, Any]:
        return {"key": self.key, "event": self.event.value, "at": self.at.isoformat(), **self.facts}


class Audience:
    """Who may be told, and how loudly, as it is in the database now."""

    def __init__(self) -> None:
        closed = TelegramChat.objects.filter(closed_at__isnull=False).values("tg_user_id")
        self.people = list(TelegramUser.objects.exclude(tg_user_id__in=closed).order_by("id"))
        self._levels = {
            (row.tg_user_id, row.event): Level(row.level)
            for row in NoticeLevel.objects.filter(tg_user_id__in=[one.tg_user_id for one in self.people])
        }

    def level(self, person: TelegramUser, event: Event, owner: int | None) -> Level:
        """A trader hears of what is theirs and everybody's; viewers and operators hear of all, of trades when they ask."""
        own = owner is None or owner == person.tg_user_id
        if not own and person.role == Role.TRADER:
            return Level.OFF
        default = DEFAULTS[event] if own or event not in OF_TRADES else Level.OFF
        return self._levels.get((person.tg_user_id, event.value), default)

    def of(self, news: News) -> Iterable[tuple[TelegramUser, Level]]:
        for person in self.people:
            if news.only not in (None, person.tg_user_id):
                continue
            if news.origin == Origin.TELEGRAM and news.by == person.name:
                continue  # they were answered
            level = self.level(person, news.event, news.owner)
            if level is not Level.OFF:
                yield person, level


def levels_of(person: TelegramUser) -> dict[Event, Level]:
    """What somebody has chosen or, without a choice, what holds for what is their own."""
    chosen = {row.event: Level(row.level) for row in NoticeLevel.objects.filter(tg_user_id=person.tg_user_id)}
    return {event: chosen.get(event.value, DEFAULTS[event]) for event in Event}


def post(found: Sequence[News]) -> int:
    """Add what is new to the messages that tell it, and begin those that nobody has yet; returns how many have to leave."""
    if not found:
        return 0
    audience = Audience()
    steps: dict[tuple[int, str], list[tuple[News, Level]]] = defaultdict(list)
    for news in found:
        for person, level in audience.of(news):
            steps[person.tg_user_id, news.thread].append((news, level))
    if not steps:
        return 0
    now = database_now()
    rows = _rows(steps)
    new, old = [], []
    for place, told in steps.items():
        row = rows.get(place)
        if row is None:
            row = Notice(tg_user_id=place[0], thread=place[1], silent=True, about=dict(told[0][0].about))
            if _extend(row, told, now):
                new.append(row)
        elif _extend(row, told, now):
            old.append(row)
    Notice.objects.bulk_create(new)
    Notice.objects.bulk_update(old, CHANGED, batch_size=100)
    return len(new) + len(old)


def _rows(places: Iterable[tuple[int, str]]) -> dict[tuple[int, str], Notice]:
    users, threads = {user for user, _ in places}, {thread for _, thread in places}
    rows = Notice.objects.select_for_update().filter(tg_user_id__in=users, thread__in=threads).order_by("id")
    return {(row.tg_user_id, row.thread): row for row in rows}


def _extend(row: Notice, told: Sequence[tuple[News, Level]], now: datetime) -> bool:
    """Whether anything of it was new."""
    known = {step["key"] for step in row.steps}
    fresh = [(news, level) for news, level in told if news.key not in known][: MOST_STEPS - len(row.steps)]
    if not fresh:
        return False
    row.steps = [*row.steps, *(news.step() for news, _ in fresh)]
    row.wanted = len(row.steps)
    row.due_at = row.due_at or now
    # What was given up, for a chat that was closed, is told with what follows.
    row.failed_at, row.failed_why = None, ""
    row.urgent = row.urgent or any(news.event in ALARMS for news, _ in fresh)
    # A message rings once, when it appears, and Telegram lets no edit ring.
    row.silent = row.silent and all(level is Level.SILENT for _, level in fresh)
    return True

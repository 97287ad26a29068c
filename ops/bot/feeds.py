"""Tables that only grow, read up to their ends, each once: workers write no word for Telegram and wait for none.

Ids are given before a commit, so a lower one may become visible after a higher one. A cursor therefore moves to the
newest id only once every transaction that was writing to the table when that id was seen has ended; the lock that every INSERT
takes before it is given an id, and keeps to its end, is looked at for that. Until then the rows are told all the same,
and read again: a step has a key.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from django.db import connection, transaction

from ops.bot import stack_news, trade_news
from ops.bot.models import Tally
from ops.bot.notices import News, post

MOST_ROWS = 500
WRITERS_END_WITHIN_S = 0.2
LOOK_EVERY_S = 0.01

_WRITERS = """
SELECT DISTINCT virtualtransaction FROM pg_locks
WHERE locktype = 'relation' AND relation = %s::regclass AND mode = 'RowExclusiveLock' AND granted
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


@dataclass(frozen=True)
class Feed:
    """One table, the column that counts its rows, and what a handful of them tells.

    `in_order` where rows become visible in the order of their numbers.
    """

    table: str
    read: Callable[[int, int, int], Sequence[tuple[int, News | None]]]
    column: str = "id"
    in_order: bool = False

    @property
    def name(self) -> str:
        return f"told {self.table}"


ALARMS = (
    Feed("mode_changes", stack_news.imposed),
    Feed("mode_history", stack_news.modes),
    # Its lock orders all entries until they are committed.
    Feed("audit_log", stack_news.lifted, "seq", in_order=True),
)
TRADES = (
    Feed("protection_triggers", trade_news.levels),
    Feed("intent_transitions", trade_news.moves),
    Feed("tx_sends", trade_news.replacements),
)
FEEDS = (*ALARMS, *TRADES)


def behind(among: Sequence[Feed]) -> list[Feed]:
    """Those that have rows which were not told, in two questions for all of them. Raises django.db.Error."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT " + ", ".join(f"({_newest(feed)})" for feed in among))
        tops = cursor.fetchone()
    known = dict(Tally.objects.filter(name__in=[feed.name for feed in among]).values_list("name", "number"))
    return [feed for feed, top in zip(among, tops, strict=True) if known.get(feed.name, -1) < top]


def look(feed: Feed) -> int:
    """Tell what is new in one table; returns how many messages have to leave. Raises django.db.Error, and then nothing is told.

    Whatever was there before the first look of all is history, and not told.
    """
    top = _top(feed)
    known = Tally.objects.filter(name=feed.name).values_list("number", flat=True).first()
    if known is not None and known >= top:
        return 0
    complete = feed.in_order or _writers_ended(feed.table)
    with transaction.atomic():
        if known is None:
            Tally.objects.get_or_create(name=feed.name, defaults={"number": top})
            return 0
        cursor = Tally.objects.select_for_update().get(name=feed.name)
        rows = feed.read(cursor.number, top, MOST_ROWS)
        posted = post([news for _, news in rows if news is not None])
        if complete:
            cursor.number = max(cursor.number, rows[-1][0] if len(rows) == MOST_ROWS else top)
            cursor.save(update_fields=["number"])
    return posted


def _top(feed: Feed) -> int:
    with connection.cursor() as cursor:
        cursor.execute(_newest(feed))
        return int(cursor.fetchone()[0])


def _newest(feed: Feed) -> str:
    return f"SELECT coalesce(max({feed.column}), 0) FROM {feed.table}"  # noqa: S608  (constants)


def _writers_ended(table: str) -> bool:
    """Whether all who write to the table now end in a moment; whoever begins later gets higher ids."""
    deadline_s = time.monotonic() + WRITERS_END_WITHIN_S
    writing = now = _writers(table)
    while writing:
        if time.monotonic() > deadline_s:
            return False
        time.sleep(LOOK_EVERY_S)
        now = _writers(table)
        writing &= now
    return True


def _writers(table: str) -> set[Any]:
    with connection.cursor() as cursor:
        cursor.execute(_WRITERS, [table])
        return {one for (one,) in cursor.fetchall()}

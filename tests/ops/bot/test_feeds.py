"""Rows that become visible late are told all the same, and none is told twice."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from django.db import connection, transaction

from execution_app.engine.waiting import database_now
from execution_app.models import ModeChange
from ops.bot import feeds
from ops.bot.models import Event, Notice, Tally, TelegramUser
from ops.bot.notices import MOST_STEPS, News, post

MODES = next(feed for feed in feeds.FEEDS if feed.table == "mode_history")


@pytest.fixture(autouse=True)
def reader(database: None) -> None:
    TelegramUser.objects.create(tg_user_id=501, role="operator", allowed_by="test")


def change() -> None:
    ModeChange.objects.create(kind="effective", mode="DRY", reason="", streak=0, epoch=1, said_by="test")


@transaction.atomic
def change_and_fail() -> None:
    change()
    raise ZeroDivisionError


@contextmanager
def uncommitted() -> Iterator[None]:
    """A change whose id is taken and whose transaction is open meanwhile; committed at the end."""
    written, go_on = threading.Event(), threading.Event()

    def write() -> None:
        with transaction.atomic():
            change()
            written.set()
            go_on.wait(30)
        connection.close()

    thread = threading.Thread(target=write)
    thread.start()
    assert written.wait(30)
    try:
        yield
    finally:
        go_on.set()
        thread.join(30)


def threads() -> list[str]:
    return list(Notice.objects.order_by("id").values_list("thread", flat=True))


def test_what_was_there_before_the_first_look_is_history() -> None:
    change()
    assert feeds.look(MODES) == 0
    change()
    assert feeds.look(MODES) == 1
    assert threads() == ["mode 2"]
    assert feeds.look(MODES) == 0


def test_a_lower_id_that_is_committed_later_is_told() -> None:
    feeds.look(MODES)
    with uncommitted():
        change()
        assert feeds.look(MODES) == 1, "what can be seen is told at once"
        assert threads() == ["mode 2"]
        assert feeds.look(MODES) == 0, "read again, and not told again"
        assert Tally.objects.get(name=MODES.name).number == 0
    assert feeds.look(MODES) == 1
    assert threads() == ["mode 2", "mode 1"]
    assert Tally.objects.get(name=MODES.name).number == 2


def test_a_gap_that_nobody_fills_holds_nothing_up() -> None:
    feeds.look(MODES)
    with pytest.raises(ZeroDivisionError):
        change_and_fail()
    change()
    assert feeds.look(MODES) == 1
    assert Tally.objects.get(name=MODES.name).number == 2


def test_more_rows_than_one_look_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds, "MOST_ROWS", 2)
    feeds.look(MODES)
    for _ in range(5):
        change()
    assert [feeds.look(MODES) for _ in range(4)] == [2, 2, 1, 0]


def test_a_failure_leaves_the_cursor_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    feeds.look(MODES)
    change()

    def fail(_found: object) -> int:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(feeds, "post", fail)
        with pytest.raises(ZeroDivisionError):
            feeds.look(MODES)
    assert feeds.look(MODES) == 1


def test_a_message_has_an_end() -> None:
    now = database_now()
    for number in range(MOST_STEPS + 5):
        with transaction.atomic():
            post([News(Event.MODE, "one", f"step {number}", now)])
    row = Notice.objects.get()
    assert (row.wanted, len(row.steps)) == (MOST_STEPS, MOST_STEPS)

"""Notices on their way: each once, alarms first, whatever Telegram does, and through the death of the process."""

import re
import time
from collections import Counter
from collections.abc import Iterator

import pytest

from execution_app.gate import control
from execution_app.models import AuditEntry
from execution_app.people import pseudonym_of
from execution_app.states import Origin, RestrictionKind
from ops.bot.models import Level, Notice, NoticeLevel, Tally, TelegramChat, TelegramUser
from tests.ops.bot.chat import PATIENCE_S, VERSION, Chat
from tests.ops.bot.conftest import OPERATOR, TRADER, VIEWER
from tests.ops.bot.queued import notice, queue, step
from tests.ops.bot.telegram_limits import Limits

KEY = re.compile(r"sig:flood:\d+")
DOUBTED = "You may have been told this before"


@pytest.fixture
def limits(told: Chat) -> Iterator[Limits]:
    told.telegram.limits = Limits()
    yield told.telegram.limits
    told.telegram.limits = None


def keys(chat: Chat, users: list[int]) -> Counter[str]:
    """How many messages tell of each order, by its key."""
    return Counter(key for user in users for one in chat.said(user) for key in KEY.findall(one.text))


def all_left(chat: Chat) -> None:
    chat.bot.wait_for(lambda: not Notice.objects.filter(due_at__isnull=False).exists(), "all delivered")


def test_many_are_delivered_once_each_within_telegrams_limits(told: Chat, limits: Limits) -> None:
    """A small slice of tests/ops/bot/flood.py, with an alarm in the middle of it."""
    more = list(range(601, 631))
    for user in more:
        TelegramUser.objects.create(tg_user_id=user, role="trader", allowed_by="test")
        told.telegram.knows(user)
    queue(more, 200)
    told.bot.wait_for(lambda: sum(keys(told, more).values()) > 40)
    begun_s = time.monotonic()
    control.impose(RestrictionKind.STOP, Origin.HTTP, by="ann", reason="drill")
    told.bot.wait_for(lambda: all(stopped(told, user) for user in [*more, OPERATOR]))
    assert time.monotonic() - begun_s < PATIENCE_S
    assert sum(keys(told, more).values()) < 200, "an alarm waits for no queue"
    all_left(told)
    assert set(keys(told, more).values()) == {1}
    assert len(keys(told, more)) == 200
    assert limits.refused == 0


def stopped(chat: Chat, user: int) -> bool:
    return any("Emergency stop" in one.text for one in chat.said(user))


def test_a_stop_is_answered_ahead_of_a_thousand_notices(told: Chat, limits: Limits) -> None:
    queue([OPERATOR, TRADER, VIEWER], 1_000)
    told.bot.wait_for(lambda: len(keys(told, [OPERATOR])) > 1)
    begun_s = time.monotonic()
    told.telegram.writes(OPERATOR, "/stop")
    told.bot.wait_for(lambda: any("Stopped." in one.text for one in told.said(OPERATOR)))
    assert time.monotonic() - begun_s < 30, "2 s on a machine of its own: flood.py measures it"
    Notice.objects.all().delete()


def test_a_death_in_mid_flow_loses_nothing_and_doubles_nothing(told: Chat) -> None:
    users = [OPERATOR, TRADER, VIEWER]
    queue(users, 18)
    told.bot.wait_for(lambda: sum(keys(told, users).values()) >= 6)
    told.bot.kill()
    begun = set(Notice.objects.filter(begun_at__isnull=False).values_list("pk", flat=True))
    # Their lease is over; nobody knows whether they came out.
    Notice.objects.filter(pk__in=begun).update(begun_at="2026-01-01T00:00:00Z")
    told.bot.begin()
    all_left(told)
    counts = keys(told, users)
    assert len(counts) == 18
    doubtful = [one for user in users for one in told.said(user) if DOUBTED in one.text]
    assert sum(counts.values()) <= 18 + len(begun)
    assert len(doubtful) == len(begun), "whatever may come twice says so"


def test_an_edit_after_a_death_is_no_second_message(told: Chat) -> None:
    """The edit came out, and its commit did not."""
    row = notice(TRADER, 1)
    row.save()
    all_left(told)
    told.bot.kill()
    row.refresh_from_db()
    row.steps = [*row.steps, step("filled", "filled", mode="LIVE", price="60000")]
    row.wanted, row.due_at, row.begun_at = 2, "2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z"
    row.save()
    message = told.telegram.messages[TRADER, row.message_id or 0]
    told.bot.begin()
    all_left(told)
    assert "filled LIVE at 60,000 USD" in message.text
    row.refresh_from_db()
    Notice.objects.filter(pk=row.pk).update(delivered=1, due_at="2026-01-01T00:00:00Z")
    all_left(told)
    assert (message.edits, sum(keys(told, [TRADER]).values())) == (1, 1)


def test_too_many_requests_hold_one_chat_or_all(told: Chat) -> None:
    users = [OPERATOR, TRADER, VIEWER]
    told.telegram.storms("sendMessage", 4, retry_after_s=1)
    queue(users, 9)
    all_left(told)
    assert set(keys(told, users).values()) == {1}
    assert len(keys(told, users)) == 9
    refused = [call for call in told.telegram.called("sendMessage") if call.code == 429][-4:]
    assert len(refused) == 4
    for call in refused:
        chat = call.fields["chat_id"]
        following = [
            one.at_s
            for one in told.telegram.called("sendMessage")
            if one.at_s > call.at_s and one.fields["chat_id"] == chat
        ]
        assert min(following) - call.at_s >= 0.9, "retry_after is kept to"


def test_telegram_away_delays_and_loses_nothing(told: Chat) -> None:
    told.telegram.goes_away()
    queue([OPERATOR, TRADER], 6)
    told.bot.wait_for(lambda: "notices wait: Telegram does not answer" in told.bot.said)
    assert Notice.objects.filter(due_at__isnull=False).count() == 6
    told.telegram.is_back()
    all_left(told)
    assert set(keys(told, [OPERATOR, TRADER]).values()) == {1}
    assert len(keys(told, [OPERATOR, TRADER])) == 6


def test_an_answer_that_is_lost_makes_a_second_one_that_says_so(told: Chat) -> None:
    told.telegram.loses_answers("sendMessage")
    notice(TRADER, 1).save()
    all_left(told)
    said = [one.text for one in told.said(TRADER) if "sig:flood:1" in one.text]
    assert [DOUBTED in text for text in said] == [False, True]


def test_a_chat_that_blocked_the_bot_is_closed_once_and_opened_by_a_word(told: Chat) -> None:
    told.telegram.blocked_by.add(VIEWER)
    try:
        queue([VIEWER], 3)
        told.bot.wait_for(lambda: TelegramChat.objects.filter(pk=VIEWER, closed_at__isnull=False).exists())
        control.impose(RestrictionKind.REDUCE_ONLY, Origin.HTTP, by="ann", reason="drill")
        told.bot.wait_for(lambda: any("Reduce-only" in one.text for one in told.said(OPERATOR)))
        assert set(Notice.objects.filter(tg_user_id=VIEWER).values_list("failed_why", flat=True)) == {
            "Forbidden: bot was blocked by the user"
        }
        assert Notice.objects.filter(tg_user_id=VIEWER).count() == 3, (
            "nothing is queued for who cannot be told"
        )
        entry = AuditEntry.objects.get(action="telegram_closed")
        assert (entry.subject, entry.after) == (f"telegram {pseudonym_of(VIEWER)}", {"undelivered": 3})
        assert told.bot.said.count("a chat is closed to the bot") == 1
        assert Tally.objects.get(name="failed").number == 3
    finally:
        told.telegram.blocked_by.discard(VIEWER)
    told.settle(VIEWER)
    control.impose(RestrictionKind.STOP, Origin.HTTP, by="ann", reason="drill")
    told.bot.wait_for(lambda: stopped(told, VIEWER))


def test_what_telegram_refuses_for_good_stands_before_nobody(told: Chat) -> None:
    bad = notice(TRADER, 1, thread="trade 7")
    bad.steps = [step("no such state", "accepted")]
    bad.save()
    queue([TRADER], 2)
    all_left(told)
    bad.refresh_from_db()
    assert bad.failed_why.startswith("not made")
    assert len(keys(told, [TRADER])) == 2


def test_a_message_that_somebody_deleted_is_told_anew(told: Chat) -> None:
    row = notice(TRADER, 1)
    row.save()
    all_left(told)
    row.refresh_from_db()
    del told.telegram.messages[TRADER, row.message_id or 0]
    steps = [*row.steps, step("filled", "filled", mode="LIVE", price="60000")]
    Notice.objects.filter(pk=row.pk).update(steps=steps, wanted=2, due_at="2026-01-01T00:00:00Z")
    all_left(told)
    assert ["filled LIVE" in one.text for one in told.said(TRADER) if "sig:flood:1" in one.text] == [True]


def test_whoever_may_no_more_is_told_no_more(told: Chat) -> None:
    TelegramUser.objects.filter(tg_user_id=VIEWER).delete()
    queue([VIEWER, OPERATOR], 4)
    told.bot.wait_for(lambda: len(keys(told, [OPERATOR])) == 2)
    assert not keys(told, [VIEWER])
    assert NoticeLevel.objects.filter(level=Level.OFF.value).count() == 0
    assert not any(VERSION not in one.text for one in told.said(VIEWER))

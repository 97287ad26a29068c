"""When a notice may leave."""

import random

import pytest

from ops.bot.pace import CHAT_EVERY_S, NORMAL_PER_S, SPARE, WHOLE, WITHIN_S, Pace
from tests.ops.bot.telegram_limits import Limits

ANN, BOB = 1, 2


def leave(pace: Pace, chats: list[int], now_s: float, *, urgent: bool = False) -> list[float]:
    """When a message for each of these chats leaves, all of them as early as they may."""
    left = []
    for chat in chats:
        while pace.room(now_s, urgent=urgent) <= 0:
            next_s = pace.next_s(now_s, urgent=urgent)
            assert next_s > now_s
            now_s = next_s
        assert chat not in pace.resting(now_s, urgent=urgent)
        pace.left(chat, now_s, normal=not urgent)
        pace.back(chat, now_s)
        left.append(now_s)
    return left


def test_a_chat_rests_for_a_second_and_an_alarm_does_not_wait_for_that() -> None:
    pace = Pace()
    assert pace.resting(10.0, urgent=False) == {}
    pace.left(ANN, 9.0, normal=True)
    pace.back(ANN, 10.0)
    pace.left(BOB, 10.4)
    assert pace.resting(10.5, urgent=False) == {ANN: 10 + CHAT_EVERY_S, BOB: 10.4 + CHAT_EVERY_S}
    assert pace.resting(10.5, urgent=True) == {}
    assert pace.resting(11.2, urgent=False) == {BOB: 10.4 + CHAT_EVERY_S}


def test_many_chats_share_the_whole() -> None:
    left = leave(Pace(), list(range(100)), 10.0)
    limits = Limits()
    assert [limits.retry_after_s("sendMessage", chat, at_s) for chat, at_s in enumerate(left)] == [0] * 100
    assert left[-1] == pytest.approx(10 + (99 - SPARE) / NORMAL_PER_S, rel=0.01)


def test_an_alarm_finds_room_at_once_however_many_others_left() -> None:
    """Those of 31 chats leave within what Telegram takes in little more than a second, and none is one too many."""
    pace = Pace()
    before = leave(pace, list(range(100)), 10.0)
    alarms = leave(pace, list(range(31)), before[-1], urgent=True)
    assert alarms[0] == before[-1]
    assert alarms[-1] - before[-1] < 1.3
    limits = Limits()
    times = [*zip(before, range(100), strict=True), *zip(alarms, range(31), strict=True)]
    assert not any(limits.retry_after_s("sendMessage", chat, at_s) for at_s, chat in times)


def test_no_second_at_telegrams_door_sees_too_many_however_unevenly_they_travel() -> None:
    """Each takes up to a second on its way, and Telegram's answer as long: who leaves waits for those."""
    pace, limits, chance = Pace(), Limits(), random.Random(7)
    arrivals: list[tuple[float, int]] = []
    answers: list[tuple[float, int]] = []
    now_s = 10.0
    for chat in range(400):
        urgent = chat % 3 == 0
        while pace.room(now_s, urgent=urgent) <= 0:
            now_s = min([pace.next_s(now_s, urgent=urgent), *(at_s for at_s, _ in answers)])
            while answers and min(answers)[0] <= now_s:
                at_s, answered = min(answers)
                answers.remove((at_s, answered))
                pace.back(answered, at_s)
        pace.left(chat, now_s, normal=not urgent)
        there_s = now_s + chance.random()
        arrivals.append((there_s, chat))
        answers.append((there_s + chance.random(), chat))
    assert not any(limits.retry_after_s("sendMessage", chat, at_s) for at_s, chat in sorted(arrivals))


def test_others_wait_for_room_that_alarms_have_taken() -> None:
    pace = Pace()
    assert leave(pace, list(range(WHOLE)), 10.0, urgent=True) == [10.0] * WHOLE
    assert pace.room(10.5, urgent=False) == pace.room(10.5, urgent=True) == 0
    assert pace.next_s(10.5, urgent=False) == 10 + WITHIN_S


def test_too_many_holds_the_chat_and_a_second_chat_holds_all() -> None:
    pace = Pace()
    pace.too_many(ANN, 5, 10.0)
    assert pace.resting(10.5, urgent=True) == pace.resting(10.5, urgent=False) == {ANN: 15.0}
    assert pace.room(10.5, urgent=False)
    pace.too_many(ANN, 2, 11.0)
    assert pace.resting(11.5, urgent=False) == {ANN: 15.0}, "a shorter wait takes nothing back"
    assert pace.room(11.5, urgent=False)
    pace.too_many(BOB, 7, 12.0)
    assert pace.room(12.5, urgent=True) == pace.room(12.5, urgent=False) == 0
    assert pace.next_s(12.5, urgent=True) == 19.0


def test_what_is_over_is_over() -> None:
    pace = Pace()
    pace.too_many(ANN, 5, 10.0)
    pace.too_many(BOB, 5, 20.0)
    assert pace.room(20.0, urgent=False)
    assert pace.resting(20.0, urgent=False) == {BOB: 25.0}

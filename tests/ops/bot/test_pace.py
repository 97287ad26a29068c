"""When a notice may leave."""

import pytest

from ops.bot.pace import ALL_PER_S, SPARE, Pace
from tests.ops.bot.telegram_limits import Limits

ANN, BOB, EVE = 1, 2, 3


def test_a_chat_has_one_a_second_and_an_alarm_waits_for_the_whole_alone() -> None:
    pace = Pace()
    assert pace.ready_at_s(ANN) <= 10
    pace.left(ANN, 10.0)
    assert pace.ready_at_s(ANN) == 11.0
    for _ in range(SPARE):
        assert pace.ready_at_s(ANN, urgent=True) <= 10.0
        pace.left(EVE, 10.0)
    assert pace.ready_at_s(BOB) == pace.ready_at_s(ANN, urgent=True) == pytest.approx(10 + 1 / ALL_PER_S)


def test_many_chats_share_the_whole() -> None:
    pace, now_s = Pace(), 10.0
    left = []
    for chat in range(100):
        now_s = max(now_s, pace.ready_at_s(chat))
        pace.left(chat, now_s)
        left.append(now_s)
    limits = Limits()
    assert [limits.retry_after_s("sendMessage", chat, at_s) for chat, at_s in enumerate(left)] == [0] * 100
    assert left[-1] == pytest.approx(10 + (99 - SPARE) / ALL_PER_S)


def test_too_many_holds_the_chat_and_a_second_chat_holds_all() -> None:
    pace = Pace()
    pace.too_many(ANN, 5, 10.0)
    assert pace.ready_at_s(ANN, urgent=True) == 15.0
    assert pace.ready_at_s(BOB) <= 10.0
    pace.too_many(ANN, 2, 11.0)
    assert pace.ready_at_s(ANN) == 15.0, "a shorter wait takes nothing back"
    assert pace.ready_at_s(BOB) <= 11.0
    pace.too_many(BOB, 7, 12.0)
    assert pace.ready_at_s(EVE, urgent=True) == 19.0


def test_what_is_over_is_over() -> None:
    pace = Pace()
    pace.too_many(ANN, 5, 10.0)
    pace.too_many(BOB, 5, 20.0)
    assert pace.ready_at_s(EVE) <= 20.0

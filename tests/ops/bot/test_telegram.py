"""The Bot API of the tests keeps Telegram's rules: what a real server would refuse is refused here, too."""

import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from tests.ops.bot.telegram import TOKEN, Telegram

ANN = 501
Json = dict[str, Any]


@pytest.fixture
def telegram() -> Iterator[Telegram]:
    with Telegram() as server:
        server.writes(ANN, "/start")
        yield server


def ask(telegram: Telegram, method: str, token: str = TOKEN, **fields: Any) -> Json:
    request = urllib.request.Request(
        f"{telegram.base}/bot{token}/{method}",
        json.dumps(fields).encode(),
        {"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return dict(json.load(answer))
    except urllib.error.HTTPError as error:
        return dict(json.load(error))


def keyboard(data: str) -> str:
    return json.dumps({"inline_keyboard": [[{"text": "Press", "callback_data": data}]]})


REFUSED: list[tuple[str, Json, str]] = [
    ("sendMessage", {"chat_id": 999, "text": "x"}, "chat not found"),
    ("sendMessage", {"chat_id": ANN, "text": " "}, "message text is empty"),
    ("sendMessage", {"chat_id": ANN, "text": "x" * 4_097}, "message is too long"),
    ("sendMessage", {"chat_id": ANN, "text": "\U0001f600" * 2_049}, "message is too long"),
    ("sendMessage", {"chat_id": ANN, "text": "<b>x", "parse_mode": "HTML"}, "Can't find end tag"),
    ("sendMessage", {"chat_id": ANN, "text": "a <x> b", "parse_mode": "HTML"}, "Unsupported start tag"),
    ("sendMessage", {"chat_id": ANN, "text": "x", "reply_markup": keyboard("d" * 65)}, "BUTTON_DATA_INVALID"),
    ("sendMessage", {"chat_id": ANN, "text": "x", "reply_markup": keyboard("ä" * 33)}, "BUTTON_DATA_INVALID"),
    ("editMessageText", {"chat_id": ANN, "message_id": 77, "text": "x"}, "message to edit not found"),
    ("editMessageText", {"chat_id": ANN, "message_id": 1, "text": "x"}, "message can't be edited"),
    ("sendPhoto", {"chat_id": ANN}, "there is no photo"),
    ("sendPhoto", {"chat_id": ANN, "photo": "x", "caption": "x" * 1_025}, "caption is too long"),
    ("answerCallbackQuery", {"callback_query_id": "1"}, "query is too old"),
]


@pytest.mark.parametrize(("method", "fields", "words"), REFUSED)
def test_what_telegram_refuses_is_refused(telegram: Telegram, method: str, fields: Json, words: str) -> None:
    answer = ask(telegram, method, **fields)
    assert (answer["ok"], answer["error_code"]) == (False, 400)
    assert words in answer["description"]
    assert telegram.sent(ANN) == []


def test_what_is_just_short_enough_passes(telegram: Telegram) -> None:
    text = f"<b>{'x' * 4_096}</b>"
    assert ask(
        telegram, "sendMessage", chat_id=ANN, text=text, parse_mode="HTML", reply_markup=keyboard("d" * 64)
    )["ok"]
    assert len(telegram.sent(ANN)[0].text) == 4_096


def test_an_edit_must_change_something(telegram: Telegram) -> None:
    sent = ask(telegram, "sendMessage", chat_id=ANN, text="one")["result"]
    again = {"chat_id": ANN, "message_id": sent["message_id"]}
    assert "message is not modified" in ask(telegram, "editMessageText", **again, text="one")["description"]
    assert ask(telegram, "editMessageText", **again, text="two")["ok"]
    assert telegram.sent(ANN)[0].text == "two"


def test_updates_come_until_an_offset_confirms_them(telegram: Telegram) -> None:
    first, again = (ask(telegram, "getUpdates")["result"] for _ in range(2))
    assert first == again
    assert [one["message"]["text"] for one in first] == ["/start"]
    assert ask(telegram, "getUpdates", offset=first[0]["update_id"] + 1)["result"] == []
    telegram.hands_out_again(first[0])
    assert ask(telegram, "getUpdates")["result"] == first


def test_a_poll_waits_for_what_comes_and_only_one_may(telegram: Telegram) -> None:
    found: list[Json] = []
    offset = telegram.last_update()["update_id"] + 1
    polls = [
        threading.Thread(target=lambda: found.append(ask(telegram, "getUpdates", offset=offset, timeout=20)))
        for _ in range(2)
    ]
    polls[0].start()
    deadline_s = time.monotonic() + 60
    while telegram._poll < 1 and time.monotonic() < deadline_s:
        time.sleep(0.01)
    polls[1].start()
    polls[0].join(20)
    assert found[0]["error_code"] == 409
    telegram.writes(ANN, "/help")
    polls[1].join(20)
    assert found[1]["result"][0]["message"]["text"] == "/help"


def test_only_the_kinds_that_were_asked_for_come(telegram: Telegram) -> None:
    telegram.edits(ANN, "/stop")
    kinds = json.dumps(["message", "callback_query"])
    assert len(ask(telegram, "getUpdates", allowed_updates=kinds)["result"]) == 1
    assert len(ask(telegram, "getUpdates")["result"]) == 2


def test_storms_other_tokens_and_being_away(telegram: Telegram) -> None:
    telegram.storms("sendMessage", 1, retry_after_s=3)
    answer = ask(telegram, "sendMessage", chat_id=ANN, text="x")
    assert (answer["error_code"], answer["parameters"]) == (429, {"retry_after": 3})
    assert ask(telegram, "sendMessage", chat_id=ANN, text="x")["ok"]
    assert ask(telegram, "getMe", token="1:wrong")["error_code"] == 401
    assert ask(telegram, "getEverything")["error_code"] == 404
    telegram.goes_away()
    assert ask(telegram, "getMe")["error_code"] == 502
    telegram.is_back()
    telegram.blocked_by.add(ANN)
    assert ask(telegram, "sendMessage", chat_id=ANN, text="x")["error_code"] == 403


def test_a_pressed_button_is_answered_once(telegram: Telegram) -> None:
    ask(telegram, "sendMessage", chat_id=ANN, text="x", reply_markup=keyboard("go"))
    message = telegram.sent(ANN)[0]
    assert message.buttons == {"Press": "go"}
    _, query = telegram.presses(ANN, message, "go")
    assert ask(telegram, "answerCallbackQuery", callback_query_id=query, text="done")["ok"]
    assert not ask(telegram, "answerCallbackQuery", callback_query_id=query)["ok"]
    assert telegram.answers == {query: "done"}

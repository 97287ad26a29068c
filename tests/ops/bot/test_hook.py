"""The bot where Telegram posts updates to it: the same conversation, and nobody without the secret is listened to."""

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from execution_app.gate import control
from execution_app.states import Origin, RestrictionKind
from ops.bot.models import Tally, TelegramUpdate
from ops.watch import notices
from tests.ops.bot.chat import PATIENCE_S, Bot, Chat
from tests.ops.bot.conftest import OPERATOR
from tests.ops.bot.forks import Forks
from tests.ops.bot.telegram import Telegram

SECRET = "9f1c7ab2e04d4d6c8b35a6e1f0c2d7b8"


@pytest.fixture(scope="module")
def bot(
    telegram: Telegram, forks: Forks, login: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Bot]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    env = {
        "TELEGRAM_WEBHOOK_URL": f"http://127.0.0.1:{port}/telegram",
        "TELEGRAM_WEBHOOK_SECRET": SECRET,
        "TELEGRAM_WEBHOOK_PORT": str(port),
    }
    folder: Path = tmp_path_factory.mktemp("bot")
    with Bot(telegram.base, folder / "bot.log", forks.begin, **login, **env) as running:
        yield running


def stops() -> list[str]:
    return [row.origin for row in control.active() if row.kind == RestrictionKind.STOP]


def test_it_tells_telegram_where_and_nothing_is_polled(chat: Chat) -> None:
    hook = chat.telegram.hook
    assert hook.url.endswith("/telegram")
    assert hook.secret == SECRET
    menu = chat.ask(OPERATOR, "/start")
    chat.press(OPERATOR, menu, "status")
    (said,) = chat.telegram.called("setWebhook")
    assert json.loads(said.fields["allowed_updates"]) == ["message", "callback_query"]
    assert chat.telegram.called("getUpdates") == []
    assert not TelegramUpdate.objects.filter(handled_at=None).exists()


def test_without_the_secret_nothing_is_heard_and_all_of_it_is_counted(chat: Chat) -> None:
    chat.settle(OPERATOR)
    update = json.dumps({**chat.telegram.last_update(), "update_id": 1}).replace("/version", "/stop").encode()
    hook, before = chat.telegram.hook, TelegramUpdate.objects.count()
    for secret in ("", "wrong", SECRET[:-1], SECRET.upper(), SECRET + "x", "é"):
        assert hook.post(update, secret) == 401
    chat.bot.wait_for(lambda: Tally.objects.filter(name="unsigned", number=6).exists())
    assert TelegramUpdate.objects.count() == before
    assert stops() == []
    (told,) = [one for one in notices.notices() if one.name == "vanta_telegram_unsigned"]
    assert told.samples[0].value == 6


def test_what_cannot_be_read_is_left_and_keeps_no_stop_from_being_heard(chat: Chat) -> None:
    chat.settle(OPERATOR)
    for body in (
        b"",
        b"{",
        b"[]",
        b'{"update_id": "x"}',
        b'{"update_id": 2, "message": {"message_id": "x"}}',
    ):
        assert chat.telegram.hook.post(body) == 200
    assert chat.telegram.hook.post(b"[" * (1 << 20) + b" ") == 413
    chat.telegram.writes(OPERATOR, "/stop")
    chat.bot.wait_for(stops)


def test_the_same_post_again_stops_nobody(chat: Chat) -> None:
    chat.ask(OPERATOR, "/stop")
    update = json.dumps(chat.telegram.last_update()).encode()
    assert control.lift(RestrictionKind.STOP, Origin.TELEGRAM, by="test", reason="test")
    assert chat.telegram.hook.post(update) == 200
    chat.settle(OPERATOR)
    assert stops() == []


def test_a_stop_that_is_posted_to_nobody_is_heard_by_the_next(chat: Chat) -> None:
    chat.settle(OPERATOR)
    chat.bot.kill()
    chat.telegram.writes(OPERATOR, "/stop")
    deadline_s = time.monotonic() + PATIENCE_S
    while chat.telegram.hook.codes[-1] != 0:
        assert time.monotonic() < deadline_s
        time.sleep(0.02)
    chat.bot.begin()
    chat.bot.wait_for(stops)
    assert "Stopped" in chat.settle(OPERATOR)[-1].text

"""The real process of the bot against the Bot API of the tests, once for a file; each test empties the rows."""

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.core.management import call_command
from django.db import connection

from ops.bot.feeds import FEEDS
from ops.bot.models import Event, Level, NoticeLevel, Role, Tally, TelegramUser
from ops.rollout.grants import BOT
from tests import real_parts
from tests.ops.bot.chat import Bot, Chat
from tests.ops.bot.forks import Forks
from tests.ops.bot.telegram import Telegram

PASSWORD = "only-for-this-test-server"
OPERATOR, TRADER, VIEWER, STRANGER = 501, 123, 503, 504


@pytest.fixture(scope="module")
def telegram() -> Iterator[Telegram]:
    with Telegram() as server:
        yield server


@pytest.fixture(scope="session")
def forks() -> Iterator[Forks]:
    with Forks(real_parts.ROOT) as running:
        yield running


@pytest.fixture(scope="session")
def login(django_db_setup: None, django_db_blocker: Any) -> dict[str, str]:
    """The bot's own way into the database, with its role's rights and no others, as its environment has it."""
    with django_db_blocker.unblock(), connection.cursor() as cursor:
        call_command("roles", "apply", stdout=io.StringIO())
        cursor.execute(f"CREATE ROLE conversing LOGIN PASSWORD '{PASSWORD}' IN ROLE {BOT}")
    url = urlsplit(os.environ["DATABASE_URL"])
    place = f"conversing:{PASSWORD}@{url.netloc.rpartition('@')[2]}"
    return {"DATABASE_URL": url._replace(netloc=place).geturl()}


@pytest.fixture(scope="module")
def bot(
    telegram: Telegram, forks: Forks, login: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Bot]:
    folder: Path = tmp_path_factory.mktemp("bot")
    with Bot(telegram.base, folder / "bot.log", forks.begin, **login) as running:
        yield running


@pytest.fixture
def chat(database: None, telegram: Telegram, bot: Bot) -> Chat:
    """Everybody who is known, and nothing said yet; nobody is told anything unasked."""
    for user, role in ((OPERATOR, Role.OPERATOR), (TRADER, Role.TRADER), (VIEWER, Role.VIEWER)):
        TelegramUser.objects.create(tg_user_id=user, role=role.value, allowed_by="test")
        for event in Event:
            NoticeLevel.objects.create(tg_user_id=user, event=event.value, level=Level.OFF.value)
    return Chat(telegram, bot)


@pytest.fixture
def told(chat: Chat) -> Chat:
    """As `chat`, and everybody is told what people are by default, from now on; their chats are begun."""
    for user in (OPERATOR, TRADER, VIEWER):
        chat.settle(user)
    NoticeLevel.objects.all().delete()
    chat.bot.wait_for(
        lambda: Tally.objects.filter(name__startswith="told ").count() > len(FEEDS), "no first look"
    )
    return chat

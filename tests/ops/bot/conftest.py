"""The real process of the bot against the Bot API of the tests, once for a file; each test empties the rows."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from ops.bot.feeds import FEEDS
from ops.bot.models import Event, Level, NoticeLevel, Role, Tally, TelegramUser
from tests import real_parts
from tests.ops.bot.chat import Bot, Chat
from tests.ops.bot.forks import Forks
from tests.ops.bot.telegram import Telegram

OPERATOR, TRADER, VIEWER, STRANGER = 501, 123, 503, 504


@pytest.fixture(scope="module")
def telegram() -> Iterator[Telegram]:
    with Telegram() as server:
        yield server


@pytest.fixture(scope="session")
def forks() -> Iterator[Forks]:
    with Forks(real_parts.ROOT) as running:
        yield running


@pytest.fixture(scope="module")
def bot(
    telegram: Telegram, forks: Forks, django_db_setup: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Bot]:
    folder: Path = tmp_path_factory.mktemp("bot")
    with Bot(telegram.base, folder / "bot.log", forks.begin) as running:
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

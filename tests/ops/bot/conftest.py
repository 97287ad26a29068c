"""The real process of the bot against the Bot API of the tests, once for a file; each test empties the rows."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from ops.bot.models import Role, TelegramUser
from tests.ops.bot.chat import Bot, Chat
from tests.ops.bot.telegram import Telegram

OPERATOR, TRADER, VIEWER, STRANGER = 501, 123, 503, 504


@pytest.fixture(scope="module")
def telegram() -> Iterator[Telegram]:
    with Telegram() as server:
        yield server


@pytest.fixture(scope="module")
def bot(telegram: Telegram, django_db_setup: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bot]:
    folder: Path = tmp_path_factory.mktemp("bot")
    with Bot(telegram.base, folder / "bot.log") as running:
        yield running


@pytest.fixture
def chat(database: None, telegram: Telegram, bot: Bot) -> Chat:
    """Everybody who is known, and nothing said yet."""
    for user, role in ((OPERATOR, Role.OPERATOR), (TRADER, Role.TRADER), (VIEWER, Role.VIEWER)):
        TelegramUser.objects.create(tg_user_id=user, role=role.value, allowed_by="test")
    return Chat(telegram, bot)

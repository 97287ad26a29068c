"""One process of the bot for all files of this folder: to import what it needs takes longer than most tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ops.bot.chat import Bot
from tests.ops.bot.forks import Forks
from tests.ops.bot.telegram import Telegram


@pytest.fixture(scope="package")
def telegram() -> Iterator[Telegram]:
    with Telegram() as server:
        yield server


@pytest.fixture(scope="package")
def bot(
    telegram: Telegram, forks: Forks, django_db_setup: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Bot]:
    folder: Path = tmp_path_factory.mktemp("bot")
    with Bot(telegram.base, folder / "bot.log", forks.begin) as running:
        yield running

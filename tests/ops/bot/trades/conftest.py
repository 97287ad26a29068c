"""One process of the bot for all files of this folder: to import what it needs takes longer than most tests."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.servers.basehttp import ThreadedWSGIServer, WSGIRequestHandler
from django.core.wsgi import get_wsgi_application
from django.db import connections

from tests.browser import Browser, browser
from tests.ops.bot.chat import Bot
from tests.ops.bot.forks import Forks
from tests.ops.bot.telegram import Telegram


@pytest.fixture(scope="package")
def telegram() -> Iterator[Telegram]:
    with Telegram() as server:
        yield server


@pytest.fixture(scope="package")
def bot(
    telegram: Telegram, forks: Forks, login: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Bot]:
    folder: Path = tmp_path_factory.mktemp("bot")
    pages = {"TELEGRAM_PAGES_URL": "https://vanta.invalid/"}
    with Bot(telegram.base, folder / "bot.log", forks.begin, **login, **pages) as running:
        yield running


class Quiet(WSGIRequestHandler):
    def log_message(self, *_: object) -> None:
        """Pytest's output is for what fails."""


@pytest.fixture(scope="module")
def window(django_db_setup: None, django_db_blocker: Any) -> Iterator[Browser]:
    """The web process's pages behind a port of their own, and a browser that looks at them."""
    server = ThreadedWSGIServer(("127.0.0.1", 0), Quiet)
    server.set_app(get_wsgi_application())
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    with django_db_blocker.unblock():
        thread.start()
        with browser(f"http://127.0.0.1:{server.server_port}") as opened:
            yield opened
        server.shutdown()
        server.server_close()
        thread.join(20)
        connections.close_all()

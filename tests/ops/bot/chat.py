"""Talking to the bot as people do, and its process as a service manager runs it."""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, Self

from ops.rehearsal.parts.process import Child, Command
from tests import real_parts
from tests.ops.bot.telegram import TOKEN, Message, Telegram

PATIENCE_S = 60.0
VERSION = "Vanta 0."  # how the answer to /version begins


class Running(Protocol):
    """A process, however it was begun."""

    @property
    def is_alive(self) -> bool: ...

    def kill(self) -> None: ...

    def stop(self, grace_s: float) -> bool: ...


class Bot:
    """The process `manage.py bot`; it is begun with the block and may be killed and begun again."""

    def __init__(
        self, base: str, log: Path, run: Callable[[Command, Path], Running] = Child, **env: str
    ) -> None:
        self._log = log
        self._run = run
        self._env = {**os.environ, "TELEGRAM_BOT_TOKEN": TOKEN, "TELEGRAM_API_BASE": base, **env}
        self.child: Running | None = None

    def __enter__(self) -> Self:
        """Once it hears: what a test compared before, such as chain and database, would grow old meanwhile."""
        self.begin()
        self.wait_for(lambda: "event=polling" in self.said or "event=listening" in self.said)
        return self

    def __exit__(self, *_: object) -> None:
        if self.child is not None:
            self.child.stop(10)

    def begin(self) -> None:
        command = Command((sys.executable, "manage.py", "bot"), cwd=real_parts.ROOT, env=self._env)
        self.child = self._run(command, self._log)

    def kill(self) -> None:
        assert self.child is not None
        self.child.kill()

    @property
    def said(self) -> str:
        return self._log.read_text() if self._log.exists() else ""

    def wait_for(self, what: Callable[[], object], words: str = "") -> None:
        """Poll until it is so. Fails when the process has ended, or after a minute."""
        deadline_s = time.monotonic() + PATIENCE_S
        while not what():
            assert self.child is not None
            assert self.child.is_alive, self.said[-4_000:]
            assert time.monotonic() < deadline_s, f"{words}\n{self.said[-4_000:]}"
            time.sleep(0.02)


class Chat:
    """One bot and the people who write to it."""

    def __init__(self, telegram: Telegram, bot: Bot) -> None:
        self.telegram = telegram
        self.bot = bot
        self._before = {(one.chat_id, one.message_id) for one in telegram.all_sent()}

    def said(self, user_id: int) -> list[Message]:
        """What the bot has said to them in this test, oldest first."""
        return [
            one for one in self.telegram.sent(user_id) if (one.chat_id, one.message_id) not in self._before
        ]

    def ask(self, user_id: int, text: str) -> Message:
        """Write, and wait for the next thing that the bot says to them."""
        before = len(self.telegram.sent(user_id))
        self.telegram.writes(user_id, text)
        self.bot.wait_for(lambda: len(self.telegram.sent(user_id)) > before, f"no answer to {text}")
        return self.telegram.sent(user_id)[before]

    def press(self, user_id: int, message: Message, data: str) -> str:
        """Press, wait until the button rests, and return what the newest message says then."""
        _, query = self.telegram.presses(user_id, message, data)
        self.bot.wait_for(lambda: query in self.telegram.answers, f"no answer to {data}")
        return query

    def settle(self, user_id: int) -> list[Message]:
        """What the bot has said to them in this test, once all that they wrote before was handled."""
        settled = sum(VERSION in one.text for one in self.said(user_id))
        self.telegram.writes(user_id, "/version")
        self.bot.wait_for(lambda: sum(VERSION in one.text for one in self.said(user_id)) > settled)
        return [one for one in self.said(user_id) if VERSION not in one.text]

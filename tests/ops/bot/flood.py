"""`python -m tests.ops.bot.flood --messages 10000`: the bot's process against a Bot API that keeps Telegram's limits.

So many notices are queued for a few dozen chats; while they leave, an operator stops and two alarms are raised. Nothing is
compressed: 10,000 take about 7 minutes at the bot's pace of 25 a second. Exit code 0 where each came out once, Telegram
never had to say 429, the stop was answered within 2 s and every alarm was everywhere within 2 s; 1 where not.
"""

import argparse
import os
import re
import sys
import time
from collections import Counter
from typing import Any

WITHIN_S = 2.0
OPERATOR = 501
KEY = re.compile(r"sig:flood:\d+")
PATIENCE_S = 3_600.0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.ops.bot.flood", description=__doc__)
    parser.add_argument("--messages", type=int, default=10_000)
    parser.add_argument("--chats", type=int, default=30, help="beside the operator's (30)")
    asked = parser.parse_args()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "vanta.settings")
    import django
    from django.core.management import call_command

    from tests import real_parts  # starts the servers and fills the environment

    django.setup()
    call_command("migrate", verbosity=0)
    from tests.ops.bot.chat import Bot
    from tests.ops.bot.telegram import Telegram

    with Telegram() as telegram, Bot(telegram.base, real_parts.FOLDER / "bot.log") as bot:
        return Flood(telegram, bot, asked.messages, asked.chats).run()


class Flood:
    """One run, and what it found."""

    def __init__(self, telegram: Any, bot: Any, messages: int, chats: int) -> None:
        from tests.ops.bot.telegram_limits import Limits

        self.telegram, self.bot, self.messages = telegram, bot, messages
        self.chats = list(range(1_001, 1_001 + chats))
        self.limits = telegram.limits = Limits()
        self.problems: list[str] = []

    def run(self) -> int:
        self._begin()
        begun_s = time.monotonic()
        self._wait(lambda: self._told() >= self.messages // 4)
        self._stop("/stop while notices leave")
        self._wait(lambda: self._told() >= self.messages // 2)
        self._alarm("LIVE")
        self._wait(lambda: self._told() >= self.messages * 3 // 4)
        self._alarm("DRY")
        self._wait(lambda: self._told() >= self.messages and not self._due())
        took_s = time.monotonic() - begun_s
        counts = Counter(key for text in self._texts("sig:flood:") for key in KEY.findall(text))
        self._check(len(counts) == self.messages, f"{len(counts)} of {self.messages} came out")
        self._check(set(counts.values()) == {1}, f"{sum(counts.values()) - len(counts)} came out twice")
        self._check(self.limits.refused == 0, f"429 was answered {self.limits.refused} times")
        print(f"{self.messages} notices in {took_s:.0f} s, {self.messages / took_s:.1f}/s")  # noqa: T201
        return 1 if self.problems else 0

    def _begin(self) -> None:
        from ops.bot.feeds import FEEDS
        from ops.bot.models import Tally, TelegramUser
        from tests.ops.bot.queued import queue

        TelegramUser.objects.create(tg_user_id=OPERATOR, role="operator", allowed_by="flood")
        for chat in self.chats:
            TelegramUser.objects.create(tg_user_id=chat, role="trader", allowed_by="flood")
        for chat in (OPERATOR, *self.chats):
            self.telegram.knows(chat)
        self._wait(lambda: Tally.objects.filter(name__startswith="told ").count() > len(FEEDS))
        queue([OPERATOR, *self.chats], self.messages)

    def _stop(self, words: str) -> None:
        asked_s = time.monotonic()
        self.telegram.writes(OPERATOR, "/stop flood")
        self._wait(lambda: any("Stopped." in one.text for one in self.telegram.sent(OPERATOR)))
        took_s = time.monotonic() - asked_s
        self._check(took_s < WITHIN_S, f"{words}: answered after {took_s:.2f} s")
        self._everywhere("Emergency stop", self.chats, asked_s)

    def _alarm(self, mode: str) -> None:
        from execution_app.models import ModeChange

        raised_s = time.monotonic()
        ModeChange.objects.create(kind="effective", mode=mode, streak=0, epoch=1, said_by="flood")
        self._everywhere(f"The stack is {mode}.", [OPERATOR, *self.chats], raised_s)

    def _everywhere(self, words: str, chats: list[int], raised_s: float) -> None:
        self._wait(lambda: all(self._came(words, chat) for chat in chats))
        took_s = max(one.at_s for chat in chats for one in self.telegram.sent(chat) if words in one.text)
        took_s -= raised_s
        self._check(took_s < WITHIN_S, f"“{words}” in {len(chats)} chats after {took_s:.2f} s")

    def _came(self, words: str, chat: int) -> bool:
        return any(words in one.text for one in self.telegram.sent(chat))

    def _texts(self, words: str) -> list[str]:
        return [one.text for one in self.telegram.all_sent() if words in one.text]

    def _told(self) -> int:
        return len(self._texts("sig:flood:"))

    def _due(self) -> bool:
        from ops.bot.models import Notice

        return Notice.objects.filter(due_at__isnull=False).exists()

    def _wait(self, what: Any) -> None:
        deadline_s = time.monotonic() + PATIENCE_S
        while not what():
            if time.monotonic() > deadline_s or not self.bot.child.is_alive:
                sys.exit(f"FAILED: {self.bot.said[-4_000:]}")
            time.sleep(0.05)

    def _check(self, right: bool, words: str) -> None:
        print(f"{'ok' if right else 'FAILED'}: {words}", flush=True)  # noqa: T201
        if not right:
            self.problems.append(words)


if __name__ == "__main__":
    sys.exit(main())

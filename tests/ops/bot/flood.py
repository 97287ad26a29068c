"""`python -m tests.ops.bot.flood --messages 10000`: the bot's process against a Bot API that keeps Telegram's limits.

So many notices are queued for a few dozen chats; while they leave, an operator stops, two alarms are raised, and the bot is
ended in peace and begun again, then killed and begun again. Nothing is compressed: 10,000 take about 7 minutes at the
bot's pace of 24 a second. Exit code 0 where each came out once (what was under way at the kill may come again, and
says so), Telegram never had to say 429, the stop was answered within 2 s and every alarm was everywhere within 2 s.
"""

import argparse
import os
import re
import sys
import time
from collections import Counter, defaultdict
from typing import Any

WITHIN_S = 2.0
OPERATOR = 501
KEY = re.compile(r"sig:flood:\d+")
PATIENCE_S = 3_600.0
GRACE_S = 15.0
DOUBTED = "You may have been told this before"
SAYING = ("sendMessage", "editMessageText")
WATCHED = ("Stopped.", "Emergency stop", "The stack is LIVE.", "The stack is DRY.")


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
        self._seen = 0  # calls that were looked at
        self._counts: Counter[str] = Counter()
        self._again: list[str] = []  # keys that came a second time and said so
        self._alarms: dict[str, dict[int, float]] = defaultdict(
            dict
        )  # when each came first into a chat, by its words

    def run(self) -> int:
        self._begin()
        begun_s = time.monotonic()
        self._wait(lambda: self._told() >= self.messages // 4)
        self._stop("/stop while notices leave")
        self._wait(lambda: self._told() >= self.messages * 3 // 8)
        self._check(self.bot.child.stop(GRACE_S), "the bot ended in peace")
        self._check(not self._begun(), "nothing is in doubt after that")
        self.bot.begin()
        self._wait(lambda: self._told() >= self.messages // 2)
        self._alarm("LIVE")
        self._wait(lambda: self._told() >= self.messages * 5 // 8)
        self.bot.kill()
        doubtful = self._begun()
        self.bot.begin()
        self._wait(lambda: self._told() >= self.messages * 3 // 4)
        self._alarm("DRY")
        self._wait(lambda: self._told() >= self.messages and not self._due())
        took_s = time.monotonic() - begun_s
        self._look()
        counts = self._counts
        self._check(len(counts) == self.messages, f"{len(counts)} of {self.messages} came out")
        again = sum(counts.values()) - len(counts)
        self._check(again == len(self._again), f"{again} came out twice, {len(self._again)} of them said so")
        self._check(again <= doubtful, f"{doubtful} were under way at the kill")
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
        self._wait(lambda: OPERATOR in self._came("Stopped."))
        took_s = self._came("Stopped.")[OPERATOR] - asked_s
        self._check(took_s < WITHIN_S, f"{words}: answered after {took_s:.2f} s")
        self._everywhere("Emergency stop", self.chats, asked_s)

    def _alarm(self, mode: str) -> None:
        from execution_app.models import ModeChange

        raised_s = time.monotonic()
        ModeChange.objects.create(kind="effective", mode=mode, streak=0, epoch=1, said_by="flood")
        self._everywhere(f"The stack is {mode}.", [OPERATOR, *self.chats], raised_s)

    def _everywhere(self, words: str, chats: list[int], raised_s: float) -> None:
        self._wait(lambda: set(chats) <= set(self._came(words)))
        took_s = max(self._came(words)[chat] for chat in chats) - raised_s
        self._check(took_s < WITHIN_S, f"“{words}” in {len(chats)} chats after {took_s:.2f} s")

    def _came(self, words: str) -> dict[int, float]:
        """When these words came into each chat."""
        self._look()
        return self._alarms[words]

    def _told(self) -> int:
        self._look()
        return len(self._counts)

    def _look(self) -> None:
        """Each request once, so that to look takes nothing from what is measured."""
        calls = self.telegram.calls
        for at in range(self._seen, len(calls)):
            call = calls[at]
            if call.code != 200 or call.method not in SAYING:
                continue
            text = call.fields.get("text", "")
            if call.method == "sendMessage":
                keys = KEY.findall(text)
                self._again += [key for key in keys if key in self._counts and DOUBTED in text]
                self._counts.update(keys)
            for words in WATCHED:
                if words in text:
                    self._alarms[words].setdefault(int(call.fields["chat_id"]), call.at_s)
        self._seen = len(calls)

    def _begun(self) -> int:
        from ops.bot.models import Notice

        return Notice.objects.filter(begun_at__isnull=False).count()

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

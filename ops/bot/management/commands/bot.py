"""`manage.py bot`: the process of the compose service `bot`."""

import asyncio
import signal
import threading
from types import FrameType
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from execution_app import patience
from ops.bot import idling


class Command(BaseCommand):
    help = (
        "The Telegram bot (docs/telegram.md). Without a usable TELEGRAM_BOT_TOKEN it says so, beats, and waits. "
        "Ends with SIGTERM or Ctrl-C; exit code 0."
    )
    requires_system_checks = []

    def handle(self, *_args: Any, **_options: Any) -> None:
        patience.guard()
        token = settings.ENVIRONMENT.telegram_bot_token.get_secret_value()
        if not token:
            _idle(idling.BLANK)
            return
        # Here, so that no other command and no other process pays for aiogram.
        from ops.bot import hook, process, window

        if not window.is_token(token):
            _idle(idling.MALFORMED)
            return
        asyncio.run(process.main(token, settings.ENVIRONMENT.telegram_api_base, hook.asked_for()))


def _idle(note: str) -> None:
    ended = threading.Event()

    def end(_number: int, _frame: FrameType | None) -> None:
        ended.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    idling.idle(ended, note)

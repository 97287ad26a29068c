"""`manage.py bot`: the process of the compose service `bot`."""

import signal
import threading
from types import FrameType
from typing import Any

from django.core.management.base import BaseCommand

from ops.bot import idling


class Command(BaseCommand):
    help = (
        "The Telegram bot's process. This version has no bot yet: it says so, or that TELEGRAM_BOT_TOKEN is blank, "
        "beats, and waits until SIGTERM or Ctrl-C. Exit code 0."
    )
    requires_system_checks = []

    def handle(self, *_args: Any, **_options: Any) -> None:
        ended = threading.Event()

        def end(_number: int, _frame: FrameType | None) -> None:
            ended.set()

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, end)
        idling.idle(ended)

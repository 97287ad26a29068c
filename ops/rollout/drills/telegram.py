"""A phone of the drill's own: a Bot API on loopback, and the stack's bot before it as a process for as long as it lasts.

Nobody's Telegram is reached and no token of a deployment is used, so what is tried is the bot, from an update that
arrives to its answer, and not Telegram.
"""

import json
import secrets
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qsl

from django.conf import settings
from django.db.models.functions import Now

from execution_app.models import Heartbeat
from execution_app.models.people import TELEGRAM_IDS_END
from ops.bot.models import TelegramUser
from ops.rehearsal.parts.process import Child, Command
from ops.rollout.drills.operator import MANAGE, environment, manage
from ops.rollout.drills.report import NotInjected

WHO = TELEGRAM_IDS_END - 1  # nobody's: Telegram is far from there
SEEN_WITHIN = timedelta(seconds=15)
POLLS_WITHIN_S, ANSWERS_WITHIN_S, ENDS_WITHIN_S = 60.0, 20.0, 10.0
HOLD_S = 25.0
Json = dict[str, Any]


def obstacle() -> str:
    """Why the bot is not drilled here: a second one would take another's updates, and tell people things into the void."""
    if settings.ENVIRONMENT.telegram_bot_token.get_secret_value():
        return "the bot: there is a token, and a second process would take the updates of the first"
    if Heartbeat.objects.filter(component="bot", at__gt=Now() - SEEN_WITHIN).exists():
        return "the bot: one runs, and a second process would take its updates"
    if TelegramUser.objects.exclude(tg_user_id=WHO).exists():
        return "the bot: people are let in already, and what it tells them would be lost"
    return ""


class Phone:
    """Somebody who may stop, in a private chat with the bot. A context manager. Raises NotInjected, Failed."""

    def __init__(self, account: str) -> None:
        self._account = account
        self._api = _BotApi()
        self._opened = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as opened:
            opened.enter_context(self._api)
            manage("telegram", "allow", str(WHO), "operator", "--account", self._account)
            opened.callback(manage, "telegram", "revoke", str(WHO))
            folder = opened.enter_context(tempfile.TemporaryDirectory(prefix="vanta-drill-"))
            log = Path(folder) / "bot.log"
            told = {"TELEGRAM_BOT_TOKEN": self._api.token, "TELEGRAM_API_BASE": self._api.base}
            argv = (sys.executable, str(MANAGE), "bot")
            child = Child(Command(argv, MANAGE.parent, environment() | told), log)
            opened.callback(child.stop, ENDS_WITHIN_S)
            if not self._api.await_poll(POLLS_WITHIN_S):
                raise NotInjected(f"the bot asks for no updates: {log.read_text(errors='replace')[-600:]}")
            self._opened = opened.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the bot and take the person's role back, once."""
        self._opened.close()

    def writes(self, text: str, wanted: str) -> str:
        """What the bot says to it, with `wanted` in it. Raises NotInjected."""
        begun = self._api.hand_out(text)
        said = self._api.await_said(lambda words: wanted in words, begun, ANSWERS_WITHIN_S)
        if said is None:
            raise NotInjected(f"{text} in Telegram: {self._api.said[begun:] or 'no answer'}")
        return said


class _BotApi:
    """As much of core.telegram.org/bots/api as a private chat of texts takes."""

    def __init__(self) -> None:
        self.token = f"{secrets.randbelow(10**9) + 10**9}:{secrets.token_hex(18)}"
        self.said: list[str] = []
        self._updates: list[Json] = []
        self._first = int(time.time() * 1000)  # an update's number counts once for ever
        self._polls = 0
        self._changed = threading.Condition()
        handler = type("Handler", (_Handler,), {"api": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def hand_out(self, text: str) -> int:
        """An update; returns how much was said before it."""
        with self._changed:
            number = self._first + len(self._updates)
            person = {"id": WHO, "is_bot": False, "first_name": "Drill", "language_code": "en"}
            message = {
                "message_id": len(self._updates) + 1,
                "date": int(time.time()),
                "chat": self._chat,
                "from": person,
            }
            message |= {
                "text": text,
                "entities": [{"type": "bot_command", "offset": 0, "length": len(text.split(maxsplit=1)[0])}],
            }
            self._updates.append({"update_id": number, "message": message})
            self._changed.notify_all()
            return len(self.said)

    def await_poll(self, within_s: float) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: self._polls > 0, within_s)

    def await_said(self, fits: Callable[[str], bool], begun: int, within_s: float) -> str | None:
        with self._changed:
            self._changed.wait_for(lambda: any(map(fits, self.said[begun:])), within_s)
            return next(filter(fits, self.said[begun:]), None)

    def answer(self, method: str, fields: Json) -> Any:
        """What the request gets as its result."""
        with self._changed:
            if method == "getUpdates":
                return self._poll(int(fields.get("offset", 0)), min(float(fields.get("timeout", 0)), HOLD_S))
            if not method.startswith(("send", "edit")):
                return True
            self.said.append(str(fields.get("text", "")))
            self._changed.notify_all()
            return {"message_id": 10**6 + len(self.said), "date": int(time.time()), "chat": self._chat}

    def _poll(self, offset: int, hold_s: float) -> list[Json]:
        self._polls += 1
        self._changed.notify_all()

        def left() -> list[Json]:
            return [update for update in self._updates if update["update_id"] >= offset]

        self._changed.wait_for(left, hold_s)
        return left()

    @property
    def _chat(self) -> Json:
        return {"id": WHO, "type": "private", "first_name": "Drill"}


class _Handler(BaseHTTPRequestHandler):
    api: _BotApi

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        # Pictures come in pieces and are not looked at; their connection ends with them.
        self.close_connection = "Content-Length" not in self.headers
        _, bot, method = self.path.split("/", 2)
        known = bot == f"bot{self.api.token}"
        found = (
            {"ok": True, "result": self.api.answer(method, dict(parse_qsl(body.decode(errors="replace"))))}
            if known
            else {"ok": False}
        )
        said = json.dumps(found).encode()
        with suppress(OSError):  # whoever asked may have ended meanwhile
            self.send_response(200 if known else 401)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

    def log_message(self, *_: object) -> None:
        """The report is the drill's."""

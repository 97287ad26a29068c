"""Telegram's other way to hand out updates: posted to an address, one after another, each until it is answered 200."""

import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

from tests.ops.bot.telegram_rules import bad

Json = dict[str, Any]
SECRET = "X-Telegram-Bot-Api-Secret-Token"
TRY_AGAIN_S = 0.2


class Hook:
    """What setWebhook said last, and how the posts went."""

    def __init__(self) -> None:
        self.url = ""
        self.secret = ""
        self.codes: list[int] = []  # of the answers; 0 where there was none
        self.problem = ""

    def set(self, fields: Json) -> bool:
        secret = fields.get("secret_token", "")
        if secret and not all(one.isascii() and (one.isalnum() or one in "_-") for one in secret):
            raise bad("secret token contains unallowed characters")
        self.url, self.secret = fields["url"], secret
        return True

    def info(self, waiting: int) -> Json:
        shown = {"url": self.url, "has_custom_certificate": False, "pending_update_count": waiting}
        return (
            {**shown, "last_error_date": int(time.time()), "last_error_message": self.problem}
            if self.problem
            else shown
        )

    def post(self, body: bytes, secret: str | None = None) -> int:
        """One post and the code of its answer."""
        headers = {"Content-Type": "application/json", SECRET: self.secret if secret is None else secret}
        request = urllib.request.Request(
            self.url, body, {key: value for key, value in headers.items() if value}
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0


def begin(hook: Hook, following: Callable[[], bytes | None], taken: Callable[[], None]) -> threading.Event:
    """Post for ever in a thread: `following` is the oldest update that waits, `taken` says that it was answered 200."""
    ended = threading.Event()

    def run() -> None:
        while not ended.wait(0.02):
            body = following()
            if body is None:
                continue
            code = hook.post(body)
            hook.codes.append(code)
            if code == 200:
                hook.problem = ""
                taken()
            else:
                hook.problem = f"Wrong response from the webhook: {code}" if code else "Connection refused"
                ended.wait(TRY_AGAIN_S)

    threading.Thread(target=run, daemon=True).start()
    return ended

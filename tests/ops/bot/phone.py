"""A conversation as a phone shows it: messages, buttons and pictures as one page of HTML, and a picture of that page."""

import base64
from html import escape
from pathlib import Path

from tests.browser import PHONE, Browser
from tests.ops.bot.chat import VERSION, Chat
from tests.ops.bot.telegram import Message
from tests.ops.bot.telegram_rules import seen

STYLE = """
body { margin: 0; background: #d5e1ea; font: 15px/1.35 system-ui, "Noto Sans", "Noto Color Emoji", sans-serif; }
main { width: 390px; padding: 8px; box-sizing: border-box; display: flex; flex-direction: column; gap: 6px; }
.said, .asked { max-width: 330px; padding: 7px 10px; border-radius: 12px; white-space: pre-wrap; overflow-wrap: anywhere; }
.said { align-self: flex-start; background: #fff; border-bottom-left-radius: 3px; }
.asked { align-self: flex-end; background: #e2fdc5; border-bottom-right-radius: 3px; }
.pressed { align-self: center; font-size: 12px; color: #fff; background: #6d8ba3; border-radius: 10px; padding: 2px 10px; }
.row { display: flex; gap: 4px; width: 350px; }
.row span { flex: 1; text-align: center; padding: 7px 4px; border-radius: 8px; background: #7f9db4; color: #fff; font-size: 13px;
  white-space: nowrap; overflow: hidden; text-overflow: ellipsis; }
.silent { font-size: 11px; color: #667; }
code, pre { font: 13px ui-monospace, "DejaVu Sans Mono", monospace; color: #14519b; white-space: pre-wrap; margin: 0; }
a { color: #1a6fc4; } img { max-width: 310px; display: block; border-radius: 6px; margin-bottom: 4px; }
.file { font-weight: 600; color: #1a6fc4; }
"""


class Phone:
    """One person's chat from now on; each message again wherever it was edited."""

    def __init__(self, chat: Chat, user: int) -> None:
        self._chat, self._user = chat, user
        self._seen: dict[int, tuple[str, str]] = {}
        self._parts: list[str] = []
        self._look(show=False)

    def ask(self, text: str) -> Message:
        """Write, and show what was answered."""
        said = self._chat.ask(self._user, text)
        self.look()
        return said

    def press(self, message: Message, label: str) -> None:
        """Press the button of this text, or whose data begins so."""
        fitting = [
            (text, data) for text, data in message.buttons.items() if text == label or data.startswith(label)
        ]
        text, data = fitting[0]
        self._parts.append(f'<div class="pressed">{escape(text)}</div>')
        self._chat.press(self._user, message, data)
        self.look()

    def look(self) -> None:
        """Whatever is new or edited since, once all that was asked is answered."""
        self._chat.settle(self._user)
        self._look(show=True)

    def _look(self, *, show: bool) -> None:
        for (chat, number), message in sorted(self._chat.telegram.messages.items()):
            state = (message.text, str(message.markup))
            if chat != self._user or self._seen.get(number) == state:
                continue
            self._seen[number] = state
            if show and VERSION not in message.text and message.text != "/version":
                self._parts.append(_shown(message, self._marked(message.text)))

    def _marked(self, text: str) -> str:
        """The text with its marks, as it was sent: Telegram, and its stand-in, keep what is seen."""
        for call in reversed(self._chat.telegram.calls):
            raw = call.fields.get("text") or call.fields.get("caption") or ""
            if call.code == 200 and isinstance(raw, str) and seen(raw, "HTML").strip() == text.strip():
                return raw
        return escape(text)

    def shoot(self, browser: Browser, path: Path) -> None:
        """Leave the page and its picture there. Fails where something is wider than the phone."""
        page = f"<!doctype html><meta charset=utf-8><meta name=viewport content=width=device-width><style>{STYLE}</style><main>{''.join(self._parts)}</main>"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".html").write_text(page, "utf-8")
        browser.size(PHONE)
        browser.driver.get(path.with_suffix(".html").as_uri())
        assert browser.overflow_px() <= 0, path.stem
        browser.shoot(path)


def _shown(message: Message, marked: str) -> str:
    if not message.from_bot:
        return f'<div class="asked">{escape(message.text)}</div>'
    picture = base64.b64encode(message.picture).decode()
    drawn = f'<img src="data:image/png;base64,{picture}">' if picture else ""
    file = '<div class="file">\N{PAPERCLIP} file</div>' if message.kind == "document" else ""
    silent = '<div class="silent">\N{SPEAKER WITH CANCELLATION STROKE}</div>' if message.silent else ""
    rows = (message.markup or {}).get("inline_keyboard", [])
    buttons = "".join(
        '<div class="row">' + "".join(f"<span>{escape(one['text'])}</span>" for one in row) + "</div>"
        for row in rows
    )
    return f'<div class="said">{drawn}{file}{marked}{silent}</div>{buttons}'

"""What Telegram refuses, in its own words, and how long a text is by its count."""

import html
import re
from collections.abc import Mapping
from html.parser import HTMLParser
from typing import Any

MAX_TEXT = 4_096  # UTF-16 units after the markup is taken out
MAX_CAPTION = 1_024
MAX_CALLBACK_DATA = 64  # bytes
MAX_ANSWER = 200
MAX_BUTTONS = 100
TAGS = frozenset({"b", "strong", "i", "em", "u", "s", "code", "pre", "a", "blockquote", "tg-spoiler"})
_ENTITY = re.compile(r"&(?!(?:lt|gt|amp|quot|#\d{1,7}|#x[0-9a-fA-F]{1,6});)")


class ApiError(Exception):
    """An answer that is not ok: the code, Telegram's description, and its parameters."""

    def __init__(self, code: int, description: str, **parameters: int) -> None:
        super().__init__(description)
        self.code = code
        self.description = description
        self.parameters = parameters


def bad(words: str) -> ApiError:
    return ApiError(400, f"Bad Request: {words}")


class _Plain(HTMLParser):
    """The text that people see; refuses what Telegram's parser refuses."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.words: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in TAGS:
            raise bad(f'can\'t parse entities: Unsupported start tag "{tag}" at byte offset {self.offset}')
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            raise bad(f"can't parse entities: Unexpected end tag at byte offset {self.offset}")

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def seen(text: str, parse_mode: str | None) -> str:
    """What a reader sees of a text. Raises ApiError for markup that Telegram does not take."""
    if not parse_mode:
        return text
    if parse_mode.upper() != "HTML":
        raise bad("unsupported parse_mode")
    if _ENTITY.search(
        text
    ):  # Telegram takes a bare & for itself; a name that it does not know is a slip of ours
        raise bad("can't parse entities: unknown entity")
    parser = _Plain()
    parser.feed(text)
    parser.close()
    if parser.open:
        raise bad(
            f"can't parse entities: Can't find end tag corresponding to start tag \"{parser.open[-1]}\""
        )
    return "".join(parser.words)


def units(text: str) -> int:
    """Telegram's length of a text."""
    return len(text.encode("utf-16-le")) // 2


def check_text(text: str, parse_mode: str | None) -> str:
    found = seen(text, parse_mode).strip()
    if not found:
        raise bad("message text is empty")
    if units(found) > MAX_TEXT:
        raise bad("message is too long")
    return found


def check_caption(text: str, parse_mode: str | None) -> str:
    found = seen(text, parse_mode)
    if units(found) > MAX_CAPTION:
        raise bad("message caption is too long")
    return found


def check_markup(markup: Mapping[str, Any] | None) -> None:
    rows = (markup or {}).get("inline_keyboard", [])
    buttons = [button for row in rows for button in row]
    if len(buttons) > MAX_BUTTONS:
        raise bad("reply markup is too long")
    for button in buttons:
        if not button.get("text"):
            raise bad("can't parse inline keyboard button: Text buttons are unallowed in the inline keyboard")
        data = button.get("callback_data")
        if data is None and not button.get("url"):
            raise bad("can't parse inline keyboard button: Text buttons are unallowed in the inline keyboard")
        if data is not None and not 1 <= len(data.encode()) <= MAX_CALLBACK_DATA:
            raise bad("BUTTON_DATA_INVALID")


def plain(text: str) -> str:
    """For tests: a text without its markup."""
    return html.unescape(re.sub(r"<[^>]+>", "", text))

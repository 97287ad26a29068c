"""A Bot API server for tests: one bot, people who write to it, and the rules of core.telegram.org/bots/api.

What it keeps to: updates are handed out until an offset confirms them, one poll at a time; texts, captions, buttons
and markup have their limits; an edit must change something; a chat must exist and may have blocked the bot; too many
requests are answered 429 with `retry_after`. What a test asks for: the same update again, storms of 429, being away.
"""

import json
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self

from tests.ops.bot import telegram_hook
from tests.ops.bot.telegram_door import Server, handler
from tests.ops.bot.telegram_limits import Limits, markup_of
from tests.ops.bot.telegram_rules import (
    MAX_ANSWER,
    ApiError,
    bad,
    check_caption,
    check_markup,
    check_text,
    units,
)

TOKEN = "7301548296:Qm4Zt8Kx2Vb9Lw6Rn3Yp7Hd5Gs1Fc0JaUe"
BOT = {"id": 7301548296, "is_bot": True, "first_name": "Vanta", "username": "vanta_test_bot"}
MOST_UPDATES = 100
QUERY_LIVES_S = 60.0
Json = dict[str, Any]


@dataclass
class Message:
    """One message in a chat, as it stands now."""

    chat_id: int
    message_id: int
    text: str
    markup: Json | None
    from_bot: bool
    kind: str = "text"
    content: bytes = b""
    edits: int = 0
    silent: bool = False
    picture: bytes = b""
    at_s: float = field(default_factory=time.monotonic)

    @property
    def buttons(self) -> dict[str, str]:
        """Callback data by a button's text."""
        rows = (self.markup or {}).get("inline_keyboard", [])
        return {button["text"]: button.get("callback_data", "") for row in rows for button in row}


@dataclass(frozen=True)
class Call:
    """A request that reached the server, and the code of its answer."""

    method: str
    fields: Json
    code: int
    at_s: float


class Telegram:
    """The server and what it knows. Use it as a context; `base` is what TELEGRAM_API_BASE wants."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.messages: dict[tuple[int, int], Message] = {}
        self.answers: dict[str, str] = {}
        self.blocked_by: set[int] = set()
        self.limits: Limits | None = None
        self.languages: dict[int, str] = {}
        self.hook = telegram_hook.Hook()
        self._changed = threading.Condition()
        self._updates: deque[Json] = deque()
        self._chats: dict[int, Json] = {}
        self._queries: dict[str, float] = {}
        self._storm: deque[tuple[str, int]] = deque()
        self._lost: deque[str] = deque()
        self._poll = 0
        self._number = 870_000_000
        self._message_number = 0
        self._away_code = 0
        self._server = Server(("127.0.0.1", 0), handler(self.handle, self._note))

    def __enter__(self) -> Self:
        threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        ).start()
        self._posting = telegram_hook.begin(self.hook, self._oldest, self._taken)
        return self

    def __exit__(self, *_: object) -> None:
        self._posting.set()
        with self._changed:
            self._poll += 1  # whoever still polls is let go
            self._changed.notify_all()
        self._server.shutdown()
        self._server.server_close()

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def knows(self, user_id: int) -> None:
        """Somebody has begun a chat with the bot long ago."""
        self._chats[user_id] = {"id": user_id, "type": "private", "first_name": "Ann"}

    def writes(self, user_id: int, text: str, *, group: int | None = None, age_s: int = 0) -> int:
        """Somebody writes to the bot, or in a group that it is in; returns the update's number."""
        with self._changed:
            chat = {"id": user_id, "type": "private", "first_name": "Ann"}
            if group is not None:
                chat = {"id": group, "type": "supergroup", "title": "A group"}
            self._chats[int(str(chat["id"]))] = chat
            message = self._store(int(str(chat["id"])), text, None, from_bot=False)
            body = {
                "message_id": message.message_id,
                "date": int(time.time()) - age_s,
                "chat": chat,
                "from": self._person(user_id),
                "text": text,
            }
            if text.startswith("/"):
                length = units(text.split(maxsplit=1)[0])
                body["entities"] = [{"type": "bot_command", "offset": 0, "length": length}]
            return self._hand_out({"message": body})

    def presses(self, user_id: int, message: Message, data: str) -> tuple[int, str]:
        """Somebody presses a button, or sends what no button said; returns the numbers of update and query."""
        with self._changed:
            query = f"{user_id}{self._number}"
            self._queries[query] = time.monotonic()
            chat = self._chats[message.chat_id]
            shown = {
                "message_id": message.message_id,
                "date": int(time.time()),
                "chat": chat,
                "from": BOT,
                "text": message.text,
            }
            body = {
                "id": query,
                "from": self._person(user_id),
                "message": shown,
                "chat_instance": "1",
                "data": data,
            }
            return self._hand_out({"callback_query": body}), query

    def edits(self, user_id: int, text: str) -> int:
        """Somebody edits an old message."""
        with self._changed:
            chat = self._chats[user_id]
            body = {
                "message_id": 1,
                "date": 1,
                "edit_date": 2,
                "chat": chat,
                "from": self._person(user_id),
                "text": text,
            }
            return self._hand_out({"edited_message": body})

    def hands_out(self, update: Json) -> int:
        """An update as it stands, of whatever shape."""
        with self._changed:
            return self._hand_out(update)

    def hands_out_again(self, update: Json) -> None:
        """The same update under the same number, as happens where a confirmation was lost."""
        with self._changed:
            self._updates.append(update)
            self._changed.notify_all()

    # What the server does to the bot

    def storms(self, method: str, times: int, retry_after_s: int = 1) -> None:
        """The next requests of a method are too many."""
        with self._changed:
            self._storm.extend([(method, retry_after_s)] * times)

    def loses_answers(self, method: str, times: int = 1) -> None:
        """The next requests of a method are done, and an error of the web server answers them."""
        with self._changed:
            self._lost.extend([method] * times)

    def goes_away(self, code: int = 502) -> None:
        """Nothing is answered but an error of the web server, until it is back; polls under way end, too."""
        with self._changed:
            self._away_code = code
            self._changed.notify_all()

    def is_back(self) -> None:
        """Nothing is away, and no request too many."""
        with self._changed:
            self._away_code = 0
            self._storm.clear()

    def last_update(self) -> Json:
        """The newest update, whether it was confirmed or not."""
        return self._last

    def sent(self, chat_id: int) -> list[Message]:
        """What the bot said in a chat, oldest first, as it stands now."""
        with self._changed:
            found = [one for one in self.messages.values() if one.chat_id == chat_id and one.from_bot]
        return sorted(found, key=lambda one: one.message_id)

    def all_sent(self) -> list[Message]:
        with self._changed:
            return [one for one in self.messages.values() if one.from_bot]

    def called(self, method: str) -> list[Call]:
        with self._changed:
            return [call for call in self.calls if call.method == method]

    # The methods

    def handle(self, token: str, method: str, fields: Json) -> Any:
        if self._away_code:
            raise ApiError(self._away_code, "Bad Gateway")
        if token != TOKEN:
            raise ApiError(401, "Unauthorized")
        verb: Callable[[Json], Any] | None = getattr(self, f"_do_{method.lower()}", None)
        if verb is None:
            raise ApiError(404, "Not Found")
        with self._changed:
            for at, (stormy, retry_after_s) in enumerate(self._storm):
                if stormy == method:
                    del self._storm[at]
                    words = f"Too Many Requests: retry after {retry_after_s}"
                    raise ApiError(429, words, retry_after=retry_after_s)
            if self.limits is not None:
                wait_s = self.limits.retry_after_s(method, int(fields.get("chat_id") or 0), time.monotonic())
                if wait_s:
                    raise ApiError(429, f"Too Many Requests: retry after {wait_s}", retry_after=wait_s)
            done = verb(fields)
            if method in self._lost:
                self._lost.remove(method)
                raise ApiError(502, "Bad Gateway")
            return done

    def _do_getme(self, _fields: Json) -> Json:
        return BOT

    def _do_setmycommands(self, fields: Json) -> bool:
        for command in json.loads(fields["commands"]):
            if not 1 <= len(command["command"]) <= 32 or command["command"] != command["command"].lower():
                raise bad("BOT_COMMAND_INVALID")
            if not 1 <= len(command["description"]) <= 256:
                raise bad("BOT_COMMAND_DESCRIPTION_INVALID")
        return True

    def _do_deletewebhook(self, _fields: Json) -> bool:
        return self.hook.set({"url": ""})

    def _do_setwebhook(self, fields: Json) -> bool:
        return self.hook.set(fields)

    def _do_getwebhookinfo(self, _fields: Json) -> Json:
        return self.hook.info(len(self._updates))

    def _do_getupdates(self, fields: Json) -> list[Json]:
        if self.hook.url:
            words = "can't use getUpdates method while webhook is active; use deleteWebhook to delete the webhook first"
            raise ApiError(409, f"Conflict: {words}")
        offset, limit = int(fields.get("offset", 0)), int(fields.get("limit", MOST_UPDATES))
        allowed = json.loads(fields.get("allowed_updates") or "[]")
        self._poll += 1
        mine = self._poll
        self._changed.notify_all()
        while self._updates and offset > 0 and self._updates[0]["update_id"] < offset:
            self._updates.popleft()
        deadline_s = time.monotonic() + min(int(fields.get("timeout", 0)), 50)
        while True:
            if self._away_code:
                raise ApiError(self._away_code, "Bad Gateway")
            if mine != self._poll:
                words = (
                    "terminated by other getUpdates request; make sure that only one bot instance is running"
                )
                raise ApiError(409, f"Conflict: {words}")
            found = [one for one in self._updates if not allowed or any(kind in one for kind in allowed)]
            left_s = deadline_s - time.monotonic()
            if found or left_s <= 0:
                return found[: min(limit, MOST_UPDATES)]
            self._changed.wait(left_s)

    def _do_sendmessage(self, fields: Json) -> Json:
        chat_id = self._chat(fields)
        text = check_text(fields.get("text", ""), fields.get("parse_mode"))
        message = self._store(chat_id, text, markup_of(fields), from_bot=True)
        message.silent = fields.get("disable_notification") == "true"
        return self._shown(message)

    def _do_sendphoto(self, fields: Json) -> Json:
        chat_id = self._chat(fields)
        if not fields.get("photo"):
            raise bad("there is no photo in the request")
        caption = check_caption(fields.get("caption", ""), fields.get("parse_mode"))
        message = self._store(chat_id, caption, markup_of(fields), from_bot=True, kind="photo")
        message.silent = fields.get("disable_notification") == "true"
        message.picture = fields.get(str(fields["photo"]).removeprefix("attach://"), b"")
        return self._shown(message)

    def _do_senddocument(self, fields: Json) -> Json:
        chat_id = self._chat(fields)
        if not fields.get("document"):
            raise bad("there is no document in the request")
        files = {name: value for name, value in fields.items() if isinstance(value, bytes)}
        caption = check_caption(fields.get("caption", ""), fields.get("parse_mode"))
        message = self._store(chat_id, caption, markup_of(fields), from_bot=True, kind="document")
        message.content = next(iter(files.values()), b"")
        return self._shown(message)

    def _do_editmessagetext(self, fields: Json) -> Json:
        chat_id = self._chat(fields)
        message = self.messages.get((chat_id, int(fields.get("message_id", 0))))
        if message is None:
            raise bad("message to edit not found")
        if not message.from_bot:
            raise bad("message can't be edited")
        text = check_text(fields.get("text", ""), fields.get("parse_mode"))
        markup = markup_of(fields)
        if (text, markup) == (message.text, message.markup):
            words = "specified new message content and reply markup are exactly the same as a current content"
            raise bad(f"message is not modified: {words} and reply markup of the message")
        message.text, message.markup, message.edits = text, markup, message.edits + 1
        message.at_s = time.monotonic()
        return self._shown(message)

    def _do_answercallbackquery(self, fields: Json) -> bool:
        query = str(fields.get("callback_query_id", ""))
        if time.monotonic() - self._queries.pop(query, float("-inf")) > QUERY_LIVES_S:
            raise bad("query is too old and response timeout expired or query ID is invalid")
        if units(fields.get("text", "")) > MAX_ANSWER:
            raise bad("MESSAGE_TOO_LONG")
        self.answers[query] = fields.get("text", "")
        return True

    # Within

    def _person(self, user_id: int) -> Json:
        language = self.languages.get(user_id, "en")
        return {"id": user_id, "is_bot": False, "first_name": "Ann", "language_code": language}

    def _chat(self, fields: Json) -> int:
        chat_id = int(fields.get("chat_id") or 0)
        if chat_id not in self._chats:
            raise bad("chat not found")
        if chat_id in self.blocked_by:
            raise ApiError(403, "Forbidden: bot was blocked by the user")
        check_markup(markup_of(fields))
        return chat_id

    def _store(
        self, chat_id: int, text: str, markup: Json | None, *, from_bot: bool, kind: str = "text"
    ) -> Message:
        self._message_number += 1
        message = Message(chat_id, self._message_number, text, markup, from_bot, kind)
        self.messages[chat_id, message.message_id] = message
        return message

    def _shown(self, message: Message) -> Json:
        shown = {
            "message_id": message.message_id,
            "date": int(time.time()),
            "chat": self._chats[message.chat_id],
        }
        return {**shown, "from": BOT, "text": message.text}

    def _hand_out(self, update: Json) -> int:
        self._number += 1
        self._last = {"update_id": self._number, **update}
        self._updates.append(self._last)
        self._changed.notify_all()
        return self._number

    def _oldest(self) -> bytes | None:
        with self._changed:
            return json.dumps(self._updates[0]).encode() if self.hook.url and self._updates else None

    def _taken(self) -> None:
        with self._changed:
            self._updates.popleft()

    def _note(self, method: str, fields: Json, code: int) -> None:
        with self._changed:
            self.calls.append(Call(method, fields, code, time.monotonic()))

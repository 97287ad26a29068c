"""The window to Telegram: the one module that asks it through aiogram, and knows the Bot API's ways to say no."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import structlog
from aiogram import Bot
from aiogram.client.default import DefaultBotProperties
from aiogram.client.session.aiohttp import AiohttpSession
from aiogram.client.telegram import TelegramAPIServer
from aiogram.exceptions import (
    ClientDecodeError,
    TelegramAPIError,
    TelegramBadRequest,
    TelegramConflictError,
    TelegramForbiddenError,
    TelegramNetworkError,
    TelegramRetryAfter,
    TelegramServerError,
    TelegramUnauthorizedError,
)
from aiogram.types import (
    BotCommand,
    BufferedInputFile,
    InlineKeyboardButton,
    InlineKeyboardMarkup,
    LinkPreviewOptions,
    Update,
)
from aiogram.utils.token import TokenValidationError, validate_token
from aiohttp import ClientConnectorError

from ops.bot.hearing import incoming
from ops.bot.hook import Hook
from ops.bot.inbox import Incoming
from ops.bot.pace import Pace
from ops.bot.refusals import Away, Gone, Shut, TooMany, Unsayable
from ops.bot.replies import Reply

log = structlog.get_logger(__name__)
T = TypeVar("T")

POLL_S = 10  # how long Telegram holds a poll that has nothing to tell
REQUEST_S = 10
MOST_TEXT = 4_096
MOST_CAPTION = 1_024
MOST_UPDATES = 100
KINDS = ["message", "callback_query"]
TRIES = 8
TROUBLE_LASTS = timedelta(minutes=1)
LONGEST_WAIT_S = 60.0  # of one `retry_after`, or between two tries


class Closed(Exception):  # noqa: N818  (a state, as told to people)
    """Telegram does not let this process poll, or does not answer; the words are for the heartbeat."""

    def __init__(self, words: str, wait_s: float) -> None:
        super().__init__(words)
        self.wait_s = wait_s


def is_token(token: str) -> bool:
    try:
        return bool(validate_token(token))
    except TokenValidationError:
        return False


class Window:
    """One bot at one Bot API."""

    def __init__(self, token: str, base: str) -> None:
        session = AiohttpSession(api=TelegramAPIServer.from_base(base), timeout=REQUEST_S)
        looks = DefaultBotProperties(parse_mode="HTML", link_preview=LinkPreviewOptions(is_disabled=True))
        self._bot = Bot(token, session=session, default=looks)
        self._quiet_until_s = 0.0
        self.pace = Pace()

    async def close(self) -> None:
        await self._bot.session.close()

    async def introduce(self, commands: Sequence[tuple[str, str]], language: str) -> None:
        """Name the commands for Telegram's menu; a blank language is for whoever has none of ours. Raises Closed."""
        menu = [BotCommand(command=name, description=about) for name, about in commands]
        try:
            await self._bot.set_my_commands(menu, language_code=language or None)
        except TelegramAPIError as error:
            raise _closed(error) from error

    async def unhook(self) -> None:
        """Take the updates from whatever address they were posted to; what waits there is polled. Raises Closed."""
        try:
            await self._bot.delete_webhook()
        except TelegramAPIError as error:
            raise _closed(error) from error

    async def hook_up(self, hook: Hook, *, anew: bool) -> None:
        """See to it that updates are posted to us: `anew` whatever stands there, since a secret cannot be asked for.

        Raises Closed where Telegram says that it cannot deliver.
        """
        try:
            found = await self._bot.get_webhook_info()
            if anew or found.url != hook.url:
                await self._bot.set_webhook(hook.url, secret_token=hook.secret, allowed_updates=KINDS)
                return
        except TelegramAPIError as error:
            raise _closed(error) from error
        # Telegram goes on telling of its last trouble after it is over.
        at, why = found.last_error_date, (found.last_error_message or "")[:80]
        if found.pending_update_count and at is not None and datetime.now(UTC) - at < TROUBLE_LASTS:
            raise Closed(f"waiting: Telegram cannot post to TELEGRAM_WEBHOOK_URL ({why})", 5)

    async def updates(self, offset: int, hold_s: int = POLL_S) -> tuple[list[Incoming], int]:
        """What came, and the offset that confirms it all; waits so long for something to come. Raises Closed."""
        try:
            try:
                raw = await self._poll(offset, MOST_UPDATES, hold_s)
            except ClientDecodeError:
                raw = await self._poll(
                    offset, 1, hold_s
                )  # what is readable before the unreadable one is not lost with it
        except ClientDecodeError as error:
            return [], _behind_the_unreadable(error, offset)
        except TelegramAPIError as error:
            raise _closed(error) from error
        found = [one for one in map(incoming, raw) if one is not None]
        return found, max((one.update_id + 1 for one in raw), default=offset)

    async def _poll(self, offset: int, limit: int, hold_s: int) -> list[Update]:
        return await self._bot.get_updates(
            offset=offset or None,
            limit=limit,
            timeout=hold_s,
            allowed_updates=KINDS,
            request_timeout=hold_s + REQUEST_S,
        )

    async def say(self, chat_id: int, reply: Reply, message_id: int = 0) -> int:
        """Say it, however often Telegram has to be asked, and return the message's number.

        What it refuses for good is logged and left; the number is 0 then.
        """
        most = MOST_TEXT if reply.picture is None and reply.document is None else MOST_CAPTION
        text, keyboard = _cut(reply.text, most), _keyboard(reply)

        async def ask() -> int:
            clock = asyncio.get_running_loop().time
            self.pace.left(chat_id, clock())
            try:
                return await self._say(chat_id, text, keyboard, reply, message_id)
            finally:
                self.pace.back(chat_id, clock())

        return await self._insist("say", ask) or 0

    async def _say(
        self,
        chat_id: int,
        text: str,
        keyboard: InlineKeyboardMarkup | None,
        reply: Reply,
        message_id: int,
    ) -> int:
        """One try; raises TelegramAPIError."""
        if reply.instead and message_id and reply.picture is None:
            try:
                await self._bot.edit_message_text(
                    text, chat_id=chat_id, message_id=message_id, reply_markup=keyboard
                )
            except TelegramBadRequest as error:
                if "message is not modified" in error.message:
                    return message_id  # it shows that already
                # Deleted meanwhile, or too old to be edited: what came of a tap is said all the same.
                log.info("said anew, since it cannot be edited", problem=error.message)
            else:
                return message_id
        if reply.picture is not None:
            picture = _as_file(reply.picture)
            said = await self._bot.send_photo(chat_id, picture, caption=text, reply_markup=keyboard)
        elif reply.document is not None:
            file = BufferedInputFile(reply.document.content, reply.document.name)
            said = await self._bot.send_document(chat_id, file, caption=text)
        else:
            said = await self._bot.send_message(chat_id, text, reply_markup=keyboard)
        return said.message_id

    async def tell(
        self,
        chat_id: int,
        text: str,
        *,
        message_id: int = 0,
        silent: bool = False,
        picture: bytes | None = None,
    ) -> int:
        """One try to send a notice, or to edit the one that has a number; returns its number.

        Raises TooMany, Away, Shut, Gone or Unsayable.
        """
        try:
            if message_id:
                await self._bot.edit_message_text(_cut(text), chat_id=chat_id, message_id=message_id)
                return message_id
            if picture is not None:
                sent = await self._bot.send_photo(
                    chat_id,
                    _as_file(picture),
                    caption=_cut(text, MOST_CAPTION),
                    disable_notification=silent,
                )
            else:
                sent = await self._bot.send_message(chat_id, _cut(text), disable_notification=silent)
        except TelegramBadRequest as error:
            if "message is not modified" in error.message:
                return message_id
            raise _refused(error) from error
        except TelegramRetryAfter as error:
            raise TooMany(float(error.retry_after)) from error
        except TelegramForbiddenError as error:
            raise Shut(error.message) from error
        except (TelegramAPIError, ClientDecodeError) as error:
            # A connection that was never made carried nothing, and a refusal is one; of the rest nobody knows.
            unanswered = isinstance(error, TelegramNetworkError | TelegramServerError | ClientDecodeError)
            carried = not isinstance(error.__cause__, ClientConnectorError)
            raise Away(type(error).__name__, doubtful=unanswered and carried) from error
        return sent.message_id

    async def answer(self, query_id: str) -> None:
        """Let the pressed button rest; Telegram shows it as busy until then."""
        await self._insist("answer", lambda: self._bot.answer_callback_query(query_id))

    async def _insist(self, what: str, ask: Callable[[], Awaitable[T]]) -> T | None:
        """Ask until it is done, for some minutes at most; `retry_after` is the whole bot's, so all of it waits."""
        loop = asyncio.get_running_loop()
        for tried in range(TRIES):
            await asyncio.sleep(max(0.0, self._quiet_until_s - loop.time()))
            try:
                return await ask()
            except TelegramRetryAfter as error:
                wait_s = min(float(error.retry_after), LONGEST_WAIT_S)
                self._quiet_until_s = max(self._quiet_until_s, loop.time() + wait_s)
                problem = f"retry after {error.retry_after}"
            except (TelegramNetworkError, TelegramServerError) as error:
                problem = type(error).__name__
                await asyncio.sleep(min(2.0**tried, LONGEST_WAIT_S))
            except TelegramBadRequest as error:
                log.warning("telegram refuses", what=what, problem=error.message)
                return None
            except (TelegramAPIError, ClientDecodeError) as error:
                log.warning("telegram refuses", what=what, problem=type(error).__name__)
                return None
        log.error("not said: telegram never took it", what=what, tries=TRIES, problem=problem)
        return None


def _refused(error: TelegramBadRequest) -> Exception:
    words = error.message.lower()
    if "chat not found" in words or "user not found" in words:
        return Shut(error.message)
    if "message to edit not found" in words or "message can't be edited" in words:
        return Gone(error.message)
    return Unsayable(error.message)


def _closed(error: TelegramAPIError) -> Closed:
    """What a failed poll means, in words without the token, and when to try again."""
    if isinstance(error, TelegramUnauthorizedError):
        return Closed("waiting: Telegram does not know this TELEGRAM_BOT_TOKEN", 30)
    if isinstance(error, TelegramConflictError):
        return Closed("waiting: another process polls with this TELEGRAM_BOT_TOKEN", 5)
    if isinstance(error, TelegramRetryAfter):
        return Closed("waiting: Telegram wants fewer requests", min(float(error.retry_after), LONGEST_WAIT_S))
    return Closed(f"waiting: Telegram does not answer ({type(error).__name__})", 1)


def _behind_the_unreadable(error: ClientDecodeError, offset: int) -> int:
    """The offset behind the one update of an answer that cannot be read, so that it does not come for ever.

    Raises Closed where its number cannot be read either.
    """
    try:
        first: Any = error.data["result"][0]["update_id"]
    except (LookupError, TypeError):
        raise Closed("waiting: what Telegram answers cannot be read", 5) from error
    log.error("an update cannot be read and is left", update_id=first)
    return max(offset, int(first) + 1)


def _keyboard(reply: Reply) -> InlineKeyboardMarkup | None:
    rows = [
        [InlineKeyboardButton(text=button.text, callback_data=button.data) for button in row]
        for row in reply.buttons
    ]
    return InlineKeyboardMarkup(inline_keyboard=rows) if rows else None


def _as_file(picture: bytes) -> BufferedInputFile:
    return BufferedInputFile(picture, "vanta.png")


def _cut(text: str, most: int = MOST_TEXT) -> str:
    """Whole lines, as many as Telegram takes; our markup never spans lines."""
    if _units(text) <= most:
        return text
    kept: list[str] = []
    left = most - 2
    for line in text.split("\n"):
        left -= _units(line) + 1
        if left < 0:
            break
        kept.append(line)
    return "\n".join([*kept, "…"])


def _units(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2

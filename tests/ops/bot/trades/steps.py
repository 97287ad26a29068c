"""What trading conversations have in common."""

from tests.ops.bot.chat import VERSION, Chat
from tests.ops.bot.conftest import TRADER
from tests.ops.bot.telegram import Message

OPEN = "/open btc long 5 2x"


def quote(chat: Chat, text: str = OPEN, user: int = TRADER) -> Message:
    """What is said to it, once its buttons count."""
    said = chat.ask(user, text)
    # The token counts once the message's number is stored, which comes right after the message.
    chat.settle(user)
    return said


def button(said: Message, prefix: str) -> str:
    return next(data for data in said.buttons.values() if data.startswith(prefix))


def tap(chat: Chat, said: Message, prefix: str = "ok:", user: int = TRADER) -> None:
    chat.press(user, said, button(said, prefix))
    chat.settle(user)


def last(chat: Chat, user: int = TRADER) -> str:
    """The newest thing that was said to them before what settled it."""
    return [one.text for one in chat.said(user) if VERSION not in one.text][-1]

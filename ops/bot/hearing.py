"""What an update of the Bot API says, as far as it is said to us."""

from aiogram.types import CallbackQuery, Message, Update

from ops.bot.inbox import Incoming


def read(raw: bytes) -> Incoming | None:
    """One update as Telegram posts it; None where it is nothing for us. Raises ValueError where it cannot be read."""
    return incoming(Update.model_validate_json(raw))


def incoming(update: Update) -> Incoming | None:
    """What a person said to us alone; None for groups, channels, other bots and everything else."""
    said = update.message or update.callback_query
    if isinstance(said, Message):
        person, chat, text, query_id = said.from_user, said.chat, said.text or "", ""
        message_id = said.message_id
    elif isinstance(said, CallbackQuery) and said.message is not None:
        person, chat, text, query_id = said.from_user, said.message.chat, said.data or "", said.id
        message_id = said.message.message_id
    else:
        return None
    if person is None or person.is_bot or chat.type != "private" or chat.id != person.id:
        return None
    language = _storable(person.language_code or "")[:35]
    return Incoming(update.update_id, person.id, message_id, _storable(text), query_id, language)


def _storable(text: str) -> str:
    """Without what PostgreSQL cannot store: an update that is never stored would be asked for again for ever."""
    return text.encode("utf-8", "replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")

"""What somebody chooses for themselves: what they are told unasked, how loudly, and in which language."""

from dataclasses import replace

from ops.bot import words
from ops.bot.models import Event, Level, NoticeLevel, Role, TelegramChat, TelegramUser
from ops.bot.notices import levels_of
from ops.bot.replies import Button, Reply
from ops.bot.texts import LANGUAGES

ALL = "all"
AS_TELEGRAM = "auto"
_NEXT = {Level.ON: Level.SILENT, Level.SILENT: Level.OFF, Level.OFF: Level.ON}


def notify(person: TelegramUser, arguments: list[str]) -> Reply:
    """Without arguments a list with a button for each event; with two of them a choice."""
    if not arguments:
        return _list(person)
    name, level = [*(word.lower() for word in arguments), "", ""][:2]
    known = {event.value for event in Event}
    if len(arguments) != 2 or name not in {ALL, *known} or level not in set(Level):  # noqa: PLR2004
        return Reply(words.NOTIFY_USAGE.format(events=", ".join(event.value for event in Event)))
    for event in Event if name == ALL else (Event(name),):
        NoticeLevel.objects.update_or_create(
            tg_user_id=person.tg_user_id, event=event.value, defaults={"level": level}
        )
    return _list(person)


def _list(person: TelegramUser) -> Reply:
    others = "" if person.role == Role.TRADER else f"\n{words.NOTIFY_OTHERS}"
    levels = levels_of(person)
    buttons = [
        [
            Button(
                f"{words.text(f'EVENT_{event.name}')}: {words.text(f'LEVEL_{level.name}')}",
                f"notify:{event.value}:{_NEXT[level].value}",
            )
        ]
        for event, level in levels.items()
    ]
    return Reply(f"{words.NOTIFY_TITLE}{others}", buttons)


def language(person: TelegramUser, arguments: list[str]) -> Reply:
    """Without arguments a button for each language; with one of them a choice, which counts at once."""
    asked = arguments[0].lower() if arguments else ""
    if asked in LANGUAGES or asked == AS_TELEGRAM:
        chosen = "" if asked == AS_TELEGRAM else asked
        row, _ = TelegramChat.objects.update_or_create(
            tg_user_id=person.tg_user_id, defaults={"asked_language": chosen}
        )
        with words.speaking(chosen or row.language):
            return replace(_languages(), text=words.LANGUAGE_SET)
    return _languages()


def _languages() -> Reply:
    buttons = []
    for code in LANGUAGES:
        with words.speaking(code):
            buttons.append([Button(words.LANGUAGE_NAME, f"language:{code}")])
    buttons.append([Button(words.LANGUAGE_LIKE_TELEGRAM, f"language:{AS_TELEGRAM}")])
    return Reply(words.LANGUAGE_ASK.format(language=words.LANGUAGE_NAME), buttons)

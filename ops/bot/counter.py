"""Who asks what, whether they may, and what they are told. Roles are asked of the database at every update."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import structlog

from ops.bot import choices, holdings, looking, operating, outbox, people, pictures, words
from ops.bot.inbox import Incoming
from ops.bot.models import Role, TelegramUser
from ops.bot.replies import Button, Reply

log = structlog.get_logger(__name__)

Verb = Callable[[TelegramUser, list[str]], str | Reply]


@dataclass(frozen=True)
class Command:
    """What it is about, in Telegram's menu and in /help, is the text ABOUT_ and its name; `arguments` are for /help."""

    verb: Verb
    role: Role
    arguments: str = ""


def _greet(person: TelegramUser, _arguments: list[str]) -> str:
    return words.GREETING.format(role=person.role)


def _help(person: TelegramUser, _arguments: list[str]) -> str:
    lines = [
        words.HELP_LINE.format(name=f"{name} {words.safe(command.arguments)}".rstrip(), about=about(name))
        for name, command in COMMANDS.items()
        if people.at_least(person, command.role)
    ]
    return words.HELP.format(lines="\n".join(lines))


def about(name: str) -> str:
    """What a command is for, in the language that is spoken."""
    return words.text(f"ABOUT_{name.upper()}")


COMMANDS: dict[str, Command] = {
    "start": Command(_greet, Role.VIEWER),
    "help": Command(_help, Role.VIEWER),
    "status": Command(looking.status, Role.VIEWER),
    "mode": Command(looking.mode, Role.VIEWER),
    "health": Command(looking.show_health, Role.VIEWER),
    "version": Command(looking.version, Role.VIEWER),
    "positions": Command(holdings.positions, Role.VIEWER),
    "caps": Command(looking.caps, Role.VIEWER),
    "markets": Command(looking.markets, Role.VIEWER),
    "price": Command(looking.price, Role.VIEWER, "SYMBOL"),
    "orders": Command(holdings.orders, Role.VIEWER),
    "signals": Command(holdings.signals, Role.VIEWER),
    "why": Command(holdings.why, Role.VIEWER, "ID"),
    "history": Command(holdings.history, Role.VIEWER),
    "pnl": Command(holdings.pnl, Role.VIEWER),
    "chart": Command(pictures.chart, Role.VIEWER, "[pnl|exposure] [DAYS] [LIVE|DRY]"),
    "card": Command(pictures.card, Role.VIEWER, "[POSITION]"),
    "notify": Command(choices.notify, Role.VIEWER, "[EVENT on|silent|off]"),
    "language": Command(choices.language, Role.VIEWER, "[en|de|auto]"),
    "stop": Command(operating.stop, Role.OPERATOR, "[REASON]"),
    "reduceonly": Command(operating.reduce_only, Role.OPERATOR, "[off CODE REASON]"),
    "resume": Command(operating.resume, Role.OPERATOR, "[CODE REASON]"),
    "held": Command(operating.list_held, Role.OPERATOR),
    "approve": Command(operating.approve, Role.OPERATOR, "KEY CODE REASON"),
    "reject": Command(operating.reject, Role.OPERATOR, "KEY REASON"),
}
# What a button may ask for. Anybody can send any data, so this list is all that pressing can do.
PRESSED = frozenset({"status", "positions", "orders", "mode", "health", "help", "stop", "notify", "language"})
# Whose buttons say what is chosen: `notify:filled:off`.
CHOSEN = frozenset({"notify", "language"})
WITH_MENU = frozenset({"start", "help", *PRESSED}) - {"stop"} - CHOSEN


def answer(one: Incoming) -> Reply | None:
    """Do what is asked and say what came of it; None where nothing is to be said.

    Raises django.db.Error where the database did not confirm; then it may be asked again.
    """
    person = people.find(one.user_id)
    if person is None:
        with words.speaking(one.language):
            return _answer(one, None)
    if not one.is_stop:
        outbox.heard(one.user_id, one.language)
    with words.speaking(outbox.language_of(one.user_id, one.language)):
        return _answer(one, person)


def _answer(one: Incoming, person: TelegramUser | None) -> Reply | None:
    if person is None:
        # The inbox lets a stranger through once.
        return None if one.query_id else Reply(words.STRANGER.format(user_id=one.user_id))
    name = one.command
    command = COMMANDS.get(name)
    if command is None or (one.query_id and name not in PRESSED):
        return Reply(words.UNKNOWN)
    if not people.at_least(person, command.role):
        log.warning("telegram command refused", command=name, tg_user_id=one.user_id, role=person.role)
        return Reply(words.NOT_YOURS.format(role=command.role.value, mine=person.role))
    arguments = one.arguments
    if one.query_id:
        arguments = one.text.split(":")[1:] if name in CHOSEN else []
    said = command.verb(person, arguments)
    if isinstance(said, Reply):
        return replace(said, instead=bool(one.query_id))
    said = Reply(said)
    if name not in WITH_MENU:
        return said
    return replace(said, buttons=_menu(person), instead=bool(one.query_id))


def _menu(person: TelegramUser) -> list[list[Button]]:
    rows = [
        [
            Button(words.BUTTON_STATUS, "status"),
            Button(words.BUTTON_POSITIONS, "positions"),
            Button(words.BUTTON_ORDERS, "orders"),
        ],
        [
            Button(words.BUTTON_MODE, "mode"),
            Button(words.BUTTON_HEALTH, "health"),
            Button(words.BUTTON_HELP, "help"),
        ],
    ]
    if people.at_least(person, Role.OPERATOR):
        rows.append([Button(words.BUTTON_STOP, "stop")])
    return rows

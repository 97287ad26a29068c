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
    """`about` is for Telegram's menu and /help, `arguments` for the latter."""

    verb: Verb
    role: Role
    about: str
    arguments: str = ""


def _greet(person: TelegramUser, _arguments: list[str]) -> str:
    return words.GREETING.format(role=person.role)


def _help(person: TelegramUser, _arguments: list[str]) -> str:
    lines = [
        f"/{name} {words.safe(command.arguments)}".rstrip() + f" \N{EN DASH} {command.about}"
        for name, command in COMMANDS.items()
        if people.at_least(person, command.role)
    ]
    return words.HELP.format(lines="\n".join(lines))


COMMANDS: dict[str, Command] = {
    "start": Command(_greet, Role.VIEWER, "where to begin"),
    "help": Command(_help, Role.VIEWER, "this list"),
    "status": Command(looking.status, Role.VIEWER, "the whole in a few lines"),
    "mode": Command(looking.mode, Role.VIEWER, "DRY or LIVE, and what restricts it"),
    "health": Command(looking.show_health, Role.VIEWER, "every part, well or not"),
    "version": Command(looking.version, Role.VIEWER, "what runs here"),
    "positions": Command(holdings.positions, Role.VIEWER, "what is open, and its worth now"),
    "caps": Command(looking.caps, Role.VIEWER, "limits, and how much of them is used"),
    "markets": Command(looking.markets, Role.VIEWER, "what may be traded, with prices"),
    "price": Command(looking.price, Role.VIEWER, "the newest price", "SYMBOL"),
    "orders": Command(holdings.orders, Role.VIEWER, "what is under way"),
    "signals": Command(holdings.signals, Role.VIEWER, "the newest signals and what was decided"),
    "why": Command(holdings.why, Role.VIEWER, "the road of one order", "ID"),
    "history": Command(holdings.history, Role.VIEWER, "what has ended"),
    "pnl": Command(holdings.pnl, Role.VIEWER, "what this UTC day realised"),
    "chart": Command(
        pictures.chart, Role.VIEWER, "PnL or exposure as a picture", "[pnl|exposure] [DAYS] [LIVE|DRY]"
    ),
    "card": Command(pictures.card, Role.VIEWER, "a position as a picture", "[POSITION]"),
    "notify": Command(choices.notify, Role.VIEWER, "what I tell you unasked", "[EVENT on|silent|off]"),
    "language": Command(choices.language, Role.VIEWER, "English or Deutsch", "[en|de|auto]"),
    "stop": Command(operating.stop, Role.OPERATOR, "emergency stop, at once", "[REASON]"),
    "reduceonly": Command(operating.reduce_only, Role.OPERATOR, "only exits pass", "[off CODE REASON]"),
    "resume": Command(operating.resume, Role.OPERATOR, "how to go on after a stop", "[CODE REASON]"),
    "held": Command(operating.list_held, Role.OPERATOR, "what waits for a person"),
    "approve": Command(operating.approve, Role.OPERATOR, "let one held close go", "KEY CODE REASON"),
    "reject": Command(operating.reject, Role.OPERATOR, "end what is held", "KEY REASON"),
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
        [Button("Status", "status"), Button("Positions", "positions"), Button("Orders", "orders")],
        [Button("Mode", "mode"), Button("Health", "health"), Button("Help", "help")],
    ]
    if people.at_least(person, Role.OPERATOR):
        rows.append([Button("\N{OCTAGONAL SIGN} STOP everything", "stop")])
    return rows

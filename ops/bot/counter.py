"""Who asks what, whether they may, and what they are told. Roles are asked of the database at every update."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import structlog

from ops.bot import (
    binding,
    choices,
    closing,
    confirmations,
    deciding,
    flows,
    holdings,
    inbox,
    increasing,
    leveling,
    looking,
    opening,
    operating,
    outbox,
    people,
    pictures,
    results,
    standing,
    taking_back,
    words,
)
from ops.bot.inbox import Incoming
from ops.bot.models import Role, TelegramUser
from ops.bot.replies import Button, Reply

log = structlog.get_logger(__name__)

Verb = Callable[[TelegramUser, list[str]], str | Reply]
# A button of a quote or a question: who, its token or answer, the message it stands under.
Decision = Callable[[TelegramUser, str, int], Reply]


@dataclass(frozen=True)
class Command:
    """What it is about, in Telegram's menu and in /help, is the text ABOUT_ and its name; `arguments` are for /help."""

    verb: Verb
    role: Role
    arguments: str = ""


def _greet(person: TelegramUser, _arguments: list[str]) -> str:
    return words.GREETING.format(role=words.role(person.role))


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
    "orders": Command(taking_back.orders, Role.VIEWER),
    "signals": Command(holdings.signals, Role.VIEWER),
    "why": Command(holdings.why, Role.VIEWER, "ID"),
    "history": Command(holdings.history, Role.VIEWER),
    "pnl": Command(holdings.pnl, Role.VIEWER),
    "daily": Command(results.daily, Role.VIEWER),
    "weekly": Command(results.weekly, Role.VIEWER),
    "monthly": Command(results.monthly, Role.VIEWER),
    "performance": Command(results.performance, Role.VIEWER),
    "risk": Command(standing.risk, Role.VIEWER),
    "logs": Command(standing.logs, Role.VIEWER),
    "export": Command(results.export, Role.VIEWER),
    "chart": Command(pictures.chart, Role.VIEWER, "[pnl|exposure] [DAYS] [LIVE|DRY]"),
    "card": Command(pictures.card, Role.VIEWER, "[POSITION]"),
    "notify": Command(choices.notify, Role.VIEWER, "[EVENT on|silent|off]"),
    "language": Command(choices.language, Role.VIEWER, "[en|de|auto]"),
    "bind": Command(binding.bind, Role.TRADER, "[0xADDRESS [0xSIGNATURE]]"),
    "unbind": Command(binding.unbind, Role.TRADER),
    "wallet": Command(standing.wallet, Role.TRADER),
    "balance": Command(standing.balance, Role.TRADER),
    "open": Command(opening.begin, Role.TRADER, "[SYMBOL long|short USDC LEVERAGE] [tp=USD] [sl=USD]"),
    "close": Command(closing.close, Role.TRADER, "[SYMBOL|#NUMBER]"),
    "reduce": Command(closing.reduce, Role.TRADER, "SYMBOL|#NUMBER PERCENT"),
    "increase": Command(increasing.begin, Role.TRADER, "SYMBOL|#NUMBER USDC [SLIPPAGE%]"),
    "tp": Command(leveling.take_profit, Role.TRADER, "SYMBOL|#NUMBER USD|off"),
    "sl": Command(leveling.stop_loss, Role.TRADER, "SYMBOL|#NUMBER USD|off"),
    "stop": Command(operating.stop, Role.OPERATOR, "[REASON]"),
    "reduceonly": Command(operating.reduce_only, Role.OPERATOR, "[off CODE REASON]"),
    "resume": Command(operating.resume, Role.OPERATOR, "[CODE REASON]"),
    "flatten": Command(operating.flatten, Role.OPERATOR, "[yes [CODE] REASON]"),
    "reconcile": Command(operating.reconcile, Role.OPERATOR),
    "users": Command(standing.users, Role.OPERATOR),
    "held": Command(operating.list_held, Role.OPERATOR),
    "approve": Command(operating.approve, Role.OPERATOR, "KEY CODE REASON"),
    "reject": Command(operating.reject, Role.OPERATOR, "KEY REASON"),
}
# Whose buttons say what is chosen: `notify:filled:off`.
CHOSEN = frozenset({"notify", "language"})
IN_PLACE = frozenset({"open", "close", "why", *CHOSEN})
# What a button may ask for. Anybody can send any data, so this list is all that pressing can do.
PRESSED = frozenset({"status", "positions", "orders", "mode", "health", "help", "wallet", "stop", *IN_PLACE})
# What may be committed though the answer of the database is lost; each of them done twice counts once.
CHANGES = frozenset(
    {"reduceonly", "resume", "flatten", "approve", "reject", "bind", "unbind", "notify", "language"}
)
DECISIONS: dict[str, Decision] = {
    "ok": deciding.confirm,
    "no": deciding.leave,
    "again": deciding.again,
    "back": taking_back.offer,
    "q": opening.pressed,
}
WITH_MENU = frozenset({"start", "help", *PRESSED}) - {"stop", *IN_PLACE}


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
    if one.query_id and name in DECISIONS:
        return _decide(person, one)
    if not one.query_id and not one.text.lstrip().startswith("/"):
        return _typed(person, one)
    command = COMMANDS.get(name)
    if command is None or (one.query_id and name not in PRESSED):
        return Reply(words.UNKNOWN)
    if not people.at_least(person, command.role):
        return _not_theirs(person, name, command.role)
    with inbox.answering(one):
        answered = command.verb(person, _arguments(one))
    said = answered if isinstance(answered, Reply) else Reply(answered)
    in_place = bool(one.query_id)
    if name not in WITH_MENU:
        if name == "why" and in_place:
            said = replace(said, buttons=[[Button(words.HOW_FAR, one.text)]])
        return replace(said, instead=in_place and name in IN_PLACE)
    return replace(said, buttons=[*said.buttons, *_menu(person)], instead=in_place)


def decides(one: Incoming) -> bool:
    """Whether it may take an order down, so that a lost answer of the database leaves it open whether it did."""
    return one.command in DECISIONS or not (one.query_id or one.command)


def changes(one: Incoming) -> bool:
    """Whether it may have changed something else before the database failed."""
    return one.command in CHANGES


def note_shown(tg_user_id: int, reply: Reply, message_id: int) -> None:
    """What was said stands under this message now: its buttons count there alone. Raises django.db.Error."""
    if reply.binds:
        confirmations.bind(reply.binds, message_id)
    if reply.asks:
        flows.bind(tg_user_id, message_id)


def _arguments(one: Incoming) -> list[str]:
    """A button says one behind its colon, or as many as are chosen."""
    if not one.query_id:
        return one.arguments
    if one.command in CHOSEN:
        return one.text.split(":")[1:]
    said = one.text.partition(":")[2]
    return [said] if said else []


def _typed(person: TelegramUser, one: Incoming) -> Reply:
    """A word without a slash is an answer where something was asked."""
    if not people.at_least(person, Role.TRADER):
        return Reply(words.UNKNOWN)
    return deciding.typed_code(person, one.text) or opening.typed(person, one.text) or Reply(words.UNKNOWN)


def _decide(person: TelegramUser, one: Incoming) -> Reply:
    if not people.at_least(person, Role.TRADER):
        return _not_theirs(person, one.command, Role.TRADER)
    return DECISIONS[one.command](person, one.text.partition(":")[2], one.message_id)


def _not_theirs(person: TelegramUser, name: str, needed: Role) -> Reply:
    log.warning("telegram command refused", command=name, tg_user_id=person.tg_user_id, role=person.role)
    return Reply(words.NOT_YOURS.format(role=words.role(needed.value), mine=words.role(person.role)))


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
    if people.at_least(person, Role.TRADER):
        rows.append(
            [
                Button(words.TOP_OPEN, "open"),
                Button(words.TOP_CLOSE, "close"),
                Button(words.WALLET, "wallet"),
            ]
        )
    if people.at_least(person, Role.OPERATOR):
        rows.append([Button(words.BUTTON_STOP, "stop")])
    return rows

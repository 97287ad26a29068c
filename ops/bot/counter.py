"""Who asks what, whether they may, and what they are told. Roles are asked of the database at every update."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import structlog

from ops.bot import (
    binding,
    closing,
    confirmations,
    deciding,
    flows,
    holdings,
    leveling,
    looking,
    opening,
    operating,
    people,
    results,
    standing,
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
    "daily": Command(results.daily, Role.VIEWER, "realised by day"),
    "weekly": Command(results.weekly, Role.VIEWER, "realised by week"),
    "monthly": Command(results.monthly, Role.VIEWER, "realised by month"),
    "performance": Command(results.performance, Role.VIEWER, "all closes in figures"),
    "risk": Command(standing.risk, Role.VIEWER, "what is at stake, and what restricts it"),
    "logs": Command(standing.logs, Role.VIEWER, "what was written down last"),
    "export": Command(results.export, Role.VIEWER, "every fill as a CSV file"),
    "bind": Command(binding.bind, Role.TRADER, "show that an address is yours", "[0xADDRESS [0xSIGNATURE]]"),
    "unbind": Command(binding.unbind, Role.TRADER, "trade no more for it"),
    "wallet": Command(standing.wallet, Role.TRADER, "delegation, allowance, gas; the next step"),
    "balance": Command(standing.balance, Role.TRADER, "what you have and what is at stake"),
    "open": Command(
        opening.begin,
        Role.TRADER,
        "a quote, then one tap",
        "[SYMBOL long|short USDC LEVERAGE] [tp=USD] [sl=USD]",
    ),
    "close": Command(closing.close, Role.TRADER, "your positions, one tap each", "[SYMBOL|#NUMBER]"),
    "reduce": Command(closing.reduce, Role.TRADER, "close a part, one tap", "SYMBOL|#NUMBER PERCENT"),
    "tp": Command(leveling.take_profit, Role.TRADER, "where to take profit", "SYMBOL|#NUMBER USD|off"),
    "sl": Command(leveling.stop_loss, Role.TRADER, "where to stop a loss", "SYMBOL|#NUMBER USD|off"),
    "stop": Command(operating.stop, Role.OPERATOR, "emergency stop, at once", "[REASON]"),
    "reduceonly": Command(operating.reduce_only, Role.OPERATOR, "only exits pass", "[off CODE REASON]"),
    "resume": Command(operating.resume, Role.OPERATOR, "how to go on after a stop", "[CODE REASON]"),
    "flatten": Command(operating.flatten, Role.OPERATOR, "close everything live", "[yes [CODE] REASON]"),
    "reconcile": Command(operating.reconcile, Role.OPERATOR, "compare the book with the venue"),
    "users": Command(standing.users, Role.OPERATOR, "who may talk to me"),
    "held": Command(operating.list_held, Role.OPERATOR, "what waits for a person"),
    "approve": Command(operating.approve, Role.OPERATOR, "let one held close go", "KEY CODE REASON"),
    "reject": Command(operating.reject, Role.OPERATOR, "end what is held", "KEY REASON"),
}
# What a button may ask for. Anybody can send any data, so this list is all that pressing can do.
PRESSED = frozenset(
    {"status", "positions", "orders", "mode", "health", "help", "stop", "open", "close", "why"}
)
DECISIONS: dict[str, Decision] = {
    "ok": deciding.confirm,
    "no": deciding.leave,
    "again": deciding.again,
    "q": opening.pressed,
}
IN_PLACE = frozenset({"open", "close", "why"})
WITH_MENU = frozenset({"start", "help", *PRESSED}) - {"stop", *IN_PLACE}


def answer(one: Incoming) -> Reply | None:
    """Do what is asked and say what came of it; None where nothing is to be said.

    Raises django.db.Error where the database did not confirm; then it may be asked again.
    """
    person = people.find(one.user_id)
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
    answered = command.verb(person, _arguments(one))
    said = answered if isinstance(answered, Reply) else Reply(answered)
    in_place = bool(one.query_id)
    if name not in WITH_MENU:
        if name == "why" and in_place:
            said = replace(said, buttons=[[Button(words.HOW_FAR, one.text)]])
        return replace(said, instead=in_place and name in IN_PLACE)
    return replace(said, buttons=_menu(person), instead=in_place)


def decides(one: Incoming) -> bool:
    """Whether it may take an order down, so that a lost answer of the database leaves it open whether it did."""
    return one.command in DECISIONS or not (one.query_id or one.command)


def note_shown(tg_user_id: int, reply: Reply, message_id: int) -> None:
    """What was said stands under this message now: its buttons count there alone. Raises django.db.Error."""
    if reply.binds:
        confirmations.bind(reply.binds, message_id)
    if reply.asks:
        flows.bind(tg_user_id, message_id)


def _arguments(one: Incoming) -> list[str]:
    """A button says at most one, behind its colon."""
    if not one.query_id:
        return one.arguments
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
    return Reply(words.NOT_YOURS.format(role=needed.value, mine=person.role))


def _menu(person: TelegramUser) -> list[list[Button]]:
    rows = [
        [Button("Status", "status"), Button("Positions", "positions"), Button("Orders", "orders")],
        [Button("Mode", "mode"), Button("Health", "health"), Button("Help", "help")],
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
        rows.append([Button("\N{OCTAGONAL SIGN} STOP everything", "stop")])
    return rows

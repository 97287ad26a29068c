"""`manage.py caps show|set|lift`: what may be opened, and how much of it is used."""

import argparse
import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from execution_app.engine.waiting import database_now
from execution_app.errors import Refused
from execution_app.gate import cap_rows, limits, usage
from execution_app.gate.caps import ENVIRONMENT, SUMMED, VARIABLES, Limit, plain
from execution_app.models import Cap
from execution_app.states import CapName, CapScope, Mode

Answer = dict[str, Any]
HISTORY = 200  # rows
SCOPES = (CapScope.TRADER, CapScope.SOURCE, CapScope.SYMBOL)
EPILOG = (
    "Names: " + ", ".join(CapName) + ". Units are in the names; days are UTC days; 0 permits nothing. "
    "The environment is the ceiling: a higher cap has no effect. Exit status: 0 done or nothing to do, "
    "1 refused, 2 wrong usage."
)


class Command(BaseCommand):
    help = "Caps of opening orders. A stricter cap needs a reason; a looser one a longer reason and a code."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.epilog = EPILOG
        verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
        for verb, (_, text) in _VERBS.items():
            sub = verbs.add_parser(verb, help=text, description=text, epilog=EPILOG)
            sub.add_argument("--json", action="store_true", help="answer in JSON")
            if verb == "show":
                sub.add_argument(
                    "--history", action="store_true", help=f"lifted caps, too, the last {HISTORY}"
                )
                continue
            sub.add_argument("name", metavar="NAME", type=_name, help="what is capped, such as exposure_usdc")
            if verb == "set":
                sub.add_argument("value", metavar="VALUE", type=_value, nargs="?", help="none for a ban")
            _add_scope(sub)
            sub.add_argument("--reason", required=True, help="why; 8 characters or more for a looser cap")
            sub.add_argument("--code", default="", help="the second factor, for a looser cap")
            sub.add_argument("--by", default=f"command, uid {os.getuid()}", help="who asks")

    def handle(self, *_args: Any, **options: Any) -> None:
        verb, _ = _VERBS[options["verb"]]
        try:
            answer = verb(options)
        except Refused as error:
            raise CommandError(str(error)) from error
        self.stdout.write(json.dumps(answer) if options["json"] else "\n".join(_lines(answer)))


def _add_scope(sub: argparse.ArgumentParser) -> None:
    scope = sub.add_mutually_exclusive_group()
    scope.add_argument("--trader", metavar="TG_USER_ID", help="of one trader; without any, of all orders")
    scope.add_argument("--source", metavar="SOURCE", help="of one source of signals")
    scope.add_argument("--symbol", metavar="SYMBOL", help="of one symbol, such as BTC-USD")


def _name(text: str) -> CapName:
    try:
        return CapName(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(CapName)}") from None


def _value(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:
        raise argparse.ArgumentTypeError(f"{text!r} is no number") from None


def _scope(options: Answer) -> tuple[CapScope, str]:
    for scope in SCOPES:
        if options[scope.value] is not None:
            return scope, options[scope.value]
    return CapScope.GLOBAL, ""


def _set(options: Answer) -> Answer:
    name, value = options["name"], options["value"]
    if value is None and name is not CapName.BANNED:
        raise Refused(f"{name.value} needs a value")
    scope, scope_value = _scope(options)
    wanted = Decimal(0) if value is None else value
    change = cap_rows.set_cap(name, scope, scope_value, wanted, **_who(options))
    assert change.now is not None
    answer: Answer = {"changed": change.changed, "before": _spell(change.before), "cap": _row(change.now)}
    ceiling = limits.ceilings().get(name)
    if ceiling is not None and change.now.value >= ceiling:
        answer["note"] = (
            f"no effect: {VARIABLES[name]} is {plain(ceiling)}, and the environment is the ceiling"
        )
    return answer


def _lift(options: Answer) -> Answer:
    scope, scope_value = _scope(options)
    change = cap_rows.lift_cap(options["name"], scope, scope_value, **_who(options))
    return {"changed": change.changed, "before": _spell(change.before)}


def _who(options: Answer) -> dict[str, Any]:
    return {name: options[name] for name in ("by", "reason", "code")}


def _show(options: Answer) -> Answer:
    now = database_now()
    ceilings = [Limit(name, value) for name, value in limits.ceilings().items()]
    active = Cap.objects.filter(lifted_at=None).order_by("name", "scope", "scope_value")
    answer: Answer = {
        "environment": [_limit(limit, now) for limit in ceilings],
        "caps": [_row(row) | _limit(limits.of_row(row), now) for row in active],
    }
    if options["history"]:
        lifted = Cap.objects.filter(lifted_at__isnull=False).order_by("-id")[:HISTORY]
        answer["lifted"] = [_row(row) for row in lifted]
    return answer


def _limit(limit: Limit, now: datetime) -> Answer:
    title = VARIABLES[limit.name] if limit.origin == ENVIRONMENT else limit.name.value
    answer: Answer = {"name": title, "value": plain(limit.value)}
    if limit.name in SUMMED:
        for mode in Mode:
            used = usage.used(limit, mode, now)
            answer[f"used_{mode.value.lower()}"] = plain(used)
    return answer


def _row(row: Cap) -> Answer:
    lifted = {}
    if row.lifted_at is not None:
        lifted = {
            "lifted_at": _moment(row.lifted_at),
            "lifted_by": row.lifted_by,
            "lifted_reason": row.lifted_reason,
        }
    return {
        "id": row.pk,
        "name": row.name,
        "scope": f"{row.scope} {row.scope_value}".strip(),
        "value": plain(row.value),
        "set_by": row.set_by,
        "reason": row.reason,
        "set_at": _moment(row.set_at),
        **lifted,
    }


def _spell(row: Cap | None) -> str | None:
    return None if row is None else plain(row.value)


def _moment(at: datetime) -> str:
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _lines(answer: Answer) -> list[str]:
    lines: list[str] = []
    for title, item in answer.items():
        if isinstance(item, list):
            lines.append(f"{title}:" if item else f"{title}: none")
            lines += ["  " + _line(part) for part in item]
        else:
            lines.append(f"{title}: {_line(item) if isinstance(item, dict) else _word(item)}")
    return lines


def _line(row: Answer) -> str:
    return "  ".join(f"{name}={_word(value)}" for name, value in row.items())


def _word(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else str(value)


_VERBS: dict[str, tuple[Callable[[Answer], Answer], str]] = {
    "show": (_show, "Show the environment's ceilings, the caps in the database, and how much is used."),
    "set": (_set, "Set a cap. Lower than before takes effect with a reason alone."),
    "lift": (_lift, "Lift a cap, or a ban."),
}

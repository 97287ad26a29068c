"""`manage.py protection list|set|clear`: the levels at which open positions are closed."""

import argparse
import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from execution_app.book import protections
from execution_app.engine.waiting import database_now
from execution_app.errors import Refused
from execution_app.models import Position, Protection
from execution_app.states import PositionState
from ops.rollout.operator import account
from signals_app.payloads import MAX_TIME_STOP_S

LIMIT = 1_000
NONE = "none"
OPTIONS = {
    "take_profit": "price in USD at which it is closed with a profit",
    "stop_loss": "price in USD at which it is closed with a loss",
    "trailing_stop_pct": "percent between the best price and the stop that follows it",
    "trailing_stop_usd": "the same as a distance in USD",
    "break_even_pct": "percent of gain after which it is closed at its opening price",
}
EPILOG = (
    f"Levels that are not named stay as they are; `{NONE}` takes one away. Less protection than before needs a reason "
    "of 8 characters and a code. The venue's own levels follow with VENUE=gateway alone. "
    "Exit status: 0 done or nothing to do, 1 refused, 2 wrong usage."
)


class Command(BaseCommand):
    help = "Show, set and take away the levels at which open positions are closed."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.epilog = EPILOG
        verbs = parser.add_subparsers(dest="verb", required=True)
        verbs.add_parser("list", help=f"open positions with their levels, the oldest {LIMIT}")
        change = verbs.add_parser("set", help="set some levels of one position", epilog=EPILOG)
        for name, text in OPTIONS.items():
            change.add_argument(f"--{name.replace('_', '-')}", type=_level, metavar="NUMBER", help=text)
        change.add_argument("--time-stop-s", type=_seconds, metavar="SECONDS", help="seconds from now")
        clear = verbs.add_parser("clear", help="take all levels of one position away", epilog=EPILOG)
        for part in (change, clear):
            part.add_argument("position", type=int, help="its id, as `list` shows it")
            part.add_argument("--reason", required=True, help="why; written into the history")
            part.add_argument(
                "--by", default=account(), help="who; for less protection a name of the admin site"
            )
            part.add_argument("--code", default="", help="one-time code, for less protection than before")
        for part in verbs.choices.values():
            part.add_argument("--json", action="store_true", help="JSON instead of lines")

    def handle(self, *_args: Any, **options: Any) -> None:
        if options["verb"] == "list":
            self._tell([_row(position) for position in _open()], options)
            return
        amend = dict.fromkeys(protections.LEVELS) if options["verb"] == "clear" else _amended(options)
        if not amend:
            raise CommandError("name a level to set", returncode=2)
        who = {name: options[name] for name in ("by", "reason", "code")}
        try:
            change = protections.change(options["position"], amend, **who)
        except Refused as error:
            raise CommandError(str(error)) from error
        position = Position.objects.select_related("trader").get(pk=options["position"])
        self._tell([_row(position) | {"changed": change.changed}], options)

    def _tell(self, rows: list[dict[str, Any]], options: dict[str, Any]) -> None:
        if options["json"]:
            self.stdout.write(json.dumps(rows))
            return
        for row in rows:
            self.stdout.write(
                "  ".join(f"{name}={value}" for name, value in row.items() if value is not None)
            )
        if not rows:
            self.stdout.write("no position is open")


def _level(text: str) -> Decimal | str:
    if text.lower() == NONE:
        return NONE
    try:
        return Decimal(text)
    except InvalidOperation:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number nor {NONE}") from None


def _seconds(text: str) -> int | str:
    if text.lower() == NONE:
        return NONE
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= MAX_TIME_STOP_S:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds from 1 to {MAX_TIME_STOP_S}")
    return int(text)


def _amended(options: Mapping[str, Any]) -> dict[str, Decimal | datetime | None]:
    """The levels that were named; times become moments by the database's clock."""
    found: dict[str, Decimal | datetime | None] = {
        name: None if options[name] == NONE else options[name]
        for name in OPTIONS
        if options[name] is not None
    }
    after_s = options["time_stop_s"]
    if after_s is not None:
        found["closes_at"] = None if after_s == NONE else database_now() + timedelta(seconds=after_s)
    # A trailing stop is one or the other: naming one takes the other away.
    for one, other in (
        ("trailing_stop_pct", "trailing_stop_usd"),
        ("trailing_stop_usd", "trailing_stop_pct"),
    ):
        if found.get(one) is not None and other not in found:
            found[other] = None
    return found


def _open() -> list[Position]:
    return list(
        Position.objects.filter(state=PositionState.OPEN).select_related("trader").order_by("id")[:LIMIT]
    )


def _row(position: Position) -> dict[str, Any]:
    current = Protection.objects.filter(position=position, ended_at=None).select_related("trigger").first()
    trigger = getattr(current, "trigger", None)
    return {
        "position": position.pk,
        "mode": position.mode,
        "tg_user_id": position.trader.tg_user_id,
        "symbol": position.symbol,
        "side": "LONG" if position.is_long else "SHORT",
        "open_price": f"{position.open_price.normalize():f}",
        **(protections.spell(current) if current else {"version": 0}),
        "watermark": None
        if current is None or current.watermark is None
        else f"{current.watermark.normalize():f}",
        "set_by": None if current is None else current.set_by,
        "fired": None if trigger is None else trigger.kind,
    }

"""Who presses a switch in a shell, and what a command says of it."""

import getpass
import json
from argparse import ArgumentTypeError
from decimal import Decimal, InvalidOperation
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from execution_app.errors import Refused
from execution_app.gate import control, loosening
from execution_app.states import Origin, RestrictionKind

REASON_LIMIT = 400


class Switch(BaseCommand):
    """A command that restricts or loosens. Restricting needs nothing, loosening a reason and a second factor."""

    # They look at every page, model and template: a second before a stop stops anything.
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--reason", default="", help="why; written into the history")
        parser.add_argument("--by", default=account(), help="who; for loosening a name of the admin site")
        parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")

    def add_code(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--code", default="", help="one-time code; not asked on the rehearsal chain of who has none"
        )

    def restrict(self, kind: RestrictionKind, options: dict[str, Any]) -> control.Imposed:
        """Raises CommandError where a stop holds and nobody knows what may still leave."""
        reason = options["reason"][:REASON_LIMIT] or "no reason given"
        try:
            return control.impose(kind, Origin.COMMAND, by=options["by"], reason=reason)
        except control.UnawaitedError as problem:
            raise CommandError(f"{problem}; the same command again tells") from problem

    def loosen(self, kind: RestrictionKind, options: dict[str, Any]) -> bool:
        """Lift what was set by a command. Raises CommandError without reason or second factor."""
        try:
            loosening.permit(by=options["by"], reason=options["reason"], code=options["code"])
        except Refused as error:
            raise CommandError(str(error)) from None
        return control.lift(kind, Origin.COMMAND, by=options["by"], reason=options["reason"][:REASON_LIMIT])

    def tell(self, options: dict[str, Any], said: str, **facts: Any) -> None:
        """What was done, and every restriction that holds now with the place that lifts it."""
        if not options["json"]:
            # First, so that a database that fails just now does not hide what was done.
            self.stdout.write(said)
        holding = [
            {"kind": row.kind, "origin": row.origin, "by": row.set_by, "reason": row.reason}
            for row in control.active()
        ]
        if options["json"]:
            self.stdout.write(json.dumps({**facts, "holding": holding}))
            return
        for row in holding:
            self.stdout.write(
                f"holds: {row['kind']} of origin {row['origin']}, by {row['by']}: {row['reason']}"
            )


def above_zero(text: str) -> Decimal:
    """An amount or a price that somebody typed. Raises ArgumentTypeError, which names the option."""
    try:
        value = Decimal(text)
    except InvalidOperation:
        raise ArgumentTypeError(f"{text!r} is no number") from None
    if not value.is_finite() or value <= 0:
        raise ArgumentTypeError(f"{text!r} is not above 0")
    return value


def account() -> str:
    """The operating system's name for who runs this; blank where it has none."""
    try:
        return getpass.getuser()[:150]
    except (KeyError, OSError, ImportError):
        return ""

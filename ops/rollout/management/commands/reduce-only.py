"""`manage.py reduce-only on|off`: only what lowers exposure passes."""

from typing import Any

from django.core.management.base import CommandParser

from execution_app.states import RestrictionKind
from ops.rollout.operator import Switch


class Command(Switch):
    help = "Let only orders pass that lower exposure. `off` is loosening and lifts what a command set."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("wish", choices=["on", "off"])
        super().add_arguments(parser)
        self.add_code(parser)

    def handle(self, *_args: Any, **options: Any) -> None:
        if options["wish"] == "on":
            changed = self.restrict(RestrictionKind.REDUCE_ONLY, options).changed
        else:
            changed = self.loosen(RestrictionKind.REDUCE_ONLY, options)
        self.tell(
            options, f"reduce-only {options['wish']}" if changed else "nothing changed", changed=changed
        )

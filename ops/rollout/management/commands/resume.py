"""`manage.py resume`: lift the stop that a command set."""

from typing import Any

from django.core.management.base import CommandParser

from execution_app.states import RestrictionKind
from ops.rollout.operator import Switch


class Command(Switch):
    help = (
        "Lift the stop that `manage.py stop` set. Stops of other origins are lifted only where they were set."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        self.add_code(parser)

    def handle(self, *_args: Any, **options: Any) -> None:
        lifted = self.loosen(RestrictionKind.STOP, options)
        self.tell(options, "resumed" if lifted else "no stop of a command was there", changed=lifted)

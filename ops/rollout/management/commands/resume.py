"""`manage.py resume`: lift the stop that a command set."""

from typing import Any

from django.core.management.base import CommandError, CommandParser

from execution_app.errors import Refused
from execution_app.gate import restore_points
from execution_app.states import RestrictionKind
from ops.rollout import reconciling
from ops.rollout.operator import Switch


class Command(Switch):
    help = (
        "Lift the stop that `manage.py stop` or `manage.py restore` set; after a restore only once chain, venue and "
        "database agree. Stops of other origins are lifted only where they were set."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        self.add_code(parser)
        parser.add_argument(
            "--accept-unknown-trades",
            action="store_true",
            help="after a restore: trades at the venue that are no position here are their owners' affair",
        )

    def handle(self, *_args: Any, **options: Any) -> None:
        try:
            point = reconciling.require(accept_unknown_trades=options["accept_unknown_trades"])
        except Refused as error:
            raise CommandError(str(error)) from None
        lifted = self.loosen(RestrictionKind.STOP, options)
        if lifted and point is not None:
            restore_points.note_reconciled(point)
        self.tell(options, "resumed" if lifted else "no stop of a command was there", changed=lifted)

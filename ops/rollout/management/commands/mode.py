"""`manage.py mode [DRY|LIVE]`: what is wished for, and what holds."""

from typing import Any

from django.core.management.base import CommandParser

from execution_app.states import Mode, RestrictionKind
from ops.rollout.operator import Switch


class Command(Switch):
    help = (
        "Without a word: what restricts execution. DRY: nothing real from now on. LIVE: lift the DRY that a command "
        "set; EXEC_MODE, Redis and every other origin still have their say."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("wish", nargs="?", type=str.upper, choices=[mode.value for mode in Mode])
        super().add_arguments(parser)
        self.add_code(parser)

    def handle(self, *_args: Any, **options: Any) -> None:
        changed = False
        if options["wish"] == Mode.DRY:
            changed = self.restrict(RestrictionKind.DRY, options).changed
        elif options["wish"] == Mode.LIVE:
            changed = self.loosen(RestrictionKind.DRY, options)
        said = f"mode {options['wish']}" if changed else "nothing changed"
        self.tell(options, said, changed=changed)

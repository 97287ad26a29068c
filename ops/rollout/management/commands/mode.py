"""`manage.py mode [DRY|LIVE]`: what is wished for, and what holds; `--history`: what became of it."""

import json
from dataclasses import asdict
from typing import Any

from django.core.management.base import CommandError, CommandParser

from execution_app.gate import history
from execution_app.states import Mode, RestrictionKind
from ops.rollout.operator import Switch

SHOWN = 20


class Command(Switch):
    help = (
        "Without a word: what restricts execution. DRY: nothing real from now on. LIVE: lift the DRY that a command "
        "set; EXEC_MODE, Redis and every other origin still have their say."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("wish", nargs="?", type=str.upper, choices=[mode.value for mode in Mode])
        parser.add_argument(
            "--history",
            nargs="?",
            type=int,
            const=SHOWN,
            metavar="N",
            help=f"the newest N changes, {SHOWN} by default and {history.MOST} at most",
        )
        super().add_arguments(parser)
        self.add_code(parser)

    def handle(self, *_args: Any, **options: Any) -> None:
        if options["history"] is not None:
            if options["wish"]:
                raise CommandError("--history shows, and changes nothing: leave the wish out")
            if not 0 <= options["history"] <= history.MOST:
                told = f"--history must be from 0 to {history.MOST}, not {options['history']}"
                raise CommandError(told, returncode=2)
            self._show(history.read(options["history"]), as_json=options["json"])
            return
        changed = False
        if options["wish"] == Mode.DRY:
            changed = self.restrict(RestrictionKind.DRY, options).changed
        elif options["wish"] == Mode.LIVE:
            changed = self.loosen(RestrictionKind.DRY, options)
        said = f"mode {options['wish']}" if changed else "nothing changed"
        self.tell(options, said, changed=changed)

    def _show(self, changes: list[history.Change], *, as_json: bool) -> None:
        if as_json:
            self.stdout.write(json.dumps([{**asdict(row), "at": row.at.isoformat()} for row in changes]))
            return
        for row in changes:
            known = {"streak": row.streak, "epoch": row.epoch}
            numbers = "".join(f"  {name} {value}" for name, value in known.items() if value is not None)
            self.stdout.write(
                f"{row.at:%Y-%m-%dT%H:%M:%SZ}  {row.what} {row.became}{numbers}  by {row.who} ({row.origin})"
                f"  {row.reason}".rstrip()
            )
        if not changes:
            self.stdout.write("no change yet")

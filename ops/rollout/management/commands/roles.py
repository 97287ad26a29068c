"""`manage.py roles apply|check`: what each kind of process may do in the database."""

import json
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import ProgrammingError

from execution_app import audit
from ops.rollout import roles
from ops.rollout.grants import ROLES


class Command(BaseCommand):
    help = (
        "The group roles vanta_web, vanta_worker, vanta_bot and vanta_readonly, with the rights that ops/rollout/grants.py names. "
        "apply: create them and grant exactly that; safe to repeat, and needed after each migration that adds a table. "
        "check: exit code 1 where the server permits more or less, naming each right."
    )
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True)
        for verb, words in (
            ("apply", "create the roles and grant what the table says, nothing more"),
            ("check", "name every right that is wider than the table, or missing"),
        ):
            part = verbs.add_parser(verb, help=words)
            part.add_argument("--json", action="store_true", help="one JSON object instead of lines")
            part.add_argument("--reason", default="", help="why, for the audit log")

    def handle(self, *_args: Any, **options: Any) -> None:
        if options["verb"] == "apply":
            try:
                with audit.acting(audit.operator(options["reason"])):
                    new = roles.apply()
            except ProgrammingError as error:
                words = str(error).splitlines()[0]
                raise CommandError(
                    f"{words}; roles are applied by the tables' owner, who needs CREATEROLE"
                ) from None
            if not options["json"]:
                self.stdout.write(
                    f"applied to {', '.join(ROLES)}" + (f"; new: {', '.join(new)}" if new else "")
                )
        self._check(options["json"])

    def _check(self, as_json: bool) -> None:
        found = roles.compare()
        if as_json:
            self.stdout.write(json.dumps({"ok": found.is_none, **asdict(found)}))
        for title, lines in (
            ("wider", found.wider),
            ("missing", found.missing),
            ("no line for", found.unlisted),
        ):
            for line in lines if not as_json else ():
                self.stdout.write(f"{title}: {line}")
        if not found.is_none:
            raise CommandError("the database's rights are not those of the table")
        if not as_json:
            self.stdout.write("the rights are those of the table")

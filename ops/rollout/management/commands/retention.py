"""`manage.py retention`: what grows and decides nothing any more goes into archives, and then out of the database."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from execution_app import audit
from execution_app.errors import Refused, Retryable
from ops.rollout import retention
from ops.rollout.postgres_tools import Place

FOLDER = Path("archives")


class Command(BaseCommand):
    help = (
        "Archive history older than so many whole UTC days into compressed files, read each back and compare it with "
        "the database, and only then let its rows go, in small batches; expired sessions go, too. Signals, intents, "
        "signed bytes, receipts, fills, positions and the audit log stay. Safe to kill and to repeat. Exit code 0 done, "
        "1 refused, 2 wrong usage or no server."
    )
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--to", type=Path, default=FOLDER, metavar="FOLDER", help="default: archives")
        parser.add_argument(
            "--keep-days",
            type=int,
            default=retention.DEFAULT_DAYS,
            metavar="DAYS",
            help=f"whole UTC days that stay (default {retention.DEFAULT_DAYS}, at least {retention.LEAST_DAYS})",
        )
        parser.add_argument("--dry-run", action="store_true", help="say what would go, and change nothing")
        parser.add_argument("--reason", default="", help="why, for the audit log")
        parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")

    def handle(self, *_args: Any, **options: Any) -> None:
        try:
            if options["dry_run"]:
                self._tell(options["keep_days"], options["json"])
                return
            with audit.acting(audit.operator(options["reason"])):
                done = retention.run(options["to"].absolute(), options["keep_days"])
        except Refused as error:
            raise CommandError(str(error), returncode=1) from None
        except Retryable as error:
            raise CommandError(str(error), returncode=2) from None
        if options["json"]:
            self.stdout.write(json.dumps(asdict(done)))
        else:
            self.stdout.write("\n".join(done.files) or "nothing was due")
            self.stdout.write(
                f"{done.rows} rows archived, {done.left} left, {done.sessions} expired sessions removed"
            )
            if done.files:
                self.stdout.write(
                    f"next: keep a copy of {options['to']} elsewhere; no later backup has these rows"
                )
        if done.refused:
            raise CommandError("\n".join(done.refused), returncode=1)

    def _tell(self, keep_days: int, as_json: bool) -> None:
        place = Place.configured()
        with place.connected(place.name) as session:
            found = retention.due(session, keep_days)
        if as_json:
            self.stdout.write(json.dumps({"due": [asdict(one) for one in found]}, default=str))
            return
        for one in found:
            self.stdout.write(f"{one.day} {one.table}: {one.rows} rows")
        self.stdout.write(f"{sum(one.rows for one in found)} rows would go; nothing was changed")

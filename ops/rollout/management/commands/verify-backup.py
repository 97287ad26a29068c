"""`manage.py verify-backup`: bytes, contents, and a restore into a scratch database, which is dropped again."""

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from execution_app.errors import Refused, Retryable
from ops.rollout import backup_check, backups
from ops.rollout.findings import report


class Command(BaseCommand):
    help = (
        "Compare a backup with its manifest, unpack all of it, restore it into a scratch database beside the one in "
        "use and count. Exit code 0 it is whole, 1 it is not, 2 wrong usage or no server."
    )
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path, nargs="?", help="default: the newest of --in")
        parser.add_argument(
            "--in", type=Path, default=Path("backups"), dest="folder", help="default: backups"
        )
        parser.add_argument("--no-scratch", action="store_true", help="where the login may make no database")
        parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")

    def handle(self, *_args: Any, **options: Any) -> None:
        path = options["file"] or next(iter(reversed(backups.listed(options["folder"]))), None)
        if path is None:
            raise CommandError(f"there is no backup in {options['folder']}", returncode=2)
        try:
            made = backups.read(path.absolute())
            findings = backup_check.examine(made, scratch=not options["no_scratch"])
        except Refused as error:
            raise CommandError(str(error), returncode=1) from None
        except Retryable as error:
            raise CommandError(str(error), returncode=2) from None
        facts = {"file": str(made.path), "taken_at": made.taken_at.isoformat()}
        report(self.stdout, findings, as_json=options["json"], facts=facts)

"""`manage.py backup`: a dump of one moment with its manifest, read back, and older ones removed."""

import argparse
import json
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from execution_app import audit
from execution_app.errors import Refused, Retryable
from ops.rollout import backups

FOLDER = Path("backups")


class Command(BaseCommand):
    help = (
        "Dump the database into a folder, with a manifest of what is in it, and read the dump back. It holds "
        "everything that the database does: keep it as you keep the database. Exit code 0 done, 1 refused or failed, "
        "2 wrong usage or no server."
    )
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--to", type=Path, default=FOLDER, metavar="FOLDER", help="default: backups")
        parser.add_argument(
            "--keep", type=_positive, metavar="N", help="keep the newest N, remove older ones"
        )
        parser.add_argument(
            "--keep-days", type=_positive, metavar="DAYS", help="keep those of so many days, too"
        )
        parser.add_argument("--reason", default="", help="why, for the audit log")
        parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")

    def handle(self, *_args: Any, **options: Any) -> None:
        folder = options["to"].absolute()
        try:
            with audit.acting(audit.operator(options["reason"])):
                made = backups.take(folder)
            gone = backups.prune(folder, options["keep"], options["keep_days"])
        except Refused as error:
            raise CommandError(str(error), returncode=1) from None
        except Retryable as error:
            raise CommandError(str(error), returncode=2) from None
        said = {
            "file": str(made.path),
            "taken_at": made.taken_at.isoformat(),
            "bytes": made.size_bytes,
            "sha256": made.sha256,
            "rows": sum(made.contents.counts.values()),
            "removed": [path.name for path in gone],
        }
        if options["json"]:
            self.stdout.write(json.dumps(said))
            return
        self.stdout.write(f"{made.path}: {made.size_bytes} bytes, {said['rows']} rows of {said['taken_at']}")
        self.stdout.write("\n".join(f"removed {path.name}" for path in gone) or "nothing was removed")
        self.stdout.write(f"next: manage.py verify-backup {made.path}, and keep a copy elsewhere")


def _positive(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError("must be a whole number above zero")
    return int(text)

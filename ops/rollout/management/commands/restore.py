"""`manage.py restore`: put a backup in the database's place, closed; or take signals without a time again."""

import json
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from execution_app import audit
from execution_app.errors import Refused, Retryable
from execution_app.gate import loosening, restore_points
from ops.rollout import backups, restoring
from ops.rollout.operator import REASON_LIMIT, account
from ops.rollout.postgres_tools import Place
from ops.rollout.restoring import Outcome

NEXT = "next: manage.py wallet status, then docs/backups.md, After a restore"


class Command(BaseCommand):
    help = (
        "Make a backup the database: beside the present one, with a stop, DRY and every wallet halted, and only then "
        "under its name; the present one is kept under another. Without --yes-restore it is only shown. Exit code 0 "
        "done or shown, 1 refused, 2 wrong usage or no server."
    )
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        what = parser.add_mutually_exclusive_group(required=True)
        what.add_argument("file", type=Path, nargs="?", help="the dump, with its manifest beside it")
        what.add_argument(
            "--accept-untimed",
            action="store_true",
            help="after a restore: take signals without a ts again, once their senders repeat nothing old",
        )
        parser.add_argument(
            "--yes-restore", default="", metavar="DATABASE", help="do it; the database's name, typed"
        )
        parser.add_argument("--terminate", action="store_true", help="end the sessions that are connected")
        parser.add_argument(
            "--reason", default="", help="why, at least 8 characters; goes into the audit log"
        )
        parser.add_argument(
            "--by", default=account(), help="who; for --accept-untimed a name of the admin site"
        )
        parser.add_argument(
            "--code",
            default="",
            help="for --accept-untimed: one-time code, as for whatever loosens something",
        )
        parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")

    def handle(self, *_args: Any, **options: Any) -> None:
        options["reason"] = options["reason"][:REASON_LIMIT]
        try:
            with audit.acting(audit.operator(options["reason"])):
                if options["accept_untimed"]:
                    self._accept(options)
                else:
                    self._restore(options)
        except Refused as error:
            raise CommandError(str(error), returncode=1) from None
        except Retryable as error:
            raise CommandError(str(error), returncode=2) from None

    def _accept(self, options: dict[str, Any]) -> None:
        loosening.permit(by=options["by"], reason=options["reason"], code=options["code"])
        changed = restore_points.accept_untimed(by=options["by"], reason=options["reason"])
        said = "signals without a ts are taken from now on" if changed else "they were accepted already"
        self.stdout.write(json.dumps({"changed": changed}) if options["json"] else said)

    def _restore(self, options: dict[str, Any]) -> None:
        place = Place.configured()
        made = backups.read(options["file"].absolute())
        restoring.require(made)
        if not options["yes_restore"]:
            self._show(place, made, options)
            return
        if options["yes_restore"] != place.name:
            raise Refused(f"DATABASE_URL names {place.name}, not {options['yes_restore']}: nothing was done")
        if len(options["reason"].strip()) < loosening.LEAST_REASON:
            raise Refused(f"a restore needs a reason of at least {loosening.LEAST_REASON} characters")
        step = (lambda _: None) if options["json"] else self._say
        outcome = restoring.restore(
            made,
            by=options["by"] or "nobody named",
            reason=options["reason"],
            terminate=options["terminate"],
            step=step,
        )
        self._tell(outcome, options)

    def _say(self, step: str) -> None:
        self.stdout.write(f"  {step}")
        self.stdout.flush()

    def _show(self, place: Place, made: backups.Backup, options: dict[str, Any]) -> None:
        connected = restoring.sessions(place)
        facts = {
            "restored": False,
            "database": place.name,
            "taken_at": made.taken_at.isoformat(),
            "rows": sum(made.contents.counts.values()),
            "wallets": made.contents.wallets,
            "connected": connected,
        }
        lines = [f"{made.path.name} of {facts['taken_at']}, {facts['rows']} rows, would replace {place.name}"]
        lines += [
            f"wallet {wallet['address']}: next nonce {wallet['next_nonce']}"
            for wallet in made.contents.wallets
        ]
        lines += [f"connected: {who}" for who in connected]
        lines.append(f"nothing was changed; --yes-restore {place.name} does it")
        self.stdout.write(json.dumps(facts) if options["json"] else "\n".join(lines))

    def _tell(self, outcome: Outcome, options: dict[str, Any]) -> None:
        point = outcome.point
        facts = {
            "restored": True,
            "database": outcome.database,
            "former": outcome.former,
            "snapshot_at": point.snapshot_at.isoformat(),
            "restored_at": point.restored_at.isoformat(),
            "epoch": outcome.epoch,
            "forgotten": outcome.forgotten,
            "notes": outcome.notes,
        }
        lines = [
            f"{outcome.database} is the backup of {facts['snapshot_at']}: stopped, DRY, every wallet halted"
        ]
        lines += [f"the former database is {outcome.former}"] if outcome.former else []
        lines += [
            f"forgotten: {one['at']} {one['action']} {one['subject']} by {one['by']}"
            for one in outcome.forgotten
        ]
        self.stdout.write(json.dumps(facts) if options["json"] else "\n".join([*lines, *outcome.notes, NEXT]))

"""`manage.py incident capture`: how things stand, in one archive without secrets."""

import argparse
import json
import os
import shlex
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from execution_app.errors import Refused
from ops.rollout import incident
from ops.rollout.incident_parts import Limits


class Command(BaseCommand):
    help = (
        "Write logs, metrics, a snapshot of the database, Redis and the chain's state into one archive, without "
        "secrets; nothing is changed. Exit code 0 all of it, 1 some part was away (SUMMARY.md says which), 2 no archive."
    )
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
        add = verbs.add_parser("capture", help="take it now").add_argument
        add("--to", type=Path, default=Path("var/incidents"), metavar="FOLDER", help="default: var/incidents")
        add("--var", type=Path, default=Path("var"), metavar="FOLDER", help="the stack's folder; default var")
        add("--compose", default="", metavar="COMMAND", help="a compose stack, such as 'docker compose'")
        add("--url", default="", help="the webhook; default WEBHOOK_URL, else http://localhost:8090")
        add(
            "--rows", type=_positive, default=Limits.rows, help=f"newest of each table; default {Limits.rows}"
        )
        add(
            "--log-bytes",
            type=_positive,
            default=Limits.log_bytes,
            help=f"of each log, from its end; default {Limits.log_bytes}",
        )
        add("--reason", default="", help="why, for whoever reads it")
        add("--json", action="store_true", help="one JSON object instead of lines")

    def handle(self, *_args: Any, **options: Any) -> None:
        url = options["url"] or os.environ.get("WEBHOOK_URL") or "http://localhost:8090"
        capture = incident.take(
            folder=options["var"].absolute(),
            url=url.rstrip("/"),
            compose=shlex.split(options["compose"]),
            limits=Limits(options["rows"], options["log_bytes"]),
            reason=options["reason"],
        )
        try:
            path = incident.write(capture, options["to"].absolute())
        except Refused as error:
            raise CommandError(f"no archive: {error}", returncode=2) from None
        if options["json"]:
            self.stdout.write(json.dumps(incident.facts(capture) | {"file": str(path)}))
        else:
            for name, why in capture.away.items():
                self.stdout.write(f"NOT THERE: {name}: {why}")
            self.stdout.write(f"{path}: {path.stat().st_size} bytes, {len(capture.texts)} files")
        if not capture.is_whole:
            raise SystemExit(1)


def _positive(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError("must be a whole number above zero")
    return int(text)

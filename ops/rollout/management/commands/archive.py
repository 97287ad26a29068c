"""`manage.py archive list|verify|read|load`: what left the database, looked at again."""

import argparse
import csv
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from execution_app.errors import Refused, Retryable
from execution_app.models import ArchivedTable
from ops.rollout import archive_check, archives
from ops.rollout.archives import ArchiveFile
from ops.rollout.findings import report

FOLDER = Path("archives")


class Command(BaseCommand):
    help = (
        "Read what manage.py retention archived. list: the files. verify: every byte and row of them, and that each "
        "file the database knows of is there. read: rows as JSON lines or CSV. load: rows into a schema of their own, "
        "for SQL. Exit code 0 done, 1 refused or not whole, 2 wrong usage or no server."
    )
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True)
        parts = {
            "list": "which files there are",
            "verify": "whether all of them are what was written",
            "read": "rows to standard output",
            "load": "rows into a new schema",
        }
        for verb, text in parts.items():
            part = verbs.add_parser(verb, help=text)
            part.add_argument(
                "--in", type=Path, default=FOLDER, dest="folder", metavar="FOLDER", help="default: archives"
            )
            part.add_argument("--since", type=date.fromisoformat, metavar="DAY", help="UTC, as 2026-08-01")
            part.add_argument("--until", type=date.fromisoformat, metavar="DAY", help="included")
            if verb in ("list", "verify"):
                part.add_argument("--json", action="store_true", help="one JSON object instead of lines")
            else:
                part.add_argument("table", choices=[one.value for one in ArchivedTable])
            if verb == "verify":
                part.add_argument("--no-database", action="store_true", help="the files alone")
            if verb == "read":
                part.add_argument(
                    "--format", choices=["jsonl", "csv"], default="jsonl", help="default: jsonl"
                )
                part.add_argument(
                    "--where",
                    type=_pair,
                    action="append",
                    default=[],
                    metavar="COLUMN=VALUE",
                    help="only such rows",
                )
            if verb == "load":
                part.add_argument(
                    "--schema", required=True, metavar="NAME", help="is made, and must not be there"
                )

    def handle(self, *_args: Any, **options: Any) -> None:
        verbs: dict[str, Callable[[dict[str, Any]], None]] = {
            "list": self._list,
            "verify": self._verify,
            "read": self._read,
            "load": self._load,
        }
        try:
            verbs[options["verb"]](options)
        except Refused as error:
            raise CommandError(str(error), returncode=1) from None
        except Retryable as error:
            raise CommandError(str(error), returncode=2) from None

    def _list(self, options: dict[str, Any]) -> None:
        found = _chosen(options)
        if options["json"]:
            told = [{**asdict(one), "path": str(one.path), "columns": dict(one.columns)} for one in found]
            self.stdout.write(json.dumps({"archives": told}, default=str))
            return
        for one in found:
            self.stdout.write(f"{one.path.name}: {one.rows} rows, {one.size_bytes} bytes")
        self.stdout.write(f"{sum(one.rows for one in found)} rows in {len(found)} files")

    def _verify(self, options: dict[str, Any]) -> None:
        findings = archive_check.examine(
            options["folder"].absolute(),
            options["since"],
            options["until"],
            database=not options["no_database"],
        )
        report(self.stdout, findings, as_json=options["json"], facts={"folder": str(options["folder"])})

    def _read(self, options: dict[str, Any]) -> None:
        sheet = csv.writer(self.stdout, lineterminator="\n") if options["format"] == "csv" else None
        names: tuple[str, ...] = ()
        for archive in _chosen(options):
            if unknown := [name for name, _ in options["where"] if name not in dict(archive.columns)]:
                raise CommandError(f"{archive.table} has no column {unknown[0]}", returncode=2)
            here = tuple(name for name, _ in archive.columns)
            if sheet and here != names:  # another version may have had other columns
                sheet.writerow(names := here)
            for line, row in _rows(archive, options["where"]):
                if sheet is None:
                    self.stdout.write(line)
                else:
                    sheet.writerow([_cell(row[name]) for name in here])

    def _load(self, options: dict[str, Any]) -> None:
        rows = archive_check.load(_chosen(options), ArchivedTable(options["table"]), options["schema"])
        name = options["schema"]
        self.stdout.write(f"{rows} rows in {name}.{options['table']}; when done: DROP SCHEMA {name} CASCADE")


def _chosen(options: dict[str, Any]) -> list[ArchiveFile]:
    table = ArchivedTable(options["table"]) if options.get("table") else None
    if not options["folder"].is_dir():
        raise Refused(f"there is no folder {options['folder']}")
    return archives.listed(options["folder"].absolute(), table, options["since"], options["until"])


def _rows(archive: ArchiveFile, wanted: list[tuple[str, str]]) -> Iterator[tuple[str, dict[str, Any]]]:
    for line in archives.lines_of(archive):
        row = json.loads(line, parse_float=str)  # exact, as it stands there
        if all(_cell(row[name]) == value for name, value in wanted):
            yield line, row


def _cell(value: object) -> str:
    """A word as it is, anything else as JSON, nothing as nothing."""
    if value is None or isinstance(value, str):
        return value or ""
    return json.dumps(value)


def _pair(text: str) -> tuple[str, str]:
    name, given, value = text.partition("=")
    if not given or not name:
        raise argparse.ArgumentTypeError("must be COLUMN=VALUE")
    return name, value

"""`manage.py audit verify|export|tail`: whether the audit log is whole, and what it says."""

import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TextIO

from django.core.management.base import BaseCommand, CommandError, CommandParser, OutputWrapper

from ops.audit import reader, verifier
from ops.audit.verifier import Entry, Walk

FOLLOW_EVERY_S = 1.0
MAX_LINES = 10_000
DEFAULT_LINES = 20


class Command(BaseCommand):
    help = (
        "The append-only, hash-chained log of operators' actions and automatic decisions. verify: walk the chain, "
        "recomputing every hash (exit code 0: intact, 1: broken, naming entry and column, 2: wrong usage). export: "
        "JSON lines and the head, for `python -m ops.audit.verifier`. tail: the newest entries."
    )
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True)
        verify = verbs.add_parser("verify", help="walk the chain and recompute every hash")
        verifier.add_head(verify)
        export = verbs.add_parser("export", help="every entry as one line of JSON, the head as the last line")
        export.add_argument("file", type=Path, nargs="?", metavar="FILE", help="default: standard output")
        tail = verbs.add_parser("tail", help="the newest entries")
        tail.add_argument("-n", dest="lines", type=int, default=DEFAULT_LINES, help="how many (default 20)")
        tail.add_argument("--follow", action="store_true", help="go on with what comes, until Ctrl-C")
        for part in (verify, tail):
            part.add_argument("--json", action="store_true", help="JSON instead of lines")

    def handle(self, *_args: Any, **options: Any) -> None:
        if options["verb"] == "verify":
            self._verify(dict(options["head"]), options["json"])
        elif options["verb"] == "export":
            self._export(options["file"])
        else:
            self._tail(options["lines"], options["follow"], options["json"])

    def _verify(self, heads: dict[int, str], as_json: bool) -> None:
        walk = verify(reader.entries(), heads)
        if as_json:
            self.stdout.write(json.dumps(verifier.summary(walk)))
        else:
            self.stdout.write("\n".join(verifier.verdict(walk)))
        if not walk.is_intact:
            raise CommandError("the audit log is not as it was written", returncode=verifier.BROKEN)

    def _export(self, path: Path | None) -> None:
        if path is None:
            export(reader.entries(), self.stdout)
            return
        try:
            with path.open("x", encoding="utf-8") as sink:
                count, head = export(reader.entries(), sink)
        except OSError as error:
            raise CommandError(f"{path}: {error.strerror}", returncode=verifier.USAGE) from None
        self.stderr.write(f"{count} entries, head {head}")

    def _tail(self, lines: int, follow: bool, as_json: bool) -> None:
        if not 0 <= lines <= MAX_LINES:
            raise CommandError(f"-n is from 0 to {MAX_LINES}", returncode=verifier.USAGE)
        shown = reader.newest(max(lines, 1))
        last = int(shown[-1]["seq"] or 0) if shown else 0
        self._show(shown if lines else [], as_json)
        try:
            while follow:
                time.sleep(FOLLOW_EVERY_S)
                for entry in reader.entries(last):
                    self._show([entry], as_json)
                    last = int(entry["seq"] or 0)
        except KeyboardInterrupt:
            return

    def _show(self, shown: Iterable[Entry], as_json: bool) -> None:
        for entry in shown:
            self.stdout.write(json.dumps(as_object(entry)) if as_json else line(entry))
        self.stdout.flush()


def verify(entries: Iterable[Entry], heads: dict[int, str]) -> Walk:
    """Walk the whole chain, or until too much is wrong with it."""
    walk = Walk(dict(heads))
    for entry in entries:
        walk.step(entry)
        if walk.is_full:
            return walk
    walk.end()
    return walk


def export(entries: Iterable[Entry], sink: TextIO | OutputWrapper) -> tuple[int, str]:
    """Write the entries and their head; returns how many they were, and the head as SEQ:HASH."""
    count, seq, found = 0, 0, ""
    for entry in entries:
        sink.write(json.dumps(as_object(entry), ensure_ascii=False) + "\n")
        count, seq, found = count + 1, int(entry["seq"] or 0), str(entry["hash"])
    sink.write(json.dumps({"head": {"seq": seq, "hash": found}}) + "\n")
    return count, f"{seq}:{found}"


def as_object(entry: Entry) -> dict[str, object]:
    """As an export holds it: `before` and `after` stay the exact text that was hashed."""
    return {**entry, "seq": int(entry["seq"] or 0)}


def line(entry: Entry) -> str:
    """For people: no control character of what somebody typed reaches the terminal."""
    change = (
        f"  {entry['before'] or '-'} => {entry['after'] or '-'}" if entry["before"] or entry["after"] else ""
    )
    why = f"  because: {entry['reason']}" if entry["reason"] else ""
    text = (
        f"{entry['seq']}  {entry['at']}  {entry['action']}  {entry['subject']}  "
        f"by {entry['actor']} ({entry['origin']}, {entry['address']}){why}{change}"
    )
    return "".join(char if char.isprintable() else "�" for char in text)

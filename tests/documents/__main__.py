"""`make commands`: every command of the documents with its tag, and the counts."""

import argparse
import json
import sys
from collections import Counter

import django

from tests.documents import commands, judges


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.documents", description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument("--only", choices=[tag.value for tag in judges.Tag], help="those of one tag")
    options = parser.parse_args()
    django.setup()
    rows = [(command, judges.judge(command)) for command in commands.found()]
    counts = Counter(verdict.tag.value for _, verdict in rows)
    wrong = [
        f"{command.document}: {command.text}: {verdict.by}" for command, verdict in rows if verdict.is_wrong
    ]
    wrong += [f"no document has: {missing}" for missing in judges.missing([command for command, _ in rows])]
    if options.json:
        told = [{"document": c.document, "command": c.text, "tag": v.tag.value, "by": v.by} for c, v in rows]
        print(json.dumps({"counts": counts, "wrong": wrong, "commands": told}))
        return bool(wrong)
    print("| document | command | tag | by |\n|---|---|---|---|")
    for command, verdict in rows:
        if options.only in {None, verdict.tag.value}:
            shown = command.text.replace("|", "\\|")
            print(f"| {command.document} | `{shown}` | *{verdict.tag}* | {verdict.by} |")
    documents = len({command.document for command, _ in rows})
    print(
        f"\n{len(rows)} commands in {documents} documents: "
        + ", ".join(f"{n} {t}" for t, n in counts.items())
    )
    for line in wrong:
        print(f"WRONG: {line}", file=sys.stderr)
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())

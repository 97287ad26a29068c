"""`manage.py configuration`: the reference of all variables, made from what reads them and from the template."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from vanta.environment import SECRETS, Environment

ROOT = Path(__file__).resolve().parents[3]
TEMPLATE = ROOT / "config" / "env.prod.canary.template"
REFERENCE = ROOT / "docs" / "configuration.md"
SECTION = re.compile(r"# --- (.+) ---")
VARIABLE = re.compile(r"([A-Z][A-Z0-9_]*)=(.*)")
HEAD = """# Configuration: every variable

Made by `manage.py configuration --write` from `vanta/environment.py`, which reads and judges them, and from the comments of
`config/env.prod.canary.template`; a test fails where it is stale. A blank value counts as unset and never means LIVE. A
process with a mistake does not start and names every mistake at once. What is marked *secret* may stand in a file of its
own, named by `NAME_FILE`. The database (`manage.py caps`, `manage.py mode`) and Redis can only be stricter than what stands
here.
"""


@dataclass(frozen=True)
class Variable:
    """One variable of the template: its comment and the value that a canary begins with."""

    section: str
    name: str
    comment: str
    canary: str


class Command(BaseCommand):
    help = "Print the reference of all variables. Exit code 0; with --check 1 where docs/configuration.md is stale."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        group = parser.add_mutually_exclusive_group()
        group.add_argument("--write", action="store_true", help="write it to docs/configuration.md")
        group.add_argument("--check", action="store_true", help="compare it with docs/configuration.md")

    def handle(self, *_args: Any, **options: Any) -> None:
        made = reference(TEMPLATE.read_text())
        if options["write"]:
            REFERENCE.write_text(made)
        elif options["check"]:
            if not REFERENCE.exists() or REFERENCE.read_text() != made:
                raise CommandError(
                    "docs/configuration.md is stale: manage.py configuration --write", returncode=1
                )
        else:
            self.stdout.write(made, ending="")


def reference(template: str) -> str:
    """The page, from the template's text. Raises CommandError where code reads what the template does not tell of."""
    variables = list(read(template))
    schema: dict[str, Any] = Environment.model_json_schema()["properties"]
    if missing := {name.upper() for name in schema} - {variable.name for variable in variables}:
        raise CommandError(f"not in the template: {', '.join(sorted(missing))}", returncode=1)
    lines = [HEAD]
    for section in dict.fromkeys(variable.section for variable in variables):
        rows = [variable for variable in variables if variable.section == section]
        lines += [
            f"## {section}",
            "",
            "| variable | what it says | value | unset | canary |",
            "|---|---|---|---|---|",
        ]
        lines += [_row(variable, schema.get(variable.name.lower())) for variable in rows]
        lines += [""]
    return "\n".join(lines)


def read(template: str) -> Iterator[Variable]:
    section = ""
    comment: list[str] = []
    for line in template.splitlines():
        if heading := SECTION.fullmatch(line):
            section = heading[1].partition(":")[0].partition(";")[0]
            comment = []
        elif line.startswith("#"):
            comment.append(line.removeprefix("#").strip())
        elif variable := VARIABLE.fullmatch(line):
            yield Variable(section, variable[1], " ".join(comment), variable[2])
            comment = []
        else:
            comment = []


def _row(variable: Variable, schema: dict[str, Any] | None) -> str:
    if schema is None:
        value, unset = "text, read by the compose file alone", ""
    else:
        value, unset = _kind(schema), _unset(variable.name)
    if variable.name in SECRETS:
        value = f"{value}; *secret*"
    cells = (
        f"`{variable.name}`",
        variable.comment,
        value,
        unset,
        f"`{variable.canary}`" if variable.canary else "",
    )
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _kind(schema: dict[str, Any]) -> str:
    options = [one for one in schema.get("anyOf", [schema]) if one.get("type") != "null"]
    one = {**schema, **options[0]}
    if "enum" in one:
        return " or ".join(f"`{word}`" for word in one["enum"])
    kinds = {"integer": "whole number", "boolean": "`true` or `false`", "number": "number", "string": "text"}
    told = (
        "number"
        if any(found.get("type") == "number" for found in options)
        else kinds[one.get("type", "string")]
    )
    bounds = (
        ("minimum", "from {}"),
        ("exclusiveMinimum", "above {}"),
        ("maximum", "to {}"),
        ("minLength", "at least {} characters"),
        ("maxLength", "at most {} characters"),
    )
    limits = [words.format(one[key]) for key, words in bounds if key in one]
    return f"{told}, {' '.join(limits)}" if limits else told


def _unset(name: str) -> str:
    field = Environment.model_fields[name.lower()]
    if field.is_required():
        return "**does not start**"
    default = str(field.default).lower() if isinstance(field.default, bool) else str(field.default)
    return f"`{default}`" if default not in {"", "None"} and name not in SECRETS else "blank"

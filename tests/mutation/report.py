"""What came of the mutants, by module: kept line by line, told as a table or as JSON, held against what was judged."""

import json
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.mutation import scope
from tests.mutation.mutants import ROOT
from tests.mutation.run import Found

LEAST_PCT = 90
JUDGED = ROOT / "docs" / "mutation.md"
JUDGED_LINE = re.compile(r"^- `(?P<name>.+)` (?P<kind>equivalent|accepted): (?P<why>\S.*)$")
ROW = "{:<40}{:>8}{:>8}{:>9}{:>10}{:>11}{:>11}{:>9}{:>9}"
HEAD = ("module", "mutants", "killed", "timeouts", "survived", "of these", "equivalent", "percent", "CPU s")


@dataclass
class Row:
    """The mutants of one module, or of several. `judged` are survivors that docs/mutation.md gives a reason for."""

    mutants: int = 0
    killed: int = 0
    timeouts: int = 0
    survived: int = 0
    judged: int = 0
    equivalent: int = 0
    cpu_s: float = 0.0

    def add(self, found: Found, kind: str) -> None:
        self.mutants += 1
        self.cpu_s += found.cpu_s
        if found.verdict == "killed":
            self.killed += 1
        elif kind == "equivalent":
            self.equivalent += 1
        elif found.verdict == "timeout":
            self.timeouts += 1
        else:
            self.survived += 1
            self.judged += bool(kind)

    @property
    def percent(self) -> float:
        """Killed, of those that can be; a timeout is not counted as killed."""
        can_be = self.mutants - self.equivalent
        return 100 * self.killed / can_be if can_be else 100.0

    def told(self, name: str) -> str:
        return ROW.format(
            name.removeprefix("execution_app."),
            self.mutants,
            self.killed,
            self.timeouts,
            self.survived,
            f"{self.judged} judged",
            self.equivalent,
            f"{self.percent:.1f}",
            f"{self.cpu_s:.0f}",
        )


class Kept:
    """Results of this and of earlier runs, one line of JSON each; the last one about a mutant holds."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.found: dict[str, Found] = {}
        if path.exists():
            for line in path.read_text().splitlines():
                self._take(Found(**json.loads(line)))

    def _take(self, found: Found) -> None:
        self.found[found.key] = found

    def add(self, found: Found) -> None:
        self._take(found)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a") as file:
            file.write(json.dumps(asdict(found)) + "\n")


def judged() -> dict[str, tuple[str, str]]:
    """Mutants that a person has looked at: by name, the kind of their judgement and its reason."""
    lines = JUDGED.read_text(encoding="utf-8").splitlines()
    matches = filter(None, map(JUDGED_LINE.match, lines))
    return {match["name"]: (match["kind"], match["why"]) for match in matches}


def summary(found: Iterable[Found], known: dict[str, tuple[str, str]]) -> dict[str, Any]:
    """Rows by module and by group, survivors that nobody has judged, and judgements that were refuted by a test."""
    modules: dict[str, Row] = defaultdict(Row)
    groups: dict[str, Row] = defaultdict(Row)
    total = Row()
    survivors, refuted = [], []
    for one in found:
        kind, _ = known.get(one.name, ("", ""))
        file = one.module.replace(".", "/") + ".py"
        for row in (modules[one.module], groups[scope.group_of(file)], total):
            row.add(one, kind)
        if one.verdict != "killed" and not kind:
            survivors.append(one)
        if one.verdict == "killed" and kind:
            refuted.append(one)
    return {
        "modules": dict(modules),
        "groups": dict(groups),
        "total": total,
        "survivors": survivors,
        "refuted": refuted,
    }


def has_failed(told: dict[str, Any]) -> bool:
    """Whether a group is below the least, a judgement no longer holds, or nothing was shown at all."""
    return (
        not told["groups"]
        or bool(told["refuted"])
        or any(row.percent < LEAST_PCT for row in told["groups"].values())
    )


def table(told: dict[str, Any]) -> str:
    lines = [ROW.format(*HEAD)]
    lines += [row.told(name) for name, row in told["modules"].items()]
    lines += [row.told(f"= {name}") for name, row in told["groups"].items()]
    lines.append(told["total"].told("= all"))
    if told["survivors"]:
        lines += ["", "Not killed, and judged by nobody:"]
        lines += [f"  {one.verdict:<9} line {one.line:<4} {one.name}" for one in told["survivors"]]
    if told["refuted"]:
        lines += ["", f"Judged in {JUDGED.name} to survive, and killed:"]
        lines += [f"  {one.name}  by {one.finder}" for one in told["refuted"]]
    return "\n".join(lines)


def as_json(told: dict[str, Any]) -> str:
    def row(one: Row) -> dict[str, Any]:
        return asdict(one) | {"percent": round(one.percent, 2)}

    return json.dumps(
        {
            "least_percent": LEAST_PCT,
            "total": row(told["total"]),
            "groups": {name: row(one) for name, one in told["groups"].items()},
            "modules": {name: row(one) for name, one in told["modules"].items()},
            "survivors": [asdict(one) for one in told["survivors"]],
            "refuted": [asdict(one) for one in told["refuted"]],
            "passed": not has_failed(told),
        },
        indent=2,
    )

"""What was found, as it comes and at the end: progress, the matrix of points and scenarios, the totals."""

import json
import re
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.crash import sites

SAY_EVERY_S = 10.0
TOLD = 40
INVARIANT = re.compile(r"\bI\d+\b")


@dataclass
class Totals:
    trials: int = 0
    points: int = 0
    scenarios: int = 0
    roads: int = 0
    duplicated: int = 0
    lost: int = 0
    stuck: int = 0
    broken: int = 0
    not_reached: int = 0
    plants_caught: str = "none planted"
    wall_seconds: float = 0.0


@dataclass
class Report:
    """Everything of one run. `explored` are walks without a death, `tried` those with one.

    `is_whole` says that it is to die at every point of the code.
    """

    begun_s: float = field(default_factory=time.monotonic)
    explored: list[dict[str, Any]] = field(default_factory=list)
    tried: list[dict[str, Any]] = field(default_factory=list)
    planned: int = 0
    missed: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    plants: list[dict[str, Any]] = field(default_factory=list)
    ended_early: str = ""
    is_whole: bool = False
    deaths_begun_s: float = 0.0
    _said_s: float = 0.0

    @property
    def counted(self) -> list[dict[str, Any]]:
        """A trial counts where its point was reached, the process died there and recovery has ended."""
        return [one for one in self.tried if one["reached"]]

    @property
    def wrong(self) -> list[dict[str, Any]]:
        return [one for one in (*self.explored, *self.tried) if one.get("problem")]

    def reached(self) -> set[str]:
        """Names of the places that some walk passed."""
        names = {label.split(" ", 1)[1] for one in self.explored for label in one.get("labels", ())}
        return names | {name for one in self.explored for name in one.get("within", ())}

    def undied(self) -> list[str]:
        """Points that lie on some road, and at which nobody died on any."""
        on_road = {label for one in self.explored for label in one.get("labels", ())}
        return sorted(on_road - {one["label"] for one in self.counted})

    def inspect(self) -> None:
        """Hold what was reached against what the code has."""
        self.missed = sites.missed(self.reached())
        self.gone = sites.gone(sites.listed())
        self.missed += sorted(name for name in self.reached() if name.startswith("unknown:"))

    def totals(self) -> Totals:
        kinds = Counter(kind(one["problem"]) for one in self.wrong)
        counted = self.counted
        return Totals(
            trials=len(counted),
            points=len({one["label"] for one in counted}),
            scenarios=len({one["scenario"] for one in counted}),
            roads=len({(one["scenario"], one["fault"]) for one in counted}),
            duplicated=kinds["duplicated"],
            lost=kinds["lost"],
            stuck=kinds["stuck"],
            broken=kinds["broken"],
            not_reached=len(self.tried) - len(counted),
            plants_caught=self._plants_caught() or "none planted",
            wall_seconds=round(time.monotonic() - self.begun_s, 1),
        )

    def _plants_caught(self) -> str:
        return f"{sum(one['caught'] for one in self.plants)} of {len(self.plants)}" if self.plants else ""

    def say_progress(self, *, now: bool = False) -> None:
        if not now and time.monotonic() - self._said_s < SAY_EVERY_S:
            return
        self._said_s = time.monotonic()
        took_s = self._said_s - (self.deaths_begun_s or self.begun_s)
        done = len(self.tried)
        rate = done / took_s if took_s else 0.0
        left_s = (self.planned - done) / rate if rate else 0.0
        say(
            f"{done}/{self.planned} trials  {rate:.1f}/s  {took_s:.0f} s gone, {left_s:.0f} s left  "
            f"{len(self.wrong)} wrong"
        )

    def say_explored(self) -> None:
        if time.monotonic() - self._said_s > SAY_EVERY_S:
            self._said_s = time.monotonic()
            say(f"{len(self.explored)} roads walked without a death, {len(self.wrong)} wrong")

    def table(self) -> str:
        """The whole report as text."""
        parts = [self._matrix(), self._faults()]
        wrong = [f"  {describe(one)}" for one in self.wrong[:TOLD]]
        if wrong:
            parts.append("\n".join([f"WRONG ({len(self.wrong)}):", *wrong]))
        if self.missed:
            parts.append(
                "\n".join(["places of the code that no scenario reaches:", *map("  {}".format, self.missed)])
            )
        if self.gone:
            parts.append(
                "\n".join(["listed as unreached, and no longer in the code:", *map("  {}".format, self.gone)])
            )
        if self.is_whole and self.undied():
            parts.append("\n".join(["points at which nobody died:", *map("  {}".format, self.undied())]))
        if self.plants:
            head = f"planted bugs, caught {self._plants_caught()}:"
            parts.append("\n".join([head, *map(_plant, sorted(self.plants, key=lambda one: one["name"]))]))
        if self.ended_early:
            parts.append(f"ENDED EARLY: {self.ended_early}")
        parts.append(_told(self.totals()))
        return "\n\n".join(part for part in parts if part)

    def _matrix(self) -> str:
        """Deaths by point and scenario; `.` is not on that road, `!` is and nobody died there."""
        names = list(dict.fromkeys(one["scenario"] for one in self.explored))
        deaths = Counter((one["label"], one["scenario"]) for one in self.counted)
        on_road = {(label, one["scenario"]) for one in self.explored for label in one.get("labels", ())}
        labels = sorted({label for label, _ in on_road}, key=lambda label: label.split(" ", 1)[::-1])
        if not labels:
            return ""
        width = max(len(label) for label in labels)
        lines = [f"{number:3} {name}" for number, name in enumerate(names, start=1)]
        lines += ["", " " * width + "  " + "".join(f"{number:3}" for number in range(1, len(names) + 1))]
        bare = []
        for label in labels:
            cells = []
            for name in names:
                died = deaths[label, name]
                cells.append(str(died) if died else "!" if (label, name) in on_road else ".")
                if cells[-1] == "!":
                    bare.append(f"{label} in {name}")
            lines.append(f"{label:<{width}}  " + "".join(f"{cell:>3}" for cell in cells))
        lines.append(f"cells on a road at which nobody died: {len(bare)}")
        lines += [f"  {cell}" for cell in bare[:TOLD]] + (["  and others"] if len(bare) > TOLD else [])
        return "\n".join(lines)

    def _faults(self) -> str:
        counts = Counter(one["fault"] or "none" for one in self.counted)
        pairs = {(one["scenario"], one["fault"]) for one in self.counted if one["fault"]}
        told = ", ".join(f"{fault} {count}" for fault, count in sorted(counts.items()))
        return (
            f"trials by fault of the node: {told}; pairs of scenario and fault: {len(pairs)}"
            if counts
            else ""
        )

    def write(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "report.txt").write_text(self.table() + "\n", encoding="utf-8")
        content = {
            "totals": asdict(self.totals()),
            "wrong": self.wrong,
            "missed": self.missed,
            "gone": self.gone,
            "plants": self.plants,
            "trials": self.tried,
        }
        (folder / "report.json").write_text(json.dumps(content, indent=1), encoding="utf-8")


def kind(problem: str) -> str:
    """What a problem is: an order twice, an order that is not there, one without an end, or anything else."""
    if re.search(r"\bI[12]\b|duplicated", problem):
        return "duplicated"
    if "lost:" in problem:
        return "lost"
    return "stuck" if re.search(r"\bI10\b|stuck", problem) else "broken"


def invariant(problem: str) -> str:
    found = INVARIANT.search(problem)
    return found[0] if found else kind(problem)


def describe(one: dict[str, Any]) -> str:
    where = f"died {one['label']} #{one['occurrence']}" if one.get("label") else "without a death"
    fault = f", node {one['fault']}" if one["fault"] else ""
    return f"{one['scenario']}{fault}, {where}: {one['problem']}"


def _plant(one: dict[str, Any]) -> str:
    said = (
        f"{invariant(one['problem'])} after {one['after']} walks and {one['took_s']:.0f} s: {one['by']}"
        if one["caught"]
        else "NOT CAUGHT"
    )
    return f"  {one['name']:<40} {said}"


def _told(totals: Totals) -> str:
    return "  ".join(f"{name.replace('_', ' ')} {value}" for name, value in asdict(totals).items())


def say(words: str) -> None:
    sys.stdout.write(words + "\n")
    sys.stdout.flush()

"""What a drill did, saw and measured, and the verdict that follows; pure but for what `say` does."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any


class Verdict(StrEnum):
    PASSED = "passed"
    FAILED = "failed"
    COULD_NOT_RUN = "could not run"


EXIT_CODES = {Verdict.PASSED: 0, Verdict.FAILED: 1, Verdict.COULD_NOT_RUN: 2}


class CannotRun(Exception):  # noqa: N818 -- named by what it means
    """There is nothing to drill: no stack, another chain, a stop that holds already."""


class NotInjected(Exception):  # noqa: N818
    """The fault was not there, so nothing that followed shows anything."""


class Failed(Exception):  # noqa: N818
    """The drill cannot go on, since what it waited for did not come about."""


@dataclass(frozen=True)
class Entry:
    """One line: a step, a check with its outcome, a figure, or what was not exercised."""

    at: datetime
    kind: str  # step, check, figure, left_out
    text: str
    ok: bool | None = None
    evidence: str = ""
    value: float | None = None
    unit: str = ""

    def line(self) -> str:
        if self.kind == "check":
            told = f"{'ok  ' if self.ok else 'FAIL'} {self.text}"
            return f"{told}: {self.evidence}" if self.evidence else told
        if self.kind == "figure":
            return f"  =  {self.text}: {self.value:g} {self.unit}".rstrip()
        if self.kind == "left_out":
            return f"  -  not exercised: {self.text}"
        return f"  >  {self.text}"

    def as_json(self) -> dict[str, Any]:
        told: dict[str, Any] = {"at": stamp(self.at), "kind": self.kind, "text": self.text}
        if self.kind == "check":
            told |= {"ok": self.ok, "evidence": self.evidence}
        if self.kind == "figure":
            told |= {"value": self.value, "unit": self.unit}
        return told


@dataclass
class Report:
    """Grows while the drill runs; `say` gets each line at once. Times are UTC."""

    drill: str
    options: dict[str, Any]
    say: Callable[[str], object]
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    entries: list[Entry] = field(default_factory=list)
    could_not_run: str = ""
    began_at: datetime = field(init=False)
    ended_at: datetime | None = None

    def __post_init__(self) -> None:
        self.began_at = self.clock()

    def step(self, text: str) -> None:
        self._add(Entry(self.clock(), "step", text))

    def check(self, text: str, ok: bool, evidence: object = "") -> bool:
        """One thing that must hold, with what was seen; the drill goes on either way."""
        self._add(Entry(self.clock(), "check", text, bool(ok), str(evidence)))
        return bool(ok)

    def figure(self, text: str, value: float, unit: str) -> None:
        self._add(Entry(self.clock(), "figure", text, value=round(float(value), 3), unit=unit))

    def left_out(self, text: str) -> None:
        """What this run cannot show, so that nobody takes it for shown."""
        self._add(Entry(self.clock(), "left_out", text))

    def refuse(self, why: str) -> None:
        self.could_not_run = why
        self.say(f"could not run: {why}")

    def _add(self, entry: Entry) -> None:
        self.entries.append(entry)
        since_s = (entry.at - self.began_at).total_seconds()
        self.say(f"{since_s:7.2f} s {entry.line()}")

    @property
    def failures(self) -> list[Entry]:
        return [entry for entry in self.entries if entry.ok is False]

    @property
    def verdict(self) -> Verdict:
        """A drill that checked nothing has not passed."""
        if self.could_not_run:
            return Verdict.COULD_NOT_RUN
        checked = any(entry.kind == "check" for entry in self.entries)
        return Verdict.FAILED if self.failures or not checked else Verdict.PASSED

    @property
    def name(self) -> str:
        """Of its files: sorts by time, and two of one second are told apart by their drills."""
        return f"{self.began_at:%Y%m%dT%H%M%SZ}-{self.drill}"

    def as_json(self) -> dict[str, Any]:
        return {
            "drill": self.drill,
            "verdict": self.verdict.value,
            "exit_code": EXIT_CODES[self.verdict],
            "could_not_run": self.could_not_run,
            "began_at": stamp(self.began_at),
            "ended_at": stamp(self.ended_at or self.clock()),
            "options": self.options,
            "failures": [entry.text for entry in self.failures],
            "figures": {e.text: {"value": e.value, "unit": e.unit} for e in self._of("figure")},
            "not_exercised": [entry.text for entry in self._of("left_out")],
            "entries": [entry.as_json() for entry in self.entries],
        }

    def as_markdown(self) -> str:
        ended = self.ended_at or self.clock()
        checks = self._of("check")
        lines = [
            f"# Drill {self.drill}: {self.verdict.value}",
            "",
            f"From {stamp(self.began_at)} to {stamp(ended)}; {len(checks)} checks, {len(self.failures)} failed.",
            "Options: " + (", ".join(f"{k}={v}" for k, v in sorted(self.options.items())) or "none") + ".",
        ]
        lines += ["", f"Could not run: {self.could_not_run}"] if self.could_not_run else []
        lines += _section("Failed", [f"{e.text}: {e.evidence}" for e in self.failures])
        lines += _table(("checked", "outcome", "evidence"), [_row(entry) for entry in checks])
        figures = [(e.text, f"{e.value:g}", e.unit) for e in self._of("figure")]
        lines += _table(("figure", "value", "unit"), figures)
        lines += _section("Not exercised", [entry.text for entry in self._of("left_out")])
        told = [f"{stamp(entry.at)} {entry.line().strip()}" for entry in self.entries]
        lines += ["", "## In order", "", "```", *told, "```", ""]
        return "\n".join(lines)

    def _of(self, kind: str) -> list[Entry]:
        return [entry for entry in self.entries if entry.kind == kind]

    def write(self, folder: Path) -> list[Path]:
        """Both forms, under `folder`; answers where."""
        self.ended_at = self.ended_at or self.clock()
        folder.mkdir(parents=True, exist_ok=True)
        stem = next(
            stem
            for stem in (self.name, *(f"{self.name}-{n}" for n in range(2, 1_000)))
            if not (folder / f"{stem}.json").exists()
        )
        paths = [folder / f"{stem}.md", folder / f"{stem}.json"]
        paths[0].write_text(self.as_markdown())
        paths[1].write_text(json.dumps(self.as_json(), indent=1) + "\n")
        return paths


def stamp(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _row(entry: Entry) -> tuple[str, str, str]:
    return (entry.text, "ok" if entry.ok else "**FAILED**", entry.evidence)


def _section(title: str, lines: list[str]) -> list[str]:
    return ["", f"## {title}", "", *(f"- {line}" for line in lines)] if lines else []


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    if not rows:
        return []
    told = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return ["", *told, *("| " + " | ".join(_cell(cell) for cell in row) + " |" for row in rows)]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")

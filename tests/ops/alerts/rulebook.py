"""The alert rules and their tests as they are written, and which metrics an expression names."""

import re
from dataclasses import dataclass
from typing import Any

import yaml

from tests.e2e.stack import ROOT

RULES = ROOT / "ops" / "production-alerts.rules.yml"
TESTS = ROOT / "ops" / "alerts"
SEVERITY = "vanta:severity"
SEVERITIES = {"page", "ticket", "none"}
_METRIC = re.compile(r"\bvanta_[a-z0-9_]+")
_STRING = re.compile(r'"[^"]*"')
_OF_HISTOGRAMS = re.compile(r"_(bucket|count|sum)$")


@dataclass(frozen=True)
class Rule:
    """One alert of the file."""

    name: str
    expr: str
    labels: dict[str, str]
    annotations: dict[str, str]
    as_written: dict[str, Any]

    @property
    def follows_the_mode(self) -> bool:
        return SEVERITY in self.expr


def seconds(duration: str) -> int:
    """Of one number and one unit, as the rules write it."""
    return int(duration[:-1]) * {"s": 1, "m": 60, "h": 3600}[duration[-1]]


def groups() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    return found


def alerts() -> dict[str, Rule]:
    written = [rule for group in groups() for rule in group["rules"] if "alert" in rule]
    assert len({rule["alert"] for rule in written}) == len(written), "two alerts have one name"
    return {
        rule["alert"]: Rule(
            rule["alert"], rule["expr"], rule.get("labels", {}), rule.get("annotations", {}), rule
        )
        for rule in written
    }


def records() -> list[dict[str, Any]]:
    return [rule for group in groups() for rule in group["rules"] if "record" in rule]


def cases() -> dict[str, list[dict[str, Any]]]:
    """Test groups by the alert, or the recorded series, that their name begins with; each with its file's interval."""
    found: dict[str, list[dict[str, Any]]] = {}
    for path in sorted(TESTS.glob("*.tests.yml")):
        file = yaml.safe_load(path.read_text(encoding="utf-8"))
        assert file["rule_files"] == ["../production-alerts.rules.yml"], path
        for case in file["tests"]:
            about = str(case["name"]).rpartition(": ")[0]
            found.setdefault(about, []).append(
                case | {"evaluation_interval": file["evaluation_interval"], "file": path.name}
            )
    return found


def metrics(expr: str) -> set[str]:
    """Families of ours that an expression names, as Prometheus stores them; the words in strings are none."""
    names = set(_METRIC.findall(_STRING.sub('""', expr)))
    return {_OF_HISTOGRAMS.sub("", name) for name in names}

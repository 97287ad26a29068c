"""The run in words and in JSON."""

import json
import os
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.soak.account import LIMIT_S, Account
from tests.soak.faults import Happened
from tests.soak.traffic import Traffic


def facts(
    account: Account, traffic: Traffic, happened: list[Happened], asked: dict[str, Any], took_s: float
) -> dict[str, Any]:
    done = [fault for fault in happened if fault.done]
    return {
        **asked,
        "took_s": round(took_s, 1),
        "load_average": [round(load, 1) for load in os.getloadavg()],
        **asdict(account),
        "reasons": dict(account.reasons),
        "repeats": traffic.repeats,
        "answers": {str(status): times for status, times in sorted(traffic.answers.items())},
        "faults": len(done),
        "faults_by_kind": dict(Counter(fault.kind for fault in done)),
        "faults_by_name": dict(sorted(Counter(fault.name for fault in done).items())),
        "faults_idle": dict(sorted(Counter(fault.name for fault in happened if fault.idle).items())),
        "faults_not_done": [fault.name for fault in happened if fault.failed],
        "verdict": account.verdict,
    }


def words(found: dict[str, Any]) -> str:
    spread = "| {} | {count} | {p50_s} | {p99_s} | {most_s} |"
    sums = [found[name] for name in ("sent", "executed", "rejected", "held", "expired", "failed")]
    sums += [len(found["doubled"]), len(found["lost"])]
    lines = [
        f"# Soak: {found['minutes']} min, seed {found['seed']}, load {found['load_average']}",
        "",
        "| sent | executed | rejected | held | expired | failed | doubled | lost |",
        "|---|---|---|---|---|---|---|---|",
        "| " + " | ".join(str(number) for number in sums) + " |",
        "",
        "| seconds | of | p50 | p99 | most |",
        "|---|---|---|---|---|",
        spread.format("recovery: end of a fault to the next execution on the chain", **found["recovery"]),
        spread.format("delay: signal taken to its execution on the chain", **found["delay"]),
        "",
        f"{found['faults']} faults: {_listed(found['faults_by_kind'])}",
        f"met what was down already: {_listed(found['faults_idle']) or 'none'}",
        f"could not be done: {', '.join(found['faults_not_done']) or 'none'}",
        f"{found['repeats']} repeats; answers: {_listed(found['answers'])}",
        f"not executed: {_listed(found['reasons']) or 'none'}",
        "",
        *(f"FAILED: {line}" for line in found["verdict"]),
        *([] if found["verdict"] else [f"passed: nothing doubled, nothing lost, p99 below {LIMIT_S:.0f} s"]),
    ]
    return "\n".join(lines) + "\n"


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{times}x {name}" for name, times in counts.items())


def write(folder: Path, found: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.md").write_text(words(found), encoding="utf-8")
    (folder / "report.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")

"""What a run found, as facts, as a table, and in var/alerts/."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.alerts.ledger import WATCHDOG, Ledger, Line, Trouble

HEAD = ["alert", "fault", "fires_s", "arrives_s", "over_s", "arrived", "over", "verdict"]


def facts(
    ledger: Ledger,
    wanted: dict[str, str],
    troubles: list[Trouble],
    terms: dict[str, Any],
    not_provoked: dict[str, str],
) -> dict[str, Any]:
    """`wanted` is each alert that the run was to provoke with its scene; seconds are from the fault's begin."""
    rows = [_row(ledger.lines.get(alert, Line(alert)), scene) for alert, scene in wanted.items()]
    others = [_row(line, "") for line in ledger.lines.values() if line.alert not in wanted and line.told]
    pings = len(ledger.receivers.pings)
    wrong = [f"{row['alert']}: {row['wrong']}" for row in (*rows, *others) if row["wrong"]]
    wrong += [f"scene {one.scene}: {one.why}" for one in troubles]
    wrong += [] if pings else [f"{WATCHDOG}: nobody was told"]
    wrong += [f"the receiver refused: {why}" for why in ledger.receivers.refused]
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        **terms,
        "alerts": rows,
        "without_a_fault": others,
        "watchdog_pings": pings,
        "not_provoked": not_provoked,
        "counts": {
            "to_provoke": len(rows),
            "arrived_once_and_over": sum(not row["wrong"] for row in rows),
            "not_provoked": len(not_provoked),
        },
        "wrong": wrong,
    }


def _row(line: Line, scene: str) -> dict[str, Any]:
    def since(at_s: float) -> float | None:
        return round(at_s - line.began_s, 1) if at_s and line.began_s else None

    return {
        "alert": line.alert,
        "scene": scene,
        "fault": line.fault,
        "fires_s": since(line.fired_s),
        "arrives_s": since(line.told_s),
        "over_s": since(line.over_s),
        "arrived": line.told,
        "over": line.over,
        "wrong": line.wrong,
    }


def words(found: dict[str, Any]) -> str:
    rows = [*found["alerts"], *found["without_a_fault"]]
    table = [HEAD, *([_said(row, name) for name in HEAD] for row in rows)]
    widths = [max(len(line[at]) for line in table) for at in range(len(HEAD))]
    lines = [
        f"Alerts of {found['at']}: {found['minutes']} minutes. The expressions are the file's; every `for`, Prometheus's",
        f"intervals and Alertmanager's waits were {found['times']} times shorter, repeats of an hour and more were not.",
        "Seconds are from the fault's begin: until it fires in Prometheus, arrives at the receiver, is taken back there.",
        "",
        *(
            "  ".join(word.ljust(width) for word, width in zip(line, widths, strict=True)).rstrip()
            for line in table
        ),
        "",
        f"{WATCHDOG} fires always: {found['watchdog_pings']} pings of the dead man's switch.",
        *(f"not provoked: {alert}: {why}" for alert, why in found["not_provoked"].items()),
        "{arrived_once_and_over} of {to_provoke} fired, arrived once and were over; {not_provoked} not provoked".format(
            **found["counts"]
        ),
        *(f"WRONG: {why}" for why in found["wrong"]),
        "verdict: " + ("FAILED" if found["wrong"] else "passed"),
    ]
    return "\n".join(lines)


def _said(row: dict[str, Any], name: str) -> str:
    if name == "verdict":
        return row["wrong"] or "ok"
    value = row[name]
    return "-" if value is None or value == "" else str(value)


def write(folder: Path, name: str, found: dict[str, Any], text: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.txt").write_text(text + "\n", encoding="utf-8")
    (folder / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")

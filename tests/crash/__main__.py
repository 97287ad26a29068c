"""`make crashtest`: SIGKILL at every commit, write, signature, request and bell, on every road; then the planted bugs.

ARGS: --slice N, --scenario NAME, --fault NAME, --point PART, --seed N, --jobs N, --plants [PART], --no-plants.
Ends with 1 when anything was duplicated, lost, stuck or otherwise wrong, when a place of the code was not
reached, or when a planted bug was not caught. The report is in var/crashtest/.
"""

import argparse
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from tests.crash import plan, plants, prepared
from tests.crash.pool import Pool, ShardError
from tests.crash.report import Report, describe, say
from tests.crash.sites import ROOT

TRIALS = 5_010
SHORT = 100  # trials
NOT_REACHED_PCT = 1  # of trials whose point was not reached in three tries; they count for nothing
FOLDER = ROOT / "var" / "crashtest"


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: a report of what was done
    if options.plants is not None and not plants.patches(options.plants):
        raise SystemExit(f"no planted bug has {options.plants!r} in its name: see tests/crash/plants/")
    report = Report()
    try:
        with prepared.files() as database:
            if options.plants is None:
                _crash(report, options, database)
            if options.plants is not None or options.plants_too:
                logs = options.folder / "plants"
                for plant in plants.run_all(options.jobs, logs, options.seed, options.plants or "", database):
                    report.plants.append(plant)
    except (KeyboardInterrupt, ShardError) as ended:
        report.ended_early = str(ended) or "interrupted"
    report.write(options.folder)
    say(report.table())
    say(f"report: {options.folder / 'report.txt'} and report.json")
    return int(_has_failed(report, options))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make crashtest ARGS=...", description=__doc__)
    parser.add_argument("--slice", type=int, default=TRIALS, help=f"how many trials; default {TRIALS}")
    parser.add_argument("--scenario", action="append", default=[], help="only this one; may be given again")
    parser.add_argument("--fault", default=None, help="only roads with this fault of the node")
    parser.add_argument("--point", default="", help="only points whose label holds this")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=min(4, _cores()))
    parser.add_argument(
        "--plants", nargs="?", const="", default=None, help="only planted bugs, or those named so"
    )
    parser.add_argument("--no-plants", dest="plants_too", action="store_false", help="no planted bugs")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the report goes")
    return parser


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 2


def _crash(report: Report, options: argparse.Namespace, database: Path) -> None:
    logs, is_long = options.folder / "logs", options.slice > SHORT
    with Pool(options.jobs, ROOT, logs, database=database, long=is_long, first=0) as pool:
        pool.await_ready()
        roads = _roads(pool.roads, options)
        say(f"{len(roads)} scenarios, {sum(map(len, roads.values()))} pairs of scenario and fault")
        walks = plan.explorations(roads)
        if options.fault is None and options.slice >= TRIALS:
            _explore(report, pool, walks)
        elif options.fault is None:
            _explore(report, pool, [{**one, "faults": [""]} for one in walks])
        # Each scenario's own points come first: for a few trials nobody needs to know those of the faults.
        if options.fault is not None or plan.distinct(report.explored) < options.slice < TRIALS:
            _explore(report, pool, [{**one, "faults": one["faults"][1:]} for one in walks])
        drawn = plan.draw(report.explored, options.slice, options.point, options.seed)
        report.planned, report.deaths_begun_s = len(drawn), time.monotonic()
        for found in pool.run(plan.jobs(drawn)):
            if "label" not in found:
                report.explored.append(found)
            else:
                report.tried.append(found)
            _say_wrong(found)
            report.say_progress()
        report.say_progress(now=True)
    if not options.scenario and options.fault is None:
        report.inspect()
        report.is_whole = options.slice >= TRIALS and not options.point


def _explore(report: Report, pool: Pool, explorations: list[dict[str, Any]]) -> None:
    for found in pool.run(explorations):
        report.explored.append(found)
        _say_wrong(found)
        report.say_explored()


def _roads(known: dict[str, list[str]], options: argparse.Namespace) -> dict[str, list[str]]:
    unknown = [name for name in options.scenario if name not in known]
    if unknown:
        raise SystemExit(f"no scenario {unknown[0]!r}; there are: {'; '.join(known)}")
    chosen = {name: known[name] for name in options.scenario or known}
    if options.fault is None:
        return chosen
    return {name: [one for one in faults if one == options.fault] for name, faults in chosen.items()}


def _say_wrong(found: dict[str, Any]) -> None:
    if found["problem"]:
        say(f"WRONG {describe(found)}")


def _has_failed(report: Report, options: argparse.Namespace) -> bool:
    nothing = options.plants is None and not report.counted
    too_few = 100 * report.totals().not_reached > NOT_REACHED_PCT * len(report.tried)
    uncaught = any(not plant["caught"] for plant in report.plants)
    undied = report.is_whole and report.undied()
    unfit = report.missed or report.gone or undied
    return bool(report.ended_early or report.wrong or unfit or nothing or too_few or uncaught)


if __name__ == "__main__":
    sys.exit(main())

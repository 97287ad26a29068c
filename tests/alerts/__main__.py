"""`make alerts`: real faults on a running stack, and each alert has to fire, arrive once and be over.

The real Prometheus and Alertmanager judge the stack's own /metrics by ops/production-alerts.rules.yml and tell a stand-in
for Telegram. Exit code 0 when each alert did, 1 when one did not arrive, came twice or stayed, 2 for wrong arguments.
"""

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.alerts import neglected, quiet, report
from tests.alerts.ground import Ground
from tests.alerts.ledger import Trouble
from tests.alerts.scenes import ALL, NEGLECTED, NOT_PROVOKED, SCENES
from tests.e2e.stack import ROOT
from tests.ops.alerts import rulebook

TIMES = 10
TOOLS = ("prometheus", "prometheus-alertmanager")
# The longest window of the rules, and what it takes to be told after it.
WINDOWS_PASS_MIN = 32.0


def main() -> int:
    asked = _arguments()
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        print(f"not installed: {', '.join(missing)} (.ci/tools installs them)", file=sys.stderr)
        return 2
    folder = Path(tempfile.mkdtemp(prefix="vanta-alerts-"))
    folder.chmod(0o755)  # PostgreSQL runs as an account of its own
    sink = sys.stderr if asked.json else sys.stdout

    def say(line: str) -> None:
        print(line, file=sink, flush=True)

    say(f"the stack's folder is {folder}")
    if asked.quiet_minutes:
        with Ground(folder, 1, say) as ground:
            found = quiet.run(ground, asked.quiet_minutes, asked.seed)
        text, name = quiet.words(found), "quiet"
    else:
        with Ground(folder, asked.times, say) as ground:
            found = _provoke(ground, asked)
        text, name = report.words(found), "report"
    report.write(asked.out, name, found, text)
    print(json.dumps(found, indent=1) if asked.json else text)
    if found["wrong"]:
        say(f"kept: {folder}, in it all logs")
        return 1
    shutil.rmtree(folder, ignore_errors=True)
    return 0


def _arguments() -> argparse.Namespace:
    names = sorted(alert for scene in ALL for alert in scene.alerts)
    parser = argparse.ArgumentParser(
        prog="python -m tests.alerts",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--only",
        choices=[*names, *(scene.name for scene in ALL)],
        metavar="NAME",
        action="append",
        help="an alert, by whose scene others are provoked, too, or a scene; may be repeated",
    )
    parser.add_argument(
        "--quiet-minutes",
        type=float,
        default=0,
        help="no faults: a healthy stack under load, in which none may fire",
    )
    parser.add_argument(
        "--times", type=int, default=TIMES, help=f"how many times shorter `for` and waits are ({TIMES})"
    )
    parser.add_argument(
        "--wait-minutes",
        type=float,
        default=WINDOWS_PASS_MIN,
        help=f"after the last fault, for the windows of counted alerts to pass ({WINDOWS_PASS_MIN:g})",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=random.SystemRandom().randrange(10**6),
        help="of the quiet minutes' signals",
    )
    parser.add_argument(
        "--out", type=Path, default=ROOT / "var" / "alerts", help="of the report, as text and JSON"
    )
    parser.add_argument("--json", action="store_true", help="print the report as JSON, progress to stderr")
    return parser.parse_args()


def _provoke(ground: Ground, asked: argparse.Namespace) -> dict[str, Any]:
    only = asked.only
    scenes = [scene for scene in ALL if not only or {scene.name, *scene.alerts} & set(only)]
    wanted = {alert: scene.name for scene in scenes for alert in scene.alerts}
    began_s = time.monotonic()
    troubles: list[Trouble] = []
    first = NEGLECTED.play if NEGLECTED in scenes else neglected.plain
    try:
        first(ground)
        for scene in [scene for scene in SCENES if scene in scenes]:
            ground.ledger.say(f"scene {scene.name}: {', '.join(scene.alerts)}")
            try:
                scene.play(ground)
            except (AssertionError, OSError) as problem:
                troubles.append(Trouble(scene.name, str(problem)[:600]))
                ground.ledger.say(f"TROUBLE in {scene.name}: {str(problem)[:600]}")
        ground.ledger.say(f"until all is over: {', '.join(sorted(ground.ledger.open())) or 'it is'}")
        ground.await_over(60 * asked.wait_minutes)
    except AssertionError as problem:
        troubles.append(Trouble("start", str(problem)[:2000]))
        ground.ledger.say(f"TROUBLE at the start: {str(problem)[:2000]}")
    terms = {"minutes": round((time.monotonic() - began_s) / 60, 1), "times": asked.times}
    assert set(wanted) | set(NOT_PROVOKED) <= set(rulebook.alerts())
    return report.facts(ground.ledger, wanted, troubles, terms, {} if only else NOT_PROVOKED)


if __name__ == "__main__":
    sys.exit(main())

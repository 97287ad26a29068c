"""`make soak`: the whole stack, LIVE on the rehearsal chain, under traffic and faults; then every signal's end."""

import argparse
import json
import random
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from tests.e2e.stack import ROOT
from tests.soak import report
from tests.soak.run import Soak


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=15.0, help="of traffic and faults (15)")
    parser.add_argument("--seed", type=int, default=None, help="chooses signals and faults; any, and said")
    parser.add_argument(
        "--rate", type=float, default=2.0, help="requests per second, 30 %% of them repeats (2)"
    )
    parser.add_argument("--every", type=float, default=2.0, help="seconds between faults (2)")
    parser.add_argument(
        "--out", type=Path, default=ROOT / "var" / "soak", help="of report.md and report.json"
    )
    parser.add_argument("--json", action="store_true", help="print the report as JSON, progress to stderr")
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: what was started is ended
    seed = random.SystemRandom().randrange(10**6) if asked.seed is None else asked.seed
    folder = Path(tempfile.mkdtemp(prefix="vanta-soak-"))
    folder.chmod(0o755)  # PostgreSQL runs as an account of its own
    sink = sys.stderr if asked.json else sys.stdout

    def say(line: str) -> None:
        print(line, file=sink, flush=True)

    say(f"seed {seed}, the stack's folder is {folder}")
    found = Soak(folder / "var", asked.minutes, seed, 1 / asked.rate, asked.every, say).run()
    report.write(asked.out, found)
    print(json.dumps(found, indent=1) if asked.json else report.words(found))
    if found["verdict"]:
        say(f"kept: {folder}, in it why.txt and all logs")
        return 1
    shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

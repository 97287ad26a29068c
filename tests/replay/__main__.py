"""`make replay`: a day of prices through the watch over levels, held against a computation of its own.

Every level fires once, at the look and on the side that `oracle.py` says, and its close fills there; what ought not to
fire stays open. Exit code 0 when all of it is so, 1 when not. `--speed 100` paces the day, 0 goes as fast as it can.
"""

import argparse
import json
import os
import sys
from dataclasses import replace
from pathlib import Path

from tests.bench.__main__ import _logging_to


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.replay", description=__doc__)
    parser.add_argument("--positions", type=int, default=60)
    parser.add_argument("--hours", type=float, default=24.0, help="of the market (24)")
    parser.add_argument(
        "--step", type=float, default=30.0, help="seconds of the market between two prices (30)"
    )
    parser.add_argument(
        "--speed", type=float, default=100.0, help="market seconds a second, 0: no pause (100)"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--ticks", type=Path, help="prices that `manage.py prices` told, in place of a made day"
    )
    asked = parser.parse_args()
    words = os.fdopen(os.dup(1), "w")

    def say(line: str) -> None:
        print(line, file=words, flush=True)

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "vanta.settings")
    from tests import real_parts  # starts the servers and fills the environment

    with _logging_to(real_parts.FOLDER / "replay.log"):
        import django
        from django.core.management import call_command

        django.setup()
        call_command("migrate", verbosity=0)
        from tests.replay import stage, ticks
        from tests.replay.run import OPEN_CENTS, Day, ReplayError, replay

        day = Day(asked.positions, asked.hours, asked.step, asked.speed, asked.seed)
        try:
            if asked.ticks is not None:
                told = ticks.read(asked.ticks, OPEN_CENTS)
                say(f"{told.symbol} as it was")
                day = replace(day, hours=told.hours, step_s=told.step_s, cents=tuple(told.cents))
            with stage.in_dry() as rig:
                found = replay(rig, day, say)
        except (ReplayError, ticks.TicksError, OSError) as wrong:
            say(f"FAILED: {wrong}")
            return 1
    say(json.dumps(found, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())

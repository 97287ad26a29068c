"""`make bench`: how many intents the engine alone brings onto the chain, and how many signals the whole road.

Exit code 0 when all was measured, 1 when something was lost, doubled or out of order, 2 for wrong arguments.
There is no figure that fails it: how fast a machine is, is not for the bench to say.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.bench import report
from tests.bench.failed import BenchError

PARTS = ("scale", "engine", "road")


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--intents", type=_positive, default=2000, help="for the engine alone (2000)")
    parser.add_argument("--signals", type=_positive, default=500, help="for the whole road (500)")
    parser.add_argument(
        "--in-flight", type=_positive, default=4096, help="per wallet (4096; 512 on the road)"
    )
    parser.add_argument("--only", choices=PARTS, action="append", help="measure this alone; may be repeated")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON, progress to stderr")
    asked = parser.parse_args()
    # Ways of our own: where the engine is measured, its log takes these.
    words = os.fdopen(os.dup(1), "w")
    sink = os.fdopen(os.dup(2), "w") if asked.json else words

    def say(line: str) -> None:
        print(line, file=sink, flush=True)

    found: dict[str, Any] = {
        "load_average": [round(load, 1) for load in os.getloadavg()],
        "cores": os.cpu_count(),
    }
    wanted = asked.only or PARTS
    try:
        if "road" in wanted:  # first: its servers are gone when the others' start
            found["road"] = _road(asked, say)
        if {"scale", "engine"} & set(wanted):
            found |= _engine(wanted, asked, say)
    except (BenchError, AssertionError) as problem:
        say(f"FAILED: {problem}")
        return 1
    print(json.dumps(found, indent=1) if asked.json else report.words(found), file=words, flush=True)
    return 0


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("it has to be 1 or more")
    return number


def _engine(wanted: Any, asked: argparse.Namespace, say: Any) -> dict[str, Any]:
    """On parts of its own, with a database that writes to the disk as in production."""
    os.environ["TEST_DURABLE"] = "1"
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "vanta.settings")
    from tests import real_parts  # starts the servers and fills the environment

    with _logging_to(real_parts.FOLDER / "bench.log"):
        import django
        from django.core.management import call_command

        django.setup()
        call_command("migrate", verbosity=0)
        from tests.bench import engine, scale

        found: dict[str, Any] = {}
        with engine.on_stage(asked.in_flight) as stage:
            if "scale" in wanted:
                say("the node alone")
                found["scale"] = scale.measure(stage.node, stage.address, asked.intents)
            if "engine" in wanted:
                found["engine"] = engine.run(stage, asked.intents, say)
        return found


@contextmanager
def _logging_to(path: Path) -> Iterator[None]:
    """Our processes log as much as always, which costs as much as always, to where nobody has to read it."""
    kept = os.dup(1), os.dup(2)
    log = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    for number in (1, 2):
        os.dup2(log, number)
    try:
        yield
    finally:
        sys.stdout.flush()
        for number, was in enumerate(kept, start=1):
            os.dup2(was, number)


def _road(asked: argparse.Namespace, say: Any) -> dict[str, Any]:
    from tests.bench import road

    folder = Path(tempfile.mkdtemp(prefix="vanta-bench-"))
    folder.chmod(0o755)  # PostgreSQL runs as an account of its own
    try:
        found = road.run(folder / "var", asked.signals, asked.in_flight, say)
    except BaseException:
        say(f"kept: {folder}, in it all logs")
        raise
    shutil.rmtree(folder, ignore_errors=True)
    return found


if __name__ == "__main__":
    sys.exit(main())

"""`make faults`: every component x dependency x fault, one after another on one stack, as a table."""

import argparse
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.detours import DetouredStack
from tests.faults.bot import BotBeside
from tests.faults.cells import HEAD, Bench, Cell, every_cell, row


def chosen(arguments: Sequence[str] | None = None) -> list[Cell]:
    """Refuses words that leave no cell, before anything is started for them."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--only", nargs="*", default=[], help="words that a cell's name must have")
    asked = parser.parse_args(arguments)
    cells = [cell for cell in every_cell() if all(word in str(cell) for word in asked.only)]
    if not cells:
        parts = [(cell.component, cell.dependency, str(cell.fault)) for cell in every_cell()]
        names = "; ".join(", ".join(dict.fromkeys(some)) for some in zip(*parts, strict=True))
        parser.error(f"no cell has all of: {' '.join(asked.only)}. There are {names}")
    return cells


def main() -> int:
    cells = chosen()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: what was started is ended
    folder = Path(tempfile.mkdtemp(prefix="vanta-faults-"))
    folder.chmod(0o755)  # PostgreSQL runs as an account of its own
    stack = DetouredStack(folder / "var", REHEARSAL_MAX_TRADES_PER_PAIR="900")
    failed = 0
    try:
        stack.start()
        with BotBeside(stack) as bot:
            bench = Bench(stack, bot)
            print("\n".join(HEAD), flush=True)
            for cell in cells:
                outcome = bench.run(cell)
                failed += bool(outcome.wrong)
                print(row(outcome), flush=True)
    finally:
        stack.stop()
    print(f"{len(cells)} cells, {failed} wrong" + (f"; logs: {folder}" if failed else ""))
    if not failed:
        shutil.rmtree(folder, ignore_errors=True)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())

"""`python -m ops.rehearsal run|chain|price|clean`, run from the clone's folder by the Makefile."""

import argparse
import sys
from pathlib import Path

from ops.pipe import while_read
from ops.rehearsal import stack_price
from ops.rehearsal.parts import PartError
from ops.rehearsal.stack import Stack
from ops.rehearsal.stack_chain import UsageError
from ops.rehearsal.stack_chain import run as run_chain
from ops.rehearsal.stack_clean import clean
from ops.rehearsal.stack_commands import ROOT
from ops.rehearsal.stack_lock import RunningError
from ops.rehearsal.supervisor import StoppedError

USAGE = 2


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m ops.rehearsal", description=__doc__)
    parser.add_argument(
        "--var",
        type=Path,
        default=ROOT / "var",
        metavar="DIR",
        help="where everything is kept (default: var)",
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("run", help="the whole stack, in the foreground; EXEC_MODE, PORT and *_URL are read")
    verbs.add_parser("chain", help="the rehearsal chain alone, at 127.0.0.1:8545")
    price = verbs.add_parser("price", help="set a price of the running rehearsal chain, or tell all of them")
    price.add_argument("symbol", nargs="?", help="such as BTC-USD")
    price.add_argument("usd", nargs="?", help="the new price, such as 95000 or 0.1234")
    verbs.add_parser("clean", help="delete var/, unless something runs or is not of the rehearsal chain")
    chosen = parser.parse_args()
    verb, folder = chosen.verb, chosen.var.absolute()
    try:
        if verb == "run":
            return Stack(folder).run()
        if verb == "chain":
            return run_chain(folder)
        if verb == "price":
            return stack_price.run(folder, chosen.symbol, chosen.usd)
        clean(folder)
    except (UsageError, RunningError) as error:
        print(f"make {verb}: {error}", file=sys.stderr)
        return USAGE
    except PartError as error:
        print(f"make {verb}: {error}", file=sys.stderr)
        return 1
    except StoppedError:
        return 0
    return 0


if __name__ == "__main__":
    with while_read():
        sys.exit(main())

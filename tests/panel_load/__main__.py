"""`python -m tests.panel_load`: a long history, and how long the server needs for each page of the panel over it."""

import argparse
import statistics
import sys
import time

from tests import real_parts  # first: it starts the servers that Django's settings name


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.panel_load", description=__doc__)
    parser.add_argument("--intents", type=int, default=1_000_000)
    parser.add_argument("--positions", type=int, default=10_000, help="open ones; further ones are closed")
    parser.add_argument("--times", type=int, default=30, help="how often each page is asked for")
    parser.add_argument(
        "--within-ms", type=float, default=150.0, help="the most that home may take at the median"
    )
    asked = parser.parse_args()

    import django

    django.setup()
    from django.core.management import call_command

    from tests.panel_load.history import Size, write
    from tests.panel_load.look import Look

    assert real_parts.postgres.url
    call_command("migrate", verbosity=0)
    began_s = time.monotonic()
    for step in write(Size(asked.intents, asked.positions)):
        print(f"{time.monotonic() - began_s:6.1f} s  {step}", flush=True)
    print(f"{time.monotonic() - began_s:6.1f} s  written", flush=True)
    look = Look()
    medians_ms = {}
    print(f"{'page':44} {'median':>9} {'slowest':>9}")
    for path in look.paths(asked.intents):
        took_ms = look.ask(path, asked.times)
        medians_ms[path] = statistics.median(took_ms)
        print(f"{path:44} {medians_ms[path]:6.1f} ms {max(took_ms):6.1f} ms", flush=True)
    for key, took in look.boxes():
        print(f"  box {key:38} {took:6.1f} ms")
    home_ms = medians_ms[look.HOME]
    print(f"home: {home_ms:.1f} ms at the median, at most {asked.within_ms:g} ms wanted")
    return int(home_ms > asked.within_ms)


if __name__ == "__main__":
    sys.exit(main())

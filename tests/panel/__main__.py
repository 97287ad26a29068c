"""What the panel costs over a long history: fills a database of its own, then asks each page 20 times.

Exit code 0 when the home page's median and p95 are below the limit, 1 when it is not, 2 for wrong arguments.
"""

import argparse
import json
import os
import sys
import time
from dataclasses import asdict
from typing import TextIO

HOME_MS = 150.0  # at most, in the server


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.panel",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--intents", type=int, default=1_000_000, help="settled ones (1,000,000)")
    parser.add_argument("--positions", type=int, default=10_000, help="open ones (10,000)")
    parser.add_argument("--times", type=int, default=20, help="requests of each page (20)")
    parser.add_argument(
        "--slow", type=float, default=50.0, metavar="MS", help="tell questions slower than that (50)"
    )
    parser.add_argument(
        "--only", default="", metavar="WORD", help="pages with this word in their names, and home"
    )
    parser.add_argument("--json", action="store_true", help="print the figures as JSON, progress to stderr")
    asked = parser.parse_args()
    if asked.positions < 1 or asked.times < 1 or asked.positions * 4 > asked.intents:
        parser.error("at least one position, one request, and four intents for each position")
    words = os.fdopen(os.dup(1), "w")
    found = run(asked, sys.stderr if asked.json else words)
    if asked.json:
        print(json.dumps(found, indent=1), file=words, flush=True)
    slow = max(float(str(found["home"][name])) for name in ("median_ms", "p95_ms"))
    return 0 if slow < HOME_MS else 1


def run(asked: argparse.Namespace, said: TextIO) -> dict[str, dict[str, object]]:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "vanta.settings")
    from tests import real_parts  # noqa: F401  (starts the servers and fills the environment)

    os.environ["LOG_LEVEL"] = "ERROR"
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", verbosity=0)
    # Without Django's test environment, which copies the context of each template that is rendered: no server does.
    from tests.panel import filling, measuring

    begun_s = time.monotonic()
    filling.fill(asked.intents, asked.positions, lambda part: print(f"fills {part}", file=said, flush=True))
    took_s = time.monotonic() - begun_s
    print(
        f"{asked.intents:,} intents, {asked.positions:,} open positions, filled in {took_s:.0f} s;"
        f" load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores\n"
        f"{'page':<32}{'median ms':>10}{'p95 ms':>8}{'worst ms':>10}{'CPU ms':>8}{'questions':>11}{'slowest ms':>12}",
        file=said,
        flush=True,
    )
    client = measuring.somebody()
    found: dict[str, dict[str, object]] = {}
    for name, path in measuring.pages().items():
        if asked.only not in name and name != "home":
            continue
        cost = measuring.measure(client, path, asked.times)
        found[name] = asdict(cost)
        print(
            f"{name:<32}{cost.median_ms:>10.1f}{cost.p95_ms:>8.1f}{cost.worst_ms:>10.1f}{cost.cpu_ms:>8.1f}"
            f"{cost.questions:>11}{cost.slowest_ms:>12.1f}",
            file=said,
            flush=True,
        )
        for took_ms, question in cost.asked:
            if took_ms > asked.slow:
                print(f"    {took_ms:.0f} ms: {question[:500]}", file=said, flush=True)
    return found


if __name__ == "__main__":
    sys.exit(main())

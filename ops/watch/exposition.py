"""The text that Prometheus scrapes, right whichever process answers.

With PROMETHEUS_MULTIPROC_DIR every process writes its counters and histograms
to files named after its pid, and the scrape adds them up; files of dead
processes stay, so a counter does not go back when a worker child dies. One
process alone (a test, a shell) shows its own registry.

The folder grows by about 128 KiB for each new pid, and a scrape reads all of
it; it is wiped when the whole stack starts, which Prometheus sees as a reset
of every counter at once.
"""

import os
from collections.abc import Iterable
from pathlib import Path

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, REGISTRY, disable_created_metrics, generate_latest
from prometheus_client.core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

# Imported so that the families are shown from the first scrape of any process.
import ops.watch.meters  # noqa: F401
import signals_app.meters  # noqa: F401
from execution_app import meters
from ops.watch import gauges

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
PREFIX = "vanta_"

# The text format shows no creation times; with them every counter would drag a second family along.
disable_created_metrics()  # type: ignore[no-untyped-call]
# A series that appears with its first increment hides that increment from rate(), so what can happen begins at 0.
for _invariant in meters.INVARIANTS:
    meters.INVARIANT_VIOLATIONS.labels(_invariant)
for _level in meters.LEVELS:
    meters.TPSL_TRIGGERS.labels(_level)


class Scrape(Collector):
    """Everything known at one moment, `vanta_` families first."""

    def collect(self) -> Iterable[Metric]:
        families = [*gauges.collect(), *_counted()]
        return sorted(families, key=lambda family: (not family.name.startswith(PREFIX), family.name))


def render() -> bytes:
    return generate_latest(Scrape())


def _counted() -> Iterable[Metric]:
    """Counters and histograms of every process of the stack."""
    folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR", "")
    if not folder:
        return REGISTRY.collect()
    # A process that was killed between creating and sizing its file leaves an empty one, which cannot be read.
    files = [str(path) for path in sorted(Path(folder).glob("*.db")) if path.stat().st_size]
    families: Iterable[Metric] = MultiProcessCollector.merge(files)  # type: ignore[no-untyped-call]
    return families

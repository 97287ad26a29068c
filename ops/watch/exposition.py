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
from itertools import product
from pathlib import Path

from django.conf import settings
from prometheus_client import (
    CONTENT_TYPE_PLAIN_0_0_4,
    REGISTRY,
    Counter,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from execution_app import meters
from execution_app.node.breaker import BreakerState
from execution_app.node.node_errors import HELD_BY_NODE
from execution_app.node.rpc import OUT
from execution_app.states import ENDED_BY_VENUE, HOLDING, OTHER_REASON, Mode, SendOutcome
from ops.watch import gauges
from ops.watch.meters import HTTP_REQUESTS
from signals_app.meters import OTHER_SOURCE, SIGNALS_DEDUPLICATED, SIGNALS_RECEIVED

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
PREFIX = "vanta_"
REFUSALS = sorted(set(SendOutcome) - HELD_BY_NODE - {SendOutcome.UNOFFERED})

# The text format shows no creation times; with them every counter would drag a second family along.
disable_created_metrics()  # type: ignore[no-untyped-call]


def begin_at_zero() -> None:
    """Show what can happen before it has: a series that appears with its first increment hides it from rate()."""
    symbols = sorted(settings.ENVIRONMENT.symbols)[: gauges.LABEL_LIMIT // 6]
    positions = [str(position) for position in range(len(settings.ENVIRONMENT.rpc_urls))]
    beginnings: tuple[tuple[Counter, Iterable[tuple[str, ...]]], ...] = (
        (meters.INVARIANT_VIOLATIONS, [(name,) for name in meters.INVARIANTS]),
        (meters.INTENTS_HELD, [(reason,) for reason in (*HOLDING, OTHER_REASON)]),
        (meters.HELD_EXPIRED, [(reason,) for reason in (*HOLDING, OTHER_REASON)]),
        (meters.SIGNATURES_REFUSED, [(field,) for field in (*meters.POLICY_FIELDS, *meters.LETTER_FIELDS)]),
        (meters.SIGNER_REQUESTS, list(product(meters.SIGNERS, meters.SIGNER_OUTCOMES))),
        (meters.GATEWAY_REQUESTS, list(product(meters.GATEWAY_ROUTES, meters.GATEWAY_OUTCOMES))),
        (meters.GATEWAY_BREAKER, [(state.value,) for state in BreakerState]),
        (meters.FEED_REQUESTS, list(product(meters.FEED_ROUTES, meters.GATEWAY_OUTCOMES))),
        (meters.FEED_BREAKER, list(product(meters.FEED_ROUTES, BreakerState))),
        (meters.TX_MINED, [("ok",), ("reverted",)]),
        (meters.TX_SUBMISSIONS_FAILED, [(outcome.value,) for outcome in REFUSALS]),
        (meters.TRADES, product(symbols, ("LONG", "SHORT", "CLOSE"), Mode)),
        (meters.VENUE_ENDINGS, product(symbols, ENDED_BY_VENUE)),
        (meters.POSITIONS_CORRECTED, product(symbols)),
        (meters.RPC_BREAKER, product(positions, (*BreakerState, OUT))),
        (meters.RPC_UNRECOGNISED, [(position,) for position in positions]),
        (HTTP_REQUESTS, [(status, "/signals", "POST") for status in ("500", "503")]),
        (SIGNALS_RECEIVED, [(OTHER_SOURCE,)]),
        (SIGNALS_DEDUPLICATED, [(OTHER_SOURCE,)]),
    )
    for counter, values in beginnings:
        for labels in values:
            counter.labels(*labels)


begin_at_zero()


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

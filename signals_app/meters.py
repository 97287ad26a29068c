"""Counters of the intake; `source` and `reason` are bounded sets, never free text."""

import time
from enum import StrEnum

from prometheus_client import Counter

from execution_app.meters import SIGNALS_REJECTED
from execution_app.states import Reason
from signals_app.models import SourceGrant

__all__ = [
    "SIGNALS_DEDUPLICATED",
    "SIGNALS_RECEIVED",
    "SIGNALS_REJECTED",
    "SOURCE_LABELS",
    "Refusal",
    "SourceLabels",
]

OTHER_SOURCE = "other"
MAX_SOURCE_LABELS = 200
SOURCES_KEPT_S = 30

SIGNALS_RECEIVED = Counter("vanta_signals_received_total", "Signals stored, each counted once.", ["source"])
SIGNALS_DEDUPLICATED = Counter(
    "vanta_signals_deduplicated_total",
    "Repeats of a stored signal, answered and not executed again.",
    ["source"],
)


class Refusal(StrEnum):
    """Why a request did not become a stored signal; decisions add `execution_app.states.Reason`."""

    CONTENT_TYPE = "content_type"
    TOO_LARGE = "too_large"
    SIGNATURE = "signature"
    WRONG_SOURCE = "wrong_source"
    NOT_JSON = "not_json"
    INVALID = "invalid"
    CONFLICT = "conflict"
    THROTTLED = "throttled"
    UNAVAILABLE = "unavailable"


# A series that appears with its first increment hides that increment from rate().
for _reason in (*Refusal, *(reason for reason in Reason if reason is not Reason.ACCEPTED)):
    SIGNALS_REJECTED.labels(_reason.value)


class SourceLabels:
    """The sources that an operator has granted something; every other name shares one label.

    Holders of a secret choose the source freely, so the raw value would let
    them create series without end.
    """

    def __init__(self) -> None:
        self._granted: frozenset[str] = frozenset()
        self._read_at_s: float | None = None

    def label(self, source: str) -> str:
        """Return the label for this source; reads the grants at most every 30 s, inside the caller's transaction."""
        now_s = time.monotonic()
        if self._read_at_s is None or now_s - self._read_at_s > SOURCES_KEPT_S:
            granted = SourceGrant.objects.order_by("source").values_list("source", flat=True).distinct()
            self._granted = frozenset(granted[:MAX_SOURCE_LABELS])
            self._read_at_s = now_s
        return source if source in self._granted else OTHER_SOURCE


SOURCE_LABELS = SourceLabels()

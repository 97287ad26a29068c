"""The window to the venue's gateway: one request at a time, never repeated here, never redirected.

How a post ends is one of the outcomes of a broadcast. Accepted means that the
gateway named it; anything but that leaves open whether it has the bytes.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache

import structlog
import urllib3
from django.conf import settings

from execution_app import meters
from execution_app.errors import Retryable
from execution_app.states import SendOutcome
from execution_app.venues import gateway as words
from execution_app.venues.gateway import Event

log = structlog.get_logger(__name__)
CONNECT_TIMEOUT_S = 1.0
ACCEPT_S = 3.0  # how long a post listens for its acceptance; what follows is read from the status
STATUS_S = 3.0
BODY_LIMIT = 1024 * 1024
AT_ONCE = 8
OK, NOT_FOUND, TOO_MANY, SERVER_ERROR = 200, 404, 429, 500
_CHUNK = 4096


class UnknownOrderError(Exception):
    """The gateway knows no order under that name: it forgot, or never had it."""


@dataclass(frozen=True)
class Posted:
    """What came of a post: its outcome, and the events that were heard until the stream was left or broke off."""

    outcome: SendOutcome
    events: list[Event] = field(default_factory=list)
    detail: str = ""

    @property
    def tracking_id(self) -> str:
        return next((event.tracking_id for event in self.events if event.tracking_id), "")


def post_all(bodies: Sequence[bytes], may_leave: Callable[[], bool]) -> list[Posted | None]:
    """Post several at once; None where `may_leave` said no just before."""
    if not bodies:
        return []
    with ThreadPoolExecutor(min(AT_ONCE, len(bodies)), thread_name_prefix="gateway") as pool:
        return list(pool.map(lambda body: post(body) if may_leave() else None, bodies))


def post(body: bytes) -> Posted:
    """Offer one signed message. Raises nothing: what is not an acceptance is unclear or a refusal."""
    found = _post(body)
    kind = {SendOutcome.ACCEPTED: "ok", SendOutcome.INVALID_PERMANENT: "refused"}.get(
        found.outcome, "unclear"
    )
    meters.GATEWAY_REQUESTS.labels("post", kind).inc()
    if found.outcome is not SendOutcome.ACCEPTED:
        log.warning("message is not accepted", outcome=found.outcome, detail=found.detail)
    return found


def _post(body: bytes) -> Posted:
    events: list[Event] = []
    begun_s = time.monotonic()
    try:
        answer = _pool().request(
            "POST",
            settings.ENVIRONMENT.veranta_batched_market_url + "/market/execute-batched",
            body=body,
            headers={"Content-Type": "application/json", "Accept": "text/event-stream"},
            timeout=urllib3.Timeout(connect=CONNECT_TIMEOUT_S, read=ACCEPT_S),
            preload_content=False,
            redirect=False,
        )
    except (urllib3.exceptions.HTTPError, OSError) as fault:
        return Posted(SendOutcome.UNKNOWN, events, type(fault).__name__)
    try:
        if answer.status == TOO_MANY or answer.status >= SERVER_ERROR:
            return Posted(SendOutcome.RPC_FAULT, events, f"HTTP {answer.status}")
        if answer.status != OK:
            said = answer.read(_CHUNK).decode("utf-8", errors="replace")
            return Posted(
                SendOutcome.INVALID_PERMANENT, events, f"HTTP {answer.status} {said}"[: words.WORDS]
            )
        for event in words.read_stream(_lines(answer, begun_s + ACCEPT_S)):
            events.append(event)
            if event.tracking_id or event.is_terminal or len(events) >= words.EVENTS_LIMIT:
                break
    except (urllib3.exceptions.HTTPError, OSError) as fault:
        log.info("stream broke off", heard=len(events), fault=type(fault).__name__)
    finally:
        answer.close()
    accepted = any(event.tracking_id for event in events)
    return Posted(SendOutcome.ACCEPTED if accepted else SendOutcome.UNKNOWN, events, "the stream ended early")


def status(tracking_id: str, after_seq: int) -> list[Event]:
    """Every event above that number. Raises UnknownOrderError, and Retryable where the gateway is away."""
    after = f"?afterSeq={after_seq}" if after_seq >= 0 else ""
    try:
        code, raw = _get(f"/tracking-id/{tracking_id}/status{after}")
        events = words.read_status(raw) if code == OK else []
    except (urllib3.exceptions.HTTPError, OSError, ValueError) as fault:
        meters.GATEWAY_REQUESTS.labels("status", "unclear").inc()
        raise Retryable(f"the gateway tells no status: {type(fault).__name__}") from fault
    kind = {OK: "ok", NOT_FOUND: "refused"}.get(code, "unclear")
    meters.GATEWAY_REQUESTS.labels("status", kind).inc()
    if code == NOT_FOUND:
        raise UnknownOrderError(tracking_id)
    if code != OK:
        raise Retryable(f"the gateway tells no status: HTTP {code}")
    return events


def _get(path: str) -> tuple[int, bytes]:
    answer = _pool().request(
        "GET",
        settings.ENVIRONMENT.veranta_batched_market_url + path,
        timeout=urllib3.Timeout(connect=CONNECT_TIMEOUT_S, read=STATUS_S),
        preload_content=False,
        redirect=False,
    )
    try:
        return answer.status, answer.read(BODY_LIMIT)
    finally:
        answer.close()


def _lines(answer: urllib3.BaseHTTPResponse, deadline_s: float) -> Iterator[bytes]:
    """Line by line until the stream ends, is too long, or time is over."""
    rest, size = b"", 0
    while time.monotonic() < deadline_s and size < BODY_LIMIT:
        part = answer.read1(_CHUNK)
        if not part:
            return
        size += len(part)
        *lines, rest = (rest + part).split(b"\n")
        yield from lines


@lru_cache(maxsize=1)
def _pool() -> urllib3.PoolManager:
    # Made by a process's first request, and it retries nothing by itself: who repeats a post asks the gate first.
    return urllib3.PoolManager(num_pools=2, maxsize=AT_ONCE, retries=False)

"""The window to the venue's gateway: one request at a time, never repeated here, never redirected.

How a post ends is one of the outcomes of a broadcast. Accepted means that the
gateway named it; anything but that leaves open whether it has the bytes.
One that hangs, or fails several times in a row, rests (breaker.py): what goes
on-chain for the same wallet must not wait for it again and again.
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
from execution_app.node import connections
from execution_app.node.breaker import Breaker, BreakerState, Rules
from execution_app.states import SendOutcome
from execution_app.venues import gateway as words
from execution_app.venues.gateway import Event, Offer

log = structlog.get_logger(__name__)
CONNECT_TIMEOUT_S = 1.0
ACCEPT_S = 3.0  # how long a post listens for its acceptance; what follows is read from the status
STATUS_S = 3.0
BODY_LIMIT = 1024 * 1024
AT_ONCE = 8
# An acceptance or a status that takes longer is a hang: one is enough.
RULES = Rules(faults=3, slow_s=2.5, rest_s=10.0, rest_limit_s=60.0)
RESTING = 2  # its breaker's rank
OK, REDIRECTED, NOT_FOUND, TOO_MANY, SERVER_ERROR = 200, 300, 404, 429, 500
_CHUNK = 4096


class UnknownOrderError(Exception):
    """The gateway knows no order under that name: it forgot, or never had it."""


@dataclass(frozen=True)
class Posted:
    """What came of a post: its outcome, and the events that were heard until the stream was left or broke off."""

    outcome: SendOutcome
    events: list[Event] = field(default_factory=list)
    detail: str = ""
    is_fault: bool = False  # the gateway's own, or nothing of it was reached

    @property
    def tracking_id(self) -> str:
        return next((event.tracking_id for event in self.events if event.tracking_id), "")


def post_all(offers: Sequence[Offer], may_leave: Callable[[], bool]) -> list[Posted | None]:
    """Post several at once; None where `may_leave` said no just before, or the gateway rests by then."""
    if not offers:
        return []

    def leave(offer: Offer) -> Posted | None:
        return post(offer) if may_leave() and breaker().admits(time.monotonic()) else None

    with ThreadPoolExecutor(min(AT_ONCE, len(offers)), thread_name_prefix="gateway") as pool:
        return list(pool.map(leave, offers))


def rests() -> bool:
    """Whether nothing is asked of it just now. Says nothing of what comes after."""
    return breaker().rank(time.monotonic()) == RESTING


@lru_cache(maxsize=1)
def breaker() -> Breaker:
    """Of this process alone: one that cannot reach the gateway says nothing of the others."""
    return Breaker(RULES, _changed)


def _changed(state: BreakerState) -> None:
    meters.GATEWAY_BREAKER.labels(state.value).inc()
    log.warning("the gateway's breaker", state=state.value)


def _note(begun_s: float, *, answered: bool) -> None:
    now_s = time.monotonic()
    (breaker().succeed if answered else breaker().fail)(now_s, now_s - begun_s)


def post(offer: Offer) -> Posted:
    """Offer one signed message. Raises nothing: what is not an acceptance is unclear or a refusal."""
    begun_s = time.monotonic()
    found = _put(offer) if offer.trigger else _post(offer.body, begun_s)
    # A stream that breaks off early is an answer: it was there. Silence until time is over is none.
    _note(begun_s, answered=not found.is_fault)
    kind = {SendOutcome.ACCEPTED: "ok", SendOutcome.INVALID_PERMANENT: "refused"}.get(
        found.outcome, "unclear"
    )
    meters.GATEWAY_REQUESTS.labels("post", kind).inc()
    if found.outcome is not SendOutcome.ACCEPTED:
        log.warning("message is not accepted", outcome=found.outcome, detail=found.detail)
    return found


def _post(body: bytes, begun_s: float) -> Posted:
    events: list[Event] = []
    try:
        url = settings.ENVIRONMENT.veranta_batched_market_url + "/market/execute-batched"
        answer = _sent("POST", url, body, "text/event-stream")
    except (urllib3.exceptions.HTTPError, OSError) as fault:
        return Posted(SendOutcome.UNKNOWN, events, type(fault).__name__, is_fault=True)
    try:
        if answer.status != OK:
            return _refused(answer)
        for event in words.read_stream(_lines(answer, begun_s + ACCEPT_S)):
            events.append(event)
            if event.tracking_id or event.is_terminal or len(events) >= words.EVENTS_LIMIT:
                break
    except (urllib3.exceptions.HTTPError, OSError) as fault:
        log.info("stream broke off", heard=len(events), fault=type(fault).__name__)
    finally:
        answer.close()
    accepted = any(event.tracking_id for event in events)
    outcome = SendOutcome.ACCEPTED if accepted else SendOutcome.UNKNOWN
    hung = not events and time.monotonic() - begun_s > RULES.slow_s
    return Posted(outcome, events, "the stream ended early", is_fault=hung)


def _put(offer: Offer) -> Posted:
    """New levels: taken or not, in one answer."""
    try:
        answer = _sent(
            "PUT",
            f"{settings.ENVIRONMENT.veranta_core_api_url}/price-triggers/{offer.trigger}",
            offer.body,
            "application/json",
        )
        try:
            if not OK <= answer.status < REDIRECTED:
                return _refused(answer)
            event = words.read_taken(answer.read(_CHUNK))
        finally:
            answer.close()
    except (urllib3.exceptions.HTTPError, OSError) as fault:
        return Posted(SendOutcome.UNKNOWN, [], type(fault).__name__, is_fault=True)
    return Posted(SendOutcome.ACCEPTED, [event])


def _sent(method: str, url: str, body: bytes, accepts: str) -> urllib3.BaseHTTPResponse:
    return _pool().request(
        method,
        url,
        body=body,
        headers={"Content-Type": "application/json", "Accept": accepts},
        timeout=urllib3.Timeout(connect=CONNECT_TIMEOUT_S, read=ACCEPT_S),
        preload_content=False,
        redirect=False,
    )


def _refused(answer: urllib3.BaseHTTPResponse) -> Posted:
    if answer.status == TOO_MANY or answer.status >= SERVER_ERROR:
        return Posted(SendOutcome.RPC_FAULT, [], f"HTTP {answer.status}", is_fault=True)
    said = answer.read(_CHUNK).decode("utf-8", errors="replace")
    return Posted(SendOutcome.INVALID_PERMANENT, [], f"HTTP {answer.status} {said}"[: words.WORDS])


def status(tracking_id: str, after_seq: int) -> list[Event]:
    """Every event above that number. Raises UnknownOrderError, and Retryable where the gateway is away or rests."""
    after = f"?afterSeq={after_seq}" if after_seq >= 0 else ""
    begun_s = time.monotonic()
    if not breaker().admits(begun_s):
        raise Retryable("the gateway rests: it hung, or failed several times in a row")
    try:
        code, raw = _get(f"/tracking-id/{tracking_id}/status{after}")
        events = words.read_status(raw) if code == OK else []
    except (urllib3.exceptions.HTTPError, OSError, ValueError) as fault:
        meters.GATEWAY_REQUESTS.labels("status", "unclear").inc()
        _note(begun_s, answered=False)
        raise Retryable(f"the gateway tells no status: {type(fault).__name__}") from fault
    _note(begun_s, answered=code != TOO_MANY and code < SERVER_ERROR)
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
    return connections.timely(urllib3.PoolManager(num_pools=2, maxsize=AT_ONCE, retries=False))

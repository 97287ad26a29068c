"""JSON-RPC without hidden retries: every call is made once, and its end is one of three things.

A result, an error the node stated (NodeError), or no usable answer (RpcFault),
which proves nothing about what the node did.

Which endpoint is asked: one that rests (breaker.py) only when no other answers,
one on another chain (identity.py) never, one that lags not in a pass that acts
on a newer block (reading_from). An absence is asked of all (quorum.py).
"""

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from typing import Any

import structlog
import urllib3
from django.conf import settings

from execution_app import meters
from execution_app.node import connections, shapes, wire
from execution_app.node.breaker import Breaker, BreakerState, Rules
from execution_app.node.faults import NodeError, RpcFault
from execution_app.node.identity import Identity
from execution_app.node.wire import Call

__all__ = ["Call", "NodeError", "RpcFault"]  # known by these names to everybody who asks a node

log = structlog.get_logger(__name__)

CONNECT_TIMEOUT_S = 2.0
READ_TIMEOUT_S = 8.0
BATCH_LIMIT = 50
LOG_SPAN = 1_000  # blocks per eth_getLogs; providers refuse more
BODY_LIMIT = 32 * 1024 * 1024
# How long a server that refused a batch is asked one by one before it is tried again.
SINGLES_S = 600.0
OUT = "out"  # what the metric of breakers says of an endpoint on another chain

_READERS: ContextVar[frozenset[int] | None] = ContextVar("readers", default=None)


class Endpoint:
    """One node, behind a small pool of kept connections. Thread-safe."""

    def __init__(
        self,
        url: str,
        position: int = 0,
        rules: Rules | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.url = url
        self.position = position
        self.identity = Identity()
        self.breaker = Breaker(rules or Rules(), self._changed)
        self._clock = clock
        self._singles_until_s = float("-inf")
        self._dials = connections.Dials()
        self._pool = connections.pool(self._dials, CONNECT_TIMEOUT_S, READ_TIMEOUT_S)
        self._ids = iter(range(1, 2**62))
        self._ids_lock = threading.Lock()

    def call(self, method: str, *params: Any) -> Any:
        """One call. Raises NodeError or RpcFault."""
        answer = self.batch([(method, params)])[0]
        if isinstance(answer, NodeError):
            raise answer
        return answer

    def batch(self, calls: Sequence[Call]) -> list[Any]:
        """Several calls in requests of at most BATCH_LIMIT; answers in the calls' order, NodeErrors in place.

        Raises RpcFault when any call got no usable answer.
        """
        answers: list[Any] = []
        for start in range(0, len(calls), BATCH_LIMIT):
            answers += self._request(calls[start : start + BATCH_LIMIT], lambda: True)
        for answer in answers:
            if isinstance(answer, RpcFault):
                raise answer
        return answers

    def offer(self, calls: Sequence[Call], may_leave: Callable[[], bool] = lambda: True) -> list[Any]:
        """Calls that change something, each made once: results, NodeErrors and RpcFaults in place.

        None stands where a call was not made: `may_leave` is asked before each request.
        """
        answers: list[Any] = []
        for start in range(0, len(calls), BATCH_LIMIT):
            part = calls[start : start + BATCH_LIMIT]
            if not may_leave():
                answers += [None] * len(part)
                continue
            try:
                answers += self._request(part, may_leave)
            except RpcFault as fault:
                answers += [fault] * len(part)
        return answers

    def confirm(self) -> None:
        """Make sure that what it just said was said by a node on our chain. Raises RpcFault otherwise."""
        if self.identity.is_confirmed(self._dials.count):
            return
        if self.identity.foreign:
            raise RpcFault(f"endpoint {self.position}: {self.identity.foreign}")
        dials = self._dials.count  # before the question: it may be asked over a further connection
        chain_id, genesis = self.batch([("eth_chainId", ()), ("eth_getBlockByNumber", ("0x0", False))])
        problem = self.identity.judge(chain_id, genesis, dials)
        if problem:
            meters.RPC_BREAKER.labels(str(self.position), OUT).inc()
            log.error("endpoint is out until the next start", endpoint=self.position, why=problem)
            raise RpcFault(f"endpoint {self.position}: {problem}")

    def _request(self, calls: Sequence[Call], may_leave: Callable[[], bool]) -> list[Any]:
        begun_s = self._clock()
        if len(calls) > 1 and begun_s < self._singles_until_s:
            return self._one_by_one(calls, may_leave)
        with self._ids_lock:
            ids = [next(self._ids) for _ in calls]
        try:
            found = wire.outcomes(ids, *self._post(wire.body(ids, calls)))
        except RpcFault as fault:
            self._failed(begun_s)
            self._count_each((call, "fault") for call in calls)
            raise RpcFault(f"endpoint {self.position}: {fault}") from fault
        except wire.BatchRefused as refused:
            log.warning("endpoint takes no batches", endpoint=self.position, said=str(refused))
            self._singles_until_s = self._clock() + SINGLES_S
            return self._one_by_one(calls, may_leave)
        self._count_each(zip(calls, map(_word, found), strict=True))
        if any(_is_providers(outcome) for outcome in found):
            self._failed(begun_s)
        else:
            now_s = self._clock()
            self.breaker.succeed(now_s, now_s - begun_s)
        return found

    def _one_by_one(self, calls: Sequence[Call], may_leave: Callable[[], bool]) -> list[Any]:
        """The first that gets no answer ends it: a node that hangs would keep us for each of them."""
        answers: list[Any] = []
        for call in calls:
            if not may_leave():
                break
            try:
                answers += self._request([call], may_leave)
            except RpcFault as fault:
                answers.append(fault)
                break
        return answers + [None] * (len(calls) - len(answers))

    def _failed(self, begun_s: float) -> None:
        now_s = self._clock()
        self.breaker.fail(now_s, now_s - begun_s)

    def _changed(self, state: BreakerState) -> None:
        if state is BreakerState.OPEN:
            self.identity.doubt()
        meters.RPC_BREAKER.labels(str(self.position), state.value).inc()
        log.warning("endpoint's breaker", endpoint=self.position, state=state.value)

    def _post(self, body: Any) -> tuple[int, Any]:
        """Status and parsed content of one request, made once."""
        try:
            answer = self._pool.request(
                "POST",
                self.url,
                body=json.dumps(body).encode(),
                headers={"Content-Type": "application/json"},
                preload_content=False,
                redirect=False,
            )
            try:
                raw = answer.read(BODY_LIMIT + 1)
            finally:
                answer.release_conn()
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise RpcFault(type(error).__name__) from error
        if len(raw) > BODY_LIMIT:
            raise RpcFault(f"answer above {BODY_LIMIT} bytes")
        return answer.status, wire.parse(raw)

    def _count_each(self, ended: Iterable[tuple[Call, str]]) -> None:
        """Most calls of a request are of one method and end alike."""
        for (method, outcome), times in Counter((call[0], outcome) for call, outcome in ended).items():
            meters.RPC_REQUESTS.labels(str(self.position), method, outcome).inc(times)


def _word(outcome: Any) -> str:
    if isinstance(outcome, RpcFault):
        return "fault"
    return "error" if isinstance(outcome, NodeError) else "ok"


def _is_providers(outcome: Any) -> bool:
    return isinstance(outcome, RpcFault) or (
        isinstance(outcome, NodeError) and wire.is_providers(outcome, 200)
    )


@lru_cache(maxsize=1)
def endpoints() -> tuple[Endpoint, ...]:
    """The configured nodes; reads go to the first that answers, broadcasts to all."""
    environment = settings.ENVIRONMENT
    rules = Rules(
        faults=environment.rpc_faults_to_rest,
        slow_s=min(environment.rpc_slow_after_s, READ_TIMEOUT_S),  # whoever ran into that was too slow
        rest_s=environment.rpc_rest_s,
        rest_limit_s=environment.rpc_rest_limit_s,
    )
    return tuple(Endpoint(url, position, rules) for position, url in enumerate(environment.rpc_urls))


def awake() -> Iterator[Endpoint]:
    """Endpoints on our chain, and of this pass, that do not rest; if all rest, all: better a slow word than none.

    Each is let in when it is its turn: a yes after a rest that nobody makes use of would hold up whoever comes next.
    """
    ours = [one for one in endpoints() if not one.identity.foreign and is_reader(one)]
    is_any_awake = False
    for one in ours:
        if one.breaker.admits(time.monotonic()):
            is_any_awake = True
            yield one
    if not is_any_awake:
        yield from ours


@contextmanager
def reading_from(positions: frozenset[int]) -> Iterator[None]:
    """For the time of a pass only these endpoints answer reads: the others are behind what it acts on."""
    token = _READERS.set(positions)
    try:
        yield
    finally:
        _READERS.reset(token)


def is_reader(endpoint: Endpoint) -> bool:
    readers = _READERS.get()
    return readers is None or endpoint.position in readers


def ask(endpoint: Endpoint, calls: Sequence[Call]) -> list[Any]:
    """A batch of reads of one endpoint on our chain. Raises RpcFault, also for words that are the provider's, and for nonsense.

    Whoever reads an answer, or counts votes, would fall over what has not the shape of one: it costs that node its
    word, and nothing else.
    """
    answers = endpoint.batch(calls)
    for (method, _), answer in zip(calls, answers, strict=True):
        if not shapes.is_sound(method, answer):
            raise RpcFault(f"endpoint {endpoint.position}: no answer to {method}: {str(answer)[:80]}")
        if isinstance(answer, NodeError) and wire.is_providers(answer, 200):
            raise RpcFault(f"endpoint {endpoint.position}: {str(answer)[:200]}") from answer
    endpoint.confirm()
    return answers


def read_batch(calls: Sequence[Call]) -> list[Any]:
    """A batch of reads from the first endpoint that answers; one node answers the whole batch.

    One that did not answer is asked last for a while, one that rests when all
    others failed. One that has an error for a fact is passed over as well, and its
    answers are good only where no other has better ones. Raises RpcFault when none answers.
    """
    if not calls:
        return []
    fault = RpcFault("no endpoint is configured, or all that are answer for another chain or are behind")
    resting, unsaid = [], None
    for endpoint in sorted(endpoints(), key=lambda one: one.breaker.rank(time.monotonic())):
        if endpoint.identity.foreign or not is_reader(endpoint):
            continue
        if not endpoint.breaker.admits(time.monotonic()):
            resting.append(endpoint)
            continue
        try:
            answers = ask(endpoint, calls)
        except RpcFault as error:
            fault = error
            continue
        if not shapes.lack_a_fact(calls, answers):
            return answers
        unsaid = unsaid or answers
    if unsaid is not None:
        return unsaid
    for endpoint in resting:
        try:
            return ask(endpoint, calls)
        except RpcFault as error:
            fault = error
    raise fault


def read(method: str, *params: Any) -> Any:
    """One read. Raises NodeError or RpcFault."""
    answer = read_batch([(method, params)])[0]
    if isinstance(answer, NodeError):
        raise answer
    return answer


def eth_call(to: str, data: bytes) -> Call:
    return ("eth_call", ({"to": to, "data": "0x" + data.hex()}, "latest"))


def read_views(views: Sequence[tuple[str, bytes]]) -> list[bytes]:
    """Several contract views at the latest block. Raises NodeError or RpcFault when any fails."""
    answers = read_batch([eth_call(to, data) for to, data in views])
    for answer in answers:
        if isinstance(answer, NodeError):
            raise answer
    return [bytes.fromhex(str(answer)[2:]) for answer in answers]

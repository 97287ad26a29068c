"""The whole road: signals through the webhook of a stack as `make run` starts it, until each is filled."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ops.rehearsal.rpc import Node
from tests.bench.failed import BenchError
from tests.bench.shares import Shares, limit
from tests.chaos import outages
from tests.chaos.outages import Client
from tests.e2e.stack import RunningStack
from tests.soak.account import Spread

Say = Callable[[str], None]
BLOCK_TIME_S = 1
GAS_LIMIT = 1_000_000_000
STILL_S = 60.0  # without one more filled
LIVE_WITHIN_S = 60
MAX_LAG_S = 3600  # nothing expires because the queue is long
SENDERS = 8
POLL_S = 0.5
MAX_TRADES = "5000"
MOST_IN_FLIGHT = 512  # what MAX_IN_FLIGHT permits
# Of each intent the seconds from the answer to the signal until it was in a state for the first time.
SINCE = """SELECT t.to_state, extract(epoch FROM min(t.at) - i.accepted_at)::float8
FROM intent_transitions t JOIN tx_intents i ON i.id = t.intent_id GROUP BY i.id, t.to_state"""
FILLED = "SELECT count(*) FROM tx_intents WHERE state = 'filled'"
ENDS = (
    "SELECT extract(epoch FROM min(i.accepted_at))::float8, extract(epoch FROM max(t.at))::float8 "
    "FROM tx_intents i JOIN intent_transitions t ON t.intent_id = i.id AND t.to_state = 'filled'"
)


def run(folder: Path, count: int, in_flight: int, say: Say) -> dict[str, Any]:
    """Start a stack there, send so many opens, follow them to their fills.

    Raises BenchError where nothing moves, AssertionError where one was lost or doubled.
    """
    in_flight = min(in_flight, MOST_IN_FLIGHT)
    stack = RunningStack(
        folder,
        EXEC_MODE="LIVE",
        MAX_IN_FLIGHT=str(in_flight),
        REHEARSAL_MAX_TRADES_PER_PAIR=MAX_TRADES,
        REHEARSAL_BLOCK_TIME_S=str(BLOCK_TIME_S),
    )
    try:
        say(f"a stack starts in {folder}")
        stack.start()
        node = Node(stack.env["BASE_RPC_URL"])
        usual = int(node.request("eth_getBlockByNumber", "latest", False)["gasLimit"], 16)
        node.request("evm_setBlockGasLimit", hex(GAS_LIMIT))
        outages.await_mode(stack, "LIVE", LIVE_WITHIN_S)
        shares = Shares({name: pid for name, pid in stack.pids().items() if pid})
        client = Client(stack, "bench")
        accepted_s = _send(client, count)
        say(f"{count} signals are taken within {accepted_s:.1f} s")
        _await_filled(stack, count, say)
        cores = shares.read()
        outages.assert_executed_once(stack, client.accepted)
        return {
            **_facts(stack, count, accepted_s, cores),
            "slowest_answer_s": round(client.slowest_s, 2),
            "gas_limit": [GAS_LIMIT, usual],
            "in_flight": [in_flight, 16],
        }
    finally:
        stack.stop()


def _send(client: Client, count: int) -> float:
    """All signals by SENDERS at once; the seconds until the last was taken."""
    begun_s = time.monotonic()
    with ThreadPoolExecutor(SENDERS) as pool:
        list(pool.map(lambda number: client.send(number, max_lag_s=MAX_LAG_S), range(count)))
    return time.monotonic() - begun_s


def _await_filled(stack: RunningStack, count: int, say: Say) -> None:
    last, moved_s, said_s = -1, time.monotonic(), 0.0
    while (filled := stack.sql(FILLED)[0][0]) < count:
        now_s = time.monotonic()
        if filled != last:
            last, moved_s = filled, now_s
        if now_s - moved_s > STILL_S:
            raise BenchError(f"{filled} of {count} are filled, and nothing moves: {stack.states()}")
        if now_s - said_s > 2:
            said_s = now_s
            say(", ".join(f"{times} {state}" for state, times in sorted(stack.states().items())))
        time.sleep(POLL_S)


def _facts(stack: RunningStack, count: int, accepted_s: float, cores: dict[str, float]) -> dict[str, Any]:
    ((begun, ended),) = stack.sql(ENDS)
    ages: dict[str, list[float]] = {}
    for state, age_s in stack.sql(SINCE):
        ages.setdefault(state, []).append(age_s)
    phases = ("reserved", "pending_inclusion", "mined", "filled")
    spreads = {state: Spread.of(ages[state]) for state in phases if state in ages}
    return {
        "signals": count,
        "accepted_per_s": round(count / accepted_s, 1),
        "executed_per_s": round(count / (ended - begun), 1),
        "took_s": round(ended - begun, 2),
        "age_s": {state: {"p50": spread.p50_s, "p99": spread.p99_s} for state, spread in spreads.items()},
        "cores": cores,
        "limited_by": limit(cores),
    }

"""Each part of a running stack fails under traffic: what the sender sees, how soon all is well, nothing twice.

docs/outages.md tells what is kept and who repairs it; the times there come from here.
"""

import os
import random
import shutil
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress

import psutil  # type: ignore[import-untyped]
import pytest

from ops.rehearsal.parts.anvil import is_whole
from tests.chaos import outages
from tests.chaos.outages import Client, Traffic
from tests.e2e.stack import RunningStack, wait_until
from tests.real_parts import FOLDER

pytestmark = pytest.mark.timeout(600)
# `make test` runs a slice; SIGNALS_UNDER_OUTAGES=300 is the whole.
SIGNALS = int(os.environ.get("SIGNALS_UNDER_OUTAGES", "60"))
SEED = int(os.environ.get("OUTAGE_SEED", "11"))
# 15 and more also outlasts what waits 5 s for Redis, twice over.
HANG_S = float(os.environ.get("OUTAGE_HANG_S", "6"))
LIVE_WITHIN_S = 90
SETTLED_WITHIN_S = 180


@pytest.fixture(scope="module")
def stack() -> Iterator[RunningStack]:
    running = RunningStack(
        FOLDER / "outages" / "var",
        EXEC_MODE="LIVE",
        REHEARSAL_MAX_TRADES_PER_PAIR="900",
        REHEARSAL_BLOCK_TIME_S="1",
    )
    running.start()
    try:
        yield running
    finally:
        running.stop()


@pytest.fixture
def client(stack: RunningStack, request: pytest.FixtureRequest) -> Client:
    outages.await_mode(stack, "LIVE", LIVE_WITHIN_S)
    return Client(stack, request.node.name.replace("test_", ""))


def recover(client: Client, since_s: float) -> None:
    """Wait until LIVE and settled, say how long each took since the part was back, and hold rows against chain."""
    outages.await_mode(client.stack, "LIVE", LIVE_WITHIN_S)
    live_s = time.monotonic() - since_s
    client.await_settled({"filled": len(client.accepted)}, SETTLED_WITHIN_S)
    settled_s = time.monotonic() - since_s
    outages.await_ok(client.stack, LIVE_WITHIN_S)
    print(  # noqa: T201 -- for docs/outages.md, with ARGS="-s -k outages"
        f"{client.prefix}: LIVE after {live_s:.1f} s, settled after {settled_s:.1f} s, "
        f"answers {dict(client.answers)}, slowest {client.slowest_s:.2f} s"
    )
    outages.assert_executed_once(client.stack, client.accepted)


def test_postgres_is_cut_off_at_once(stack: RunningStack, client: Client) -> None:
    """Every session ends in the middle; until it is back, senders are told so at once and when to return."""
    # So close together that one of them meets the half second without a server.
    with Traffic(client, every_s=0.05):
        wait_until(lambda: len(client.accepted) >= 3, 60, "traffic")
        since_s = time.monotonic()
        while client.answers[503] == 0:  # none, where this process loses the half second itself
            assert time.monotonic() - since_s < 60, "nobody met a server that is away"
            outages.restart_postgres(stack)
            restarted_s = time.monotonic()
            with suppress(AssertionError):
                wait_until(lambda: client.answers[503] > 0, 5, "a 503")
        since_s = restarted_s
        more = len(client.accepted) + 3
        wait_until(lambda: len(client.accepted) >= more, 30, "signals are taken again")
    recover(client, since_s)
    assert set(client.answers) <= {200, 202, 503}, client.answers
    assert client.without_retry_after == 0
    assert client.slowest_s < 10, "somebody waited for the database, which takes 15 s"


def test_disk_of_postgres_is_full(stack: RunningStack, client: Client) -> None:
    """It cannot write its log, gives up and is started in vain until there is room; nobody is told 202 in vain."""
    if shutil.which("prlimit") is None:
        pytest.skip("prlimit is not installed (Debian: util-linux)")
    with Traffic(client):
        wait_until(lambda: len(client.accepted) >= 3, 60, "traffic")
        with outages.full_disk(stack):
            wait_until(lambda: client.answers[503] >= 10, 30, "a 503 and more")
        since_s = time.monotonic()
        more = len(client.accepted) + 3
        wait_until(lambda: len(client.accepted) >= more, 30, "signals are taken again")
    recover(client, since_s)
    assert set(client.answers) <= {200, 202, 503}, client.answers
    assert client.without_retry_after == 0
    assert client.slowest_s < 10, "somebody waited for the database, which takes 15 s"


def test_redis_hangs(stack: RunningStack, client: Client) -> None:
    """Signals are taken as fast as ever; opens wait for the mode; the worker takes messages again."""
    with Traffic(client, every_s=0.5):
        with outages.frozen(stack, "valkey"):
            outages.await_mode(stack, "DRY", 60)
            time.sleep(HANG_S)
        since_s = time.monotonic()
        outages.await_mode(stack, "LIVE", LIVE_WITHIN_S)
    recover(client, since_s)
    assert set(client.answers) <= {200, 202}, client.answers
    assert client.slowest_s < 4.5, "somebody waited for Redis, which takes 5 s"


def test_redis_is_flushed_and_dies_and_comes_back_empty(stack: RunningStack, client: Client) -> None:
    with Traffic(client):
        for fault in (outages.flush, outages.empty_redis):
            outages.await_fall_to_dry(stack, fault)
            outages.await_mode(stack, "LIVE", LIVE_WITHIN_S)
        outages.kill(stack, "valkey")
        since_s = time.monotonic()
        more = len(client.accepted) + 5
        wait_until(lambda: len(client.accepted) >= more, 60, "traffic")
    recover(client, since_s)
    assert set(client.answers) <= {200, 202}, client.answers


def test_node_hangs_and_dies(stack: RunningStack, client: Client) -> None:
    """A killed node forgets its pool and its last block: bytes are offered again, under the same nonce."""
    state = stack.folder / "chain" / "state.json"
    with Traffic(client, every_s=0.5):
        with outages.frozen(stack, "anvil"):
            time.sleep(5)
        written_ns = state.stat().st_mtime_ns
        wait_until(
            lambda: state.stat().st_mtime_ns > written_ns and is_whole(state.read_bytes()), 15, "a copy"
        )
        outages.kill(stack, "anvil")
        since_s = time.monotonic()
        more = len(client.accepted) + 2
        wait_until(lambda: len(client.accepted) >= more, 60, "traffic")
    recover(client, since_s)
    assert set(client.answers) <= {200, 202}, client.answers


def test_beats_die_and_are_two_and_the_kernel_kills_a_child(stack: RunningStack, client: Client) -> None:
    beat = psutil.Process(stack.pids()["beat"])
    command, cwd, environ = beat.cmdline(), beat.cwd(), beat.environ()
    with (stack.folder / "log" / "second-beat.log").open("wb") as log, Traffic(client, every_s=0.3):
        second = subprocess.Popen(command, cwd=cwd, env=environ, stdout=log, stderr=log)
        try:
            os.kill(outages.pool_child(stack), signal.SIGKILL)
            outages.kill(stack, "beat")
            again = len(client.accepted) + 10
            wait_until(lambda: len(client.accepted) >= again, 60, "traffic")
            assert second.poll() is None
            wait_until(lambda: outages.pool_child(stack) > 0 and stack.pids().get("beat", 0) > 0, 60, "back")
            since_s = time.monotonic()
        finally:
            second.terminate()
            second.wait(20)
    recover(client, since_s)
    assert set(client.answers) <= {200, 202}, client.answers


def test_a_worker_that_hears_nothing_any_more_is_replaced(stack: RunningStack, client: Client) -> None:
    """Its main process hangs for good, its children are well: alive for every check, and of no use."""
    deaf = stack.pids()["worker"]
    assert psutil.Process(deaf).num_threads() == 1, (
        "children are forked beside a thread and inherit its locks"
    )
    with Traffic(client, every_s=0.5):
        os.kill(deaf, signal.SIGSTOP)
        wait_until(lambda: stack.pids().get("worker", deaf) != deaf, 60, "another worker")
        since_s = time.monotonic()
    recover(client, since_s)
    assert "hears no bells" in stack.log("worker")


def test_any_part_at_any_time(stack: RunningStack, client: Client) -> None:
    """A seed chooses a fault every 2 to 3 s; every tenth signal is beyond a cap and has to be refused."""
    faults: dict[str, Callable[[], object]] = {
        "worker dies": lambda: outages.kill(stack, "worker"),
        "webhook dies": lambda: outages.kill(stack, "webhook"),
        "beat dies": lambda: outages.kill(stack, "beat"),
        "redis dies": lambda: outages.kill(stack, "valkey"),
        "redis hangs": lambda: outages.hang(stack, "valkey", 1.5),
        "redis is flushed": lambda: outages.flush(stack),
        "postgres is cut off": lambda: outages.restart_postgres(stack),
    }
    ended, happened = threading.Event(), Counter[str]()

    def harm() -> None:
        chance = random.Random(SEED)
        order: list[str] = []
        while not ended.wait(chance.uniform(2, 3)):
            order = order or chance.sample(sorted(faults), len(faults))
            name = order.pop()
            faults[name]()
            happened[name] += 1

    harming = threading.Thread(target=harm)
    harming.start()
    try:
        for number in range(SIGNALS):
            client.send(number, within_s=120, leverage_x=100 if number % 10 == 9 else 2)
            ended.wait(0.3)
    finally:
        ended.set()
        harming.join()
    since_s = time.monotonic()
    outages.await_ok(stack, 60)
    refused = SIGNALS // 10
    client.await_settled({"filled": SIGNALS - refused, "rejected": refused}, SETTLED_WITHIN_S + SIGNALS)
    settled_s = time.monotonic() - since_s
    counts = outages.assert_executed_once(stack, client.accepted)
    print(  # noqa: T201
        f"{SIGNALS} signals, {dict(happened)}: {dict(counts)} after {settled_s:.1f} s, {dict(client.answers)}"
    )
    assert set(client.answers) <= {0, 200, 202, 503}, client.answers
    assert sum(happened.values()) >= 5

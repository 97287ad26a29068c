"""Ways in which the parts of a running stack fail, and what a client and an auditor see meanwhile."""

import hashlib
import hmac
import itertools
import json
import os
import shutil
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import psutil  # type: ignore[import-untyped]
import urllib3

from tests.e2e.stack import RunningStack, wait_until
from tests.lost_time import meter

OPEN = {"side": "LONG", "collateral_usdc": 5, "leverage_x": 2, "max_lag_s": 600}
HAVE_IT = {200, 202}
MINED = {"filled", "ordered", "mined", "venue_cancelled", "final_reverted"}


def kill(stack: RunningStack, name: str, number: signal.Signals = signal.SIGKILL) -> int:
    """Signal one process of the stack; returns its pid, 0 when it is being started again just now."""
    pid = stack.pids().get(name, 0)
    if pid:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
            return pid
    return 0


@contextmanager
def frozen(stack: RunningStack, name: str) -> Iterator[None]:
    """SIGSTOP: connections are accepted and nothing is answered, as by a host that hangs."""
    pid = stack.pids()[name]
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def hang(stack: RunningStack, name: str, for_s: float) -> None:
    """Frozen for a while, when it is there at all."""
    with suppress(KeyError, ProcessLookupError), frozen(stack, name):
        time.sleep(for_s)


def flush(stack: RunningStack) -> bool:
    """False, with nothing to flush, when it is being started again just now."""
    with suppress(subprocess.CalledProcessError):
        stack.redis_cli("FLUSHALL")
        return True
    return False


def empty_redis(stack: RunningStack) -> None:
    """It dies and comes back without its file: queues, mode and epoch are gone."""
    # Its open file goes with it; deleted first, since the supervisor starts it again within 0.2 s.
    shutil.rmtree(stack.folder / "valkey" / "appendonlydir")
    kill(stack, "valkey")


def restart_postgres(stack: RunningStack) -> bool:
    """SIGQUIT: every session is cut, nothing is written down, the log is replayed at the next start."""
    return kill(stack, "postgres", signal.SIGQUIT) > 0


@contextmanager
def full_disk(stack: RunningStack) -> Iterator[None]:
    """No file of PostgreSQL can grow or be written beyond its first page.

    The server treats that limit as it treats a full disk, which only root could make. Each server that the
    supervisor starts meanwhile meets it, too.
    """
    ended = threading.Event()

    def fill() -> None:
        while not ended.wait(0.05):
            limit_files(stack, "8192")

    filling = threading.Thread(target=fill, daemon=True)
    filling.start()
    try:
        yield
    finally:
        ended.set()
        filling.join()
        limit_files(stack, "unlimited")


def limit_files(stack: RunningStack, limit: str) -> None:
    """For the running server and all its sessions, in bytes; the hard limit stays, so that it can be lifted."""
    with suppress(psutil.NoSuchProcess, KeyError):
        server = psutil.Process(stack.pids()["postgres"])
        owner = server.uids().real, server.gids().real
        for process in (server, *server.children(recursive=True)):
            command = ["prlimit", f"--pid={process.pid}", f"--fsize={limit}:unlimited"]
            # As its owner: root, too, may be without the right to limit another account's processes.
            done = subprocess.run(
                command,
                check=False,
                user=owner[0],
                group=owner[1],
                extra_groups=[],
                capture_output=True,
                text=True,
            )
            gone = not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
            assert done.returncode == 0 or gone, done.stderr


def pool_child(stack: RunningStack) -> int:
    """One of the worker's children, as the kernel would choose when memory runs out."""
    children = psutil.Process(stack.pids()["worker"]).children()
    return int(children[0].pid)


def mode(stack: RunningStack) -> str:
    """The effective mode; blank while the webhook does not answer."""
    try:
        return str(stack.get("/health")["execution_mode"]["mode"])
    except (OSError, ValueError, urllib3.exceptions.HTTPError):
        return ""


def await_fall_to_dry(
    stack: RunningStack, fault: Callable[[RunningStack], object], within_s: float = 60
) -> None:
    """Make Redis fail so shortly that only a log tells that somebody noticed."""

    def falls() -> int:
        return sum(stack.log(name).count("FAILING SAFE") for name in ("webhook", "worker", "tpsl", "beat"))

    before = falls()
    fault(stack)
    wait_until(lambda: falls() > before, within_s, "somebody falls to DRY")


def await_mode(stack: RunningStack, wanted: str, within_s: float) -> float:
    return wait_until(lambda: mode(stack) == wanted, within_s, f"mode {wanted}")


def await_ok(stack: RunningStack, within_s: float) -> float:
    """Until `/health` finds nothing to complain about."""

    def ok() -> bool:
        try:
            return bool(stack.get("/health")["status"] == "ok")
        except (OSError, ValueError, urllib3.exceptions.HTTPError):
            return False

    return wait_until(ok, within_s, "health ok")


@dataclass
class Client:
    """A sender that repeats what was not accepted; it notes every single answer and how long it took."""

    stack: RunningStack
    prefix: str
    accepted: list[str] = field(default_factory=list)
    answers: Counter[int] = field(default_factory=Counter)
    slowest_s: float = 0.0  # less what this machine lost meanwhile
    without_retry_after: int = 0

    def send(self, number: int, within_s: float = 60, **fields: Any) -> None:
        """Repeat until the stack says that it has the signal."""
        signal_id = f"{self.prefix}-{number}"
        deadline_s = time.monotonic() + within_s
        while self.offer(signal_id, **fields) not in HAVE_IT:
            assert time.monotonic() < deadline_s, f"{signal_id} was never accepted: {self.answers}"
            time.sleep(0.2)
        self.accepted.append(f"sig:drill:{signal_id}")

    def offer(self, signal_id: str, **fields: Any) -> int:
        """One request; returns its status, 0 when nobody answered."""
        content = {"source": "drill", "tg_user_id": 123, "symbol": "BTC-USD", **OPEN, **fields}
        body = json.dumps({**content, "signal_id": signal_id}).encode()
        key = self.stack.env["WEBHOOK_HMAC_SECRET"].encode()
        signed = hmac.new(key, body, hashlib.sha256).hexdigest()
        headers = {"Content-Type": "application/json", "X-Signature": signed}
        url = f"http://127.0.0.1:{self.stack.port}/signals"
        lost, began_s = meter(), time.monotonic()
        try:
            answer = self.stack.http.request("POST", url, body=body, headers=headers)
        except (OSError, urllib3.exceptions.HTTPError):
            self.answers[0] += 1
            return 0
        finally:
            took_s = time.monotonic() - began_s
            self.slowest_s = max(self.slowest_s, took_s - lost.since(began_s))
        self.answers[answer.status] += 1
        if answer.status == 503:
            self.without_retry_after += "Retry-After" not in answer.headers
        return answer.status

    def states(self) -> Counter[str]:
        """How many of the accepted signals are where; what is not final yet has a question mark."""
        rows = self.stack.sql(
            "SELECT coalesce(i.state || CASE WHEN i.settled_at IS NULL THEN '?' ELSE '' END, 'undecided')"
            " FROM signals s LEFT JOIN tx_intents i ON i.intent_key = concat('sig:', s.source, ':', s.signal_id)"
            " WHERE concat('sig:', s.source, ':', s.signal_id) = ANY(%s)",
            self.accepted,
        )
        return Counter(row[0] for row in rows)

    def await_settled(self, wanted: dict[str, int], within_s: float) -> None:
        """Until every accepted signal came to its end, and the ends are these."""
        deadline_s = time.monotonic() + within_s
        while (states := self.states()) != wanted:
            if time.monotonic() > deadline_s:
                print(self.stack.why())  # noqa: T201 -- the stack's folder is gone when somebody reads this
                # What pytest.fail raises is no Exception: a table of faults would end with its first wrong cell.
                raise AssertionError(f"{self.prefix}: {states} after {within_s} s, not {wanted}")
            time.sleep(0.1)


def assert_executed_once(stack: RunningStack, keys: list[str]) -> Counter[str]:
    """Hold the rows of these signals against the chain's blocks; returns how many ended where.

    The wallet is ours alone, so every transaction of it must be one that we stored.
    """
    intents = dict(
        stack.sql(
            "SELECT intent_key, ARRAY[id::text, state] FROM tx_intents WHERE intent_key = ANY(%s)", keys
        )
    )
    assert sorted(intents) == sorted(keys), "a signal has no intent, or another has one"
    sends = {row[0]: (row[1], row[2]) for row in stack.sql("SELECT tx_hash, intent_id, kind FROM tx_sends")}
    on_chain = stack.sent()
    assert [nonce for nonce, _ in on_chain] == list(range(len(on_chain))), "a gap or a doubled nonce"
    unknown = {tx_hash for _, tx_hash in on_chain} - sends.keys()
    assert not unknown, f"on the chain, and not in tx_sends: {unknown}"
    orders = {tx_hash: str(sends[tx_hash][0]) for _, tx_hash in on_chain if sends[tx_hash][1] != "cancel"}
    mined = Counter(orders.values())
    twice = [intent for intent, times in mined.items() if times > 1]
    assert not twice, f"executed twice: {twice}"
    reverted = {orders[tx_hash] for tx_hash in stack.reverted(orders)}
    for key, (intent, state) in intents.items():
        assert (mined[intent] == 1) == (state in MINED), f"{key} is {state}, on the chain {mined[intent]}"
        if state != "mined":  # its block is not final yet, and either may have come of it
            failed = intent in reverted
            assert failed == (state == "final_reverted"), f"{key} is {state}, failed on the chain: {failed}"
    filled = stack.sql("SELECT count(*) FROM tx_intents WHERE state = 'filled'")[0][0]
    assert len(stack.executions()) == filled, "the venue executed another number of orders than we hold"
    return Counter(state for _, state in intents.values())


class Traffic:
    """A client that sends on without rest, in a thread of its own; its fault is the test's."""

    def __init__(self, client: Client, every_s: float = 0.25) -> None:
        self._client, self._every_s = client, every_s
        self._ended = threading.Event()
        self._fault: AssertionError | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(90)
        if self._fault:
            raise self._fault

    def _run(self) -> None:
        try:
            for number in itertools.count():
                self._client.send(number)
                if self._ended.wait(self._every_s):
                    return
        except AssertionError as fault:
            self._fault = fault

"""The stage of the acceptance run: a whole stack on the test run's own servers, its node behind a faulty line.

The stack's processes are real, and so are its webhook, its queue and its keeper. Database and node are those of the
test run, so that tests/invariants.py holds rows against blocks from outside.
"""

import os
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from execution_app.models import TxIntent, Wallet
from execution_app.venues import events
from tests import invariants, real_parts
from tests.chaos import outages
from tests.chaos.outages import Client
from tests.e2e.stack import RunningStack, wait_until
from tests.proxy import Proxy, proxied
from tests.rig import rpc_call

BLOCK_TIME_S = 1
LIVE_WITHIN_S = 150
MAX_TRADES = "2000"  # as tests/real_parts.py deploys the venue, so that the stack changes nothing there


@dataclass
class Stage:
    """A running stack in LIVE mode, whose wallet has never sent anything before the first client."""

    stack: RunningStack
    node: Proxy
    wallet: Wallet
    began_s: dict[str, float] = field(
        default_factory=dict
    )  # when a signal was first posted, time.monotonic()
    ended_s: dict[str, float] = field(default_factory=dict)  # when it was known to be taken
    accepted: set[str] = field(default_factory=set)  # of all clients whose count was made
    slots: int = 0  # as many as were mined by then

    def post(self, client: Client, count: int, senders: int) -> None:
        """That many signals by that many senders at once; each repeats until it has been told that it was taken."""

        def send(number: int) -> None:
            key = f"sig:drill:{client.prefix}-{number}"
            self.began_s[key] = time.monotonic()
            client.send(number, within_s=300, max_lag_s=3600)
            self.ended_s[key] = time.monotonic()

        with ThreadPoolExecutor(senders) as pool:
            list(pool.map(send, range(count)))

    def mined(self) -> int:
        """How many slots the chain has taken."""
        return int(rpc_call("eth_getTransactionCount", self.wallet.address, "latest"), 16)

    def await_settled(self, client: Client, within_s: float) -> None:
        client.await_settled({"filled": len(client.accepted)}, within_s)

    def last_mined_s(self) -> float:
        """Wait until every slot that has been given away is in a block; time.monotonic() of that."""
        wait_until(lambda: self.mined() >= self.next_nonce(), 300, "every slot is mined")
        return time.monotonic()

    def next_nonce(self) -> int:
        return Wallet.objects.values_list("next_nonce", flat=True).get(pk=self.wallet.pk)


@dataclass(frozen=True)
class Count:
    """What blocks and logs say, read from the node itself and not from our tables."""

    registered: int  # orders that the venue took from our wallet's transactions
    executed: int  # opens that the venue executed for our trader
    doubled: list[int]  # orders that were registered or executed more than once
    nonces: list[int]  # of the wallet's transactions, in the order of blocks


def count(wallet: Wallet) -> Count:
    seen = invariants.look(wallet.address)
    orders = [order for mined in seen.mined for order in mined.orders]
    trading = real_parts.deployment.trading
    span = {"address": trading, "fromBlock": hex(min(seen.hashes)), "toBlock": "latest"}
    found = [events.decode(entry, trading_address=trading) for entry in rpc_call("eth_getLogs", span)]
    executed = [
        event.order_id
        for event in found
        if isinstance(event, events.OrderExecuted) and event.order_id in orders
    ]
    doubled = [order for times in (Counter(orders), Counter(executed)) for order, n in times.items() if n > 1]
    return Count(len(orders), len(executed), doubled, [mined.nonce for mined in seen.mined])


def assert_executed_once(stage: Stage, client: Client, wanted: int) -> Count:
    """The acceptance: so many executions as signals, none twice, no gap between slots; then every invariant.

    All of it holds over all clients so far; what is answered is this client's share.
    """
    assert len(set(client.accepted) - stage.accepted) == wanted
    before, slots_before = len(stage.accepted), stage.slots
    stage.accepted.update(client.accepted)
    counted = count(stage.wallet)
    stage.slots = len(counted.nonces)
    assert counted.doubled == []
    assert (counted.registered, counted.executed) == (before + wanted, before + wanted), counted
    assert counted.nonces == list(range(stage.slots)), "a gap, or a slot taken twice"
    keys = set(TxIntent.objects.filter(state="filled").values_list("intent_key", flat=True))
    assert keys == stage.accepted
    invariants.check(stage.node)
    return Count(wanted, wanted, counted.doubled, counted.nonces[slots_before:])


def assert_in_order(stage: Stage) -> int:
    """Who was told `taken` before another began to send has the lower nonce; returns how many were compared.

    Between signals that were under way at the same moment there is no order to keep; all others keep theirs.
    """
    slots = TxIntent.objects.values_list("intent_key", "nonce")
    nonces = {key: nonce for key, nonce in slots if nonce is not None}
    by_nonce = sorted(nonces, key=lambda key: nonces[key])
    latest_begin_s, latest = 0.0, ""
    for key in by_nonce:
        assert stage.ended_s[key] >= latest_begin_s, (
            f"{latest} was sent after {key} had been taken, and has nonce {nonces[latest]} before {nonces[key]}"
        )
        if stage.began_s[key] > latest_begin_s:
            latest_begin_s, latest = stage.began_s[key], key
    decided = list(TxIntent.objects.exclude(nonce=None).order_by("id").values_list("nonce", flat=True))
    assert decided == sorted(nonces.values()), "a nonce was given past an earlier intent"
    return len(by_nonce)


@contextmanager
def on_stage(folder: Path) -> Iterator[Stage]:
    """A stack that trades; the chain is taken back afterwards."""
    rpc_call("evm_setAutomine", True)
    snapshot = rpc_call("evm_snapshot")
    folder.mkdir(parents=True)
    shutil.copyfile(real_parts.FOLDER / "chain.json", folder / "chain.json")
    with proxied(real_parts.anvil.url) as node:
        running = RunningStack(
            folder,
            EXEC_MODE="LIVE",
            DATABASE_URL=real_parts.postgres.url,
            REDIS_URL=real_parts.valkey.url,
            BASE_RPC_URL=node.url,
            REHEARSAL_MAX_TRADES_PER_PAIR=MAX_TRADES,
        )
        try:
            # From the start: a stack whose chain stands still for a minute is not well.
            rpc_call("evm_setAutomine", False)
            rpc_call("evm_setIntervalMining", BLOCK_TIME_S)
            running.start()
            outages.await_mode(running, "LIVE", LIVE_WITHIN_S)
            wallet = Wallet.objects.get()
            assert int(rpc_call("eth_getTransactionCount", wallet.address, "pending"), 16) == 0
            yield Stage(running, node, wallet)
        finally:
            running.stop()
            rpc_call("evm_setIntervalMining", 0)
            rpc_call("evm_setAutomine", False)
            rpc_call("anvil_dropAllTransactions")
            rpc_call("evm_revert", snapshot)
            rpc_call("evm_setAutomine", True)
            rpc_call("evm_setTime", int(time.time()))


class Killer:
    """SIGKILLs of processes of the stack, each when its time has come; a thread that has to be joined."""

    def __init__(self, stack: RunningStack, plan: Sequence[tuple[Callable[[], bool], Sequence[str]]]) -> None:
        self._stack, self._plan = stack, plan
        self.killed: Counter[str] = Counter()
        self.last_s = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(30)

    def _run(self) -> None:
        for is_due, names in self._plan:
            while not is_due():
                if self._ended.wait(0.05):
                    return
            for name in names:
                while not outages.kill(self._stack, name):  # it is being started again just now
                    if self._ended.wait(0.05):
                        return
                self.killed[name] += 1
                self.last_s = time.monotonic()


def load() -> str:
    return "load average " + " ".join(f"{share:.1f}" for share in os.getloadavg())

"""The bench on which a process walks the road, dies, and another one finishes its work."""

import hashlib
import hmac
import json
import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import urllib3
from django.conf import settings
from django.db import connection, transaction
from django.db.models.functions import Now
from django.test import Client

from execution_app import tasks
from execution_app.engine import rounds
from execution_app.gate import control, modes, watch
from execution_app.models import Chain, TxIntent
from execution_app.node import gateway, rpc, signers
from execution_app.states import Origin, RestrictionKind
from ops.rehearsal import venue
from ops.rehearsal.gateway.server import Gateway
from ops.rehearsal.keeper import Keeper
from ops.rehearsal.parts.anvil import STATES_KEPT
from ops.rehearsal.rpc import Node
from signals_app import tasks as signal_tasks
from signals_app.models import Signal, SourceGrant
from tests import real_parts
from tests.crash import beside
from tests.crash.door import Door
from tests.crash.liar import Liar
from tests.crash.points import Points, by_file
from tests.crash.store import Store
from tests.rig import Rig, rpc_call
from tests.timers import pass_a_minute

SOURCE = "crash"
GWEI = 10**9
LIVE_WITHIN_S = 60.0
UP_FOR = timedelta(hours=1)
MAX_LAG_S = 3_600  # only `lag` makes it pass, however slow the machine is
LOOK_EVERY_S = 0.4  # what is older than a second counts for nothing
MOST_BLOCKS = 300  # of one trial, generously
# Long enough that only `age` makes them run out, however slow the machine is.
TIMERS = {"rebroadcast_after_s": 20, "bump_after_s": 30, "rpc_slow_after_s": 30}


@dataclass
class Bench:
    """Verbs of the outside world (a client, a miner, a keeper) and of the doors (bells, sweeps)."""

    rig: Rig
    door: Door
    store: Store
    gateway: Gateway
    others: tuple[Liar, ...] = ()
    client: Client = field(default_factory=Client)
    first_block: int = 0
    stage_block: int = 0
    blocks_made: int = 0  # since the stage was put away, and taken back again and again
    pool: tuple[Any, ...] = ()
    helpers: list[int] = field(default_factory=list)
    points: Points | None = None
    boots: bool = False
    _steering: tuple[int, rpc.Endpoint] | None = None  # by process: a parent's connections stay the parent's

    def build(self) -> None:
        """A funded wallet that never traded, put away as `base`."""
        self.rig.build()
        SourceGrant.objects.create(source=SOURCE, tg_user_id=self.rig.trader.tg_user_id)
        watch.stop()
        # What is imported, opened and read here need not be in every child.
        self.client.get("/health/live")
        by_file()
        signers._account(self.rig.wallet.address)
        self.first_block = int(rpc_call("eth_blockNumber"), 16)
        self.door.reset()
        self.door.turns = True
        self.store.keep("base")

    def put_away(self) -> None:
        """What is there now is the stage that `take_back` takes back."""
        self.store.keep("stage")
        self.pool = self.door.pool()
        self.stage_block = int(rpc_call("eth_blockNumber"), 16)
        self.blocks_made = 0

    def is_worn(self) -> bool:
        """Whether the node may soon not know the states of the stage's own blocks any more: it is to be set anew."""
        return self.blocks_made > STATES_KEPT - MOST_BLOCKS

    def take_back(self, name: str = "stage") -> None:
        """Everything as it was: tables, chain, Redis, and what the node's proxy remembers."""
        self.blocks_made += max(0, int(rpc_call("eth_blockNumber"), 16) - self.stage_block)
        self.store.take_back(name)
        self.door.reset()
        self.gateway.reset()
        for other in self.others:
            other.reset()
        rpc_call("evm_setTime", int(time.time()))  # a revert takes back blocks, not what moved the clock
        if name == "stage":
            self.door.put_back(self.pool)

    # What processes do

    def start_process(self, mode: str = "LIVE") -> None:
        """What a process does before it works: the gate opens."""
        self.boot()
        self._begin(mode)

    def go_on(self, mode: str = "LIVE") -> None:
        """A process that has been at work for a while, beside others that follow the chain: one more look is enough."""
        self.boot()
        watcher = watch._watch
        assert watcher is not None
        watcher.started_at = datetime.now(UTC) - UP_FOR
        watcher.snapshot = modes.Snapshot(time.monotonic(), watch.limits().streak_needed - 1, "")
        Chain.objects.update(reconciled_at=Now())
        rpc.read("eth_chainId")  # it knows its node
        self._begin(mode)

    def _begin(self, mode: str) -> None:
        self.open_gate()
        view = watch.view()
        assert mode in ("", view.mode), f"the gate does not open: {view.reason}"

    def boot(self) -> None:
        """Its watch of the mode looks when `look` is called, not by a thread: a slow machine changes no road."""
        rpc.endpoints.cache_clear()
        gateway.breaker.cache_clear()
        self.rig.keeper = Keeper(Node(real_parts.anvil.url), real_parts.deployment)
        watch._watch, watch._owner_pid = watch.ModeWatch("worker"), os.getpid()

    def look(self) -> None:
        """What the watching thread does four times a second; off the road, so nothing of it is a point."""
        watcher = watch._watch
        assert watcher is not None
        last = watcher.snapshot
        if last is None or time.monotonic() - last.taken_at_s > LOOK_EVERY_S:
            with self._watching():
                watcher.look()

    def aside(self) -> AbstractContextManager[None]:
        """What the world does is not on the road: nothing in it is a point."""
        return self.points.aside() if self.points else nullcontext()

    def _watching(self) -> AbstractContextManager[None]:
        """Nor is the watch of the mode, but where a process's own start is the road."""
        return nullcontext() if self.boots else self.aside()

    def flush(self) -> None:
        """Redis forgets everything, and this process sees it."""
        self.rig.redis.flushdb()
        assert watch._watch is not None
        with self._watching():
            watch._watch.look()
        self.steer("note", "dry", [])  # until it is LIVE again nothing new may leave

    def open_gate(self) -> None:
        """Look until LIVE is permitted, or until nothing but a person could change that."""
        deadline_s = time.monotonic() + LIVE_WITHIN_S
        watcher = watch._watch
        assert watcher is not None
        self.steer("note", "live", [])
        with self._watching():
            self._open(watcher, deadline_s)

    @staticmethod
    def _open(watcher: watch.ModeWatch, deadline_s: float) -> None:
        watcher.look()
        while watcher.ruling().degraded and time.monotonic() < deadline_s:
            if watcher.chain_problem:
                tasks.track()
            watcher.look()

    def decide(self, signal_id: str) -> None:
        """What the bell of the intake brings about."""
        self.look()
        signal_tasks.decide(Signal.objects.values_list("pk", flat=True).get(signal_id=signal_id))

    def submit(self) -> None:
        self.look()
        tasks.submit(self.rig.wallet.pk)

    def track(self) -> None:
        """One look at the chain, and what its bells bring about."""
        self.look()
        tasks.track()
        for wallet_id in rounds.wallets_with_work():
            tasks.submit(wallet_id)

    def sweep_signals(self) -> None:
        signal_tasks.sweep_signals()

    def sweep(self) -> None:
        """The sweeps that beat rings for, and what their bells bring about."""
        self.sweep_signals()
        self.look()
        tasks.sweep()
        for wallet_id in rounds.wallets_with_work():
            tasks.submit(wallet_id)

    # What the world does

    def post(self, signal_id: str, side: str = "LONG", **more: Any) -> None:
        """The client sends a signal; a client without an answer sends it again."""
        body: dict[str, Any] = {
            "source": SOURCE,
            "signal_id": signal_id,
            "tg_user_id": self.rig.trader.tg_user_id,
            "symbol": "BTC-USD",
            "side": side,
        }
        if side != "CLOSE":
            body |= {"collateral_usdc": 5, "leverage_x": 2, "max_lag_s": MAX_LAG_S}
        raw = json.dumps(body | more).encode()
        secret = settings.ENVIRONMENT.webhook_hmac_secret.get_secret_value().encode()
        signature = hmac.new(secret, raw, hashlib.sha256).hexdigest()
        answer = self.client.post(
            "/signals", raw, content_type="application/json", headers={"X-Signature": signature}
        )
        assert answer.status_code in (200, 202), answer.content

    def accept(self, signal_id: str = "one", side: str = "LONG", **more: Any) -> None:
        self.post(signal_id, side, **more)
        self.decide(signal_id)

    def live_on(self) -> None:
        """The chain goes on, and so does whoever looks at it."""
        self.operate()
        self.rig.mine()
        self.track()
        self.rig.keep()
        self.track()
        self.rig.mine(4)
        self.track()

    def live_on_unseen(self) -> None:
        """The chain goes on for some blocks before anybody looks."""
        self.operate()
        self.rig.mine()
        self.rig.keep()
        self.rig.mine(4)
        self.track()

    def operate(self) -> None:
        """The venue's operator submits what its gateway accepted, each in a block, and looks at what became of it.

        The gateway is the parent's, so it is asked by HTTP; what it was asked for on the way is in its `posts`.
        """
        if not self._ask_gateway("GET", "waiting"):
            return
        rpc_call("evm_setAutomine", True)
        self._ask_gateway("POST", "step")
        self._ask_gateway("POST", "step")
        rpc_call("evm_setAutomine", False)

    def spoil(self, **faults: Any) -> None:
        """The gateway's faults from now on."""
        self._ask_gateway("PUT", "faults", faults)

    def be_among(self, lie: str) -> None:
        """From now on this process has two further nodes, of which the first, asked before all others, lies."""
        liar, witness = self.others
        urls = f"{liar.url},{self.door.url},{witness.url}"
        settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(update={"base_rpc_url": urls})
        rpc.endpoints.cache_clear()
        rpc.Endpoint(f"{liar.url}/steer").call("proxy_lie", lie)

    def make_gateway_forget(self) -> None:
        self._ask_gateway("POST", "forget")

    def _ask_gateway(self, method: str, what: str, body: Any = None) -> Any:
        answer = urllib3.request(method, f"{self.gateway.url}/rehearsal/{what}", json=body, retries=False)
        assert answer.status == 200, answer.data
        return answer.json()

    def age(self) -> None:
        """A minute passes for every timer of sends, two seconds for undecided signals."""
        with self.aside():
            pass_a_minute()
            with transaction.atomic(), connection.cursor() as cursor:
                # Whoever counts from an intent's last move finds it as old as its sends.
                cursor.execute(
                    "UPDATE tx_intents SET updated_at = updated_at - interval '1 minute' WHERE settled_at IS NULL"
                )
                # Signals are immutable by a trigger; only the sweep's patience with fresh ones is skipped here.
                cursor.execute("SET LOCAL session_replication_role = replica")
                cursor.execute(
                    "UPDATE signals SET received_at = received_at - interval '2 seconds' WHERE decided_at IS NULL"
                )

    def lag(self) -> None:
        """The max lag of everything that waits has passed."""
        with self.aside():
            TxIntent.objects.filter(settled_at=None).update(expires_at=Now() - timedelta(seconds=1))

    def steer(self, method: str, *params: Any) -> Any:
        if self._steering is None or self._steering[0] != os.getpid():
            self._steering = os.getpid(), rpc.Endpoint(f"{self.door.url}/steer")
        return self._steering[1].call(f"proxy_{method}", *params)

    def reorganise(self, depth: int) -> None:
        """The newest blocks are replaced by empty ones; their transactions are in no pool any more.

        Never down to the stage's own blocks, where a fault of the node has kept newer ones from being made:
        the test node forgets the state of what is older than a few hundred blocks that it has made since.
        """
        newer = int(rpc_call("eth_blockNumber"), 16) - self.stage_block - 1
        if newer > 0:
            rpc_call("anvil_reorg", min(depth, newer), [])
            self.steer("forget")

    def spend_elsewhere(self, nonce: int) -> None:
        """The wallet's key signs an empty self-transfer that no table of ours knows."""
        account = signers._account(self.rig.wallet.address)
        transfer: dict[str, Any] = {
            "type": 2,
            "chainId": 31337,
            "nonce": nonce,
            "to": self.rig.wallet.address,
            "value": 1,
            "gas": 21_000,
            "maxFeePerGas": 100 * GWEI,
            "maxPriorityFeePerGas": 5 * GWEI,
        }
        raw = account.sign_transaction(transfer).raw_transaction
        sent = str(rpc_call("eth_sendRawTransaction", "0x" + bytes(raw).hex()))
        self.steer("note", "foreign", [sent])

    def set_price(self, price_usd: int) -> None:
        """Of BTC; by the venue's owner, in a block of its own."""
        rpc_call("evm_setAutomine", True)
        venue.set_price(real_parts.anvil.url, real_parts.deployment, "BTC-USD", Decimal(price_usd))
        rpc_call("evm_setAutomine", False)

    def stop(self) -> control.Imposed:
        """A stop, and when its call had returned: nothing new may leave after that."""
        imposed = control.impose(RestrictionKind.STOP, Origin.COMMAND, by="crash", reason="crash")
        self.steer("note", "stop", imposed.in_flight)
        return imposed

    def resume(self) -> None:
        # Noted before: what leaves from here on may leave.
        self.steer("note", "resume", [])
        control.lift(RestrictionKind.STOP, Origin.COMMAND, by="crash", reason="crash")

    def reduce_only(self) -> None:
        control.impose(RestrictionKind.REDUCE_ONLY, Origin.COMMAND, by="crash", reason="crash")

    def beside(self, *work: Any) -> None:
        """Another process does this meanwhile; whoever waits for this one's end waits for it, too."""
        self.helpers.append(beside.begin([self.start_process, *work]))

    def meet(self, label: str, *work: Any, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Another process does this when the road comes to this point. We go on when it has ended, or waits for us.

        `meanwhile` is done here, before that.
        """

        def begin() -> None:
            meanwhile()
            pid = beside.begin(work)
            if not beside.has_ended(pid):
                self.helpers.append(pid)

        if self.points is not None:
            self.points.meet(label, begin)

    def await_helpers(self) -> None:
        for pid in self.helpers:
            beside.await_end(pid)
        self.helpers.clear()

    def is_done(self) -> bool:
        decided = not Signal.objects.filter(decided_at=None).exists()
        return decided and not TxIntent.objects.filter(settled_at=None).exists()

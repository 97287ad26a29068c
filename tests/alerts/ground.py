"""A running stack, the real Prometheus and Alertmanager over it, and hands for what scenes do to them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

import psutil  # type: ignore[import-untyped]

from execution_app.venues.scales import USDC_DIGITS
from ops.rehearsal import venue
from ops.rehearsal.deployment import Deployment, load
from ops.rehearsal.rpc import Node, Sender
from ops.rehearsal.stack_lock import TAG
from tests.alerts.ledger import Ledger
from tests.chaos import outages
from tests.detours import COMPONENTS, DetouredStack
from tests.e2e.stack import ROOT, RunningStack, wait_until
from tests.ops.alerts import ends
from tests.ops.alerts.watchtower import Watchtower
from tests.tcp_proxy import Fault

# As seed_rehearsal has them, whose module needs Django.
TRADER_KEY = "0x5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a"
DELEGATION_S = 90 * 24 * 3600
ALLOWANCE_UNITS = 100_000 * 10**USDC_DIGITS
WEI_PER_ETH = 10**18
CALM_S = 90.0
COMMAND_S = 120


class Ground:
    """Use as a context manager; it starts nothing by itself."""

    def __init__(self, folder: Path, times: int, say: Callable[[str], None]) -> None:
        self.folder = folder
        self.times = times
        # A higher fee is asked for sooner than in earnest, or excess of them would take minutes to make.
        self.stack = DetouredStack(folder / "var", BUMP_AFTER_S="2", REHEARSAL_MAX_TRADES_PER_PAIR="900")
        self.receivers = ends.Receivers()
        self.ledger = Ledger(self.receivers, say)
        self.client = outages.Client(self.stack, "alerts")
        self._opened = ExitStack()
        self._bot: subprocess.Popen[bytes] | None = None
        self._count = 0

    def __enter__(self) -> Self:
        self._opened.enter_context(self.receivers)
        return self

    def __exit__(self, *_: object) -> None:
        self.ledger.end()
        self._opened.close()
        if self._bot is not None:
            self._bot.terminate()
            self._bot.wait(20)
        self.stack.stop()

    def watch(self) -> None:
        """Start Prometheus and Alertmanager over the stack that runs."""
        place = self.folder / "watchtower"
        place.mkdir(exist_ok=True)
        target = f"localhost:{self.stack.port}"
        tower = Watchtower(place, target, self.receivers, self.times, windows=False)
        self.ledger.watch(self._opened.enter_context(tower))
        self.tower = tower

    def care(self) -> None:
        """What an operator does after the first start: a backup that was read back, a retention, and the bot."""
        self.manage("backup", "--to", str(self.folder / "backups"))
        self.retain()
        self._bot = subprocess.Popen(
            [sys.executable, "manage.py", "bot"],
            cwd=ROOT,
            env=self._env,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def retain(self) -> None:
        """A retention that archives all that is due; of a young stack that is nothing."""
        self.manage("retention", "--to", str(self.folder / "archives"))

    def restart(self, **settings: str) -> None:
        """The stack with other settings, on the same data and behind the same ports."""
        RunningStack.stop(self.stack)
        self.stack.environ |= settings
        RunningStack.start(self.stack)

    def await_live(self) -> None:
        outages.await_mode(self.stack, "LIVE", CALM_S)

    @property
    def _env(self) -> dict[str, str]:
        """As the stack's own processes have it, so that what is counted is counted among theirs."""
        folder = self.stack.folder
        theirs: dict[str, str] = psutil.Process(self.stack.pids()["worker"]).environ()
        del theirs[TAG]  # or the stack ends it with its own
        return theirs | {
            "DATABASE_URL": self.stack.env["DATABASE_URL"],
            "REDIS_URL": self.stack.env["REDIS_URL"],
            "BASE_RPC_URL": self.stack.env["BASE_RPC_URL"],
            "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
        }

    def manage(self, *words: str, may_fail: bool = False) -> str:
        """One of the product's verbs; returns what it said."""
        done = subprocess.run(
            [sys.executable, "manage.py", *words],
            cwd=ROOT,
            env=self._env,
            capture_output=True,
            text=True,
            timeout=COMMAND_S,
            check=False,
        )
        assert may_fail or done.returncode == 0, f"{words[0]}: {done.stdout[-600:]}{done.stderr[-1500:]}"
        return done.stdout + done.stderr

    def signal(self, within_s: float = 30.0, **fields: Any) -> str:
        """Post one until it is taken; returns the intent's key."""
        self._count += 1
        self.client.send(self._count, within_s, **fields)
        return self.client.accepted[-1]

    def state(self, key: str) -> str:
        rows = self.stack.sql("SELECT state FROM tx_intents WHERE intent_key = %s", key)
        return str(rows[0][0]) if rows else ""

    def await_state(self, key: str, *wanted: str, within_s: float = 60.0) -> None:
        wait_until(lambda: self.state(key) in wanted, within_s, f"{key} is {wanted}, not {self.state(key)}")

    def await_counted(self, family: str, least: float = 1, within_s: float = 60.0, label: str = "") -> None:
        """Until the stack's own /metrics shows that many, over all labels or for one label's value."""

        def counted() -> float:
            lines = [line for line in self.stack.metrics().splitlines() if line.startswith(family)]
            lines = [line for line in lines if line[len(family)] in "{ " and f'"{label}"' in line + '""']
            return sum(float(line.rpartition(" ")[2]) for line in lines)

        wait_until(lambda: counted() >= least, within_s, f"{family} reaches {least}")

    def await_told(self, *alerts: str, within_s: float = 90.0) -> None:
        """Until people were told of each; what is then missing is told by the report."""
        deadline_s = time.monotonic() + within_s
        while (missing := self.ledger.missing(alerts)) and time.monotonic() < deadline_s:
            time.sleep(0.5)
        if missing:
            self.ledger.say(f"NOT within {within_s:.0f} s: {', '.join(sorted(missing))}")

    def await_over(self, within_s: float, but: Collection[str] = ()) -> None:
        """Until nobody has to expect more of what was told."""
        deadline_s = time.monotonic() + within_s
        while (left := self.ledger.open() - set(but)) and time.monotonic() < deadline_s:
            time.sleep(1)
        if left:
            self.ledger.say(f"not over within {within_s:.0f} s: {', '.join(sorted(left))}")

    # Servers and processes.

    @contextmanager
    def cut(self, dependency: str, *components: str) -> Iterator[None]:
        """These processes (all, without any) are refused by this server."""
        ways = [self.stack.ways[name, dependency] for name in components or COMPONENTS]
        for way in ways:
            way.inject(Fault.REFUSE)
        try:
            yield
        finally:
            for way in ways:
                way.mend()

    @contextmanager
    def hanging(self, *components: str) -> Iterator[None]:
        """SIGSTOP for these and all their children, as on a host that swaps to death."""
        pids = self.stack.pids()
        parents = [psutil.Process(pids[name]) for name in components]
        everyone = [process for parent in parents for process in (parent, *parent.children(recursive=True))]
        for process in everyone:
            process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            for process in everyone:
                if process.is_running():
                    process.send_signal(signal.SIGCONT)

    # The chain, spoken to directly.

    @property
    def node_url(self) -> str:
        """The node itself, without the proxy that stands before the stack's processes."""
        return self.stack.env["BASE_RPC_URL"]

    @property
    def deployment(self) -> Deployment:
        return load(self.stack.folder / "chain.json")

    def rpc(self, method: str, *params: Any) -> Any:
        return Node(self.node_url).request(method, *params)

    def set_balance(self, eth: float) -> None:
        """What the wallet has for gas."""
        self.rpc("anvil_setBalance", self.stack.env["WALLET_ADDRESS"], hex(int(eth * WEI_PER_ETH)))

    def delegate(self, for_s: int = DELEGATION_S) -> None:
        """The trader names our wallet as delegate for so many seconds."""
        block = self.rpc("eth_getBlockByNumber", "latest", False)
        expiry_s = int(block["timestamp"], 16) + for_s
        trader = Sender(Node(self.node_url), TRADER_KEY)
        wallet = self.stack.env["WALLET_ADDRESS"]
        venue.grant(trader, self.deployment, wallet, expiry_s, ALLOWANCE_UNITS)

    def post_admin(self, method: str) -> None:
        """Set (POST) or lift (DELETE) the emergency stop."""
        headers = {"Authorization": f"Bearer {self.stack.env['ADMIN_TOKEN']}"}
        url = f"http://127.0.0.1:{self.stack.port}/admin/emergency-stop"
        answer = self.stack.http.request(method, url, headers=headers)
        assert answer.status == 200, answer.data[:400]

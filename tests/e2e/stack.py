"""A whole stack, started as `make run` starts it, in a folder of its own and on free ports."""

import hashlib
import hmac
import json
import os
import queue
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import psycopg
import psycopg.conninfo
import urllib3
from prometheus_client.parser import text_string_to_metric_families
from psycopg import sql

from execution_app.venues import events, onchain
from ops.rehearsal.parts import port
from ops.rehearsal.rpc import Node
from tests import migrated
from tests.lost_time import meter

ROOT = Path(__file__).resolve().parents[2]
START_S = 240
# A look at health or rows is work for the stack itself: more of them would make what is waited for later.
POLL_S = 0.1
LOG_LINES = 60
UNSETTLED = """SELECT id, state, nonce, reason, reason_detail, next_try_at, updated_at FROM tx_intents
WHERE settled_at IS NULL ORDER BY id LIMIT 20"""
SESSIONS = """SELECT pid, state, wait_event_type, wait_event, now() - xact_start, pg_blocking_pids(pid), left(query, 120)
FROM pg_stat_activity WHERE datname = current_database() ORDER BY xact_start"""
# One family of each part that is asked when somebody scrapes.
READ_AT_SCRAPE = ("vanta_price_age_seconds", "vanta_queue_depth")
# Set by the test run for its own Django; the stack must find its own.
NOT_INHERITED = {
    *("DATABASE_URL", "REDIS_URL", "BASE_RPC_URL", "WEBHOOK_HMAC_SECRET", "ADMIN_TOKEN", "SECRET_KEY"),
    *(
        "SIGNER_KEY_DIR",
        "STATE_DIR",
        "SIGNER_KEY_PASSWORD",
        "VENUE_TRADING_ADDRESS",
        "VENUE_STORAGE_ADDRESS",
        "USDC_ADDRESS",
    ),
    *("VENUE_PRICE_AGGREGATOR_ADDRESS", "MAX_NOTIONAL_USDC", "MAX_LEVERAGE", "EXEC_MODE", "ALLOWED_HOSTS"),
}


# The rehearsal's feed is the keeper's, which tests kill and hang; those that are about it, or harm it not, unset these.
NO_FEED = {"VERANTA_FEED_URL": "", "VERANTA_DATA_API_URL": ""}


class RunningStack:
    """`start` waits for the panel; `post` signs and sends; `stop` is Ctrl-C."""

    def __init__(self, folder: Path, *, from_nothing: bool = False, **settings: str) -> None:
        """`from_nothing` has it make a database of its own, too, which takes most of its start."""
        self.folder = folder
        self.port = port.any_free()
        tools = folder / "tools"
        folder.mkdir(parents=True, exist_ok=True)
        if not (from_nothing or "DATABASE_URL" in settings or (folder / "postgres").exists()):
            migrated.put(folder / "postgres")
        if not tools.exists():
            tools.symlink_to(ROOT / "var" / "tools")
        # Another stack of this test run may start at the same moment and find the same ports free.
        ports = {name: port.any_free() for name in ("postgres", "valkey", "anvil")}
        (folder / "ports.json").write_text(json.dumps(ports))
        inherited = {k: v for k, v in os.environ.items() if k not in NOT_INHERITED}
        self.environ = {**inherited, "PORT": str(self.port), **NO_FEED, **settings}
        self.http = urllib3.PoolManager(maxsize=60, retries=False, timeout=urllib3.Timeout(total=15))
        self.said: list[str] = []
        self._lines: queue.Queue[str] = queue.Queue()
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> float:
        """Returns how long it took until the panel was shown, in seconds."""
        begun_s = time.monotonic()
        self.said = []
        self.process = subprocess.Popen(
            [sys.executable, "-m", "ops.rehearsal", "--var", str(self.folder), "run"],
            cwd=ROOT,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        threading.Thread(target=self._read, args=(self.process,), daemon=True).start()
        while not any(line.startswith("curl ") for line in self.said[-5:]):
            self._hear(begun_s + START_S)
        took_s = time.monotonic() - begun_s
        self._connect_at_once()
        return took_s

    def _connect_at_once(self) -> None:
        """The same password without its 4,096 rounds, which both ends of every connection pay."""
        password = psycopg.conninfo.conninfo_to_dict(self.env["DATABASE_URL"])["password"]
        with psycopg.connect(self.env["DATABASE_URL"], autocommit=True) as connection:
            connection.execute("SET scram_iterations = 1")
            connection.execute(sql.SQL("ALTER ROLE CURRENT_USER PASSWORD {}").format(str(password)))

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self._lines.put(line.rstrip())

    def _hear(self, deadline_s: float) -> None:
        try:
            self.said.append(self._lines.get(timeout=0.5))
        except queue.Empty:
            assert self.process is not None
            ended = self.process.poll()
            assert ended is None, f"the stack ended with {ended}: " + "\n".join(self.said)
            assert time.monotonic() < deadline_s, "no panel in time: " + "\n".join(self.said)

    @property
    def curl(self) -> str:
        return next(line for line in reversed(self.said) if line.startswith("curl "))

    @property
    def env(self) -> dict[str, str]:
        lines = (self.folder / "stack.env").read_text().splitlines()
        pairs = (line.partition("=") for line in lines)
        return {key: shlex.split(value)[0] if value else "" for key, _, value in pairs}

    def pids(self) -> dict[str, int]:
        return dict(json.loads((self.folder / "pids.json").read_text()))

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(60)

    def post(self, **signal_: Any) -> tuple[int, dict[str, Any]]:
        return self.post_to(self.port, **signal_)

    def post_to(self, port_: int, /, **signal_: Any) -> tuple[int, dict[str, Any]]:
        """To a webhook at that port, which may be another one than the stack's."""
        body = json.dumps({"source": "drill", "tg_user_id": 123, "symbol": "BTC-USD", **signal_}).encode()
        key = self.env["WEBHOOK_HMAC_SECRET"].encode()
        headers = {
            "Content-Type": "application/json",
            "X-Signature": hmac.new(key, body, hashlib.sha256).hexdigest(),
        }
        answer = self.http.request("POST", f"http://127.0.0.1:{port_}/signals", body=body, headers=headers)
        return answer.status, answer.json()

    def get(self, path: str) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {self.env['ADMIN_TOKEN']}"}
        return dict(self.http.request("GET", f"http://127.0.0.1:{self.port}{path}", headers=headers).json())

    def metrics(self) -> str:
        """A whole scrape: on a busy machine one may leave out what could not be read in time."""
        scrapes: list[str] = []

        def is_whole() -> bool:
            answer = self.http.request("GET", f"http://127.0.0.1:{self.port}/metrics")
            scrapes.append(answer.data.decode())
            return answer.status == 200 and all(f"# TYPE {name} " in scrapes[-1] for name in READ_AT_SCRAPE)

        wait_until(is_whole, 60, "a whole scrape")
        return scrapes[-1]

    def gauge(self, family: str) -> dict[str, float]:
        """A family's values by the value of its one label."""
        families = {found.name: found for found in text_string_to_metric_families(self.metrics())}
        return {"".join(sample.labels.values()): sample.value for sample in families[family].samples}

    def sql(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.env["DATABASE_URL"]) as connection:
            return connection.execute(query, values).fetchall()

    def states(self) -> dict[str, int]:
        return dict(self.sql("SELECT state, count(*) FROM tx_intents GROUP BY state"))

    def executions(self) -> list[events.OrderExecuted]:
        """What the venue executed for our trader, from the chain's logs."""
        trading = self.env["VENUE_TRADING_ADDRESS"]
        span = {"address": trading, "fromBlock": "0x0", "toBlock": "latest"}
        logs = self._node().request("eth_getLogs", span)
        found = [events.decode(entry, trading_address=trading) for entry in logs]
        return [event for event in found if isinstance(event, events.OrderExecuted)]

    def sent(self) -> list[tuple[int, str]]:
        """(nonce, hash) of every transaction of our wallet, from the chain's blocks."""
        node = self._node()
        wallet = self.env["WALLET_ADDRESS"].lower()
        head = node.number("eth_blockNumber")
        blocks = [node.request("eth_getBlockByNumber", hex(number), True) for number in range(head + 1)]
        return [
            (int(tx["nonce"], 16), tx["hash"])
            for block in blocks
            for tx in block["transactions"]
            if tx["from"] == wallet
        ]

    def reverted(self, tx_hashes: Iterable[str]) -> set[str]:
        """Those of these mined transactions that failed, by their receipts."""
        node = self._node()
        receipts = {tx_hash: node.request("eth_getTransactionReceipt", tx_hash) for tx_hash in tx_hashes}
        return {tx_hash for tx_hash, receipt in receipts.items() if int(receipt["status"], 16) == 0}

    def open_trade(self, index: int) -> onchain.OpenTrade | None:
        view = onchain.call_open_trade(self.env["TRADER_ADDRESS"], onchain.PAIRS["BTC-USD"], index)
        return onchain.read_open_trade(self._node().call(self.env["VENUE_STORAGE_ADDRESS"], view))

    def _node(self) -> Node:
        return Node(self.env["BASE_RPC_URL"])

    def redis_cli(self, *words: str) -> None:
        tool = self.folder / "bin" / "redis-cli"
        subprocess.run([tool, *words], env=self.environ, check=True, capture_output=True, timeout=20)

    def why(self) -> str:
        """What an operator would look at first: health, what waits, what PostgreSQL does, the logs' ends."""
        said = [f"health: {json.dumps(self.get('/health'))}"]
        said += [f"unsettled: {row}" for row in self.sql(UNSETTLED)]
        said += [f"session: {row}" for row in self.sql(SESSIONS)]
        for path in sorted((self.folder / "log").glob("*.log")):
            said += [f"--- {path.name}", *path.read_text(errors="replace").splitlines()[-LOG_LINES:]]
        return "\n".join(said)

    def log(self, name: str) -> str:
        return (self.folder / "log" / f"{name}.log").read_text(errors="replace")

    @property
    def signal_id_of_curl(self) -> str:
        found = re.search(r'"signal_id":"([^"]+)"', self.curl)
        assert found is not None
        return found[1]


def wait_until(what: Callable[[], bool], limit_s: float, why: str) -> float:
    """Poll until it holds; returns the seconds it took. What the machine lost meanwhile is not of the limit."""
    lost, begun_s = meter(), time.monotonic()
    while not what():
        took_s = time.monotonic() - begun_s
        assert took_s - lost.since(begun_s) < limit_s, f"not within {limit_s} s: {why}"
        time.sleep(POLL_S)
    return time.monotonic() - begun_s

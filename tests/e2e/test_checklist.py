"""DEPLOYMENT_CHECKLIST.md as an operator works through it: phases 0, 1 and 3, in the shell.

The services are those of the compose file, run as plain processes: same commands, same environment file, same health
checks; and a restart takes an edit. The chain is a rehearsal chain of its own.
"""

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import redis as redis_py

from execution_app.models import Trader, TxIntent, TxReceipt, TxSend
from execution_app.venues import events, onchain
from ops.rehearsal import stack_commands, stack_tools, venue
from ops.rehearsal.deployment import Deployment
from ops.rehearsal.parts import Anvil, port
from ops.rehearsal.parts.process import Child
from ops.rehearsal.rpc import Node
from ops.rehearsal.stack_env import venue_variables
from tests import real_parts
from tests.containers import PROCESSES, WITH_ENV, Container, declared, filled, running
from tests.lost_time import MISSED_A_LOOK, meter

TRADER = 123
ADDRESS = "0x8ba1f109551bD432803012645Ac136ddd64DBA72"
DUMP = """
mkdir -p -m 700 backups && pg_dump -Fc "$DATABASE_URL" > "backups/vanta-preprod-$(date +%F).dump"
pg_restore --list "backups/vanta-preprod-$(date +%F).dump"
"""
INDEX = """
psql "$DATABASE_URL" -At -c \
  "SELECT indexname FROM pg_indexes WHERE tablename='tx_intents' AND indexname LIKE '%idem%'"
"""
SIGNAL = """
sig=$(echo -n "$payload" | openssl dgst -sha256 -hmac "$WEBHOOK_HMAC_SECRET" -r | cut -d' ' -f1)
curl -sS -X POST "$WEBHOOK/signals" -H "Content-Type: application/json" -H "X-Signature: $sig" -d "$payload"
"""


class Operator:
    """A shell with the stack's tools before all others, in a folder that holds the env file and the logs."""

    def __init__(self, folder: Path, env_file: Path, web_port: int) -> None:
        self.folder = folder
        self.env_file = env_file
        self.webhook = f"http://127.0.0.1:{web_port}"
        self.lost, self.begun_s = meter(), time.monotonic()
        stack_tools.place(folder / "bin", real_parts.postgres.programs, real_parts.valkey.url)
        self._env = {
            "PATH": os.pathsep.join((str(folder / "bin"), str(Path(sys.executable).parent), os.defpath)),
            "DATABASE_URL": real_parts.postgres.url,
            "WEBHOOK": self.webhook,
            **{name: os.environ[name] for name in ("WEBHOOK_HMAC_SECRET", "ADMIN_TOKEN")},
        }

    def sh(self, script: str, code: int = 0, **variables: str) -> str:
        """What a script prints; it must end with this code."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=self.folder,
            env={**self._env, **variables},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == code, f"{script}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout

    def vanta(self, *words: str) -> str:
        """The shell function of docs/deployment.md where there is no container engine."""
        command = [str(WITH_ENV), str(self.env_file), "--", "env", "-u", "PROMETHEUS_MULTIPROC_DIR"]
        return self.sh(f"cd {real_parts.ROOT}; {shlex.join([*command, 'python', 'manage.py', *words])}")

    def health(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.sh('curl -fsS "$WEBHOOK/health"'))
        return found

    def send(self, **body: Any) -> dict[str, Any]:
        payload = json.dumps({"source": "drill", "tg_user_id": TRADER, **body})
        answer: dict[str, Any] = json.loads(self.sh(SIGNAL, payload=payload))
        return answer

    def metric(self, name: str) -> float:
        """The sum of a family's samples."""
        lines = self.sh('curl -fsS "$WEBHOOK/metrics"').splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.partition("{")[0].split(" ")[0] == name)


@pytest.fixture
def chain(tmp_path: Path) -> Iterator[tuple[Anvil, Deployment]]:
    """`make chain` on a machine of its own: node, venue and keeper."""
    with Anvil(tmp_path / "chain", tools=real_parts.ROOT / "var" / "tools", block_time_s=0.5) as node:
        record = tmp_path / "chain.json"
        deployment = venue.ensure(node.url, record)
        service = stack_commands.service(
            "keeper", dict(os.environ), rpc=node.url, deployment=record, gateway_port=0
        )
        keeper = Child(service.command(), tmp_path / "keeper.log")
        yield node, deployment
        keeper.stop(5)


@pytest.fixture
def operator(
    tmp_path: Path, chain: tuple[Anvil, Deployment], database: None, valkey: redis_py.Redis
) -> Operator:
    node, deployment = chain
    (tmp_path / "switch").mkdir()
    env_file = filled(
        tmp_path,
        BASE_RPC_URL=node.url,
        FORCE_DRY_PATH=str(tmp_path / "switch" / "FORCE_DRY"),
        SIGNER_KEY_DIR=str(tmp_path / "keys"),
        **venue_variables(deployment),
    )
    return Operator(tmp_path, env_file, port.next_free(18190))


@pytest.mark.timeout(600)
def test_phases_0_1_and_3(operator: Operator, chain: tuple[Anvil, Deployment]) -> None:
    web_port = int(operator.webhook.rpartition(":")[2])
    services = declared()
    made = {
        name: Container(name, services[name], operator.env_file, web_port) for name in ("migrate", *PROCESSES)
    }
    containers = [made[name] for name in PROCESSES]
    assert made["migrate"].run() == 0
    before_anything(operator)
    assert [container.is_healthy() for container in containers] == [False] * len(containers)
    with running(*containers):
        first_trader(operator)  # while they start
        for container in containers:
            container.await_health()
        staging_in_dry(operator)
        restart_live(operator, containers)
        canary(operator, Node(chain[0].url), chain[1])
        the_files_switch(operator)
        made["webhook"].stop()
        assert not made["webhook"].is_healthy()


def before_anything(operator: Operator) -> None:
    assert "No migrations to apply." in operator.vanta("migrate")
    listed = operator.sh(DUMP)
    assert "TABLE DATA public tx_intents" in listed
    shown = operator.vanta("showmigrations").splitlines()
    assert [line for line in shown if line.startswith(" [ ]")] == []
    assert " [X] 0001_start" in shown
    assert operator.sh(INDEX) == "uq_tx_intents_idem\n"


def first_trader(operator: Operator) -> None:
    operator.vanta("trader", "add", str(TRADER), "--address", ADDRESS)
    operator.vanta("source", "grant", "drill", str(TRADER))
    operator.vanta("wallet", "create", str(TRADER))
    operator.vanta("wallet", "fund", str(TRADER), "--usdc", "50")


def staging_in_dry(operator: Operator) -> None:
    wait_for(
        lambda: operator.sh('curl -fsS "$WEBHOOK/health" || true').startswith('{"status":"ok"'), "health"
    )
    mode = operator.health()["execution_mode"]
    assert (mode["mode"], mode["requested"]) == ("DRY", "DRY")
    # Shared by containers that all count their processes from 1.
    assert all(
        path.stem.count("_") == 1 and "-" in path.stem for path in (operator.folder / "metrics").iterdir()
    )
    head = operator.sh('curl -fsS "$WEBHOOK/metrics" | head -20 || test $? = 23 -o $? = 141')
    assert head.startswith("# HELP vanta_")
    no_errors(operator)


def restart_live(operator: Operator, containers: list[Container]) -> None:
    """`docker compose restart`: it is the edited file that counts."""
    operator.sh(f"sed -i s/^EXEC_MODE=.*/EXEC_MODE=LIVE/ {operator.env_file}")
    with ThreadPoolExecutor(len(containers)) as pool:
        list(pool.map(Container.stop, containers))
    for container in containers:
        container.start()
    wait_for(
        lambda: '"mode":"LIVE"' in operator.sh('curl -fsS "$WEBHOOK/health" || true'),
        "LIVE after three looks",
    )
    assert operator.health()["execution_mode"]["requested"] == "LIVE"
    operator.vanta("wallet", "check", str(TRADER))


def the_files_switch(operator: Operator) -> None:
    """The file in the folder that every container has takes LIVE back from the request, at once."""
    switch = operator.folder / "switch" / "FORCE_DRY"
    for touch, wanted in ((switch.touch, "DRY"), (switch.unlink, "LIVE")):
        touch()
        assert operator.health()["execution_mode"]["requested"] == wanted


def no_errors(operator: Operator) -> None:
    """`docker compose logs … | grep -i error`; 1 is grep's word for "read, and not found"."""
    logs = " ".join(f"{name}.log" for name in ("migrate", *PROCESSES))
    found = operator.sh(f"grep -ih error {logs} || test $? = 1").splitlines()
    if operator.lost.since(operator.begun_s):  # then a look at Redis may have come too late, and that is DRY
        found = [line for line in found if not MISSED_A_LOOK.search(line)]
    assert found == []


def canary(operator: Operator, node: Node, deployment: Deployment) -> None:
    opened = {"side": "LONG", "collateral_usdc": 5, "leverage_x": 2}
    for signal_id, symbol in (("btc-1", "BTC-USD"), ("eth-1", "ETH-USD")):
        answer = operator.send(signal_id=signal_id, symbol=symbol, **opened)
        assert (answer["status"], answer["mode"]) == ("queued", "LIVE")
    assert operator.send(signal_id="btc-1", symbol="BTC-USD", **opened)["status"] == "duplicate"
    wait_for(lambda: TxIntent.objects.filter(state="filled").count() == 2, "both opened")
    operator.send(signal_id="btc-2", symbol="BTC-USD", side="CLOSE", reduce_pct=50)
    wait_for(lambda: TxIntent.objects.filter(state="filled").count() == 3, "BTC reduced")
    assert TxIntent.objects.count() == TxSend.objects.count() == 3
    assert list(TxReceipt.objects.values_list("status", "canonical")) == [(1, True)] * 3
    trader = Trader.objects.get().address
    held = {
        symbol: onchain.read_open_trade(
            node.call(deployment.storage, onchain.call_open_trade(trader, onchain.PAIRS[symbol], 0))
        )
        for symbol in ("BTC-USD", "ETH-USD")
    }
    assert {
        symbol: trade and (trade.collateral_usdc, trade.leverage_x) for symbol, trade in held.items()
    } == {
        "BTC-USD": (Decimal("2.5"), Decimal(2)),
        "ETH-USD": (Decimal(5), Decimal(2)),
    }
    span = {"address": deployment.trading, "fromBlock": "0x0", "toBlock": "latest"}
    logged = [
        events.decode(entry, trading_address=deployment.trading)
        for entry in node.request("eth_getLogs", span)
    ]
    assert sum(isinstance(event, events.OrderExecuted) for event in logged) == 3
    for zero in ("vanta_intent_duplicate_total", "vanta_intent_illegal_transition_total"):
        assert operator.metric(zero) == 0
    # The comparison may have come between the venue's fill and ours; the next one says so.
    wait_for(lambda: operator.metric("vanta_position_drift") == 0, "no position drifts")
    assert operator.metric("vanta_tx_mined_total") == 3
    no_errors(operator)


def wait_for(what: Callable[[], bool], why: str, limit_s: float = 150) -> None:
    deadline_s = time.monotonic() + limit_s
    while not what():
        assert time.monotonic() < deadline_s, f"not within {limit_s} s: {why}"
        time.sleep(0.1)

"""The stack as a newcomer and an operator meet it: run, paste, repeat, kill, stop, restart."""

import os
import random
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest
import urllib3

from tests import promises
from tests.e2e import earlier
from tests.e2e.stack import RunningStack, wait_until
from tests.lost_time import MISSED_A_LOOK, meter
from tests.real_parts import FOLDER
from vanta import __version__

pytestmark = pytest.mark.timeout(420)
MISSED_A_MOMENT = {"the last look at Redis is too old", "redis: TimeoutError"}
OPEN = {"side": "LONG", "collateral_usdc": 5, "leverage_x": 2}
# `make test` runs a slice; the whole load is SIGNALS_UNDER_KILLS=100.
SIGNALS_UNDER_KILLS = int(os.environ.get("SIGNALS_UNDER_KILLS", "28"))
SIGNALS_TO_VERSIONS = 12
SEED = int(os.environ.get("KILL_SEED", "7"))


@pytest.fixture(scope="module")
def stack() -> Iterator[RunningStack]:
    running = RunningStack(
        FOLDER / "with space" / "var",
        from_nothing=True,
        EXEC_MODE="LIVE",
        REHEARSAL_MAX_TRADES_PER_PAIR="500",
        REHEARSAL_BLOCK_TIME_S="1",
    )
    meter()  # from here on
    running.start()
    yield running
    running.stop()


def test_a_healthy_start_says_no_error(stack: RunningStack) -> None:
    """From nothing: no line of any log, and none that `make run` prints, is found by `grep -i error`."""
    logs = {path.stem: path.read_text(errors="replace") for path in (stack.folder / "log").glob("*.log")}
    assert logs.keys() >= {"migrate", "seed", "webhook", "worker", "tpsl", "beat", "postgres"}
    assert "auth 0007... OK" in logs["migrate"], "Django's own name of that one has the word in it"
    found = [
        f"{name}: {line}"
        for name, log in logs.items()
        for line in log.splitlines()
        if "error" in line.lower()
    ]
    if meter().since(0):  # then a look at Redis may have come too late, and that is DRY
        found = [line for line in found if not MISSED_A_LOOK.search(line)]
    assert found == []
    assert "error" not in "".join(stack.said).lower()


def test_printed_curl_opens_exactly_one_trade(stack: RunningStack) -> None:
    pasted = subprocess.run(
        ["bash", "-c", stack.curl], capture_output=True, text=True, check=True, timeout=30
    )
    assert '"status":"queued"' in pasted.stdout, pasted.stdout + pasted.stderr
    key = f"sig:drill:{stack.signal_id_of_curl}"
    wait_until(
        lambda: stack.sql("SELECT 1 FROM tx_intents WHERE intent_key=%s AND state='filled'", key) != [],
        15,
        key,
    )
    trade = stack.open_trade(0)
    assert trade is not None
    assert (trade.collateral_usdc, trade.leverage_x) == (Decimal(5), Decimal(2))
    assert stack.open_trade(1) is None
    rows = stack.sql("SELECT collateral_usdc, leverage_x, mode, trade_index FROM positions")
    assert rows == [(Decimal(5), Decimal(2), "LIVE", 0)]
    again = subprocess.run(["bash", "-c", stack.curl], capture_output=True, text=True, check=True, timeout=30)
    assert '"status":"duplicate"' in again.stdout


def test_fifty_copies_at_once_are_one_execution(stack: RunningStack) -> None:
    before = len(stack.executions())

    def send(_: int) -> int:
        """As a client does: on a busy machine the last of fifty may be told to come again."""
        for _ in range(5):
            status, _answer = stack.post(signal_id="copies-1", **OPEN)
            if status != 503:
                break
        return status

    with ThreadPoolExecutor(50) as pool:
        assert Counter(pool.map(send, range(50))) == {202: 1, 200: 49}
    wait_until(lambda: len(stack.executions()) > before, 60, "the copy's execution")
    rows = stack.sql("SELECT id FROM tx_intents WHERE intent_key = 'sig:drill:copies-1'")
    assert len(rows) == 1
    assert stack.sql("SELECT count(*) FROM tx_sends WHERE intent_id = %s AND kind = 'exec'", rows[0][0]) == [
        (1,)
    ]
    assert len(stack.executions()) == before + 1


def test_close_ends_the_trades_and_pays_the_trader(stack: RunningStack) -> None:
    assert stack.post(signal_id="close-1", side="CLOSE")[0] == 202
    opened = "SELECT count(*) FROM positions WHERE state = 'open'"
    wait_until(lambda: stack.sql(opened) == [(0,)], 30, "all positions closed")
    assert stack.open_trade(0) is None
    closes = [event for event in stack.executions() if not event.is_open]
    assert len(closes) == 2
    assert all(event.usdc_sent_to_trader > 0 for event in closes)


def assert_live_once(stack: RunningStack) -> None:
    """Eight processes went LIVE, the stack did once.

    Where this machine lost a moment, one of them may have had no look at Redis in time: that is DRY for a while.
    """
    query = "SELECT mode, reason FROM mode_history WHERE kind = 'effective' ORDER BY id"
    modes = [("LIVE" if mode == "LIVE" else reason) for mode, reason in stack.sql(query)]
    missed = sum(reason in MISSED_A_MOMENT for reason in modes)
    assert not missed or meter().since(0), modes
    assert len(modes) == 1 + missed + modes[1:].count("LIVE"), modes
    assert all((word == "LIVE") is (at % 2 == 0) for at, word in enumerate(modes)), modes
    assert stack.gauge("vanta_exec_mode_changes") == {"": len(modes)}


def test_metrics_keep_every_promise(stack: RunningStack) -> None:
    wait_until(lambda: stack.gauge("vanta_exec_mode") == {"DRY": 0, "LIVE": 1}, 5, "LIVE")
    assert_live_once(stack)
    assert max(stack.gauge("vanta_price_age_seconds").values()) < 30
    assert stack.gauge("vanta_trade_notional_usd") == {"": 10}
    # Granian's parent and Celery's: the processes that the supervisor starts.
    beating = dict(stack.sql("SELECT component, pid FROM heartbeats"))
    assert beating == {name: stack.pids()[name] for name in ("webhook", "worker", "tpsl", "beat")}
    promises.hold(stack.metrics())  # last, since without promtool it ends the test


def test_only_a_restart_of_a_main_process_shows_as_one(stack: RunningStack) -> None:
    children = "SELECT pid FROM pool_beats WHERE component = 'worker' AND at > now() - interval '5 s'"
    before = stack.gauge("vanta_process_start_time_seconds")
    parents = stack.pids()
    pool, web = (psutil.Process(parents[name]).children()[0].pid for name in ("worker", "webhook"))
    wait_until(lambda: (pool,) in stack.sql(children), 60, "the child beats")
    old = {pid for (pid,) in stack.sql(children)}
    for pid in (pool, web):
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: {pid for (pid,) in stack.sql(children)} - old != set(), 60, "another child beats")
    wait_until(lambda: len(psutil.Process(parents["webhook"]).children()) >= 2, 60, "another web worker")
    assert stack.pids() == parents
    os.kill(parents["worker"], signal.SIGKILL)

    def restarted() -> set[str]:
        now = stack.gauge("vanta_process_start_time_seconds")
        return {name for name, start_s in now.items() if start_s != before[name]}

    wait_until(lambda: restarted() != set(), 60, "the worker's restart shows")
    wait_until(lambda: stack.get("/health")["status"] == "ok", 60, "health is ok again")
    assert restarted() == {"worker"}
    assert_live_once(stack)  # a new process is no change of the mode


def test_stop_by_redis_and_by_http(stack: RunningStack) -> None:
    sent = len(stack.sent())
    value = '{"mode":"DRY","emergency_stop":true}'
    stack.redis_cli("SET", "exec_mode", value)
    wait_until(lambda: stack.get("/health")["execution_mode"]["emergency_stop"], 2, "health shows the stop")
    stack.post(signal_id="stopped-1", **OPEN)
    reason = "SELECT state, reason FROM tx_intents WHERE intent_key = 'sig:drill:stopped-1'"
    wait_until(lambda: stack.sql(reason) == [("rejected", "emergency_stop")], 60, "rejected under the stop")
    stack.redis_cli("FLUSHALL")
    assert stack.sql("SELECT count(*) FROM mode_changes WHERE origin = 'redis' AND lifted_at IS NULL") == [
        (2,)
    ]
    value = '{"mode":"LIVE","emergency_stop":false}'

    def lifted() -> bool:
        stack.redis_cli("SET", "exec_mode", value)
        return bool(stack.get("/health")["execution_mode"]["mode"] == "LIVE")

    wait_until(lifted, 60, "LIVE again")
    assert len(stack.sent()) == sent
    assert "emergency stop" in stack.log("worker")


def answers(stack: RunningStack) -> bool:
    try:
        stack.get("/health/live")
    except (OSError, ValueError, urllib3.exceptions.HTTPError):
        return False
    return True


def test_signals_under_kills_are_executed_once_each(stack: RunningStack) -> None:
    """Every 2 s one of worker, webhook and beat is killed; clients retry as clients do."""
    before = len([event for event in stack.executions() if event.is_open])
    ended = threading.Event()
    killed: Counter[str] = Counter()

    def kill() -> None:
        chance = random.Random(SEED)
        while not ended.wait(2):
            name = chance.choice(["worker", "webhook", "beat"])
            if name == "webhook" and not answers(stack):
                continue  # one that starts slowly would never be up
            try:
                os.kill(stack.pids()[name], signal.SIGKILL)
                killed[name] += 1
            except (ProcessLookupError, KeyError):
                continue  # it is being restarted

    def send(number: int) -> None:
        deadline_s = time.monotonic() + 120
        while time.monotonic() < deadline_s:
            try:
                status, _ = stack.post(signal_id=f"kill-{number}", max_lag_s=600, **OPEN)
            except (OSError, urllib3.exceptions.HTTPError):
                status = 0
            if status in {200, 202}:
                return
            ended.wait(0.2)
        pytest.fail(f"signal {number} was never accepted")

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        for number in range(SIGNALS_UNDER_KILLS):
            send(number)
            ended.wait(0.3)
        ended.set()
        open_ = (
            "SELECT count(*) FROM tx_intents WHERE intent_key LIKE 'sig:drill:kill-%%' AND state = 'filled'"
        )
        try:
            wait_until(lambda: stack.sql(open_) == [(SIGNALS_UNDER_KILLS,)], 240, "all filled")
        except AssertionError as late:
            late.add_note(f"states: {stack.states()}, killed: {killed}")
            raise
    finally:
        ended.set()
        killer.join()
    executed = [event for event in stack.executions() if event.is_open]
    assert len(executed) - before == SIGNALS_UNDER_KILLS
    nonces = [nonce for nonce, _ in stack.sent()]
    assert nonces == list(range(len(nonces)))
    known = {row[0] for row in stack.sql("SELECT tx_hash FROM tx_sends")}
    assert {tx_hash for _, tx_hash in stack.sent()} <= known
    assert sum(killed.values()) >= 3
    assert len(killed) >= 2


def test_two_versions_work_side_by_side(stack: RunningStack, tmp_path: Path) -> None:
    """As during an upgrade: signals by either webhook, work by either worker, each executed once."""
    what = earlier.tree(tmp_path)
    before = len([event for event in stack.executions() if event.is_open])
    newer = len(stack.log("worker"))
    with earlier.beside(stack, tmp_path) as (port, log):

        def told(at: int) -> tuple[str, str]:
            """Version and status, as the webhook at that port tells them; nothing while it does not answer."""
            try:
                found = stack.http.request("GET", f"http://127.0.0.1:{at}/health").json()
            except urllib3.exceptions.HTTPError:
                return "", ""
            return found["version"], found["status"]

        wait_until(lambda: told(port) == (earlier.NAME, "ok"), 60, f"{what} is well on the newest schema")
        wait_until(lambda: "ready" in log.read_text(), 60, f"a worker of {what}")
        assert told(stack.port) == (__version__, "ok")

        def send(number: int) -> list[int]:
            """To one, and the same again to the other."""
            ports = (stack.port, port) if number % 2 else (port, stack.port)
            signal_id = f"versions-{number}"
            return [stack.post_to(at, signal_id=signal_id, max_lag_s=600, **OPEN)[0] for at in ports]

        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(send, range(SIGNALS_TO_VERSIONS)))
        assert answers == [[202, 200]] * SIGNALS_TO_VERSIONS
        filled = "SELECT count(*) FROM tx_intents WHERE intent_key LIKE 'sig:drill:versions-%%' AND state = 'filled'"
        wait_until(
            lambda: stack.sql(filled) == [(SIGNALS_TO_VERSIONS,)], 120, f"all filled; {stack.states()}"
        )
        assert "move=" in log.read_text(), f"{what} did nothing"
        assert "move=" in stack.log("worker")[newer:], "this version did nothing"
    executed = [event for event in stack.executions() if event.is_open]
    assert len(executed) - before == SIGNALS_TO_VERSIONS
    nonces = [nonce for nonce, _ in stack.sent()]
    assert nonces == list(range(len(nonces)))
    known = {row[0] for row in stack.sql("SELECT tx_hash FROM tx_sends")}
    assert {tx_hash for _, tx_hash in stack.sent()} <= known
    wait_until(lambda: stack.get("/health")["status"] == "ok", 60, "well without the older one")


def test_ctrl_c_leaves_nothing_and_a_restart_goes_on(stack: RunningStack) -> None:
    wait_until(
        lambda: stack.sql("SELECT count(*) FROM positions WHERE settled_at IS NULL") == [(0,)], 30, "settled"
    )
    trades = stack.sql("SELECT count(*) FROM positions")
    pids = stack.pids()
    stack.stop()
    assert not [name for name, pid in pids.items() if Path(f"/proc/{pid}").exists()]
    stack.start()
    assert stack.sql("SELECT count(*) FROM positions") == trades
    assert stack.get("/health")["status"] == "ok"


def test_killed_supervisor_is_recovered_from(stack: RunningStack) -> None:
    assert stack.process is not None
    stack.process.kill()
    stack.process.wait(10)
    stack.start()
    assert stack.get("/health")["status"] == "ok"
    stack.post(signal_id="after-kill", **OPEN)
    filled = "SELECT 1 FROM tx_intents WHERE intent_key = 'sig:drill:after-kill' AND state = 'filled'"
    wait_until(lambda: stack.sql(filled) == [(1,)], 60, f"filled after the kill; {stack.states()}")

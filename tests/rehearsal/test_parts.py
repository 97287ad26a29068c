"""The embedded servers: start, answer, stop, and come back after a crash with their data."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import psycopg
import pytest
import redis

from ops.rehearsal.parts import Anvil, Part, PartError, Postgres, Valkey, place, port
from ops.rehearsal.parts.anvil import is_whole

TOOLS = Path(__file__).parents[2] / "var" / "tools"
ACCOUNT = "0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266"


def until(met: Callable[[], bool], within_s: float = 60) -> None:
    deadline_s = time.monotonic() + within_s
    while not met():
        assert time.monotonic() < deadline_s, "it did not come about in time"
        time.sleep(0.02)


def next_second() -> None:
    now_s = int(time.time())
    until(lambda: int(time.time()) > now_s)


def rpc(node: Anvil, method: str, *params: object) -> Any:
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
    request = urllib.request.Request(node.url, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)["result"]


@pytest.fixture
def postgres(tmp_path):
    part = Postgres(tmp_path / "postgres")
    yield part
    part.destroy()


def scalar(postgres: Postgres, query: str) -> object:
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        cursor = connection.execute(query)
        row = cursor.fetchone() if cursor.description else None
        return row[0] if row else None


def test_postgres_keeps_committed_rows_over_a_crash(postgres):
    postgres.start()
    scalar(postgres, "CREATE TABLE kept (n int)")
    scalar(postgres, "INSERT INTO kept VALUES (7)")
    postgres.kill()
    postgres.start()
    assert scalar(postgres, "SELECT n FROM kept") == 7
    assert scalar(postgres, "SHOW timezone") == "UTC"
    assert scalar(postgres, "SHOW server_encoding") == "UTF8"
    assert scalar(postgres, "SHOW fsync") == "on"


def test_postgres_wants_its_password_and_does_not_run_as_root(postgres):
    postgres.start()
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(postgres.url.replace("vanta:", "vanta:not-"))
    assert psutil.Process(postgres.pid).uids().effective != 0
    assert (postgres.folder / "password").stat().st_mode & 0o077 == 0


def test_postgres_starts_over_a_stale_pid_file_with_a_recycled_pid(postgres):
    postgres.start()
    pid_file = postgres.home / "postmaster.pid"
    lines = pid_file.read_text().splitlines()
    postgres.kill()
    # Somebody else's living process has that number now.
    pid_file.write_text("\n".join([str(os.getppid()), *lines[1:]]) + "\n")
    postgres.start()
    assert scalar(postgres, "SELECT 1") == 1


def test_an_interrupted_initdb_is_started_over(postgres):
    place.own_folder(place.unprivileged(), postgres.folder)
    (postgres.folder / "pgdata.partial").mkdir()
    (postgres.folder / "pgdata.partial" / "PG_VERSION").write_text("18\n")
    postgres.start()
    assert scalar(postgres, "SELECT 1") == 1


def test_a_cluster_of_another_version_is_refused_by_name(postgres):
    postgres.start()
    postgres.stop()
    (postgres.home / "PG_VERSION").write_text("12\n")
    with pytest.raises(PartError, match="PostgreSQL 12"):
        postgres.start()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's files can be out of a server's reach")
def test_a_copied_clone_gets_a_cluster_of_its_own(tmp_path):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    one = Postgres(closed / "one" / "postgres")
    two = Postgres(closed / "two" / "postgres")
    try:
        one.start()
        assert one.folder.is_symlink()
        two.folder.parent.mkdir()
        two.folder.symlink_to(one.folder.readlink())
        two.start()
        assert two.folder.resolve() != one.folder.resolve()
        assert one.pid
        assert two.pid
    finally:
        target = one.folder.readlink()
        two.destroy()
        one.destroy()
    assert not target.exists()


def test_valkey_keeps_what_it_acknowledged_over_a_restart(tmp_path):
    with Valkey(tmp_path / "val key") as valkey:
        redis.Redis.from_url(valkey.url).set("exec_mode", "x")
        valkey.stop()
        valkey.start()
        assert redis.Redis.from_url(valkey.url).get("exec_mode") == b"x"
        assert redis.Redis.from_url(valkey.url).config_get("appendonly") == {"appendonly": "yes"}
        pid = valkey.pid
    until(lambda: not psutil.pid_exists(pid))


def test_the_chain_keeps_receipts_logs_and_hashes_over_a_crash(tmp_path):
    with Anvil(tmp_path / "chain", tools=TOOLS, block_time_s=0.3) as node:
        # Creation code that emits one event without topics: LOG0.
        sent = rpc(node, "eth_sendTransaction", {"from": ACCOUNT, "data": "0x60006000a000"})
        until(lambda: rpc(node, "eth_getTransactionReceipt", sent) is not None)
        receipt = rpc(node, "eth_getTransactionReceipt", sent)
        block = rpc(node, "eth_getBlockByNumber", receipt["blockNumber"], False)
        until(lambda: node.state.exists() and sent in node.state.read_text())
        until(lambda: is_whole(node.state.read_bytes()))
        node.kill()
        node.start()
        assert rpc(node, "eth_getTransactionReceipt", sent) == receipt
        assert rpc(node, "eth_getBlockByNumber", receipt["blockNumber"], False) == block
        logs = rpc(node, "eth_getLogs", {"fromBlock": "0x0", "toBlock": "latest"})
        assert [log["transactionHash"] for log in logs] == [sent]
        assert int(rpc(node, "eth_chainId"), 16) == 31337


def test_the_genesis_stays_the_same_over_many_restarts(tmp_path):
    with Anvil(tmp_path / "chain", tools=TOOLS, block_time_s=None) as node:
        genesis = rpc(node, "eth_getBlockByNumber", "0x0", False)
        rpc(node, "anvil_mine", "0x2")
        first = rpc(node, "eth_getBlockByNumber", "0x1", False)
        for _ in range(4):
            node.stop()
            next_second()  # Else the genesis that the node makes anew equals the old one.
            node.start()
            assert rpc(node, "eth_getBlockByNumber", "0x0", False) == genesis
            assert rpc(node, "eth_getBlockByNumber", "earliest", False)["hash"] == first["parentHash"]


def test_old_states_are_kept_in_its_folder_and_leave_it_with_the_next_start(tmp_path):
    with Anvil(tmp_path / "chain", tools=TOOLS, block_time_s=None) as node:
        rpc(node, "anvil_mine", hex(510))
        assert list(node.old_states.rglob("*.json"))
        assert rpc(node, "eth_getBalance", ACCOUNT, "0x1") == rpc(node, "eth_getBalance", ACCOUNT, "latest")
        node.kill()
        node.start()
        assert not list(node.old_states.rglob("*.json"))


def test_a_chain_that_need_not_last_writes_nothing_and_is_gone_with_its_process(tmp_path):
    with Anvil(tmp_path / "chain", tools=TOOLS, block_time_s=None, durable=False) as node:
        rpc(node, "anvil_mine", "0x5")
        assert rpc(node, "eth_getBalance", ACCOUNT, "0x1") == rpc(node, "eth_getBalance", ACCOUNT, "latest")
        node.stop()
        assert list(node.folder.iterdir()) == []
        node.start()
        assert rpc(node, "eth_blockNumber") == "0x0"


def test_finality_follows_two_blocks_behind_the_head(tmp_path):
    with Anvil(tmp_path / "chain", tools=TOOLS, block_time_s=None) as node:
        rpc(node, "anvil_mine", "0x8")
        assert int(rpc(node, "eth_getBlockByNumber", "latest", False)["number"], 16) == 8
        assert int(rpc(node, "eth_getBlockByNumber", "finalized", False)["number"], 16) == 6


def test_a_torn_state_falls_back_to_the_good_copy_and_says_so(tmp_path, capsys):
    with Anvil(tmp_path / "chain", tools=TOOLS, block_time_s=None) as node:
        rpc(node, "anvil_mine", "0x5")
        node.stop()  # Writes the state, and with it the copy.
        whole = node.state.read_bytes()
        node.state.write_bytes(whole[: len(whole) // 2])
        node.start()
        assert int(rpc(node, "eth_blockNumber"), 16) == 5
    assert "TORN" in capsys.readouterr().out
    assert list(tmp_path.glob("chain/state.torn.*"))


def test_a_state_whose_accounts_are_ahead_of_its_blocks_is_torn(tmp_path):
    """As the node writes it where it mines between the two: executed, and in no block."""
    with Anvil(tmp_path / "chain", tools=TOOLS, block_time_s=None) as node:
        for _ in range(2):
            rpc(node, "eth_sendTransaction", {"from": ACCOUNT, "data": "0x60006000a000"})
        until(lambda: rpc(node, "eth_blockNumber") == "0x2")  # Else the stop itself may come between the two.
        node.stop()
        whole = json.loads(node.state.read_bytes())
        assert is_whole(json.dumps(whole).encode())
        newest = max(whole["transactions"], key=lambda told: told["info"]["nonce"])
        ahead = whole | {"transactions": [told for told in whole["transactions"] if told is not newest]}
        assert not is_whole(json.dumps(ahead).encode())
        node.state.write_text(json.dumps(ahead))
        node.start()
        assert rpc(node, "eth_getTransactionReceipt", newest["info"]["transaction_hash"]) is not None
        assert int(rpc(node, "eth_getTransactionCount", ACCOUNT, "latest"), 16) == 2


def test_a_torn_state_never_becomes_the_good_copy(tmp_path):
    node = Anvil(tmp_path / "chain", tools=TOOLS)
    node.folder.mkdir()
    node.state.write_text('{"block": {')
    assert not node.keep_copy()
    assert not node.copy.exists()


def test_a_part_that_cannot_start_says_why(tmp_path):
    with Valkey(tmp_path / "first") as first:
        second = Valkey(tmp_path / "second", port=first.port)
        with pytest.raises(PartError, match=f"{first.port} is in use"):
            second.start(timeout_s=5)


OWNER = """
import sys, time
from pathlib import Path
from ops.rehearsal.parts import Anvil, Postgres, Valkey
folder, tools = Path(sys.argv[1]), Path(sys.argv[2])
parts = [Postgres(folder / "postgres"), Valkey(folder / "valkey"), Anvil(folder / "chain", tools=tools)]
print(*[part.start().pid for part in parts], flush=True)
time.sleep(600)
"""


def test_servers_end_in_an_orderly_way_when_their_owner_is_killed(tmp_path):
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(tmp_path), str(TOOLS)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert owner.stdout is not None
    pids = [int(word) for word in owner.stdout.readline().split()]
    assert len(pids) == 3
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    try:
        until(lambda: not any(psutil.pid_exists(pid) for pid in pids))
        assert "database system is shut down" in (tmp_path / "postgres.log").read_text()
        assert is_whole((tmp_path / "chain" / "state.json").read_bytes())
    finally:
        Postgres(tmp_path / "postgres").destroy()


def test_an_orphan_of_the_same_folder_is_ended_before_the_next_start(tmp_path):
    first = Valkey(tmp_path / "valkey")
    second: Part = Valkey(tmp_path / "valkey")
    try:
        first.start()
        orphan = first.pid
        second.start()
        assert first.pid is None
        assert second.pid not in {None, orphan}
    finally:
        first.stop()
        second.stop()


def test_the_next_free_port_is_named(tmp_path):
    with Valkey(tmp_path / "valkey") as valkey:
        assert not port.is_free(valkey.port)
        assert port.next_free(valkey.port) > valkey.port
    assert port.is_free(valkey.port)

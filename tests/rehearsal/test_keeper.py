"""The keeper executes what the chain says is pending, through kills, restarts and bursts."""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path

import pytest

from execution_app.venues import events, onchain
from ops.rehearsal.deployment import VenueMismatchError
from ops.rehearsal.keeper import Keeper
from ops.rehearsal.parts import Anvil
from ops.rehearsal.rpc import Node
from tests.rehearsal.desk import until

ROOT = Path(__file__).parents[2]


@contextmanager
def keeper_process(desk, folder, *options):
    record = folder / "chain.json"
    record.write_text(desk.deployment.to_json())
    command = [sys.executable, "-m", "ops.rehearsal.keeper", "--rpc", desk.url, "--deployment", str(record)]
    log = folder / "keeper.log"
    with log.open("ab") as output:
        process = subprocess.Popen([*command, *options], cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)
    try:
        until(lambda: b"event=watching" in log.read_bytes())
        yield process, log
    finally:
        process.kill()
        process.wait()


def test_the_process_executes_opens_and_closes_and_stops_on_sigterm(desk, tmp_path):
    with keeper_process(desk, tmp_path) as (process, log):
        order = desk.open().order_id
        until(lambda: desk.trade(0) is not None)
        desk.close(0, Decimal(5))
        until(lambda: desk.trade(0) is None)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0
    assert f"event=executed orders={order} tx=0x" in log.read_text()
    assert "event=stopped" in log.read_text()


def test_what_was_registered_while_it_was_dead_is_executed(desk, tmp_path):
    with keeper_process(desk, tmp_path) as (process, _):
        desk.open()
        until(lambda: desk.trade(0) is not None)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    desk.open()
    desk.open()
    with keeper_process(desk, tmp_path):
        until(lambda: desk.trade(2) is not None)


def test_a_burst_is_executed_once_each(desk):
    desk.set_terms(max_trades_per_pair=200, max_pending_orders=200)
    data = desk.delegated(onchain.encode_open(desk.order()))
    receipts = desk.node.receipts(desk.delegate.send([desk.message(data)] * 100))
    orders = {desk.events_of(receipt)[0].order_id for receipt in receipts}
    first = int(receipts[0]["blockNumber"], 16)
    keeper = Keeper(Node(desk.url), desk.deployment)
    keeper.step()
    assert keeper.pending() == []
    logs = desk.node.request(
        "eth_getLogs", {"fromBlock": hex(first), "toBlock": "latest", "address": desk.deployment.trading}
    )
    executed = [
        event.order_id for log in logs if isinstance(event := events.decode(log), events.OrderExecuted)
    ]
    assert len(executed) == 100
    assert set(executed) == orders


def test_a_delayed_keeper_waits(desk):
    keeper = Keeper(Node(desk.url), desk.deployment, delay_s=0.3)
    order = desk.open().order_id
    keeper.step()
    assert desk.is_pending(order)
    time.sleep(0.3)
    keeper.step()
    assert not desk.is_pending(order)


def test_a_keeper_that_never_executes(desk):
    keeper = Keeper(Node(desk.url), desk.deployment, never=True)
    order = desk.open().order_id
    for _ in range(3):
        keeper.step()
    assert desk.is_pending(order)


def test_orders_that_a_reorg_brings_back_are_executed_again(desk):
    keeper = Keeper(Node(desk.url), desk.deployment)
    desk.open()
    before = desk.node.request("evm_snapshot")
    keeper.step()
    assert desk.trade(0) is not None
    desk.node.request("evm_revert", before)
    assert desk.trade(0) is None
    desk.node.request("anvil_mine", "0x3")
    keeper.step()
    assert desk.trade(0) is not None


def test_an_order_that_reverts_does_not_hold_up_the_others(desk):
    desk.fill()
    keeper = Keeper(Node(desk.url), desk.deployment)
    unpayable = desk.close(0, Decimal(5)).order_id
    good = desk.open().order_id
    desk.drain_pool()
    keeper.step()  # the batch reverts as a whole
    keeper.step()  # then each by itself
    assert not desk.is_pending(good)
    assert desk.is_pending(unpayable)


def test_another_chain_is_waited_out_not_traded_on(desk):
    foreign = Keeper(
        Node(desk.url), desk.deployment.__class__(**vars(desk.deployment) | {"genesis_hash": "0x00"})
    )
    with pytest.raises(VenueMismatchError):
        foreign._verify()
    thread = threading.Thread(target=foreign.run)
    thread.start()
    order = desk.open().order_id
    time.sleep(0.5)
    assert thread.is_alive()
    assert desk.is_pending(order)
    foreign.stopping.set()
    thread.join(timeout=60)
    assert not thread.is_alive()


def test_an_absent_node_is_waited_out(desk, tmp_path, caplog):
    caplog.set_level("INFO", logger="keeper")
    node = Anvil(tmp_path / "absent", tools=ROOT / "var" / "tools")
    keeper = Keeper(Node(node.url), desk.deployment)
    thread = threading.Thread(target=keeper.run)
    thread.start()
    until(lambda: caplog.text.count("event=node_trouble") >= 2)
    assert thread.is_alive()
    keeper.stopping.set()
    thread.join(timeout=60)
    assert not thread.is_alive()

"""The rehearsal venue on a node of its own, taken back after each test."""

from pathlib import Path

import pytest
from eth_account import Account

from ops.rehearsal import venue
from ops.rehearsal.parts import Anvil
from ops.rehearsal.rpc import Node, Sender
from tests.rehearsal.desk import Desk

TOOLS = Path(__file__).parents[2] / "var" / "tools"


@pytest.fixture(scope="session")
def anvil(tmp_path_factory):
    """A node that mines each transaction at once."""
    with Anvil(tmp_path_factory.mktemp("chain") / "anvil", tools=TOOLS, block_time_s=None) as node:
        yield node


@pytest.fixture(scope="session")
def untouched_desk(anvil):
    node = Node(anvil.url)
    deployment = venue.deploy(anvil.url, max_trades_per_pair=3, max_pending_orders=5)
    trader, delegate = (Sender(node, Account.create().key) for _ in range(2))
    for account in (trader, delegate):
        venue.fund(anvil.url, deployment, account.address, 10**19, 0)
    venue.fund(anvil.url, deployment, trader.address, 10**19, 10_000 * 10**6)
    venue.delegate(anvil.url, deployment, trader._account.key, delegate.address, 4 * 10**9, 9_000 * 10**6)
    return Desk(node, deployment, trader, delegate, Sender(node, venue.OPERATOR_KEY))


@pytest.fixture
def desk(untouched_desk):
    snapshot = untouched_desk.node.request("evm_snapshot")
    yield untouched_desk
    assert untouched_desk.node.request("evm_revert", snapshot)

"""The venue is deployed once for a chain, found again, and never mistaken for another's."""

from dataclasses import replace
from decimal import Decimal

import pytest
from eth_account import Account

from execution_app.venues import onchain
from ops.rehearsal import venue
from ops.rehearsal.contracts import artefact
from ops.rehearsal.deployment import Deployment, VenueMismatchError
from ops.rehearsal.rpc import Node


def test_a_second_ensure_finds_the_first(desk, tmp_path):
    record = tmp_path / "var" / "chain.json"
    deployment = venue.ensure(desk.url, record)
    block = desk.node.number("eth_blockNumber")
    assert venue.ensure(desk.url, record) == deployment
    assert desk.node.number("eth_blockNumber") == block
    assert Deployment.from_json(record.read_text()) == deployment
    code = desk.node.request("eth_getCode", deployment.trading, "latest")
    assert len(code) > 1000


def test_a_second_ensure_applies_other_terms(desk, tmp_path):
    record = tmp_path / "chain.json"
    venue.ensure(desk.url, record)
    deployment = venue.ensure(desk.url, record, max_trades_per_pair=1_000, min_notional_usdc=Decimal(100))
    data = desk.node.call(deployment.trading, artefact("Trading").call("limits"))
    limits = [int.from_bytes(data[at : at + 32]) for at in range(0, 128, 32)]
    assert limits == [100_000_000, 1_000, 1_000, 750_000_000_000]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"genesis_hash": "0x" + "00" * 32}, "recorded genesis"),
        ({"trading": "0x" + "11" * 20}, "not on it"),
        ({"bytecode_hash": "0x00"}, "another version"),
    ],
)
def test_a_record_of_another_chain_stops(desk, tmp_path, change, told):
    record = tmp_path / "chain.json"
    text = replace(desk.deployment, **change).to_json()
    record.write_text(text)
    with pytest.raises(VenueMismatchError, match=told):
        venue.ensure(desk.url, record)
    assert record.read_text() == text


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"chain_id":'])
def test_a_damaged_record_stops(desk, tmp_path, text):
    record = tmp_path / "chain.json"
    record.write_text(text)
    with pytest.raises(VenueMismatchError, match="damaged"):
        venue.ensure(desk.url, record)


def test_every_other_chain_is_refused(desk, monkeypatch, tmp_path):
    # The one window: what the node answers for its chain id.
    answered = Node.request
    monkeypatch.setattr(
        Node,
        "request",
        lambda self, method, *p: "0x2105" if method == "eth_chainId" else answered(self, method, *p),
    )
    key = Account.create().key
    address = desk.trader.address
    for act in (
        lambda: venue.deploy(desk.url),
        lambda: venue.ensure(desk.url, tmp_path / "chain.json"),
        lambda: venue.fund(desk.url, desk.deployment, address, 1, 1),
        lambda: venue.delegate(desk.url, desk.deployment, key, address, 4 * 10**9, 1),
        lambda: venue.set_price(desk.url, desk.deployment, "BTC-USD", Decimal(1)),
    ):
        with pytest.raises(ValueError, match="8453"):
            act()
    assert not (tmp_path / "chain.json").exists()


def test_the_faucet_fills_up_to_an_amount(desk):
    address = Account.create().address
    for _ in range(2):
        venue.fund(desk.url, desk.deployment, address, 10**18, 7_000_000)
    assert desk.node.number("eth_getBalance", address, "latest") == 10**18
    assert desk.usdc(address) == 7_000_000


def test_delegation_is_finite_and_repeatable(desk):
    trader = Account.create()
    venue.fund(desk.url, desk.deployment, trader.address, 10**18, 0)
    named = (desk.delegate.address, 4 * 10**9)
    for _ in range(2):
        venue.delegate(desk.url, desk.deployment, trader.key, *named, 50_000_000)
    assert desk.node.number("eth_getTransactionCount", trader.address, "latest") == 2
    call = onchain.call_allowance(trader.address, desk.deployment.storage)
    assert onchain.read_uint(desk.node.call(desk.deployment.usdc, call)) == 50_000_000
    call = onchain.call_delegate(trader.address)
    assert onchain.read_delegate(desk.node.call(desk.deployment.trading, call)) == named
    for allowance in (0, 2**256 - 1):
        with pytest.raises(ValueError, match="finite"):
            venue.delegate(desk.url, desk.deployment, trader.key, *named, allowance)

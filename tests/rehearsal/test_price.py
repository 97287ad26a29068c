"""`make price`: tells and moves the rehearsal chain's prices, and names what it does not take."""

from decimal import Decimal

import pytest

from execution_app.venues import onchain
from ops.rehearsal import stack_price
from ops.rehearsal.parts.part import PartError
from ops.rehearsal.stack_chain import UsageError


@pytest.fixture
def folder(desk, tmp_path, monkeypatch):
    (tmp_path / "chain.json").write_text(desk.deployment.to_json())
    monkeypatch.setenv("BASE_RPC_URL", desk.url)
    return tmp_path


def test_a_price_is_moved_and_all_are_told(desk, folder, capsys):
    assert stack_price.run(folder, "BTC-USD", "95000.5") == 0
    told = dict(line.split()[:2] for line in capsys.readouterr().out.splitlines())
    assert told["BTC-USD"] == "95,000.5"
    assert set(told) >= {"ETH-USD", "SOL-USD"}
    raw = desk.node.call(desk.deployment.price_aggregator, onchain.call_price(onchain.PAIRS["BTC-USD"]))
    assert onchain.read_price(raw)[0] == Decimal("95000.5")
    assert stack_price.run(folder, None, None) == 0


@pytest.mark.parametrize(
    ("symbol", "usd", "words"),
    [
        ("XYZ-USD", "1", "symbol: 'XYZ-USD' is none of"),
        ("BTC-USD", None, "usd: None is no price"),
        ("BTC-USD", "dear", "usd: 'dear' is no price"),
        ("BTC-USD", "NaN", "usd: above 0"),
        ("BTC-USD", "0", "usd: above 0"),
        ("BTC-USD", "1000000000000", "usd: above 0"),
        ("BTC-USD", "1.00000000001", "10 decimals at most"),
    ],
)
def test_what_it_does_not_take(folder, symbol, usd, words):
    with pytest.raises(UsageError, match=words):
        stack_price.run(folder, symbol, usd)


def test_before_any_chain_and_without_its_node(desk, folder, tmp_path, monkeypatch):
    monkeypatch.setenv("BASE_RPC_URL", "http://127.0.0.1:9")
    with pytest.raises(PartError, match="does not take it"):
        stack_price.run(folder, "BTC-USD", "1")
    (tmp_path / "chain.json").unlink()
    with pytest.raises(UsageError, match="make run"):
        stack_price.run(folder, None, None)

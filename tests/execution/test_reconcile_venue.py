"""Whether the venue's contracts are there, and its pairs are what we call them: asked once for each chain."""

import pytest
from eth_abi.abi import encode as abi_encode
from pytest_django.fixtures import Settings

from execution_app.engine import reconcile
from execution_app.errors import Disagreement
from execution_app.models import Chain
from execution_app.node import rpc
from execution_app.venues import onchain
from tests.execution import rows

pytestmark = pytest.mark.usefixtures("database")
VENUE, AGGREGATOR = "0x" + "ab" * 20, "0x" + "cd" * 20


class Venue:
    """Its code, and its pairs by their numbers."""

    def __init__(self) -> None:
        self.code: str | None = "0x60"
        self.pairs = {index: symbol for symbol, index in onchain.PAIRS.items()}
        self.left_out = 0
        self.asked: list[tuple[str, str, str]] = []
        self.views: list[tuple[str, bytes]] = []

    def read(self, method: str, address: str, tag: str) -> str | None:
        self.asked.append((method, address, tag))
        return self.code

    def read_views(self, views: list[tuple[str, bytes]]) -> list[bytes]:
        self.views += views
        numbers = [int.from_bytes(data[4:], "big") for _, data in views]
        names = [self.pairs[number].split("-") for number in numbers]
        return [abi_encode(("(string,string)",), [name]) for name in names][: len(names) - self.left_out]


@pytest.fixture
def venue(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Venue:
    shown = Venue()
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(
        update={
            "venue_trading_address": VENUE,
            "venue_price_aggregator_address": AGGREGATOR,
            "allowed_symbols": "ETH-USD,BTC-USD,NOT-THERE",
        }
    )
    monkeypatch.setattr(rpc, "read", shown.read)
    monkeypatch.setattr(rpc, "read_views", shown.read_views)
    Chain.objects.create(pk=31337, genesis_hash="0x" + "a" * 64, trading_address=VENUE)
    return shown


def look() -> None:
    """At a chain that this process has not seen yet."""
    reconcile._check_venue(rows.tx_hash())


def halted() -> str:
    return str(Chain.objects.get().halted_reason)


def test_the_pairs_that_are_traded_are_asked_by_their_numbers(venue: Venue) -> None:
    look()
    assert venue.asked == [("eth_getCode", VENUE, "latest")]
    assert venue.views == [
        (AGGREGATOR, onchain.call_pair_name(onchain.PAIRS[symbol])) for symbol in ("BTC-USD", "ETH-USD")
    ]
    assert halted() == ""


@pytest.mark.parametrize("code", ["0x", None])
def test_an_address_without_a_contract_halts(venue: Venue, code: str | None) -> None:
    venue.code = code
    with pytest.raises(Disagreement, match=f"^there is no contract at VENUE_TRADING_ADDRESS {VENUE}$"):
        look()
    assert VENUE in halted()
    assert venue.views == []


@pytest.mark.parametrize("symbol", ["BTC-USD", "ETH-USD"])
def test_a_pair_of_another_name_halts(venue: Venue, symbol: str) -> None:
    number = onchain.PAIRS[symbol]
    venue.pairs[number] = "DOGE-USD"
    with pytest.raises(Disagreement, match=f"^the venue's pair {number} is DOGE-USD, not {symbol}$"):
        look()
    assert "DOGE-USD" in halted()


def test_a_pair_that_is_not_named_is_not_passed_over(venue: Venue) -> None:
    venue.left_out = 1
    with pytest.raises(ValueError, match="zip"):
        reconcile._check_venue(rows.tx_hash())


def test_a_chain_is_looked_at_once_and_again_where_it_halted(venue: Venue) -> None:
    first, other = rows.tx_hash(), rows.tx_hash()
    venue.code = "0x"
    with pytest.raises(Disagreement):
        reconcile._check_venue(first)
    venue.code = "0x60"
    for chain in (first, first, other, first):
        reconcile._check_venue(chain)
    assert len(venue.asked) == 3

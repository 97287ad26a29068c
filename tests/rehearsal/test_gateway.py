"""The local gateway serves the venue's unmodified SDK, and can fail as the real one may."""

import json
import threading
import time
import urllib.error
import urllib.request
from decimal import Decimal
from typing import Any

import pytest
from veranta_sdk.errors import ApiError, RelayError, RelayTimeoutError

from execution_app.venues import feed, messages
from execution_app.venues.messages import OpenMessage
from execution_app.venues.onchain import PAIR_NAMES
from execution_app.venues.typed_data import Domain
from ops.rehearsal import venue
from ops.rehearsal.contracts import artefact
from ops.rehearsal.gateway.server import Gateway
from ops.rehearsal.keeper import Keeper
from ops.rehearsal.parts import port
from ops.rehearsal.rpc import Node
from tests.rehearsal.desk import BTC, until
from tests.rehearsal.sdk_client import client
from tests.rehearsal.test_keeper import keeper_process


@pytest.fixture
def gateway(desk):
    with Gateway(desk.url, desk.deployment) as served:
        yield served


@pytest.fixture
def driven(desk, gateway):
    """The gateway with its operator and the keeper at work, in one thread as in the stack."""
    keeper, stopping = Keeper(Node(desk.url), desk.deployment), threading.Event()

    def work():
        while not stopping.wait(0.01):
            gateway.operator.step()
            keeper.step()

    thread = threading.Thread(target=work)
    thread.start()
    yield gateway
    stopping.set()
    thread.join(timeout=20)
    assert not thread.is_alive()


@pytest.fixture
def sdk(desk, gateway):
    with client(gateway.url, desk.trader.address, key_of(desk)) as found:
        yield found


def key_of(desk):
    return "0x" + bytes(desk.delegate._account.key).hex()


def body_of(desk, nonce=7, **changes):
    block = desk.node.request("eth_getBlockByNumber", "latest", False)
    message = OpenMessage(desk.order(**changes), (int(block["timestamp"], 16) + 100) * 1000, nonce)
    digest = messages.digest(Domain(31337, desk.deployment.trading), message)
    signature = bytes(desk.delegate._account.unsafe_sign_hash(digest).signature)
    signed = {
        "userIntent": "0x" + messages.encode(message).hex(),
        "userSignature": "0x" + signature.hex(),
    }
    return {"orderType": 0, "erc712": signed}


def post(gateway, body, path="/batched-market/market/execute-batched", method="POST"):
    """Status and whole answer; a stream that breaks off is as much as came."""
    request = urllib.request.Request(
        gateway.url + path, json.dumps(body).encode(), {"Content-Type": "application/json"}, method=method
    )
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refusal:
        return refusal.code, refusal.read().decode()


def test_the_sdk_trades_and_sees_what_the_chain_has(desk, driven, sdk):
    seen: list[Any] = []
    opened = sdk.trade.market_open(
        "BTC/USD", "long", 5, 2, take_profit="150000", stop_loss="90000", on_event=seen.append
    )
    assert [event.type for event in seen] == [
        "MarketOrderAccepted",
        "MarketOrderInitiated",
        "MarketOrderExecuted",
    ]
    trade = desk.trade(0)
    assert opened.raw["price"] == str(int(trade.open_price * 10**10))
    (position,) = sdk.account.positions().positions
    assert (position.pair_index, position.index, position.side) == (BTC, 0, "long")
    assert (position.collateral, position.leverage, position.open_price) == (5, 2, trade.open_price)
    assert (position.tp, position.sl) == (150_000, 90_000)
    sdk.trade.update_tp_sl("BTC/USD", 0, take_profit="120000")
    assert desk.trade(0).take_profit == 120_000
    desk.node.request("evm_increaseTime", 5)
    sdk.trade.market_close("BTC/USD", 0, "2")
    sdk.trade.market_close("BTC/USD", 0, "3")
    assert sdk.account.positions().positions == []
    fills = sdk.info.trade_history(desk.trader.address)
    assert [(fill["open"], fill["t"]["initialPosToken"]) for fill in fills] == [
        (False, "3000000"),
        (False, "2000000"),
        (True, "5000000"),
    ]


def test_the_sdk_sees_markets_prices_and_the_delegation(desk, gateway, sdk):
    venue.set_price(desk.url, desk.deployment, "ETH-USD", Decimal("3456.5"))
    pairs = sdk.markets.pairs()
    assert {info.symbol for info in pairs.values()} == {
        symbol.replace("-", "/") for symbol in venue.SEED_PRICES
    }
    assert pairs[BTC].leverages.max_leverage == 75
    assert sdk.markets.price("ETH/USD") == 3456.5
    assert sdk.account.delegation_status()["canSignIntents"]
    assert sdk.account.usdc_balance() == Decimal(10_000)
    assert sdk.account.delegation_status(desk.trader.address)["canSignIntents"] is False


def test_what_the_venue_cancels_and_refuses_is_told(desk, driven, sdk):
    with pytest.raises(RelayError, match="WRONG_TP"):
        sdk.trade.market_open("BTC/USD", "long", 5, 2, take_profit="90000")
    with pytest.raises(RelayError, match="canceled by the protocol"):
        sdk.trade.market_open("BTC/USD", "long", 5, 2, open_price="99000", slippage_percent="0.5")
    assert desk.trade(0) is None


def test_a_stream_that_breaks_off_is_replayed(desk, driven, sdk):
    driven.faults.drop_next = 1
    assert sdk.trade.market_open("BTC/USD", "long", 5, 2).order_id == 1
    driven.faults.drop_next, driven.faults.drop_after = 1, ""
    with pytest.raises(ApiError, match="ended before MarketOrderAccepted"):
        sdk.trade.market_open("BTC/USD", "long", 5, 2)
    until(lambda: desk.trade(1) is not None)  # the SDK does not know, and it was done


def test_a_delay_and_a_silence_are_no_outcome(desk, driven, sdk):
    driven.faults.delay_s = 0.3
    assert sdk.trade.market_open("BTC/USD", "long", 5, 2).order_id == 1
    driven.faults.never = True
    accepted = sdk.trade.market_open("BTC/USD", "long", 5, 2, wait=False)
    with pytest.raises(RelayTimeoutError):
        sdk._run(sdk._async.engine.batched_market.wait(accepted.tracking_id, timeout_s=0.3))
    assert desk.trade(1) is None


def test_the_keepers_process_serves_it(desk, tmp_path):
    at = port.any_free()
    with (
        keeper_process(desk, tmp_path, "--gateway-port", str(at)),
        client(f"http://127.0.0.1:{at}", desk.trader.address, key_of(desk)) as sdk,
    ):
        sdk.trade.market_open("BTC/USD", "short", 5, 2)
        assert not desk.trade(0).is_long
        sdk.trade.market_close("BTC/USD", 0, "5")
        assert desk.trade(0) is None


@pytest.mark.parametrize("status", [429, 502])
def test_it_refuses_when_told_to(desk, gateway, status):
    assert post(gateway, {"refuse_next": 1, "refuse_status": status}, "/rehearsal/faults", "PUT")[0] == 200
    assert post(gateway, body_of(desk))[0] == status
    assert gateway.ledger.all() == []


def test_what_it_swallows_it_has_accepted_and_the_same_bytes_are_the_same_request(desk, gateway):
    gateway.faults.swallow_next = 1
    body = body_of(desk)
    assert post(gateway, body)[0] == 502
    gateway.faults.drop_next = 2
    for _ in range(2):
        status, told = post(gateway, body)
        assert status == 200
        assert told.count("MarketOrderAccepted") == 1
    assert len(gateway.ledger.all()) == 1
    gateway.faults.drop_next, gateway.faults.again = 1, True
    post(gateway, body)
    assert len(gateway.ledger.all()) == 2


def test_bytes_taken_twice_are_executed_once(desk, driven):
    driven.faults.again = True
    body = body_of(desk)
    first, second = (post(driven, body)[1] for _ in range(2))
    assert "MarketOrderExecuted" in first
    assert "InvalidNonce" in second
    assert desk.trade(1) is None


def test_events_can_be_told_twice_or_not_at_all(desk, driven):
    driven.faults.double = True
    told = post(driven, body_of(desk))[1]
    assert told.count("event: MarketOrderAccepted") == 2
    (request,) = driven.ledger.all()
    assert len(driven.status(request.tracking_id, -1)["events"]) == 6
    assert len(driven.status(request.tracking_id, 1)["events"]) == 2
    driven.faults.mute = True
    assert driven.status(request.tracking_id, -1)["events"] == []
    driven.ledger.forget()
    with pytest.raises(LookupError):
        driven.status(request.tracking_id, -1)


def test_the_sdk_sees_which_markets_are_open(desk, gateway, sdk):
    """Hours are for markets that have some; close-only is for all."""
    later_s = int(time.time()) + 3600
    venue.set_market(desk.url, desk.deployment, "EUR-USD", closed=True, next_open_s=later_s)
    venue.set_market(desk.url, desk.deployment, "BTC-USD", close_only=True)
    snapshot = sdk.markets.snapshot()
    euro, bitcoin, gold = (snapshot.pair_by_symbol(name) for name in ("EUR/USD", "BTC/USD", "XAU/USD"))
    assert (euro.is_market_open, euro.feed.attributes.next_open) == (False, later_s)
    assert (bitcoin.is_market_open, bitcoin.additional_params.close_only_mode) == (True, True)
    assert (gold.is_market_open, gold.additional_params.close_only_mode) == (True, False)
    ours = feed.read_catalogue(json.dumps(gateway.books.catalogue()).encode())
    assert (ours[11].is_open, ours[11].next_open_s, ours[1].closes_only) == (False, later_s, True)
    assert {index: listing.name for index, listing in ours.items()} == PAIR_NAMES


def test_the_age_of_a_price_by_the_chains_clock_is_told_by_the_worlds(desk, gateway):
    head_s = int(desk.node.request("eth_getBlockByNumber", "latest", False)["timestamp"], 16)
    desk.node.request("evm_setNextBlockTimestamp", head_s + 7200)
    venue.set_price(desk.url, desk.deployment, "BTC-USD", Decimal(61_000), head_s + 7190)
    before_ms = 1000 * time.time()
    told = feed.read_update(json.dumps(gateway.books.price_update(BTC)).encode())
    after_ms = 1000 * time.time()
    assert {leg.price for leg in told.values()} == {61_000}
    assert all(before_ms - 30_000 < leg.published_ms < after_ms - 9_000 for leg in told.values())
    gateway.faults.set({"core_off_pct": 1.0, "core_late_s": 60.0, "pro_gone": True})
    (bent,) = feed.read_update(
        json.dumps(gateway.faults.bent(gateway.books.price_update(BTC))).encode()
    ).values()
    assert (bent.price, bent.published_ms < 1000 * time.time() - 60_000) == (Decimal(61_610), True)


def test_a_lie_is_told_of_nothing(desk, driven):
    driven.faults.lie = True
    assert "MarketOrderExecuted" in post(driven, body_of(desk))[1]
    assert desk.trade(0) is None


def test_a_delegate_revoked_in_flight_is_refused(desk, gateway):
    gateway.faults.drop_next = 1
    post(gateway, body_of(desk))
    desk.transact(desk.trader, artefact("Trading").call("removeDelegate", desk.delegate.address), 0)
    (request,) = gateway.ledger.all()

    def is_refused():
        gateway.operator.step()  # only now is it carried out
        return request.events[-1].type == "Error"

    until(is_refused)
    assert request.events[-1].payload["code"] == "DELEGATE_NOT_APPROVED"


def test_an_order_whose_block_leaves_the_chain_is_submitted_again(desk, gateway):
    gateway.faults.drop_next = 1
    before = desk.node.request("evm_snapshot")
    post(gateway, body_of(desk))
    (request,) = gateway.ledger.all()
    gateway.step()
    assert request.events[-1].type == "MarketOrderInitiated"
    desk.node.request("evm_revert", before)
    for _ in range(2):
        gateway.step()
    assert [event.type for event in request.events[-2:]] == ["AttemptFailed", "MarketOrderInitiated"]
    Keeper(Node(desk.url), desk.deployment).step()
    gateway.operator.step()
    assert request.events[-1].type == "MarketOrderExecuted"
    assert desk.trade(0) is not None


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"orderType": 4, "erc712": {}},
        {"orderType": 9, "erc712": {"userIntent": "0x00", "userSignature": "0x" + "00" * 65}},
        {"orderType": 0, "erc712": {"userIntent": "0x00", "userSignature": "0x" + "00" * 65}},
        {"orderType": 0, "erc712": {"userIntent": "zz", "userSignature": "0x" + "00" * 65}},
        {"orderType": 0, "erc712": []},
    ],
)
def test_what_is_no_order_is_refused(gateway, body):
    status, told = post(gateway, body)
    assert (status, "message" in told) == (400, True)
    assert gateway.ledger.all() == []


@pytest.mark.parametrize("values", [{"never": 1}, {"nothing": True}, {"drop_next": "1"}])
def test_an_unknown_fault_is_refused_and_sets_nothing(gateway, values):
    before = gateway.faults.shown()
    assert post(gateway, {"delay_s": 1.5, **values}, "/rehearsal/faults", "PUT")[0] == 400
    assert gateway.faults.shown() == before

"""Which answers of a node are receipts of ours, and what their logs say was done."""

from decimal import Decimal
from typing import Any

import pytest
from eth_abi.abi import encode

from execution_app import meters
from execution_app.engine import mined
from execution_app.engine.mined import Done
from execution_app.models import TxIntent, TxSend
from execution_app.states import IntentState
from execution_app.venues import onchain
from execution_app.venues.calls import UPDATE_LIMIT, UPDATE_LIMIT_ARGUMENTS
from execution_app.venues.margin_events import MarginUpdated
from tests.execution import rows, scenes

S = IntentState
HASH = "0x" + "ab" * 32


def violations(invariant: str) -> float:
    return float(meters.INVARIANT_VIOLATIONS.labels(invariant)._value.get())


# Shown


def shows(**changes: Any) -> tuple[bool, float]:
    """What is said of it, and how often it was counted as none."""
    before, send = violations("one_order_per_receipt"), TxSend(tx_hash=HASH)
    said = mined.shows(send, scenes.shown(send, **changes))
    return said, violations("one_order_per_receipt") - before


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"status": "0x0"},
        {"transactionHash": HASH.upper().replace("X", "x")},
        {"blockHash": "0x" + "AbCdEf09" * 8},
        {"l1Fee": None},
        {"l1Fee": "0x0"},
        {"blockNumber": "0x0"},
        {"gasUsed": "0x0"},
        {"effectiveGasPrice": "0x0"},
        {"blockNumber": hex(2**63 - 1)},
        {"gasUsed": hex(2**63 - 1)},
        {"effectiveGasPrice": hex(10**36 - 1)},
        {"l1Fee": hex(10**36 - 1)},
    ],
)
def test_a_receipt_of_these_bytes_is_one(changes: dict[str, Any]) -> None:
    assert shows(**changes) == (True, 0)


@pytest.mark.parametrize(
    "changes",
    [
        {"transactionHash": "0x" + "ac" * 32},
        {"transactionHash": None},
        {"transactionHash": 5},
        {"blockHash": "0x" + "b1" * 31 + "b"},
        {"blockHash": "0x" + "b1" * 32 + "b"},
        {"blockHash": "b1" * 33},
        {"blockHash": "0x" + "g1" * 32},
        {"blockHash": None},
        {"status": "0x2"},
        {"status": "-0x1"},
        {"status": None},
        {"status": "ok"},
        {"blockNumber": hex(2**63)},
        {"blockNumber": "-0x1"},
        {"blockNumber": 16},
        {"gasUsed": hex(2**63)},
        {"gasUsed": "-0x1"},
        {"gasUsed": None},
        {"effectiveGasPrice": hex(10**36)},
        {"effectiveGasPrice": "-0x1"},
        {"l1Fee": hex(10**36)},
        {"l1Fee": "-0x1"},
        {"l1Fee": "much"},
        {"logs": None},
        {"logs": {}},
    ],
)
def test_what_cannot_be_kept_is_none_and_is_counted(changes: dict[str, Any]) -> None:
    assert shows(**changes) == (False, 1)


@pytest.mark.parametrize(
    "name", ["transactionHash", "blockHash", "status", "gasUsed", "effectiveGasPrice", "logs"]
)
def test_what_lacks_a_part_is_none_and_is_counted(name: str) -> None:
    send, before = TxSend(tx_hash=HASH), violations("one_order_per_receipt")
    answer = scenes.shown(send)
    del answer[name]
    assert mined.shows(send, answer) is False
    assert violations("one_order_per_receipt") == before + 1


def test_a_chain_below_that_charges_nothing_is_not_named() -> None:
    send = TxSend(tx_hash=HASH)
    answer = scenes.shown(send)
    del answer["l1Fee"]
    assert mined.shows(send, answer) is True


@pytest.mark.parametrize("answer", [None, "0x1", [], {}, {"blockNumber": None}])
def test_where_it_is_not_mined_nobody_is_counted(answer: Any) -> None:
    before = violations("one_order_per_receipt")
    assert mined.shows(TxSend(tx_hash=HASH), answer) is False
    assert violations("one_order_per_receipt") == before


# Registered


def told(*logs: Any) -> dict[str, Any]:
    return {"logs": list(logs)}


@pytest.fixture
def of_venue() -> TxIntent:
    return TxIntent(pk=1, to_address=scenes.TRADING)


def test_one_order_is_what_it_registered(of_venue: TxIntent) -> None:
    before = violations("one_order_per_receipt")
    elsewhere = scenes.registered(6, address="0x" + "99" * 20)
    event = mined.registration(of_venue, told(elsewhere, scenes.taken_back(4), scenes.registered(5)))
    assert event is not None
    assert event.order_id == 5
    assert [event.collateral_usdc, event.leverage_x] == [5, 2]
    assert violations("one_order_per_receipt") == before


@pytest.mark.parametrize("logs", [[], [scenes.registered(5), scenes.registered(6)], [scenes.taken_back(5)]])
def test_none_or_several_orders_register_nothing(of_venue: TxIntent, logs: list[Any]) -> None:
    before = violations("one_order_per_receipt")
    assert mined.registration(of_venue, told(*logs)) is None
    assert violations("one_order_per_receipt") == before + 1


# Margin


def test_one_change_of_margin_is_told(of_venue: TxIntent) -> None:
    before = violations("event_matches_intent")
    event = mined.margin(of_venue, told(scenes.registered(5), scenes.margin_updated(3)))
    assert isinstance(event, MarginUpdated)
    assert (event.change_usdc, violations("event_matches_intent")) == (Decimal(3), before)


@pytest.mark.parametrize(
    "logs",
    [
        [],
        [scenes.margin_updated(3), scenes.margin_updated(4)],
        [scenes.margin_updated(address="0x" + "99" * 20)],
    ],
)
def test_none_or_several_changes_of_margin_are_none(of_venue: TxIntent, logs: list[Any]) -> None:
    before = violations("event_matches_intent")
    assert mined.margin(of_venue, told(*logs)) is None
    assert violations("event_matches_intent") == before + 1


# Changed


@pytest.fixture
def resting(database: None) -> TxIntent:
    """An open whose order 5 rests, beside others before and behind it."""
    rows.order(order_id=4)
    intent = scenes.intent(S.ORDERED)
    rows.order(order_id=5, intent_id=intent.pk, limit_index=0)
    rows.order(order_id=6)
    return intent


def taking_back(order: TxIntent) -> TxIntent:
    return scenes.change(S.SENDING, order)


def updating(order: TxIntent, price: int = 60, take_profit: int = 70, stop_loss: int = 0) -> TxIntent:
    prices = [one * 10**10 for one in (price, 1, take_profit, stop_loss)]
    inner = UPDATE_LIMIT + encode(UPDATE_LIMIT_ARGUMENTS, (1, 0, *prices))
    data = onchain.encode_delegated(scenes.TRADER, inner)
    return scenes.change(S.SENDING, order, "update_order", calldata=data, limit_price=price)


def test_an_order_that_was_meant_is_taken_back(resting: TxIntent) -> None:
    before = violations("event_matches_intent")
    done = mined.change(taking_back(resting), told(scenes.registered(9), scenes.taken_back(5)))
    assert done == Done("order 5 is taken back", meant=True)
    assert violations("event_matches_intent") == before


def test_an_order_that_was_meant_is_changed(resting: TxIntent) -> None:
    before = violations("event_matches_intent")
    done = mined.change(updating(resting), told(scenes.updated(5, 60, 70)))
    assert done == Done("order 5 is changed", meant=True)
    assert violations("event_matches_intent") == before


@pytest.mark.parametrize("terms", [(61, 70, 0), (60, 71, 0), (60, 70, 50), (60, 0, 70)])
def test_other_terms_than_were_asked_were_not_meant(resting: TxIntent, terms: tuple[int, int, int]) -> None:
    before = violations("event_matches_intent")
    done = mined.change(updating(resting), told(scenes.updated(5, *terms)))
    assert done == Done("order 5 is changed, which was not meant", meant=False)
    assert violations("event_matches_intent") == before + 1


@pytest.mark.parametrize("hit", [[4], [6], [6, 5], [5, 6]])
def test_another_order_that_was_hit_was_not_meant(resting: TxIntent, hit: list[int]) -> None:
    before = violations("event_matches_intent")
    done = mined.change(taking_back(resting), told(*map(scenes.taken_back, hit)))
    assert done == Done(f"order {hit[0]} is taken back, which was not meant", meant=False)
    assert violations("event_matches_intent") == before + 1


def test_an_order_that_nobody_knows_any_more_was_not_meant(resting: TxIntent) -> None:
    resting.venue_order.delete()
    done = mined.change(taking_back(resting), told(scenes.taken_back(4)))
    assert done == Done("order 4 is taken back, which was not meant", meant=False)


@pytest.mark.parametrize(
    "logs", [[], [scenes.updated(5, 60)], [scenes.taken_back(5, address="0x" + "99" * 20)]]
)
def test_a_receipt_that_tells_of_no_such_change_says_nothing(resting: TxIntent, logs: list[Any]) -> None:
    before = violations("event_matches_intent")
    assert mined.change(taking_back(resting), told(*logs)) is None
    assert violations("event_matches_intent") == before + 1


def test_bytes_that_ask_for_no_terms_are_nonsense(resting: TxIntent) -> None:
    change = updating(resting)
    change.calldata = None
    with pytest.raises(ValueError, match=r".+"):
        mined.change(change, told(scenes.updated(5, 60, 70)))

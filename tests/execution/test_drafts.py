"""What is drawn of a change to an order that rests, and of a change of margin."""

from dataclasses import astuple
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from eth_abi.abi import encode
from pytest_django.fixtures import Settings

from execution_app.engine import drafts
from execution_app.engine.drafts import ORDER_ENDED, Plan
from execution_app.models import Position, Trader, TxIntent
from execution_app.node import rpc
from execution_app.states import Reason
from execution_app.venues import onchain
from execution_app.venues.calls import Margin, encode_cancel_limit, encode_update_limit, encode_update_margin
from execution_app.venues.onchain import OpenTrade
from execution_app.venues.orders import Terms
from tests.execution import rows

TRADER = f"0x{11:040x}"
HELD = Terms(Decimal(50_000), Decimal("0.5"), Decimal(70_000), Decimal(40_000))


def change(action: str, target: int | None, **fields: Any) -> TxIntent:
    return TxIntent(pk=fields.pop("pk", 77), action=action, symbol="BTC-USD", target_id=target, **fields)


def test_a_plan_of_nothing_says_nothing() -> None:
    assert astuple(Plan()) == (0, b"", 0, 0, None, None, 0, 0, None, "", False, False, None)


@pytest.fixture
def order(database: None) -> int:
    """An open that rests in slot 4 of its pair, beside another in slot 9."""
    rows.order(limit_index=9)
    intent = rows.intent()
    rows.order(intent_id=intent, limit_index=4, order_id=1234)
    return intent


def views(monkeypatch: pytest.MonkeyPatch, *answers: bytes) -> list[Any]:
    asked: list[Any] = []

    def read(calls: Any) -> list[bytes]:
        asked.extend(calls)
        return list(answers)

    monkeypatch.setattr(rpc, "read_views", read)
    return asked


def test_what_is_not_at_the_venue_yet_is_waited_for(database: None) -> None:
    missing = rows.intent()
    rows.order(intent_id=(unplaced := rows.intent()))
    for target in (missing, unplaced):
        for action in ("cancel_order", "update_order"):
            plan = drafts.of_order(change(action, target), TRADER, {77: HELD})
            assert plan == Plan(
                problem=Reason.WAITS_FOR_EARLIER_ORDER, detail="the order is not at the venue yet"
            )


@pytest.mark.parametrize("pending", [True, False])
def test_an_order_is_taken_back_where_it_rests(
    monkeypatch: pytest.MonkeyPatch, settings: Settings, order: int, pending: bool
) -> None:
    asked = views(monkeypatch, int(pending).to_bytes(32, "big"))
    plan = drafts.of_order(change("cancel_order", order), TRADER, {})
    assert asked == [(settings.ENVIRONMENT.venue_storage_address, onchain.call_is_pending(1234))]
    if pending:
        assert plan == Plan(calldata=onchain.encode_delegated(TRADER, encode_cancel_limit(1, 4)))
    else:
        ended = "the order has ended at the venue"
        assert plan == Plan(problem=Reason.WAITS_FOR_EARLIER_ORDER, detail=ended)


def updated(*terms: Any) -> Plan:
    price, slippage, take_profit, stop_loss = map(Decimal, terms)
    call = encode_update_limit(1, 4, price, slippage, take_profit=take_profit, stop_loss=stop_loss)
    return Plan(calldata=onchain.encode_delegated(TRADER, call))


@pytest.mark.parametrize(
    ("wanted", "terms"),
    [
        ({}, (50_000, "0.5", 70_000, 40_000)),
        ({"limit_price": Decimal(51_000)}, (51_000, "0.5", 70_000, 40_000)),
        ({"new_slippage_pct": Decimal(2)}, (50_000, 2, 70_000, 40_000)),
        ({"take_profit": Decimal(71_000)}, (50_000, "0.5", 71_000, 40_000)),
        ({"stop_loss": Decimal(41_000)}, (50_000, "0.5", 70_000, 41_000)),
        ({"take_profit": Decimal(0), "stop_loss": Decimal(0)}, (50_000, "0.5", 0, 0)),
    ],
)
def test_what_is_not_to_be_changed_stays_as_the_venue_has_it(
    order: int, wanted: dict[str, Any], terms: tuple[Any, ...]
) -> None:
    plan = drafts.of_order(change("update_order", order, **wanted), TRADER, {77: HELD, 78: HELD})
    assert plan == updated(*terms)


def test_an_order_that_has_ended_is_not_changed(order: int) -> None:
    assert drafts.of_order(change("update_order", order), TRADER, {78: HELD}) is ORDER_ENDED
    assert ORDER_ENDED.problem is Reason.WAITS_FOR_EARLIER_ORDER
    assert (ORDER_ENDED.final, ORDER_ENDED.held) == (False, False)
    assert ORDER_ENDED.detail == "the order has ended at the venue (NO_LIMIT)"


def test_what_cannot_be_written_is_final(order: int) -> None:
    wanted = change("update_order", order, limit_price=Decimal("1.00000000001"))
    plan = drafts.of_order(wanted, TRADER, {77: HELD})
    assert (plan.problem, plan.final, plan.held) == (Reason.NOT_REPRESENTABLE, True, False)
    assert "price" in plan.detail


# What the venue has of them


def stored(owner: int = 1, price: int = 50_000) -> str:
    kinds = (
        "(address,uint256,uint256,uint256,bool,bool,uint256,uint256,uint256,uint256,uint256,uint256,uint256)"
    )
    numbers = (0, 0, price * 10**10, 5 * 10**9, 0, 0, 0)
    return "0x" + encode((kinds,), ((f"0x{owner:040x}", 1, 4, 0, True, True, *numbers),)).hex()


def batch(monkeypatch: pytest.MonkeyPatch, *answers: Any) -> list[Any]:
    asked: list[Any] = []

    def read(calls: Any) -> list[Any]:
        asked.extend(calls)
        return list(answers)

    monkeypatch.setattr(rpc, "read_batch", read)
    return asked


def test_nobody_is_asked_about_what_is_not_at_the_venue(
    monkeypatch: pytest.MonkeyPatch, database: None
) -> None:
    monkeypatch.setattr(rpc, "read_batch", lambda _: pytest.fail("there is nothing to ask"))
    assert drafts.standing([]) == {}
    assert drafts.standing([change("update_order", rows.intent())]) == {}


def test_each_change_finds_the_terms_of_its_own_order(
    monkeypatch: pytest.MonkeyPatch, settings: Settings, order: int
) -> None:
    other, ended = rows.intent(), rows.intent()
    rows.order(intent_id=other, order_id=99, limit_index=5)
    rows.order(intent_id=ended, order_id=98, limit_index=6)
    changes = [
        change("update_order", target, pk=pk)
        for pk, target in ((1, other), (2, rows.intent()), (3, ended), (4, order))
    ]
    asked = batch(monkeypatch, stored(), stored(owner=0), stored(price=51_000))
    with CaptureQueriesContext(connection) as read:
        found = drafts.standing(changes)
    assert all("WHERE" in query["sql"] for query in read), "of these orders alone"
    storage = settings.ENVIRONMENT.venue_storage_address
    assert asked == [rpc.eth_call(storage, onchain.call_pending_order(number)) for number in (99, 98, 1234)]
    assert {pk: terms.limit_price for pk, terms in found.items()} == {1: 50_000, 4: 51_000}
    assert found[1] == Terms(Decimal(50_000), Decimal("0.5"), None, None)


def test_a_node_that_cannot_say_is_no_order_that_ended(monkeypatch: pytest.MonkeyPatch, order: int) -> None:
    batch(monkeypatch, rpc.NodeError(-32000, "busy"))
    with pytest.raises(rpc.NodeError, match="busy"):
        drafts.standing([change("update_order", order)])


# Margin


def trade(**fields: Any) -> OpenTrade:
    sound: dict[str, Any] = {
        "trader": TRADER,
        "pair_index": 1,
        "trade_index": 2,
        "collateral_usdc": Decimal(10),
    }
    sound |= {"position_size_usdc": Decimal(100), "open_price": Decimal(60_000), "is_long": True}
    sound |= {"leverage_x": Decimal(10), "take_profit": None, "stop_loss": None, "opened_at": 7}
    return OpenTrade(**(sound | fields))


def margin(usdc: str, stored: OpenTrade | None, price: int = 60_000) -> Plan:
    intent = TxIntent(action="margin", margin_usdc=Decimal(usdc), trader=Trader(address=TRADER))
    return drafts.of_margin(intent, Position(pk=5, pair_index=1, trade_index=2), stored, Decimal(price))


@pytest.mark.parametrize(
    ("usdc", "way", "amount", "leverage_x"),
    [("10", Margin.DEPOSIT, 10, "5"), ("-5", Margin.WITHDRAW, 5, "20"), ("0", Margin.WITHDRAW, 0, "10")],
)
def test_margin_goes_in_or_out_at_the_same_notional(
    usdc: str, way: Margin, amount: int, leverage_x: str
) -> None:
    call = encode_update_margin(1, 2, way, Decimal(amount), [])
    assert margin(usdc, trade()) == Plan(
        calldata=onchain.encode_delegated(TRADER, call), position_id=5, leverage_x=Decimal(leverage_x)
    )


def test_some_margin_goes_in_however_little() -> None:
    call = encode_update_margin(1, 2, Margin.DEPOSIT, Decimal("0.5"), [])
    assert margin("0.5", trade()).calldata == onchain.encode_delegated(TRADER, call)


def test_margin_of_no_trade_is_of_none() -> None:
    gone = Plan(problem=Reason.CLOSED_ELSEWHERE, detail="the venue has no such trade")
    assert margin("1", None) == gone


@pytest.mark.parametrize(
    ("usdc", "stored", "price"),
    [("-10", trade(), 60_000), ("-5", trade(), 50_000), ("-5", trade(is_long=False), 70_000),
     ("-5", trade(stop_loss=Decimal(40_000)), 60_000)],
)  # fmt: skip
def test_what_the_venue_would_not_take_is_final(usdc: str, stored: OpenTrade, price: int) -> None:
    plan = margin(usdc, stored, price)
    assert (plan.problem, plan.final, plan.held) == (Reason.VENUE_WOULD_CANCEL, True, False)
    assert plan.detail
    assert plan.calldata == b""
    assert margin("1", stored, price).problem is None

"""What an intent would send as the chain is now, and what is made of the chain's word on it; the chain's words are given."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from eth_abi.abi import encode
from eth_utils.crypto import keccak
from pytest_django.fixtures import Settings

from execution_app.book import absence, simulation
from execution_app.book.absence import Sighting
from execution_app.book.prices import Market
from execution_app.engine import permissions, plans
from execution_app.engine.drafts import ORDER_ENDED, Plan
from execution_app.engine.permissions import Permissions
from execution_app.models import Position, Trader, TxIntent, Wallet
from execution_app.node import rpc, signers
from execution_app.states import Reason
from execution_app.venues import onchain
from execution_app.venues.onchain import CloseOrder, OpenOrder, OpenTrade
from execution_app.venues.orders import Kind
from tests.execution.intents import market, noting

WALLET, TRADER = f"0x{10:040x}", f"0x{11:040x}"
PRICE = Decimal(60_000)
NO_TRADE = Plan(problem=Reason.CLOSED_ELSEWHERE, detail="the venue has no such trade")
GONE = rpc.NodeError(3, "execution reverted: NO_TRADE")
REVERTS = rpc.NodeError(3, "execution reverted: MAX_LEVERAGE")
ALONE = rpc.NodeError(3, "execution reverted", "0x" + keccak(text="OnlyBatchedFlowAllowed()")[:4].hex())


@pytest.fixture(autouse=True)
def _margin(settings: Settings) -> None:
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(update={"gas_margin_pct": 20})


def wallet() -> Wallet:
    return Wallet(address=WALLET, trader=Trader(address=TRADER))


def intent(action: str = "open", *, pk: int = 1, **fields: Any) -> TxIntent:
    sound: dict[str, Any] = {"symbol": "BTC-USD", "trader": Trader(address=TRADER), "road": "onchain"}
    if action in {"open", "increase"}:
        sound |= {"is_long": True, "collateral_usdc": Decimal(5), "leverage_x": Decimal(2)}
    return TxIntent(pk=pk, action=action, slippage_pct=Decimal("0.5"), **(sound | fields))


def position(**fields: Any) -> Position:
    sound = {"pk": 5, "pair_index": 1, "trade_index": 2, "is_long": True, "open_price": PRICE}
    return Position(**(sound | {"collateral_usdc": Decimal(5), "leverage_x": Decimal(2)} | fields))


def trade(**fields: Any) -> OpenTrade:
    sound: dict[str, Any] = {
        "trader": TRADER,
        "pair_index": 1,
        "trade_index": 2,
        "collateral_usdc": Decimal(5),
    }
    sound |= {"position_size_usdc": Decimal(10), "open_price": PRICE, "is_long": True}
    sound |= {"leverage_x": Decimal(2), "take_profit": None, "stop_loss": None, "opened_at": 7}
    return OpenTrade(**(sound | fields))


def drafted(asked: TxIntent, stored: OpenTrade | None = None, at: Market | None = None) -> Plan:
    return plans._draft(asked, at or market(execution_fee_wei=9), Sighting(1, "0x", 1, {5: stored}), {})


def delegated(call: bytes) -> bytes:
    return onchain.encode_delegated(TRADER, call)


# What is drawn


@pytest.mark.parametrize(
    ("fields", "kind", "wanted"),
    [
        ({}, Kind.MARKET, PRICE),
        ({"order_type": "limit", "limit_price": Decimal(50_000)}, Kind.LIMIT, Decimal(50_000)),
        ({"order_type": "stop_limit", "limit_price": Decimal(70_000)}, Kind.STOP_LIMIT, Decimal(70_000)),
        ({"is_long": False, "take_profit": Decimal(1), "stop_loss": Decimal(90_000)}, Kind.MARKET, PRICE),
    ],
)
def test_an_open_says_what_was_asked_for(fields: dict[str, Any], kind: Kind, wanted: Decimal) -> None:
    levels = fields.get("take_profit"), fields.get("stop_loss")
    sides = TRADER, 1, fields.get("is_long", True)
    order = OpenOrder(*sides, Decimal(5), Decimal(2), wanted, Decimal("0.5"), *levels, kind)
    assert drafted(intent(**fields)) == Plan(wanted, delegated(onchain.encode_open(order)), 9)


def test_a_price_that_is_not_traded_on_is_said_as_it_is() -> None:
    old = market(at=1_006)
    plan = drafted(intent(), at=old)
    words = "the price of BTC-USD is 6 s old, open takes at most 5 s"
    assert plan == Plan(problem=Reason.PRICE_UNAVAILABLE, detail=words)
    assert drafted(intent("close", position=position()), trade(), old).problem is None


def test_what_is_done_to_an_order_that_rests_asks_for_no_price(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(plans, "of_order", noting(asked, NO_TRADE))
    for action in ("cancel_order", "update_order"):
        changes = intent(action, symbol="ETH-USD")
        assert drafted(changes) == NO_TRADE
        assert asked.pop() == (changes, TRADER, {})


def test_what_cannot_be_written_is_final() -> None:
    plan = drafted(intent(collateral_usdc=Decimal("0.0000001")))
    assert (plan.problem, plan.final, plan.held) == (Reason.NOT_REPRESENTABLE, True, False)
    assert "collateral_usdc" in plan.detail


def test_a_close_names_its_slot_and_the_trade_that_is_there() -> None:
    close = intent("close", position=position(), limit_price=None)
    order = CloseOrder(TRADER, 1, 2, Decimal(5), PRICE)
    plan = Plan(PRICE, delegated(onchain.encode_close(order)), 9, 0, Decimal(5), 5)
    assert drafted(close, trade()) == replace(plan, trade_opened_at=7)
    assert drafted(close, None) == plan, "its trial says so, as a final block would"


@pytest.mark.parametrize("action", ["close", "margin", "levels", "increase"])
def test_another_trade_in_the_slot_is_not_touched(action: str) -> None:
    asked = intent(action, position=position(), margin_usdc=Decimal(1))
    other = Plan(problem=Reason.CLOSED_ELSEWHERE, detail="another trade is in the slot at the venue")
    for found in (trade(open_price=PRICE + 1), trade(is_long=False)):
        assert drafted(asked, found) == other


@pytest.mark.parametrize("action", ["close", "levels", "increase"])
def test_a_message_of_no_trade_is_not_tried(action: str) -> None:
    assert drafted(intent(action, position=position(), road="gateway")) == NO_TRADE


@pytest.mark.parametrize("action", ["margin", "levels", "increase"])
def test_what_changes_no_trade_is_of_none(action: str) -> None:
    asked = intent(action, position=position(), road="onchain", margin_usdc=Decimal(1))
    assert drafted(asked, None) == NO_TRADE


def test_margin_is_drawn_at_the_price_of_now(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(plans, "of_margin", noting(asked, NO_TRADE))
    changes, stored = intent("margin", position=position()), trade()
    assert drafted(changes, stored) == NO_TRADE
    assert asked == [(changes, changes.position, stored, PRICE)]


def test_new_levels_are_judged_by_the_venues_rules() -> None:
    levels = intent("levels", position=position(), take_profit=Decimal(70_000), stop_loss=Decimal(50_000))
    assert drafted(levels, trade()) == Plan(PRICE, position_id=5, trade_opened_at=7)
    short = replace(trade(), is_long=False)
    levels.position.is_long = False  # type: ignore[union-attr]
    plan = drafted(levels, short)
    words = "take_profit 70000 is crossed already at 60000"
    assert plan == Plan(problem=Reason.VENUE_WOULD_CANCEL, detail=words, final=True)


@pytest.mark.parametrize(
    ("stop_loss", "stored"), [(59_000, {"leverage_x": Decimal(70)}), (20_000, {}), (61_000, {})]
)
def test_a_stop_loss_is_held_against_price_opening_and_leverage(
    stop_loss: int, stored: dict[str, Any]
) -> None:
    levels = intent("levels", position=position(), stop_loss=Decimal(stop_loss))
    assert drafted(levels, trade(**stored)).problem is Reason.VENUE_WOULD_CANCEL
    levels.stop_loss = Decimal(59_000)
    assert drafted(levels, trade()).problem is None


@pytest.mark.parametrize("refusal", ["", "the venue would refund it"])
def test_an_increase_is_refused_as_its_estimate_is(monkeypatch: pytest.MonkeyPatch, refusal: str) -> None:
    found = simulation.Estimate(PRICE, PRICE, Decimal(0), refusal=refusal)
    monkeypatch.setattr(simulation, "estimate", lambda *_: found)
    plan = drafted(intent("increase", position=position()), trade())
    refused = Plan(problem=Reason.VENUE_WOULD_CANCEL, detail=refusal, final=True)
    assert plan == (refused if refusal else Plan(PRICE, position_id=5, trade_opened_at=7))


@pytest.mark.parametrize(
    ("held", "there", "part", "taken"),
    [
        (5, None, {}, 5),
        (5, 5, {}, 5),
        (5, 8, {}, 8),
        (5, 3, {}, 3),
        (5, 8, {"reduce_usdc": 2}, 2),
        (5, 8, {"reduce_usdc": 5}, 8),
        (5, 8, {"reduce_usdc": "4.999999"}, "4.999999"),
        (5, 3, {"reduce_usdc": 4}, 3),
        (5, 8, {"reduce_pct": 50}, "2.5"),
        (5, 3, {"reduce_pct": 50}, "1.5"),
        (5, None, {"reduce_pct": 50}, "2.5"),
        (5, 8, {"reduce_pct": 100}, 8),
    ],
)
def test_who_closes_all_takes_all_that_is_there_and_nobody_more(
    held: int, there: int | None, part: dict[str, Any], taken: Any
) -> None:
    close = TxIntent(action="close", **{name: Decimal(value) for name, value in part.items()})
    stored = None if there is None else trade(collateral_usdc=Decimal(there))
    assert plans._amount(close, position(collateral_usdc=Decimal(held)), stored) == Decimal(taken)


# What is asked of the node, and what its answer means

DRAWN = Plan(PRICE, b"\x01\x02", 9)


def test_a_transaction_is_tried_as_the_delegate_would_send_it(settings: Settings) -> None:
    said = {
        "from": WALLET,
        "to": settings.ENVIRONMENT.venue_trading_address,
        "data": "0x0102",
        "value": "0x9",
    }
    assert plans._question(wallet(), intent(), DRAWN) == ("eth_estimateGas", (said, "latest"))
    method, asked = plans._question(wallet(), intent(road="gateway"), DRAWN)
    assert (method, asked) == ("eth_call", (said, "latest", {WALLET: {"balance": hex(2**128)}}))


def judged(answer: object, *, exits: bool = False, signs: bool = False) -> Plan:
    return plans._judged(DRAWN, answer, exits=exits, signs=signs)


def test_an_estimate_gets_room_up_to_what_is_ever_signed() -> None:
    most = signers.MAX_GAS
    assert judged(hex(100_001)) == replace(DRAWN, gas_limit=120_001)
    assert judged(hex(most * 9 // 10)) == judged(hex(most)) == replace(DRAWN, gas_limit=most)
    words = f"it needs {most + 1} gas, no signature is made above {most}"
    assert judged(hex(most + 1)) == Plan(problem=Reason.FEE_ABOVE_CEILING, detail=words, held=True)


def test_a_message_is_drawn_where_the_venue_takes_messages_alone() -> None:
    for answer in ("0x", hex(signers.MAX_GAS + 1), ALONE):
        assert judged(answer, signs=True) == DRAWN
    assert judged(ALONE).problem is Reason.VENUE_REVERT
    assert judged(GONE, signs=True).problem is Reason.CLOSED_ELSEWHERE


@pytest.mark.parametrize(("words", "held"), [("insufficient funds for gas", True), ("x" * 300, False)])
def test_what_is_not_the_venues_word_is_asked_again(words: str, held: bool) -> None:
    detail = f"the node cannot simulate it: {words[:200]}"
    assert judged(rpc.NodeError(-32000, words)) == Plan(
        problem=Reason.INSUFFICIENT_GAS, detail=detail, held=held
    )


def test_the_words_of_the_venue_that_are_known_mean_what_they_say() -> None:
    assert judged(GONE) == replace(NO_TRADE, detail="the venue has no such trade (NO_TRADE)")
    assert judged(rpc.NodeError(3, "execution reverted: NO_LIMIT"), exits=True) == ORDER_ENDED
    closing = rpc.NodeError(3, "execution reverted: ALREADY_BEING_CLOSED")
    words = "the venue says ALREADY_BEING_CLOSED"
    assert judged(closing, exits=True) == Plan(problem=Reason.WAITS_FOR_EARLIER_CLOSE, detail=words)


@pytest.mark.parametrize(
    "name", ["Pausable: paused", "MAX_PENDING_ORDERS", "EXECUTION_FEE_NOT_SENT", "DELEGATE_NOT_APPROVED"]
)
def test_an_exit_outlives_what_will_pass(name: str) -> None:
    passing = rpc.NodeError(3, f"execution reverted: {name}")
    assert judged(passing, exits=True) == Plan(problem=Reason.VENUE_REVERT, detail=name)
    assert judged(passing) == Plan(problem=Reason.VENUE_REVERT, detail=name, final=True)


def test_an_exit_that_the_venue_refuses_is_held_for_a_person() -> None:
    name = judged(REVERTS).detail
    assert judged(REVERTS) == Plan(problem=Reason.VENUE_REVERT, detail=name, final=True)
    assert judged(REVERTS, exits=True) == Plan(problem=Reason.VENUE_REVERT, detail=name, held=True)


def test_the_data_of_an_error_is_preferred_to_its_message() -> None:
    told = rpc.NodeError(3, "execution reverted: MAX_LEVERAGE", "0x" + _error("NO_TRADE").hex())
    assert judged(told).problem is Reason.CLOSED_ELSEWHERE


def _error(reason: str) -> bytes:
    return bytes.fromhex("08c379a0") + encode(("string",), (reason,))


# All together


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A node's answers to trials, in their order, what it was asked, and what was looked at."""
    seen: dict[str, Any] = {"answers": [], "asked": [], "looked": [], "missed_at": 6, "usdc": 5}
    asks = [("view", (at,)) for at in range(permissions.CALLS)]

    def batch(asked: Any) -> list[Any]:
        seen["asked"].append(asked)
        return [*range(permissions.CALLS), *seen["answers"]]

    def granted(_: Wallet, answers: Any) -> Permissions:
        assert answers == list(range(permissions.CALLS))
        return Permissions(WALLET, TRADER, WALLET, 2, 1, Decimal(seen["usdc"]), Decimal(9))

    def look(held: list[Position]) -> Sighting:
        seen["looked"].append(held)
        return Sighting(1, "0x", 1, {one.pk: trade() for one in held})

    monkeypatch.setattr(permissions, "calls", lambda _: asks)
    monkeypatch.setattr(permissions, "read", granted)
    monkeypatch.setattr(rpc, "read_batch", batch)
    monkeypatch.setattr(absence, "look", look)
    monkeypatch.setattr(absence, "remember", lambda *_: seen["missed_at"])
    monkeypatch.setattr(plans, "standing", lambda changes: {one.pk: one for one in changes})
    monkeypatch.setattr(plans, "of_order", lambda one, *_: Plan(calldata=b"\x03"))
    return seen


def draw(*intents: TxIntent, at: Market | None = None) -> dict[int, Plan]:
    return plans.draw(wallet(), intents, at or market())


def test_each_intent_is_judged_by_its_own_answer(node: dict[str, Any]) -> None:
    node["answers"] = [hex(100_000), REVERTS, hex(200_000)]
    unfit, first = intent(symbol="ETH-USD", pk=1), intent(pk=2)
    close, cancel = intent("close", pk=3, position=position()), intent("cancel_order", pk=4)
    found = draw(unfit, first, close, cancel)
    assert [(pk, plan.gas_limit, plan.problem, plan.held) for pk, plan in found.items()] == [
        (1, 0, Reason.PRICE_UNAVAILABLE, False),
        (2, 120_000, None, False),
        (3, 0, Reason.VENUE_REVERT, True),
        (4, 240_000, None, False),
    ]
    (asked,) = node["asked"]
    assert [method for method, _ in asked] == [*["view"] * permissions.CALLS, *["eth_estimateGas"] * 3]
    assert node["looked"] == [[close.position]]


def test_nobody_is_asked_where_nothing_can_be_sent(node: dict[str, Any]) -> None:
    assert draw(intent(symbol="ETH-USD"))[1].problem is Reason.PRICE_UNAVAILABLE
    assert (node["asked"], node["looked"]) == ([], [])


def test_terms_are_asked_of_orders_that_are_to_be_changed_alone(
    monkeypatch: pytest.MonkeyPatch, node: dict[str, Any]
) -> None:
    changes: list[Any] = []
    monkeypatch.setattr(plans, "standing", noting(changes, {}))
    node["answers"] = [hex(1), hex(1)]
    update = intent("update_order", pk=2)
    draw(intent("cancel_order", pk=1), update)
    assert changes == [([update],)]


LACKS = "the venue may take 4 USDC of {trader}, this needs 5"


def test_what_the_trader_does_not_permit_is_held_where_the_venue_refuses_it(node: dict[str, Any]) -> None:
    node["usdc"] = 4
    node["answers"] = [REVERTS, hex(100_000), REVERTS]
    found = draw(intent(pk=1), intent(pk=2), intent("close", pk=3, position=position()))
    words = LACKS.format(trader=TRADER)
    assert found[1] == Plan(problem=Reason.INSUFFICIENT_ALLOWANCE, detail=words, held=True)
    assert found[2].problem is None
    assert found[3].problem is Reason.VENUE_REVERT
    node["usdc"] = 5
    assert draw(intent(pk=1), intent(pk=2), intent(pk=3))[1].problem is Reason.VENUE_REVERT


def test_a_message_that_cannot_be_tried_needs_what_the_trader_permits(node: dict[str, Any]) -> None:
    node["usdc"] = 4
    levels = intent("levels", pk=1, road="gateway", position=position(), take_profit=Decimal(70_000))
    more = intent("increase", pk=2, road="gateway", position=position())
    found = draw(levels, more)
    assert found[1].problem is None
    words = LACKS.format(trader=TRADER)
    assert found[2] == Plan(problem=Reason.INSUFFICIENT_ALLOWANCE, detail=words, held=True)
    assert len(node["asked"][0]) == permissions.CALLS
    node["usdc"] = 5
    assert draw(levels, more)[2].problem is None


def test_a_message_is_tried_as_one(node: dict[str, Any]) -> None:
    node["answers"] = [ALONE]
    assert draw(intent(road="gateway"))[1].problem is None


@pytest.mark.parametrize("missed_at", [None, 6])
def test_a_trade_that_is_missed_is_remembered(node: dict[str, Any], missed_at: int | None) -> None:
    node["answers"], node["missed_at"] = [GONE, REVERTS], missed_at
    found = draw(intent("close", position=position()), intent("close", pk=2, position=position(pk=8)))
    assert found[1] == replace(
        NO_TRADE, detail="the venue has no such trade (NO_TRADE)", absent_at_block=missed_at
    )
    assert found[2].absent_at_block is None

"""`GET /signals/{source}/{signal_id}`: what became of a signal, for whoever holds the token."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from execution_app.models import Fill, Position, Trader, TxIntent, TxReceipt, TxSend, VenueOrder, Wallet
from execution_app.moves import move, open_intent
from execution_app.states import IntentState
from signals_app.models import Signal
from tests.signals.sender import get_trace, open_body, post

pytestmark = pytest.mark.usefixtures("database")

VENUE, HASH, BLOCK = "0x" + "cc" * 20, "0x" + "ee" * 32, "0x" + "dd" * 32


def ask(body: dict[str, object]) -> dict[str, Any]:
    answer = get_trace(f"/signals/{body['source']}/{body['signal_id']}")
    assert answer.status_code == 200
    return dict(answer.json())


@pytest.fixture
def trader() -> Trader:
    trader = Trader.objects.create(tg_user_id=123, address="0x" + "aa" * 20)
    Wallet.objects.create(trader=trader, chain_id=31337, address="0x" + "bb" * 20)
    return trader


def intend(key: str, trader: Trader) -> TxIntent:
    intent, _ = open_intent(
        key=key,
        by="decision",
        trader=trader,
        tg_user_id=123,
        action="open",
        symbol="BTC-USD",
        is_long=True,
        collateral_usdc=Decimal(5),
        leverage_x=Decimal(2),
        slippage_pct=Decimal("0.5"),
    )
    return intent


def fill(intent: TxIntent, trader: Trader) -> None:
    """Walk the legal road to `filled`, with a row of every kind."""
    slot = {
        "nonce": 0,
        "mode": "LIVE",
        "calldata": b"\x9a",
        "value_wei": Decimal(10**20),
        "gas_limit": 900_000,
    }
    move(intent, IntentState.RESERVED, why="slot", by="test", wallet=trader.wallet, to_address=VENUE, **slot)
    for state in ("signed", "sending", "pending_inclusion", "mined", "ordered", "filled"):
        move(intent, IntentState(state), why="next", by="test")
    send = TxSend.objects.create(
        intent=intent,
        attempt=1,
        kind="exec",
        tx_hash=HASH,
        raw=b"\x02secret",
        max_fee_wei=Decimal(2 * 10**9),
        tip_wei=Decimal(10**9),
        outcome="accepted",
    )
    TxReceipt.objects.create(
        send=send,
        intent=intent,
        block_number=7,
        block_hash=BLOCK,
        status=1,
        gas_used=300_000,
        effective_gas_price_wei=Decimal(10**9),
    )
    VenueOrder.objects.create(intent=intent, venue=VENUE, order_id=1, block_number=7, block_hash=BLOCK)
    position = Position.objects.create(
        trader=trader,
        venue=VENUE,
        symbol="BTC-USD",
        pair_index=1,
        trade_index=0,
        opened_at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        mode="LIVE",
        is_long=True,
        collateral_usdc=Decimal(5),
        leverage_x=Decimal(2),
        open_price=Decimal("60000.5"),
    )
    Fill.objects.create(
        intent=intent,
        position=position,
        action="open",
        mode="LIVE",
        price=Decimal("60000.5"),
        collateral_usdc=Decimal(5),
        leverage_x=Decimal(2),
        tx_hash=HASH,
        log_index=3,
        block_number=8,
        block_hash=BLOCK,
    )


def test_a_signal_nobody_has_decided_yet() -> None:
    body = open_body(collateral_usdc="5.10", ts="2026-01-02T03:04:05Z", meta={"strategy": "x"})
    post(body)
    found = ask(body)
    assert found["status"] == "ok"
    assert found["mode"] in {"DRY", "LIVE"}
    signal = found["signal"]
    assert (signal["collateral_usdc"], signal["slippage_pct"], signal["side"]) == ("5.1", "0.5", "LONG")
    assert signal["ts"] == "2026-01-02T03:04:05Z"
    assert signal["received_at"].endswith("Z")
    assert signal["meta"] == {"strategy": "x"}
    assert found["decision"] == {"decision": None, "reasons": [], "decided_at": None}
    assert found["intent"] is found["order"] is found["fill"] is found["position"] is None
    assert found["history"] == found["sends"] == found["receipts"] == found["siblings"] == []


def test_a_refused_signal_gives_its_reasons() -> None:
    body = open_body()
    post(body)
    Signal.objects.update(decision="rejected", reasons=["unknown_trader"], decided_at="2026-01-02T03:04:05Z")
    assert ask(body)["decision"] == {
        "decision": "rejected",
        "reasons": ["unknown_trader"],
        "decided_at": "2026-01-02T03:04:05Z",
    }


def test_the_whole_road_of_a_trade(trader: Trader) -> None:
    body = open_body()
    key = post(body).json()["intent_key"]
    fill(intend(key, trader), trader)
    answer = get_trace(f"/signals/drill/{body['signal_id']}")
    assert b"secret" not in answer.content
    found = answer.json()
    intent = found["intent"]
    assert (intent["key"], intent["state"], intent["mode"], intent["nonce"]) == (key, "filled", "LIVE", 0)
    assert (intent["wallet"], intent["value_wei"]) == ("0x" + "bb" * 20, str(10**20))
    assert [step["to_state"] for step in found["history"]] == [
        *("pending", "reserved", "signed", "sending", "pending_inclusion", "mined", "ordered", "filled")
    ]
    assert [(send["tx_hash"], send["kind"], send["max_fee_wei"]) for send in found["sends"]] == [
        (HASH, "exec", "2000000000")
    ]
    assert [
        (receipt["tx_hash"], receipt["status"], receipt["canonical"]) for receipt in found["receipts"]
    ] == [(HASH, 1, True)]
    assert (found["order"]["order_id"], found["order"]["state"]) == (1, "registered")
    assert (found["fill"]["price"], found["fill"]["fee_usdc"]) == ("60000.5", None)
    assert (found["position"]["open_price"], found["position"]["opened_at"]) == (
        "60000.5",
        "2026-01-02T03:04:05Z",
    )


def test_the_siblings_of_a_close_are_shown_in_order_and_nobody_elses(trader: Trader) -> None:
    body = open_body()
    key = post(body).json()["intent_key"]
    for suffix in ("#10", "", "#2", "0", "_2"):
        intend(f"{key}{suffix}", trader)
    found = ask(body)
    assert found["intent"]["key"] == key
    assert [sibling["intent"]["key"] for sibling in found["siblings"]] == [f"{key}#2", f"{key}#10"]
    assert [step["to_state"] for step in found["siblings"][0]["history"]] == ["pending"]


def test_a_long_history_is_cut_and_costs_a_bounded_number_of_queries(trader: Trader) -> None:
    body = open_body()
    intent = intend(post(body).json()["intent_key"], trader)
    for number in range(120):
        TxSend.objects.create(
            intent=intent,
            attempt=number,
            kind="bump",
            tx_hash=f"0x{number:064x}",
            raw=b"",
            max_fee_wei=1,
            tip_wei=1,
        )
    with CaptureQueriesContext(
        connection,
    ) as queries:
        assert len(ask(body)["sends"]) == 100
    assert len(queries) <= 6


@pytest.mark.parametrize("token", ["", "wrong", "t\xf6ken"])
def test_without_the_token_nothing_is_told(token: str) -> None:
    body = open_body()
    post(body)
    for path in (f"/signals/drill/{body['signal_id']}", "/signals/drill/nothing"):
        answer = get_trace(path, token=token)
        assert answer.status_code == 401
        assert answer["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize(
    "path", ["/signals/drill/none", "/signals/drill/%00", "/signals/%F0%9F%92%A9/a", "/signals/a/b%0A"]
)
def test_what_was_never_stored_is_not_found(path: str) -> None:
    answer = get_trace(path)
    assert (answer.status_code, answer.json()["status"]) == (404, "not_found")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_only_reading(method: str) -> None:
    answer = get_trace("/signals/drill/a", method=method)
    assert (answer.status_code, answer["Allow"]) == (405, "GET, HEAD")

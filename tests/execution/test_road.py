"""One intent's whole road on a real chain: LIVE open, close, and DRY."""

from decimal import Decimal

import pytest

from execution_app import meters
from execution_app.engine import venue_events
from execution_app.models import Fill, Position, TxIntent, TxSend
from execution_app.node import rpc
from execution_app.states import Action
from execution_app.venues import onchain
from tests import invariants, real_parts
from tests.rig import Rig


def stored_trade(rig: Rig, index: int = 0) -> onchain.OpenTrade | None:
    view = onchain.call_open_trade(rig.trader.address, onchain.PAIRS["BTC-USD"], index)
    return onchain.read_open_trade(rpc.read_views([(real_parts.deployment.storage, view)])[0])


def states(intent: TxIntent) -> list[str]:
    return list(intent.transitions.order_by("id").values_list("to_state", flat=True))


def test_open_becomes_one_trade_and_settles(rig: Rig) -> None:
    intent = rig.intent()
    rig.run()
    intent.refresh_from_db()
    assert states(intent) == [
        "pending", "reserved", "signed", "sending", "pending_inclusion", "mined", "ordered", "filled",
    ]  # fmt: skip
    assert intent.settled_at is not None
    assert intent.nonce == 0
    trade = stored_trade(rig)
    assert trade is not None
    position = Position.objects.get()
    assert (trade.collateral_usdc, trade.leverage_x) == (Decimal(5), Decimal(2))
    assert (position.collateral_usdc, position.leverage_x, position.mode) == (Decimal(5), Decimal(2), "LIVE")
    assert position.trade_index == trade.trade_index
    assert int(position.opened_at.timestamp()) == trade.opened_at
    assert position.settled_at is not None
    assert TxSend.objects.count() == 1
    assert stored_trade(rig, 1) is None


def test_close_ends_the_trade_and_pays_the_trader(rig: Rig) -> None:
    rig.intent()
    rig.run()
    close = rig.intent(Action.CLOSE)
    rig.run()
    close.refresh_from_db()
    assert close.state == "filled"
    assert stored_trade(rig) is None
    position = Position.objects.get()
    assert position.state == "closed"
    fill = Fill.objects.get(action="close")
    assert fill.sent_to_trader_usdc is not None
    assert fill.sent_to_trader_usdc > 0
    assert position.paid_out_usdc == fill.sent_to_trader_usdc


def test_close_of_several_positions_is_one_intent_each(rig: Rig) -> None:
    for _ in range(3):
        rig.intent()
    rig.run()
    close = rig.intent(Action.CLOSE)
    rig.run()
    keys = set(TxIntent.objects.filter(action="close", state="filled").values_list("intent_key", flat=True))
    assert keys == {close.intent_key, f"{close.intent_key}#2", f"{close.intent_key}#3"}
    assert Position.objects.filter(state="open").count() == 0


def test_close_waits_for_the_open_before_it(rig: Rig) -> None:
    opened = rig.intent()
    close = rig.intent(Action.CLOSE)
    rig.submit()
    close.refresh_from_db()
    opened.refresh_from_db()
    assert (opened.state, opened.nonce) == ("pending_inclusion", 0)
    assert (close.state, close.nonce, close.reason) == ("pending", None, "waits_for_earlier_order")
    rig.mine()
    rig.track()
    rig.keep()
    rig.track()
    TxIntent.objects.filter(pk=close.pk).update(next_try_at=None)
    rig.run()
    close.refresh_from_db()
    assert (close.state, close.nonce) == ("filled", 1)


def test_close_without_a_position_is_a_success(rig: Rig) -> None:
    close = rig.intent(Action.CLOSE)
    rig.submit()
    close.refresh_from_db()
    assert (close.state, close.reason) == ("no_op", "no_position")
    assert TxSend.objects.count() == 0


def test_revert_in_simulation_takes_no_nonce(rig: Rig) -> None:
    intent = rig.intent(collateral_usdc=Decimal(1), leverage_x=Decimal(1))
    rig.submit()
    intent.refresh_from_db()
    rig.wallet.refresh_from_db()
    assert (intent.state, intent.reason, intent.reason_detail) == (
        "rejected",
        "venue_revert",
        "BELOW_MIN_POS",
    )
    assert rig.wallet.next_nonce == 0
    assert TxSend.objects.count() == 0


def views_asked(rig: Rig) -> float:
    """How many views a look at the chain asks for."""
    asked = meters.RPC_REQUESTS.labels("0", "eth_call", "ok")
    before = asked._value.get()
    rig.track()
    return float(asked._value.get() - before)


def test_an_order_that_waits_is_asked_about_once_a_head(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was said at a block is the same a moment later; a new head, or a longer moment, is a new question."""
    monkeypatch.setattr(venue_events, "SAME_S", 60.0)
    intents = [rig.intent(symbol=symbol) for symbol in ("BTC-USD", "ETH-USD")]
    rig.submit()
    rig.mine()
    assert (views_asked(rig), views_asked(rig)) == (2, 0)
    rig.mine()
    assert (views_asked(rig), views_asked(rig)) == (2, 0)
    monkeypatch.setattr(venue_events, "SAME_S", 0.0)
    assert (views_asked(rig), views_asked(rig)) == (2, 2)
    monkeypatch.setattr(venue_events, "SAME_S", 60.0)
    rig.keep()
    rig.track()
    assert [TxIntent.objects.get(pk=intent.pk).state for intent in intents] == ["filled"] * 2
    rig.finish()
    invariants.check()

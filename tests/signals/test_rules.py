"""Every reason code, reached from a signal: what was asked, what is allowed, and that nothing was sent."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db.models.functions import Now

from execution_app.gate import control, watch
from execution_app.models import Position, Trader, TxIntent, TxSend, Wallet
from execution_app.moves import move
from execution_app.node import signers
from execution_app.states import Action, IntentState, Origin, Reason, RestrictionKind
from signals_app import decisions, intake, payloads
from signals_app.models import Signal, SourceGrant
from signals_app.strict_json import canonical, parse
from tests import real_parts
from tests.execution import rows
from tests.integration.tx.test_venue_surprises import owner_closes
from tests.rig import Rig, rpc_call
from tests.signals.sender import open_body

TRADER_ID = 123
CLOSE = {"side": "CLOSE", "collateral_usdc": None, "leverage_x": None}


def store(**fields: object) -> Signal:
    """A signal as the door leaves it: parsed from its bytes, stored once."""
    body = open_body(**fields)
    raw = canonical({name: value for name, value in body.items() if value is not None})
    payload = payloads.read(parse(raw.encode()))
    assert intake.store(payload).outcome is intake.Outcome.QUEUED
    return Signal.objects.get(source=payload.source, signal_id=payload.signal_id)


def decide(**fields: object) -> tuple[Signal, TxIntent]:
    signal = store(**fields)
    intent = decisions.decide(signal.pk)
    assert intent is not None
    signal.refresh_from_db()
    intent.refresh_from_db()
    return signal, intent


@pytest.fixture
def trader(database: None) -> Trader:
    """A trader with a wallet whose key nobody needs, and a source that may trade for them."""
    pk = rows.trader(tg_user_id=TRADER_ID)
    rows.wallet(trader_id=pk)
    SourceGrant.objects.create(source="drill", tg_user_id=TRADER_ID)
    return Trader.objects.get(pk=pk)


@pytest.fixture
def granted(rig: Rig) -> Rig:
    SourceGrant.objects.create(source="drill", tg_user_id=TRADER_ID)
    return rig


LONGER = 12  # a minute stands for the 5 s that clocks may differ by: this machine may lose one of those


def moment(**ago: float) -> str:
    return (datetime.now(UTC) - timedelta(**ago)).isoformat()


# Fields of the signal, the reason codes in their order, and what the refusal must name.
REFUSED: list[tuple[str, dict[str, object], list[Reason], list[str]]] = [
    ("unknown trader", {"tg_user_id": 999}, [Reason.UNKNOWN_TRADER], ["999"]),
    ("source not allowed", {"source": "other"}, [Reason.SOURCE_NOT_ALLOWED], ["other", "123"]),
    (
        "unknown symbol",
        {"symbol": "NOPE-USD"},
        [Reason.SYMBOL_UNKNOWN, Reason.SYMBOL_NOT_ALLOWED],
        ["NOPE-USD", "ALLOWED_SYMBOLS", "BTC-USD, ETH-USD, SOL-USD"],
    ),
    (
        "symbol not allowed",
        {"symbol": "DOGE-USD"},
        [Reason.SYMBOL_NOT_ALLOWED],
        ["DOGE-USD", "ALLOWED_SYMBOLS", "BTC-USD, ETH-USD, SOL-USD"],
    ),
    (
        "notional above the cap",
        {"collateral_usdc": "500.000001", "leverage_x": 2},
        [Reason.NOTIONAL_ABOVE_CAP],
        ["MAX_NOTIONAL_USDC", "1000 USDC", "1000.000002"],
    ),
    (
        "leverage above the cap",
        {"leverage_x": "75.0001"},
        [Reason.LEVERAGE_ABOVE_CAP],
        ["MAX_LEVERAGE", "75", "75.0001"],
    ),
    (
        "limit order on a close",
        CLOSE | {"order_type": "limit", "limit_price": 60_000},
        [Reason.ORDER_TYPE_UNSUPPORTED],
        ["CLOSE", "market"],
    ),
    ("level on a close", CLOSE | {"stop_loss": 50_000}, [Reason.TRIGGER_PRICE_UNSUPPORTED], ["stop_loss"]),
    (
        "everything at once",
        {"symbol": "NOPE-USD", "collateral_usdc": 10_000, "leverage_x": 80, "take_profit": 1},
        [
            Reason.SYMBOL_UNKNOWN,
            Reason.SYMBOL_NOT_ALLOWED,
            Reason.NOTIONAL_ABOVE_CAP,
            Reason.LEVERAGE_ABOVE_CAP,
        ],
        ["NOPE-USD", "MAX_LEVERAGE", "ALLOWED_SYMBOLS"],
    ),
]


@pytest.mark.parametrize(
    ("fields", "reasons", "words"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED]
)
def test_a_decision_refuses(
    trader: Trader, fields: dict[str, object], reasons: list[Reason], words: list[str]
) -> None:
    signal, intent = decide(**fields)
    assert (signal.decision, signal.reasons) == ("rejected", [reason.value for reason in reasons])
    assert (intent.state, intent.reason) == ("rejected", reasons[0])
    assert [word for word in words if word not in intent.reason_detail] == []
    assert intent.settled_at is not None
    assert_nothing_was_sent()


def assert_nothing_was_sent() -> None:
    assert not TxSend.objects.exists()
    assert not TxIntent.objects.filter(nonce__isnull=False).exists()
    assert not Wallet.objects.filter(next_nonce__gt=0).exists()


def assert_refused(intent: TxIntent, reason: Reason, *words: str) -> None:
    intent.refresh_from_db()
    assert (intent.state, intent.reason) == ("rejected", reason)
    assert [word for word in words if word not in intent.reason_detail] == []
    assert_nothing_was_sent()


def test_a_disabled_trader(trader: Trader) -> None:
    Trader.objects.update(enabled=False)
    assert_refused(decide()[1], Reason.TRADER_DISABLED, "123")


def test_a_trader_without_a_wallet(database: None) -> None:
    rows.trader(tg_user_id=TRADER_ID)
    SourceGrant.objects.create(source="drill", tg_user_id=TRADER_ID)
    assert_refused(decide()[1], Reason.NO_WALLET, "123")


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"ago": {"seconds": 61}}, Reason.LAG_EXCEEDED),
        ({"ago": {"seconds": 11}, "max_lag_s": 10}, Reason.LAG_EXCEEDED),
        ({"ago": {"seconds": -6 * LONGER}}, Reason.TS_IN_FUTURE),
        ({"ago": {"seconds": -4 * LONGER}}, None),
        ({"ago": {"seconds": 50}}, None),
        ({"ago": {"seconds": 61}, "max_lag_s": 120}, None),
        ({"ago": {"hours": 5}, **CLOSE}, None),
        ({"ago": {"seconds": 11}, "max_lag_s": 10, **CLOSE}, Reason.LAG_EXCEEDED),
    ],
)
def test_a_signal_grows_old(
    trader: Trader, fields: dict[str, Any], reason: Reason | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert decisions.CLOCK_SKEW_S == 5
    monkeypatch.setattr(decisions, "CLOCK_SKEW_S", 5 * LONGER)
    fields = dict(fields)
    signal, intent = decide(ts=moment(**fields.pop("ago")), **fields)
    assert signal.reasons == [reason or Reason.ACCEPTED]
    if reason is not None:
        assert_refused(intent, reason)


@pytest.mark.parametrize("symbol", ["BTC-USD", "ETH-USD", "SOL-USD"])
def test_the_caps_themselves_are_allowed(trader: Trader, symbol: str) -> None:
    signal, intent = decide(symbol=symbol, collateral_usdc="13.333333", leverage_x=75)
    assert (signal.decision, intent.state) == ("accepted", "pending")
    assert (intent.collateral_usdc, intent.leverage_x) == (Decimal("13.333333"), Decimal(75))
    assert intent.expires_at == signal.received_at + timedelta(seconds=60)
    assert (intent.intent_key, intent.mode, intent.nonce) == (signal.intent_key, None, None)


def test_a_close_is_bound_by_no_opening_cap(trader: Trader) -> None:
    signal, intent = decide(**CLOSE, symbol="DOGE-USD")
    assert (signal.decision, intent.state, intent.expires_at) == ("accepted", "pending", None)
    assert (intent.collateral_usdc, intent.is_long) == (None, None)


def test_a_signal_is_decided_once(trader: Trader) -> None:
    signal, intent = decide(tg_user_id=999)
    rows.trader(tg_user_id=999)
    assert decisions.decide(signal.pk) is None
    assert decisions.decide(signal.pk + 1) is None
    intent.refresh_from_db()
    assert intent.reason == Reason.UNKNOWN_TRADER
    assert TxIntent.objects.count() == 1


# What only the gate, the wallet or the chain can refuse.


def submitted(rig: Rig, **fields: object) -> TxIntent:
    _, intent = decide(**fields)
    assert intent.state == "pending"
    rig.submit()
    intent.refresh_from_db()
    return intent


def test_emergency_stop(granted: Rig) -> None:
    control.impose(RestrictionKind.STOP, Origin.HTTP, by="test", reason="drill")
    assert_refused(submitted(granted), Reason.EMERGENCY_STOP, "emergency stop")
    assert_refused(submitted(granted, **CLOSE), Reason.EMERGENCY_STOP)


def test_reduce_only_refuses_opens_and_lets_closes_pass(granted: Rig) -> None:
    granted.intent()
    granted.run()
    control.impose(RestrictionKind.REDUCE_ONLY, Origin.HTTP, by="test", reason="drill")
    refused = submitted(granted)
    assert (refused.state, refused.reason, refused.nonce) == ("rejected", Reason.REDUCE_ONLY, None)
    assert TxSend.objects.count() == 1
    assert submitted(granted, **CLOSE).state == "pending_inclusion"


def test_a_degraded_mode_holds_then_expires_and_never_simulates(granted: Rig) -> None:
    watch.stop()
    intent = submitted(granted)
    assert (intent.state, intent.reason) == ("held", Reason.MODE_DEGRADED)
    TxIntent.objects.update(expires_at=Now(), next_try_at=None)
    granted.submit()
    intent.refresh_from_db()
    assert (intent.state, intent.reason) == ("expired", Reason.LAG_EXCEEDED)
    assert "does not watch the mode" in intent.reason_detail
    assert_nothing_was_sent()
    assert not Position.objects.exists()


def test_a_live_position_is_not_closed_by_simulation(granted: Rig) -> None:
    granted.intent()
    granted.run()
    control.impose(RestrictionKind.DRY, Origin.HTTP, by="test", reason="drill")
    intent = submitted(granted, **CLOSE)
    assert (intent.state, intent.reason) == ("held", Reason.LIVE_POSITION_IN_DRY)
    assert Position.objects.get().state == "open"
    assert TxSend.objects.count() == 1


def test_a_close_without_a_position(granted: Rig) -> None:
    close = submitted(granted, **CLOSE)
    assert (close.state, close.reason) == ("no_op", Reason.NO_POSITION)
    assert_nothing_was_sent()


def test_a_close_of_a_trade_that_ended_elsewhere(granted: Rig) -> None:
    granted.intent()
    granted.run()
    owner_closes(granted)
    close = submitted(granted, **CLOSE)
    assert (close.state, close.reason) == ("pending", Reason.CLOSED_ELSEWHERE)
    granted.mine(4)
    TxIntent.objects.update(next_try_at=None)
    granted.submit()
    close.refresh_from_db()
    assert (close.state, close.reason, close.nonce) == ("no_op", Reason.CLOSED_ELSEWHERE, None)
    assert TxSend.objects.count() == 1


def test_a_close_waits_for_the_close_before_it(granted: Rig) -> None:
    granted.intent()
    granted.run()
    assert submitted(granted, **CLOSE, reduce_pct=50).state == "pending_inclusion"
    second = submitted(granted, **CLOSE)
    assert (second.state, second.reason, second.nonce) == ("pending", Reason.WAITS_FOR_EARLIER_CLOSE, None)


def test_a_close_waits_for_the_open_before_it(granted: Rig) -> None:
    opened = submitted(granted)
    assert opened.state == "pending_inclusion"
    closing = submitted(granted, **CLOSE)
    assert (closing.state, closing.reason, closing.nonce) == ("pending", Reason.WAITS_FOR_EARLIER_ORDER, None)


def test_a_halted_wallet(granted: Rig) -> None:
    Wallet.objects.update(halted_reason="the key was used elsewhere", halted_at=Now())
    intent = submitted(granted)
    assert (intent.state, intent.reason) == ("held", Reason.WALLET_HALTED)
    assert "used elsewhere" in intent.reason_detail
    assert_nothing_was_sent()


def test_a_wallet_without_gas(granted: Rig) -> None:
    rpc_call("anvil_setBalance", granted.wallet.address, hex(10**15))
    intent = submitted(granted)
    assert (intent.state, intent.reason) == ("held", Reason.INSUFFICIENT_GAS)
    assert_nothing_was_sent()


def test_a_gas_reserve_for_exits_is_kept(granted: Rig) -> None:
    """An open that would eat what two closes need takes no nonce."""
    opened = submitted(granted)
    cost_wei = int(opened.value_wei or 0) + int(opened.gas_limit or 0) * int(TxSend.objects.get().max_fee_wei)
    granted.mine()
    granted.track()
    granted.keep()
    granted.track()
    rpc_call("anvil_setBalance", granted.wallet.address, hex(cost_wei * 2))
    intent = submitted(granted, symbol="ETH-USD")
    assert (intent.state, intent.reason) == ("held", Reason.INSUFFICIENT_GAS)
    assert granted.wallet.address in intent.reason_detail
    assert TxSend.objects.count() == 1
    assert submitted(granted, **CLOSE).nonce == 1


def test_a_fee_above_the_ceiling(granted: Rig, settings: Any) -> None:
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(
        update={"max_fee_per_gas_gwei": Decimal("0.000001")}
    )
    intent = submitted(granted)
    assert (intent.state, intent.reason) == ("held", Reason.FEE_ABOVE_CEILING)
    assert "MAX_FEE_PER_GAS_GWEI" in intent.reason_detail
    assert_nothing_was_sent()


def test_what_the_venue_reverts(granted: Rig) -> None:
    intent = submitted(granted, collateral_usdc="0.5", leverage_x=1)
    assert_refused(intent, Reason.VENUE_REVERT, "BELOW_MIN_POS")


def test_a_symbol_without_a_price(granted: Rig, settings: Any) -> None:
    elsewhere = settings.ENVIRONMENT.usdc_address  # a contract that knows no prices
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(
        update={"venue_price_aggregator_address": elsewhere}
    )
    intent = submitted(granted)
    assert (intent.state, intent.reason) == ("pending", Reason.PRICE_UNAVAILABLE)
    assert "BTC-USD" in intent.reason_detail
    assert_nothing_was_sent()


def test_what_the_venue_cannot_represent(granted: Rig, settings: Any) -> None:
    """Slippage in the venue's units has fewer digits than a signal may have, or the wire refuses it."""
    intent = granted.intent(Action.OPEN, slippage_pct=Decimal(99999999))
    granted.submit()
    intent.refresh_from_db()
    assert intent.state == "rejected"
    assert intent.reason in {Reason.NOT_REPRESENTABLE, Reason.VENUE_REVERT}
    assert_nothing_was_sent()


def test_a_wallet_whose_key_is_missing(granted: Rig) -> None:
    signers.key_path(granted.wallet.address).unlink()
    signers._account.cache_clear()
    intent = submitted(granted)
    assert (intent.state, intent.reason) == ("held", Reason.NO_WALLET)
    assert granted.wallet.address in intent.reason_detail
    assert_nothing_was_sent()


def test_caps_that_shrank_after_the_decision_refuse_at_the_gate(granted: Rig, settings: Any) -> None:
    _, intent = decide()
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(update={"max_notional_usdc": Decimal(9)})
    granted.submit()
    assert_refused(intent, Reason.NOTIONAL_ABOVE_CAP, "9 USDC", "10", "MAX_NOTIONAL_USDC")


def test_a_close_ends_a_held_open_before_it_and_does_not_wait(granted: Rig) -> None:
    granted.intent()
    granted.run()
    held = granted.intent()
    move(held, IntentState.HELD, why="no gas", by="test", reason=Reason.INSUFFICIENT_GAS)
    close = granted.intent(Action.CLOSE)
    granted.run()
    held.refresh_from_db()
    close.refresh_from_db()
    assert (held.state, held.reason, held.nonce) == ("rejected", Reason.SUPERSEDED_BY_CLOSE, None)
    assert close.intent_key in held.reason_detail
    assert close.state == "filled"
    assert not Position.objects.filter(state="open").exists()


def test_every_reason_is_reached_by_a_test() -> None:
    files = ["signals/test_rules.py", "execution/test_dry.py", "integration/tx/test_caps.py"]
    ops = ("switches", "wallet_adopt", "order_lost", "backup_reconcile")
    tx = ("remote_signing", "permissions", "resting", "prices_compared", "market_hours")
    files += [*(f"ops/rollout/test_{n}.py" for n in ops), *(f"integration/tx/test_{n}.py" for n in tx)]
    source = "".join((real_parts.ROOT / "tests" / file).read_text() for file in files)
    assert [reason for reason in Reason if f"Reason.{reason.name}" not in source] == []

"""One row of every table, by legal moves only: the triggers of the database watch."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

from django.db import transaction
from django.db.models.functions import Now

from execution_app import audit, reservations
from execution_app.audit_words import AuditAction
from execution_app.models import (
    Archive,
    AuditEntry,
    Cap,
    Chain,
    Control,
    Correction,
    ExternalTrade,
    Fill,
    Heartbeat,
    IntentMove,
    IntentTransition,
    MarginChange,
    ModeChange,
    PoolBeat,
    Position,
    Price,
    Protection,
    ProtectionTrigger,
    Reservation,
    RestorePoint,
    Restriction,
    RiskLog,
    StackMode,
    Trader,
    TxIntent,
    TxReceipt,
    TxSend,
    VenueMessage,
    VenueOrder,
    Wallet,
)
from execution_app.states import Mode, Origin, RestrictionKind
from signals_app.models import ApiToken, Signal, Source, SourceBucket, SourceGrant, SourceSecret

TABLES = (
    ApiToken,
    Archive,
    AuditEntry,
    Cap,
    Chain,
    Control,
    Fill,
    Heartbeat,
    IntentMove,
    IntentTransition,
    ModeChange,
    PoolBeat,
    Position,
    Correction,
    MarginChange,
    ExternalTrade,
    Price,
    Protection,
    ProtectionTrigger,
    Reservation,
    RestorePoint,
    Restriction,
    RiskLog,
    Signal,
    Source,
    SourceBucket,
    SourceGrant,
    SourceSecret,
    StackMode,
    Trader,
    TxIntent,
    TxReceipt,
    TxSend,
    VenueMessage,
    VenueOrder,
    Wallet,
)
VENUE = "0x" + "cc" * 20
BLOCK = "0x" + "dd" * 32
SEALED = b"\x01sealed-secret"
TOKEN_SHA256 = "5e" * 32


def one_of_each() -> TxIntent:
    """A LIVE open that was filled, everything around it, and a restriction that was lifted."""
    now = datetime.now(UTC)
    Chain.objects.create(chain_id=31337, genesis_hash=BLOCK, trading_address=VENUE, reconciled_at=now)
    with transaction.atomic():
        audit.record(AuditAction.TRADER_ADDED, "trader 123", after={"label": "rehearsal"})
    Heartbeat.objects.create(component="worker", pid=4711, started_at=now)
    ModeChange.objects.create(
        kind="effective", mode="DRY", reason="drill", streak=0, epoch=1, said_by="worker"
    )
    PoolBeat.objects.create(process="machine/4712/1", component="worker", pid=4712)
    Price.objects.create(
        symbol="BTC-USD",
        price=Decimal(60_000),
        **dict.fromkeys(("published_at", "head_at", "seen_at", "first_seen_at"), now),
    )
    Restriction.objects.create(
        kind=RestrictionKind.DRY, origin=Origin.COMMAND, set_by="ops", lifted_by="ops", lifted_at=now
    )
    Archive.objects.create(
        table_name="risk_log",
        day="2026-01-01",
        file="risk_log.gz",
        sha256="ab" * 32,
        rows=2,
        first_id=1,
        last_id=2,
    )
    RestorePoint.objects.create(
        snapshot_at=now, restored_at=now, backup_sha256="ab" * 32, epoch=2, restored_by="ops", reason="drill"
    )
    SourceGrant.objects.create(source="drill", tg_user_id=123)
    SourceSecret.objects.create(source=Source.objects.create(name="drill"), sealed=SEALED)
    ApiToken.objects.create(name="drill-dashboard", sha256=TOKEN_SHA256)
    SourceBucket.objects.create(source="drill", kind="open", tokens=7, refilled_at=now)
    Signal.objects.create(
        source="drill",
        signal_id="page-001",
        body_sha256="ab" * 32,
        tg_user_id=123,
        symbol="BTC-USD",
        side="LONG",
        collateral_usdc=Decimal(5),
        leverage_x=Decimal(2),
        slippage_pct=Decimal("0.5"),
    )
    trader = Trader.objects.create(tg_user_id=123, label="rehearsal", address="0x" + "aa" * 20)
    wallet = Wallet.objects.create(
        trader=trader,
        chain_id=31337,
        address="0x" + "bb" * 20,
        balance_wei=Decimal(15 * 10**17),
        delegated_until=now + timedelta(days=90),
    )
    intent = _filled_intent(trader, wallet)
    Cap.objects.create(
        scope="symbol", scope_value="BTC-USD", name="banned", value=0, set_by="ops", reason="drill"
    )
    reservations.take(intent, Mode.LIVE)  # its line of the log comes with it
    _traces(intent, trader)
    _message(trader, wallet)
    return intent


def _filled_intent(trader: Trader, wallet: Wallet) -> TxIntent:
    intent = TxIntent.objects.create(
        intent_key="sig:drill:page-001",
        trader=trader,
        wallet=wallet,
        tg_user_id=123,
        action="open",
        symbol="BTC-USD",
        is_long=True,
        collateral_usdc=Decimal(5),
        leverage_x=Decimal(2),
        slippage_pct=Decimal("0.5"),
    )
    slot = {"nonce": 0, "mode": "LIVE", "calldata": b"\x9a" * 300, "value_wei": 0, "gas_limit": 900_000}
    TxIntent.objects.filter(pk=intent.pk).update(state="reserved", to_address=VENUE, **slot)
    for state in ("signed", "sending", "pending_inclusion", "mined", "ordered", "filled"):
        TxIntent.objects.filter(pk=intent.pk).update(state=state)
    intent.refresh_from_db()
    return intent


def _message(trader: Trader, wallet: Wallet) -> None:
    """An open that goes by the gateway and has not left."""
    intent = TxIntent.objects.create(
        intent_key="desk:rows:message",
        trader=trader,
        wallet=wallet,
        tg_user_id=123,
        action="open",
        symbol="BTC-USD",
        is_long=True,
        collateral_usdc=Decimal(5),
        leverage_x=Decimal(2),
        slippage_pct=Decimal("0.5"),
    )
    TxIntent.objects.filter(pk=intent.pk).update(state="reserved", mode="LIVE", road="gateway")
    VenueMessage.objects.create(
        intent=intent,
        signer=wallet.address,
        nonce="0x" + "ab" * 32,
        digest="0x" + "cd" * 32,
        content=b"\x01" * 256,
        deadline_ms=1_800_000_000_000,
        from_block=7,
        signature=b"\x02" * 65,
    )


def _traces(intent: TxIntent, trader: Trader) -> None:
    IntentTransition.objects.create(intent=intent, from_state="", to_state="pending", why="signal", by="test")
    send = TxSend.objects.create(
        intent=intent,
        attempt=1,
        kind="exec",
        tx_hash="0x" + "ee" * 32,
        raw=b"\x02" * 200,
        max_fee_wei=Decimal(2 * 10**9),
        tip_wei=Decimal(10**9),
        outcome="accepted",
        offers=1,
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
    VenueOrder.objects.create(
        intent=intent, venue=VENUE, order_id=1, block_number=7, block_hash=BLOCK, state="executed"
    )
    position = Position.objects.create(
        trader=trader,
        venue=VENUE,
        symbol="BTC-USD",
        pair_index=1,
        trade_index=0,
        opened_at=datetime.now(UTC),
        mode="LIVE",
        is_long=True,
        collateral_usdc=Decimal(5),
        leverage_x=Decimal(2),
        open_price=Decimal(60_000),
        drift="venue holds 4 USDC",
    )
    held = {"collateral_usdc": Decimal(4), "leverage_x": Decimal(2), "venue_timestamp": datetime.now(UTC)}
    Correction.objects.create(
        position=position, block_number=9, block_hash=BLOCK, differed="collateral_usdc is 5", **held
    )
    MarginChange.objects.create(
        position=position,
        change_usdc=Decimal(1),
        tx_hash="0x" + "ee" * 32,
        log_index=0,
        block_number=8,
        block_hash=BLOCK,
        **held,
    )
    ExternalTrade.objects.create(
        trader=trader,
        venue=VENUE,
        symbol="BTC-USD",
        pair_index=1,
        trade_index=1,
        is_long=False,
        open_price=Decimal(60_000),
        **held,
    )
    _guard(position, intent)
    Fill.objects.create(
        intent=intent,
        position=position,
        action="open",
        mode="LIVE",
        price=Decimal(60_000),
        collateral_usdc=Decimal(5),
        leverage_x=Decimal(2),
        tx_hash="0x" + "ff" * 32,
        log_index=3,
        block_number=8,
        block_hash=BLOCK,
        filled_at=Now(),
    )


def _guard(position: Position, opening: TxIntent) -> None:
    """A stop loss that has fired."""
    guard = Protection.objects.create(
        position=position, version=1, is_long=True, stop_loss=Decimal(50_000), set_by=opening.intent_key
    )
    close = TxIntent.objects.create(
        intent_key=f"tpsl:{position.pk}:1:stop_loss",
        trader=opening.trader,
        wallet=opening.wallet,
        tg_user_id=123,
        action="close",
        symbol="BTC-USD",
        slippage_pct=Decimal("0.5"),
        position=position,
        only_position=True,
    )
    ProtectionTrigger.objects.create(
        protection=guard, intent=close, kind="stop_loss", price=Decimal(49_000), level=Decimal(50_000)
    )

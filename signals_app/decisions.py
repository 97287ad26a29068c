"""What a signal means: an intent to execute, or the reasons why not. Decided once."""

from datetime import datetime, timedelta
from typing import Any

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models.functions import Now

from execution_app import people
from execution_app.bells import ring
from execution_app.engine.waiting import database_now
from execution_app.gate import restore_points
from execution_app.gate.admission import order_breaches
from execution_app.models import Trader, TxIntent, Wallet
from execution_app.moves import open_intent
from execution_app.states import Action, IntentState, OrderType, Reason, Road
from execution_app.tasks import submit
from execution_app.venues.interface import (
    DEFAULT_MAX_LAG_S,
    DEFAULT_SLIPPAGE_PCT,
    UnsupportedError,
    require,
)
from execution_app.venues.interface import Action as Asked
from execution_app.venues.onchain import PAIRS
from signals_app import meters, of_positions
from signals_app.models import Signal, SourceGrant
from signals_app.of_positions import Objection, order_of
from signals_app.sides import CHANGE, INCREASE, MARGIN

log = structlog.get_logger(__name__)
BY = "decision"
CLOCK_SKEW_S = 5
# What each type asks of the venue's adapter.
OPENS = {
    OrderType.MARKET: Asked.OPEN_MARKET,
    OrderType.LIMIT: Asked.OPEN_LIMIT,
    OrderType.STOP_LIMIT: Asked.OPEN_STOP_LIMIT,
}
LEVELS = ("take_profit", "stop_loss", "trailing_stop_pct", "break_even_pct", "time_stop_s")


def decide(signal_id: int) -> TxIntent | None:
    """Turn a stored signal into its one intent, accepted or rejected; None when it is decided already.

    Earlier signals for the same trader are decided first, whatever became of
    their bells: an exit must find the open that it ends.
    """
    signals = Signal.objects.filter(tg_user_id__in=Signal.objects.filter(pk=signal_id).values("tg_user_id"))
    waiting = signals.filter(pk__lte=signal_id, decided_at=None).order_by("pk").values_list("pk", flat=True)
    return next(reversed([_decide(pk) for pk in waiting]), None)


def _decide(signal_id: int) -> TxIntent | None:
    with transaction.atomic(durable=True):
        # First of all: who is unbound or forgotten meanwhile is, before anything of theirs is read.
        people.stand_with(signal_id)
        # Whoever decides it now is waited for, so that intents follow the order of intake.
        signal = Signal.objects.select_for_update().filter(pk=signal_id, decided_at=None).first()
        if signal is None:
            return None
        now = database_now()
        trader = Trader.objects.filter(tg_user_id=signal.tg_user_id).first()
        wallet = Wallet.objects.filter(trader=trader).first() if trader else None
        objections = object_to(signal, trader, wallet, now)
        opens_intent = {CHANGE: _change, INCREASE: _of_position, MARGIN: _of_position}.get(signal.side, _open)
        intent = opens_intent(signal, trader, wallet, objections)
        signal.decided_at = now
        signal.decision = "rejected" if objections else "accepted"
        signal.reasons = [o.reason.value for o in objections] or [Reason.ACCEPTED.value]
        signal.save(update_fields=["decided_at", "decision", "reasons"])
        if wallet is not None and not objections:
            transaction.on_commit(lambda: ring(submit, wallet.pk))
    for objection in objections:
        meters.SIGNALS_REJECTED.labels(objection.reason.value).inc()
        log.info("rejected", key=signal.intent_key, reason=objection.reason, detail=objection.detail)
    return intent


def object_to(signal: Signal, trader: Trader | None, wallet: Wallet | None, now: datetime) -> list[Objection]:
    """Every reason against the signal. The mode is not asked here: the gate does, under the wallet's lock."""
    found = _who(signal, trader, wallet)
    what = {
        CHANGE: lambda: _what_changes(signal, wallet),
        INCREASE: lambda: of_positions.objections(signal, trader),
        MARGIN: lambda: of_positions.objections(signal, trader),
    }
    found += what.get(signal.side, lambda: _what(signal))()
    found += _when(signal, now)
    return found


def _who(signal: Signal, trader: Trader | None, wallet: Wallet | None) -> list[Objection]:
    if trader is None:
        return [Objection(Reason.UNKNOWN_TRADER, f"no trader has tg_user_id {signal.tg_user_id}")]
    found = []
    if not trader.enabled:
        found.append(Objection(Reason.TRADER_DISABLED, f"trader {signal.tg_user_id} is disabled"))
    if not SourceGrant.objects.filter(source=signal.source, tg_user_id=signal.tg_user_id).exists():
        detail = f"source {signal.source} may not trade for {signal.tg_user_id}"
        found.append(Objection(Reason.SOURCE_NOT_ALLOWED, detail))
    if wallet is None:
        found.append(Objection(Reason.NO_WALLET, f"trader {signal.tg_user_id} has no delegate wallet"))
    return found


def _what(signal: Signal) -> list[Objection]:
    found = []
    if signal.symbol not in PAIRS:
        found.append(Objection(Reason.SYMBOL_UNKNOWN, f"the venue has no pair {signal.symbol}"))
    if unsupported := _unsupported(signal):
        found.append(Objection(Reason.ORDER_TYPE_UNSUPPORTED, unsupported))
    if signal.side == "CLOSE" and any(getattr(signal, name) is not None for name in LEVELS):
        detail = f"{', '.join(LEVELS)} come with an open; `manage.py protection set` changes a position's"
        found.append(Objection(Reason.TRIGGER_PRICE_UNSUPPORTED, detail))
    if signal.side != "CLOSE":
        found += [Objection(breach.reason, breach.detail) for breach in order_breaches(order_of(signal))]
    return found


def _what_changes(signal: Signal, wallet: Wallet | None) -> list[Objection]:
    try:
        require(settings.ENVIRONMENT.venue, Asked.CHANGE_ORDER, "side")
    except UnsupportedError as refusal:
        return [Objection(Reason.ORDER_TYPE_UNSUPPORTED, str(refusal))]
    if wallet is not None and _changed(signal, wallet) is None:
        detail = f"no signal {signal.changes} of {signal.source} made this trader an order on {signal.symbol} that rests"
        return [Objection(Reason.NO_ORDER, detail)]
    return []


def _changed(signal: Signal, wallet: Wallet) -> TxIntent | None:
    """The order that it names: of the same source, trader and symbol."""
    key = f"sig:{signal.source}:{signal.changes}"
    mine = TxIntent.objects.filter(intent_key=key, action=Action.OPEN, wallet=wallet, symbol=signal.symbol)
    return mine.filter(trader=wallet.trader).exclude(order_type=OrderType.MARKET).first()


def _unsupported(signal: Signal) -> str:
    """Why this deployment's road to the venue has no such order; blank where it has."""
    if signal.side == "CLOSE":
        return "" if signal.order_type == OrderType.MARKET else "a CLOSE is a market order"
    try:
        require(settings.ENVIRONMENT.venue, OPENS[OrderType(signal.order_type)], "order_type")
    except UnsupportedError as refusal:
        return str(refusal)
    return ""


def _when(signal: Signal, now: datetime) -> list[Objection]:
    if signal.ts is not None and signal.ts > now + timedelta(seconds=CLOCK_SKEW_S):
        return [Objection(Reason.TS_IN_FUTURE, f"ts {signal.ts.isoformat()} lies in the future")]
    if forgotten := restore_points.objection(signal.ts, signal.received_at):
        return [Objection(Reason.OLDER_THAN_RESTORE, forgotten)]
    expires_at = expiry(signal)
    if expires_at is not None and expires_at <= now:
        detail = f"the signal is older than its max lag, which ended at {expires_at.isoformat()}"
        return [Objection(Reason.LAG_EXCEEDED, detail)]
    return []


def expiry(signal: Signal) -> datetime | None:
    """When an opening signal is too old to trade; an exit expires only where its sender said so."""
    begins_at: datetime = signal.ts or signal.received_at
    if signal.max_lag_s is not None:
        return begins_at + timedelta(seconds=signal.max_lag_s)
    return None if signal.side == "CLOSE" else begins_at + timedelta(seconds=DEFAULT_MAX_LAG_S)


def _open(
    signal: Signal, trader: Trader | None, wallet: Wallet | None, objections: list[Objection]
) -> TxIntent:
    closes = signal.side == "CLOSE"
    rests = not closes and signal.order_type != OrderType.MARKET
    intent, _ = open_intent(
        **_asker(signal, trader, wallet, objections),
        action=(Action.CLOSE if closes else Action.OPEN).value,
        symbol=signal.symbol,
        is_long=None if closes else signal.side == "LONG",
        collateral_usdc=None if closes else signal.collateral_usdc,
        leverage_x=None if closes else signal.leverage_x,
        slippage_pct=signal.slippage_pct,
        order_type=OrderType.MARKET.value if closes else signal.order_type,
        limit_price=None if closes else signal.limit_price,
        # Only one road has it, whatever VENUE says by the time it is signed.
        road=Road.ONCHAIN.value if rests else "",
        reduce_usdc=signal.reduce_usdc,
        reduce_pct=signal.reduce_pct,
        **{name: getattr(signal, name) for name in LEVELS},
    )
    return intent


def _of_position(
    signal: Signal, trader: Trader | None, wallet: Wallet | None, objections: list[Objection]
) -> TxIntent:
    asked = of_positions.asked(signal, trader)
    intent, _ = open_intent(**_asker(signal, trader, wallet, objections), **asked)
    return intent


def _change(
    signal: Signal, trader: Trader | None, wallet: Wallet | None, objections: list[Objection]
) -> TxIntent:
    order = _changed(signal, wallet) if wallet is not None else None
    intent, _ = open_intent(
        **_asker(signal, trader, wallet, objections),
        action=Action.UPDATE_ORDER.value,
        symbol=signal.symbol,
        slippage_pct=signal.slippage_pct or (order.slippage_pct if order else DEFAULT_SLIPPAGE_PCT),
        new_slippage_pct=signal.slippage_pct,
        limit_price=signal.limit_price,
        take_profit=signal.take_profit,
        stop_loss=signal.stop_loss,
        road=Road.ONCHAIN.value,
        target=order,
    )
    return intent


def _asker(
    signal: Signal, trader: Trader | None, wallet: Wallet | None, objections: list[Objection]
) -> dict[str, Any]:
    """What an intent has of its signal, whatever is asked for."""
    refusal = {}
    if objections:
        refusal = {
            "reason": objections[0].reason.value,
            "reason_detail": "; ".join(o.detail for o in objections)[:400],
        }
    return {
        "key": signal.intent_key,
        "by": BY,
        "state": IntentState.REJECTED if objections else IntentState.PENDING,
        "trader": trader,
        "wallet": wallet,
        "tg_user_id": signal.tg_user_id,
        "source": signal.source,
        "accepted_at": signal.received_at,
        "expires_at": expiry(signal),
        **refusal,
    }


def undecided(limit: int = 200) -> list[int]:
    """Signals whose bell was lost, oldest first; the youngest are left to their bells."""
    older = Signal.objects.filter(decided_at=None, received_at__lt=Now() - timedelta(seconds=1))
    return list(older.order_by("id").values_list("id", flat=True)[:limit])

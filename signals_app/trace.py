"""Everything that became of one signal, as JSON: amounts are decimal strings, times RFC 3339 in UTC.

Every query is bounded: by the unique keys, and where history can grow by a limit.
"""

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from django.db.models import Model

from execution_app.models import Archive, ArchivedTable, IntentTransition, TxIntent, TxReceipt, TxSend
from signals_app.models import Signal
from signals_app.strict_json import plain

Json = dict[str, Any]
# A CLOSE ends all positions of a pair; the venue bounds how many a trader has.
MAX_SIBLINGS = 32
MAX_TRANSITIONS = 500
MAX_SENDS = 100
# Nothing is archived earlier; the database refuses it (execution_app 0028).
ARCHIVED_AFTER_DAYS = 35

# What is shown of each row, beside what the functions below add; the API's description is made from these.
SIGNAL = (
    *("source", "signal_id", "tg_user_id", "symbol", "side", "collateral_usdc", "leverage_x"),
    *("slippage_pct", "reduce_usdc", "reduce_pct", "take_profit", "stop_loss", "trailing_stop_pct"),
    *("break_even_pct", "time_stop_s", "order_type", "limit_price", "changes", "deposit_usdc"),
    *("withdraw_usdc", "max_lag_s", "ts", "meta"),
    *("body_sha256", "received_at"),
)
INTENT = (
    *("state", "reason", "reason_detail", "mode", "road", "nonce", "action", "symbol", "is_long"),
    *("collateral_usdc", "leverage_x", "slippage_pct", "wanted_price", "to_address", "value_wei"),
    *("reduce_usdc", "reduce_pct", "close_usdc", "take_profit", "stop_loss", "gas_limit"),
    *("trailing_stop_pct", "break_even_pct", "time_stop_s", "order_type", "limit_price", "new_slippage_pct"),
    "margin_usdc",
    *("attempts", "next_try_at", "accepted_at", "expires_at", "settled_at", "updated_at"),
)
TRANSITION = ("from_state", "to_state", "at", "why", "by")
SEND = (
    *("tx_hash", "kind", "attempt", "max_fee_wei", "tip_wei", "outcome", "offers"),
    *("signed_at", "leased_at", "offered_at", "last_offered_at"),
)
MESSAGE = (
    *("digest", "signer", "nonce", "deadline_ms", "outcome", "posts", "tracking_id", "said"),
    *("made_at", "leased_at", "posted_at", "last_posted_at", "held_at"),
)
RECEIPT = (
    *("status", "block_number", "block_hash", "gas_used", "effective_gas_price_wei", "l1_fee_wei"),
    *("canonical", "seen_at"),
)
RESERVATION = ("state", "mode", "asked_usdc", "notional_usdc", "reserved_at", "released_at")
ORDER = (
    *("order_id", "venue", "state", "block_number", "block_hash", "created_at"),
    *("limit_price", "slippage_pct", "take_profit", "stop_loss"),
)
FILL = (
    *("action", "mode", "price", "collateral_usdc", "leverage_x", "fee_usdc", "sent_to_trader_usdc"),
    *("open_price_after", "leverage_after_x"),
    *("tx_hash", "log_index", "block_number", "block_hash", "filled_at", "settled_at"),
)
POSITION = (
    *("venue", "symbol", "pair_index", "trade_index", "mode", "state", "is_long", "collateral_usdc"),
    *("leverage_x", "open_price", "close_price", "paid_out_usdc", "opened_at", "closed_at"),
    *("take_profit", "stop_loss", "ended_by", "settled_at", "drift", "updated_at"),
)


def build(source: str, signal_id: str) -> Json | None:
    """Return the trace, or None when no such signal is stored."""
    signal = Signal.objects.filter(source=source, signal_id=signal_id).first()
    if signal is None:
        return None
    key = signal.intent_key
    # Listed keys use the unique index; a prefix would depend on the database's collation.
    keys = [key, *(f"{key}#{number}" for number in range(2, MAX_SIBLINGS + 1))]
    rows = TxIntent.objects.filter(intent_key__in=keys).select_related(
        "wallet", "venue_order", "fill__position", "position", "reservation", "message"
    )
    intents = {intent.intent_key: road(intent) for intent in rows}
    main = intents.pop(key, None)
    return {
        "signal": _signal(signal),
        "decision": {
            "decision": signal.decision or None,
            "reasons": signal.reasons,
            "decided_at": _value(signal.decided_at),
        },
        **(main or _NO_ROAD),
        "siblings": [intents[sibling] for sibling in keys if sibling in intents],
    }


_NO_ROAD: Json = {
    "intent": None,
    "reservation": None,
    "history": [],
    "history_archive": None,
    "sends": [],
    "message": None,
    "receipts": [],
    "order": None,
    "fill": None,
    "position": None,
}


def road(intent: TxIntent) -> Json:
    """One intent and all that hangs on it: `intent`, `reservation`, `history`, `history_archive`, `sends`, `receipts`, `order`, `fill`, `position`."""
    order = getattr(intent, "venue_order", None)
    message = getattr(intent, "message", None)
    held = getattr(intent, "reservation", None)
    fill = getattr(intent, "fill", None)
    position = fill.position if fill is not None else intent.position
    history = list(IntentTransition.objects.filter(intent=intent).order_by("id")[:MAX_TRANSITIONS])
    sends = TxSend.objects.filter(intent=intent).defer("raw").order_by("attempt")[:MAX_SENDS]
    receipts = TxReceipt.objects.filter(intent=intent).select_related("send").order_by("id")[:MAX_SENDS]
    return {
        "intent": _intent(intent),
        "reservation": _pick(held, RESERVATION) if held is not None else None,
        "history": [_pick(move, TRANSITION) for move in history],
        "history_archive": None if history else _archive(ArchivedTable.INTENT_TRANSITIONS, intent.settled_at),
        "sends": [_pick(send, SEND) for send in sends],
        "message": _pick(message, MESSAGE) if message is not None else None,
        "receipts": [_receipt(receipt) for receipt in receipts],
        "order": _pick(order, ORDER) if order is not None else None,
        "fill": _pick(fill, FILL) if fill is not None else None,
        "position": _pick(position, POSITION) if position is not None else None,
    }


def _signal(signal: Signal) -> Json:
    archive = None if signal.meta else _archive(ArchivedTable.SIGNALS, signal.received_at, signal.pk)
    return {"intent_key": signal.intent_key, **_pick(signal, SIGNAL), "meta_archive": archive}


def _archive(table: ArchivedTable, ended: datetime | None, row_id: int | None = None) -> str | None:
    """The file that has what ended then, where it has left the database; asked for at all only where that may be."""
    day = ended.astimezone(UTC).date() if ended is not None else date.max
    if (datetime.now(UTC).date() - day).days < ARCHIVED_AFTER_DAYS:
        return None
    found = Archive.objects.filter(table_name=table, day=day).order_by("part")
    if row_id is not None:
        found = found.filter(first_id__lte=row_id, last_id__gte=row_id)
    return found.values_list("file", flat=True).first()


def _intent(intent: TxIntent) -> Json:
    wallet = intent.wallet.address if intent.wallet is not None else None
    return {"key": intent.intent_key, "wallet": wallet, **_pick(intent, INTENT)}


def _receipt(receipt: TxReceipt) -> Json:
    return {"tx_hash": receipt.send.tx_hash, **_pick(receipt, RECEIPT)}


def _pick(row: Model, names: tuple[str, ...]) -> Json:
    return {name: _value(getattr(row, name)) for name in names}


def _value(value: object) -> object:
    if isinstance(value, Decimal):
        return plain(value)
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return value

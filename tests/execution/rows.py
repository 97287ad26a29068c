"""Sound rows written by plain SQL, so that one thing at a time can be wrong with them."""

from itertools import count
from typing import Any

from django.db import connection

from execution_app.states import TERMINAL, IntentState

_numbers = count(100_000)  # clear of what fixtures use
Row = dict[str, Any]


def insert(table: str, row: Row) -> int:
    columns = ", ".join(row)
    marks = ", ".join(["%s"] * len(row))
    with connection.cursor() as cursor:
        cursor.execute(f"INSERT INTO {table} ({columns}) VALUES ({marks}) RETURNING *", list(row.values()))
        return int(cursor.fetchone()[0])


def execute(statement: str, *values: Any) -> int:
    """Returns how many rows it touched."""
    with connection.cursor() as cursor:
        cursor.execute(statement, list(values))
        return int(cursor.rowcount)


def one(statement: str, *values: Any) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(statement, list(values))
        return cursor.fetchone()[0]


def address() -> str:
    return f"0x{next(_numbers):040x}"


def tx_hash() -> str:
    return f"0x{next(_numbers):064x}"


def trader(**fields: object) -> int:
    return insert(
        "traders",
        {"tg_user_id": next(_numbers), "label": "", "address": address(), "enabled": True} | fields,
    )


def wallet(**fields: object) -> int:
    sound: Row = {"trader_id": None, "chain_id": 31337, "address": address(), "next_nonce": 0}
    sound |= {"max_in_flight": 16, "halted_reason": ""}
    row = sound | fields
    row["trader_id"] = row["trader_id"] or trader()
    return insert("wallets", row)


def intent_row(**fields: object) -> Row:
    """A pending open."""
    return {
        "intent_key": f"sig:rows:{next(_numbers)}",
        "tg_user_id": 123,
        "action": "open",
        "symbol": "BTC-USD",
        "is_long": True,
        "collateral_usdc": 5,
        "leverage_x": 2,
        "slippage_pct": "0.5",
        "state": "pending",
        "reason": "",
        "reason_detail": "",
        "attempts": 0,
        "to_address": "",
    } | fields


def intent(**fields: object) -> int:
    return insert("tx_intents", intent_row(**fields))


def intent_in(state: IntentState, *, gateway: bool = False, **fields: object) -> int:
    """An intent led to this state by legal moves; waiting and owning states alike. Only a message lapses, or changes levels."""
    if state is IntentState.CHANGED:
        fields = of_levels() | fields
    by_message = gateway or state in (IntentState.LAPSED, IntentState.CHANGED)
    owned = {"mode": "LIVE", "road": "gateway"} if by_message else slot()
    wallet_id = wallet()
    trader_id = one("SELECT trader_id FROM wallets WHERE id = %s", wallet_id)
    pk = intent(wallet_id=wallet_id, trader_id=trader_id, **fields)
    for step in road(state):
        changes: Row = {"state": step.value}
        if step is IntentState.RESERVED:
            changes |= owned | closing(fields)
        if step is IntentState.SIMULATED:
            changes["mode"] = "DRY"
        if step in TERMINAL:
            changes["settled_at"] = "2026-01-01T00:00:00Z"
        update("tx_intents", pk, changes)
    return pk


def of_levels() -> Row:
    """What makes an intent one of new levels."""
    return {"action": "levels", "position_id": position(), "road": "gateway"}


def closing(fields: Row) -> Row:
    """What a close needs beside its slot."""
    if fields.get("action") != "close":
        return {}
    return {"position_id": fields.get("position_id") or position(), "holds_position": True, "close_usdc": 5}


def slot(**fields: object) -> Row:
    return {
        "mode": "LIVE",
        "nonce": next(_numbers),
        "to_address": address(),
        "calldata": b"\x01",
        "value_wei": 0,
        "gas_limit": 21_000,
    } | fields


def road(state: IntentState) -> tuple[IntentState, ...]:
    s = IntentState
    sent = (s.RESERVED, s.SIGNED, s.SENDING, s.PENDING_INCLUSION)
    ordered = (*sent, s.MINED, s.ORDERED)
    roads = {
        s.PENDING: (),
        s.RESERVED: sent[:1],
        s.SIGNED: sent[:2],
        s.SENDING: sent[:3],
        s.PENDING_INCLUSION: sent,
        s.MINED: ordered[:5],
        s.ORDERED: ordered,
        s.FILLED: (*ordered, s.FILLED),
        s.CHANGED: (*ordered[:5], s.CHANGED),
        s.VENUE_CANCELLED: (*ordered, s.VENUE_CANCELLED),
        s.FINAL_REVERTED: (*ordered[:5], s.FINAL_REVERTED),
        s.FINAL_CANCELLED: (*ordered[:5], s.FINAL_CANCELLED),
        s.LOST_NONCE: (*sent, s.LOST_NONCE),
        s.LAPSED: (*sent, s.LAPSED),
    }
    return roads.get(state, (state,))


def update(table: str, pk: int, changes: Row) -> int:
    settings = ", ".join(f"{column} = %s" for column in changes)
    return execute(f"UPDATE {table} SET {settings} WHERE id = %s", *changes.values(), pk)


def send(**fields: object) -> int:
    row: Row = {"intent_id": None, "attempt": 0, "kind": "exec", "tx_hash": tx_hash(), "raw": b"\x02"}
    row |= {"max_fee_wei": 10, "tip_wei": 1, "offers": 0, "outcome": "unoffered"} | fields
    row["intent_id"] = row["intent_id"] or intent_in(IntentState.RESERVED)
    return insert("tx_sends", row)


def receipt(**fields: object) -> int:
    row: Row = {"send_id": None, "intent_id": None, "block_number": 1, "block_hash": tx_hash()}
    row |= {"status": 1, "gas_used": 1, "effective_gas_price_wei": 1, "canonical": True} | fields
    row["send_id"] = row["send_id"] or send()
    row["intent_id"] = row["intent_id"] or one("SELECT intent_id FROM tx_sends WHERE id = %s", row["send_id"])
    return insert("tx_receipts", row)


def order(**fields: object) -> int:
    row: Row = {"intent_id": None, "venue": "0xvenue", "order_id": next(_numbers), "block_number": 1}
    row |= {"block_hash": tx_hash(), "state": "registered", "done_block_hash": ""} | fields
    row["intent_id"] = row["intent_id"] or intent()
    return insert("venue_orders", row)


def position(**fields: object) -> int:
    row: Row = {"trader_id": None, "venue": "0xvenue", "symbol": "BTC-USD", "pair_index": 1, "trade_index": 0}
    row |= {"opened_at": "2026-01-01T00:00:00Z", "mode": "LIVE", "state": "open", "is_long": True}
    row |= {"collateral_usdc": 5, "leverage_x": 2, "open_price": 60_000, "drift": ""} | fields
    row["trader_id"] = row["trader_id"] or trader()
    return insert("positions", row)


def fill(**fields: object) -> int:
    row: Row = {"intent_id": None, "position_id": None, "action": "open", "mode": "LIVE", "price": 60_000}
    row |= {"collateral_usdc": 5, "leverage_x": 2, "tx_hash": tx_hash(), "log_index": 0, "block_number": 1}
    row |= {"block_hash": ""} | fields
    if "ended_by" not in fields:  # what the venue ended is of no order
        row["intent_id"] = row["intent_id"] or intent()
    row["position_id"] = row["position_id"] or position()
    return insert("fills", row)


def transition(**fields: object) -> int:
    row: Row = {"intent_id": None, "from_state": "", "to_state": "pending", "why": "", "by": "test"} | fields
    row["intent_id"] = row["intent_id"] or intent()
    return insert("intent_transitions", row)


def restriction(**fields: object) -> int:
    row: Row = {"kind": "emergency_stop", "origin": "http", "reason": "", "set_by": "test", "lifted_by": ""}
    return insert("mode_changes", row | fields)


def price(**fields: object) -> int:
    moments = dict.fromkeys(("published_at", "head_at", "seen_at", "first_seen_at"), "2026-01-01T00:00:00Z")
    row: Row = {"symbol": "BTC-USD", "price": 60_000, **moments} | fields
    columns, marks = ", ".join(row), ", ".join(["%s"] * len(row))
    return execute(f"INSERT INTO prices ({columns}) VALUES ({marks})", *row.values())


def stack_mode(**fields: object) -> int:
    row: Row = {"id": 1, "mode": "DRY", "dry_at": "2026-01-01T00:00:00Z", "changes": 0}
    return insert("stack_mode", row | fields)


def mode_change(**fields: object) -> int:
    row: Row = {"kind": "effective", "mode": "DRY", "reason": "", "streak": 0, "epoch": 1, "said_by": "test"}
    return insert("mode_history", row | fields)


def signal(**fields: object) -> int:
    row: Row = {"source": "rows", "signal_id": str(next(_numbers)), "body_sha256": "0" * 64}
    row |= {"tg_user_id": 123, "symbol": "BTC-USD", "side": "LONG", "collateral_usdc": 5, "leverage_x": 2}
    row |= {"slippage_pct": "0.5", "order_type": "market", "meta": "{}", "decision": "", "reasons": "[]"}
    row |= {"webhook_id": ""}
    return insert("signals", row | fields)


def source(**fields: object) -> str:
    row: Row = {"name": f"source-{next(_numbers)}", "open_burst": 1, "opens_per_minute": 1, "close_burst": 1}
    row |= {"closes_per_minute": 1} | fields
    columns = ", ".join(row)
    marks = ", ".join(["%s"] * len(row))
    execute(f"INSERT INTO sources ({columns}) VALUES ({marks})", *row.values())
    return str(row["name"])


def secret(**fields: object) -> int:
    return insert("source_secrets", {"source": source(), "sealed": b"x", "active": True} | fields)


def bucket(**fields: object) -> int:
    row: Row = {"source": "a", "kind": "open", "tokens": 1, "refilled_at": "2026-01-01T00:00:00Z"}
    return insert("source_buckets", row | fields)


def token(**fields: object) -> int:
    number = next(_numbers)
    row: Row = {"name": f"token-{number}", "sha256": f"{number:064x}", "scope": "read"}
    return insert("api_tokens", row | fields)


def cap(**fields: object) -> int:
    row: Row = {"scope": "global", "scope_value": "", "name": "exposure_usdc", "value": 100}
    row |= {"set_by": "test", "reason": "a reason"} | fields
    return insert("caps", row)


def reservation(**fields: object) -> int:
    row: Row = {"intent_id": None, "trader_id": None, "source": "", "symbol": "BTC-USD", "mode": "LIVE"}
    row |= {"state": "open", "asked_usdc": 10, "notional_usdc": 10} | fields
    row["intent_id"] = row["intent_id"] or intent()
    row["trader_id"] = row["trader_id"] or trader()
    return insert("risk_reservations", row)


def audit_entry(**fields: object) -> int:
    row: Row = {
        "actor": "a",
        "origin": "command",
        "address": "",
        "action": "login",
        "subject": "",
        "reason": "",
    }
    return insert("audit_log", row | fields)

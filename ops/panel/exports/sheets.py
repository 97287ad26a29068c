"""The two files and what stands in them: numbers as stored, times in UTC, and by which price ether was valued.

USD values: one USDC counts as one USD. Ether is valued at the oracle's price of the newest ETH-USD fill of either
mode within the 24 hours before, which the row names by its time; where there is none the value is left blank.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db import connection

from execution_app.states import Mode
from ops.panel.pages import plain

BATCH = 2_000
METHOD = "USDC as 1 USD; ETH at the ETH-USD fill of eth_usd_at, at most 24 h older"
# What starts a formula where a spreadsheet opens the file; numbers of ours never go through this.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_ETHER = """
LEFT JOIN LATERAL (
    SELECT e.price AS eth_usd, e.filled_at AS eth_usd_at FROM fills e JOIN tx_intents o ON o.id = e.intent_id
    WHERE e.filled_at <= {at} AND e.filled_at > {at} - interval '24 hours' AND o.symbol = 'ETH-USD'
    ORDER BY e.filled_at DESC LIMIT 1
) ether ON true
"""
_COST = "r.gas_used * r.effective_gas_price_wei"
# Multiplied, since PostgreSQL rounds what it divides to some twenty digits.
_IN_USD = "* eth_usd * 1e-18"
_PAID = "CASE WHEN r.status = 1 AND s.kind <> 'cancel' THEN i.value_wei ELSE 0 END"
_FILLS = f"""
SELECT f.filled_at AS at, f.id, f.filled_at, f.settled_at, f.mode, t.tg_user_id, t.label, coalesce(i.intent_key, f.ended_by), f.position_id,
    p.symbol, CASE WHEN p.is_long THEN 'LONG' ELSE 'SHORT' END, f.action, f.price, f.collateral_usdc, f.leverage_x,
    f.collateral_usdc * f.leverage_x, f.fee_usdc, f.sent_to_trader_usdc,
    CASE WHEN f.action = 'close' THEN f.sent_to_trader_usdc - f.collateral_usdc END,
    {_PAID}, r.gas_used, r.effective_gas_price_wei, {_COST}, r.l1_fee_wei,
    eth_usd, eth_usd_at, ({_COST} + r.l1_fee_wei + {_PAID}) {_IN_USD}, s.tx_hash, f.tx_hash, f.block_number
FROM fills f LEFT JOIN tx_intents i ON i.id = f.intent_id JOIN positions p ON p.id = f.position_id
JOIN traders t ON t.id = p.trader_id
LEFT JOIN tx_receipts r ON r.intent_id = i.id AND r.canonical LEFT JOIN tx_sends s ON s.id = r.send_id
{_ETHER.format(at="f.filled_at")}
WHERE f.mode = %(mode)s AND f.filled_at >= %(since)s AND f.filled_at < %(until)s AND (f.filled_at, f.id) > (%(at)s, %(id)s)
    AND (%(trader)s::bigint[] IS NULL OR t.tg_user_id = ANY(%(trader)s))
ORDER BY f.filled_at, f.id LIMIT %(batch)s
"""  # noqa: S608
_TRANSACTIONS = f"""
SELECT r.seen_at AS at, r.id, r.seen_at, i.settled_at, i.mode, i.tg_user_id, t.label, i.intent_key, w.address, i.nonce,
    s.kind, i.action, i.symbol, r.status, r.block_number, r.gas_used, r.effective_gas_price_wei, {_COST}, r.l1_fee_wei,
    {_PAID}, eth_usd, eth_usd_at, ({_COST} + r.l1_fee_wei + {_PAID}) {_IN_USD}, s.tx_hash
FROM tx_receipts r JOIN tx_sends s ON s.id = r.send_id JOIN tx_intents i ON i.id = r.intent_id
LEFT JOIN traders t ON t.id = i.trader_id LEFT JOIN wallets w ON w.id = i.wallet_id
{_ETHER.format(at="r.seen_at")}
WHERE r.canonical AND i.mode = %(mode)s AND r.seen_at >= %(since)s AND r.seen_at < %(until)s
    AND (r.seen_at, r.id) > (%(at)s, %(id)s) AND (%(trader)s::bigint[] IS NULL OR i.tg_user_id = ANY(%(trader)s))
ORDER BY r.seen_at, r.id LIMIT %(batch)s
"""  # noqa: S608


@dataclass(frozen=True)
class Sheet:
    """A kind of file: its columns after the two by which it is read on, and the question that fills them."""

    name: str
    title: str
    permission: str
    columns: tuple[str, ...]
    question: str


@dataclass(frozen=True)
class Wanted:
    """One mode, whole UTC days from the first to the last, and of whom: None means of everybody."""

    mode: Mode
    first: date
    last: date
    traders: Sequence[int] | None

    @property
    def since(self) -> datetime:
        return datetime(self.first.year, self.first.month, self.first.day, tzinfo=UTC)

    @property
    def until(self) -> datetime:
        return datetime(self.last.year, self.last.month, self.last.day, tzinfo=UTC) + timedelta(days=1)


FILLS = Sheet(
    "fills",
    "Fills with fees, gas and USD values",
    "execution_app.view_fill",
    ("filled_at", "settled_at", "mode", "tg_user_id", "trader", "intent_key", "position_id", "symbol", "direction",
     "action", "price_usd", "collateral_usdc", "leverage_x", "notional_usdc", "fee_usdc", "sent_to_trader_usdc",
     "realised_usdc", "execution_fee_wei", "gas_used", "gas_price_wei", "gas_fee_wei", "l1_fee_wei", "eth_usd",
     "eth_usd_at", "chain_cost_usd", "tx_hash", "fill_tx_hash", "block_number"),
    _FILLS,
)  # fmt: skip
TRANSACTIONS = Sheet(
    "transactions",
    "Every mined transaction with its gas, execution fee and USD value; reverts and cancels, too",
    "execution_app.view_txreceipt",
    ("mined_seen_at", "settled_at", "mode", "tg_user_id", "trader", "intent_key", "wallet", "nonce", "kind", "action",
     "symbol", "status", "block_number", "gas_used", "gas_price_wei", "gas_fee_wei", "l1_fee_wei", "execution_fee_wei",
     "eth_usd", "eth_usd_at", "chain_cost_usd", "tx_hash"),
    _TRANSACTIONS,
)  # fmt: skip
SHEETS = {sheet.name: sheet for sheet in (FILLS, TRANSACTIONS)}


def rows(sheet: Sheet, wanted: Wanted) -> Iterator[list[str]]:
    """The header, then the rows in the order of their times; read in batches, so that no transaction stays open."""
    yield [*sheet.columns, "usd_method"]
    at, last_id = wanted.since, 0
    parameters: dict[str, Any] = {
        "mode": wanted.mode.value,
        "since": wanted.since,
        "until": wanted.until,
        "trader": None if wanted.traders is None else list(wanted.traders),
        "batch": BATCH,
    }
    while True:
        with connection.cursor() as cursor:
            cursor.execute(sheet.question, {**parameters, "at": at, "id": last_id})
            found = cursor.fetchall()
        for row in found:
            yield [*(_spell(value) for value in row[2:]), METHOD]
        if len(found) < BATCH:
            return
        at, last_id = found[-1][:2]


def _spell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, Decimal):
        return plain(value)
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    text = str(value)
    return f"'{text}" if text.startswith(_FORMULA) else text

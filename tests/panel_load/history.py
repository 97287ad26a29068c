"""A long history in few statements: intents over thirty days, each with what a real one leaves behind.

Written past the guards, which allow one move at a time; every CHECK and every
unique key still holds. Odd intents open, even ones close what the one before
opened, but for the last opens, which stay as positions.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.db import connection

from tests.guards import without_guards

TRADERS, SYMBOLS = 50, ("BTC-USD", "ETH-USD", "SOL-USD")
HELD, UNKNOWN = 200, 100


@dataclass(frozen=True)
class Size:
    """`intents` in all; `positions` of them are opens that nothing has closed."""

    intents: int
    positions: int

    @property
    def paired(self) -> int:
        """Intents 1 to this one are an open and its close in turn."""
        return (self.intents - self.positions - HELD - UNKNOWN) // 2 * 2


_TRADERS = """
INSERT INTO traders (id, tg_user_id, label, address, enabled)
SELECT n, 1000 + n, 'trader ' || n, '0x' || lpad(to_hex(n), 40, '0'), true FROM generate_series(1, %(traders)s) n;
INSERT INTO wallets (id, trader_id, chain_id, address, next_nonce, max_in_flight, balance_wei, delegated_until, halted_reason)
SELECT n, n, 31337, '0x' || lpad(to_hex(n), 40, 'f'), 1000000, 16, 1500000000000000000, now() + interval '60 days', ''
FROM generate_series(1, %(traders)s) n;
INSERT INTO prices (symbol, price, published_at, head_at, seen_at, first_seen_at)
SELECT s, 60000, now(), now(), now(), now() FROM unnest(%(symbols)s::text[]) s;
INSERT INTO chains (chain_id, genesis_hash, trading_address, head_number, finalized_number, reconciled_at, halted_reason, head_hash)
VALUES (31337, '0x', '0x', 1000, 990, now(), '', '')
"""
# What each intent is; the times end now.
_PLAN = """
CREATE TEMP TABLE plan AS SELECT n AS id, 1 + ((n + 1) / 2) %% %(traders)s AS trader_id, ((n + 1) / 2)::bigint AS pair,
    CASE WHEN n <= %(paired)s AND n %% 2 = 0 THEN 'close' ELSE 'open' END AS action,
    CASE WHEN n <= %(paired)s + %(positions)s THEN CASE WHEN n %% 20 = 19 THEN 'rejected' ELSE 'filled' END
        WHEN n <= %(intents)s - %(unknown)s THEN 'held' ELSE 'pending_inclusion' END AS state,
    (%(symbols)s::text[])[1 + ((n + 1) / 2) %% 3] AS symbol,
    now() - interval '30 days' * ((%(intents)s - n)::float8 / %(intents)s) - interval '1 minute' AS at
FROM generate_series(1, %(intents)s) n;
UPDATE plan SET state = 'rejected' WHERE action = 'close' AND (id - 1) %% 20 = 19;
ANALYZE plan
"""
_INTENTS = """
INSERT INTO tx_intents (id, intent_key, trader_id, wallet_id, tg_user_id, source, action, symbol, is_long, collateral_usdc,
    leverage_x, slippage_pct, state, reason, reason_detail, mode, attempts, accepted_at, updated_at, settled_at, nonce,
    to_address, calldata, value_wei, gas_limit, close_usdc, position_id, holds_position)
SELECT id, 'sig:load:' || id, trader_id, trader_id, 1000 + trader_id, 'load', action, symbol, action = 'open' OR NULL,
    CASE WHEN action = 'open' THEN 5 END, CASE WHEN action = 'open' THEN 2 END, 0.5, state,
    CASE state WHEN 'held' THEN 'mode_degraded' WHEN 'rejected' THEN 'banned' ELSE '' END, '',
    CASE WHEN state IN ('filled', 'pending_inclusion') THEN 'LIVE' END, 0, at, at,
    CASE WHEN state IN ('filled', 'rejected') THEN at + interval '10 seconds' END,
    CASE WHEN state IN ('filled', 'pending_inclusion') THEN id END, '', '\\x01', 0, 900000,
    CASE WHEN action = 'close' AND state = 'filled' THEN 5 END,
    CASE WHEN action = 'close' AND state = 'filled' THEN id - 1 END, false
FROM plan
"""
_SIGNALS = """
INSERT INTO signals (id, source, signal_id, body_sha256, tg_user_id, symbol, side, slippage_pct, order_type, meta,
    received_at, decided_at, decision, reasons)
SELECT id, 'load', id::text, repeat('ab', 32), 1000 + trader_id, symbol,
    CASE action WHEN 'open' THEN 'LONG' ELSE 'CLOSE' END, 0.5, 'market', '{}', at, at, 'accepted', '[]'
FROM plan
"""
_ROAD = """
INSERT INTO intent_transitions (intent_id, from_state, to_state, at, why, by)
SELECT id, 'pending', state, at + interval '1 second', 'load', 'load' FROM plan;
INSERT INTO tx_sends (id, intent_id, attempt, kind, tx_hash, raw, max_fee_wei, tip_wei, signed_at, offered_at, offers, outcome)
SELECT id, id, 1, 'exec', '0x' || md5('a' || id) || md5('b' || id), '\\x02', 2000000000, 1000000000, at, at + interval '1 second', 1,
    CASE state WHEN 'filled' THEN 'accepted' ELSE 'unknown' END
FROM plan WHERE state IN ('filled', 'pending_inclusion');
INSERT INTO tx_receipts (send_id, intent_id, block_number, block_hash, status, gas_used, effective_gas_price_wei, canonical, seen_at)
SELECT id, id, id, '0x', 1, 300000, 1000000000, true, at + interval '4 seconds' FROM plan WHERE state = 'filled'
"""
_BOOK = """
INSERT INTO positions (id, trader_id, venue, symbol, pair_index, trade_index, opened_at, mode, state, is_long,
    collateral_usdc, leverage_x, open_price, drift, ended_by)
SELECT id, trader_id, '0x', symbol, 1, id, at, 'LIVE', CASE WHEN id <= %(paired)s THEN 'closed' ELSE 'open' END, true,
    CASE WHEN id <= %(paired)s THEN 0 ELSE 5 END, 2, 59000, '', '' FROM plan WHERE action = 'open' AND state = 'filled';
INSERT INTO fills (intent_id, position_id, action, mode, price, collateral_usdc, leverage_x, fee_usdc, sent_to_trader_usdc,
    tx_hash, log_index, block_number, block_hash, filled_at, settled_at)
SELECT id, CASE action WHEN 'open' THEN id ELSE id - 1 END, action, 'LIVE', 60000, 5, 2, 0.01,
    CASE action WHEN 'close' THEN 4.9 + (id %% 7) * 0.05 END, '0x' || md5('c' || id) || md5('d' || id), 0, id, '0x',
    at + interval '8 seconds', at + interval '10 seconds' FROM plan WHERE state = 'filled';
INSERT INTO risk_reservations (intent_id, trader_id, source, symbol, mode, state, asked_usdc, notional_usdc, reserved_at, released_at)
SELECT id, trader_id, 'load', symbol, 'LIVE', CASE WHEN id <= %(paired)s THEN 'released' ELSE 'exposed' END, 10,
    CASE WHEN id <= %(paired)s THEN 0 ELSE 10 END, at, CASE WHEN id <= %(paired)s THEN at + interval '1 hour' END
FROM plan WHERE action = 'open' AND state = 'filled'
"""
_LOOKED_AT = "traders wallets tx_intents signals intent_transitions tx_sends tx_receipts positions fills risk_reservations"


def write(size: Size) -> Iterator[str]:
    """Fill an empty database; tells what it is at."""
    parameters: dict[str, Any] = {
        "traders": TRADERS, "symbols": list(SYMBOLS), "intents": size.intents, "positions": size.positions,
        "paired": size.paired, "unknown": UNKNOWN,
    }  # fmt: skip
    steps = {
        "traders": _TRADERS,
        "plan": _PLAN,
        "intents": _INTENTS,
        "signals": _SIGNALS,
        "road": _ROAD,
        "book": _BOOK,
    }
    with without_guards(), connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = 0")
        for name, statements in steps.items():
            yield name
            for statement in statements.split(";\n"):
                cursor.execute(statement, parameters)
        for table in _LOOKED_AT.split():
            cursor.execute(f"ANALYZE {table}")
        cursor.execute("RESET statement_timeout")

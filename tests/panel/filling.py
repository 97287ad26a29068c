"""A long history made by the server itself: rows that every CHECK and foreign key holds, in a minute rather than a week.

Intents come in pairs, an open and its close, 15 s apart from the next. Of twenty pairs twelve were executed,
five simulated, and one each was rejected, expired and reverted; the newest positions are still open. Behind
them wait some that are not settled.
"""

from collections.abc import Callable, Mapping
from typing import Any

from django.db import connection, transaction
from django.db.models import NOT_PROVIDED, Model

from execution_app import audit
from execution_app.audit_words import AuditAction
from execution_app.models import (
    Fill,
    IntentTransition,
    Position,
    Price,
    Protection,
    Reservation,
    RiskLog,
    Trader,
    TxIntent,
    TxReceipt,
    TxSend,
    VenueOrder,
    Wallet,
)
from signals_app.models import Signal, Source, SourceGrant
from tests.guards import without_guards

TRADERS, SOURCES = 100, 5
HELD, UNDER_WAY = 100, 150  # not settled, the newest of all
AUDIT_ENTRIES = 300
VENUE = "0x" + "cc" * 20
_HASH = "lpad(to_hex({kind}::bigint * 10000000000 + {number}), 64, '0')"
_NOTHING = "NULL"
# Where each executed intent came by, and each other one.
_ROADS = {
    "LIVE": "reserved signed sending pending_inclusion mined ordered filled",
    "REVERTED": "reserved signed sending pending_inclusion mined final_reverted",
    "UNDER_WAY": "reserved signed sending pending_inclusion",
}

Say = Callable[[str], object]


def fill(intents: int, positions: int, say: Say = lambda _: None) -> None:
    """`intents` settled intents, of which so many pairs are positions that are open; into an empty database.

    Raises ValueError where the intents are too few for the positions.
    """
    if positions * 4 > intents:
        raise ValueError(f"{positions} open positions take at least {positions * 4} intents")
    with transaction.atomic(), without_guards(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL statement_timeout = 0; SET LOCAL work_mem = '256MB'")
        _plan(cursor, intents, positions)
        for title, part in _PARTS.items():
            say(title)
            part()
        for model in _FILLED:
            _go_on(cursor, model)
    with connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = 0")
        cursor.execute("ANALYZE")
        cursor.execute("RESET statement_timeout")
    for number in range(AUDIT_ENTRIES):
        with transaction.atomic():
            audit.record(AuditAction.CAP_SET, f"cap exposure_usdc trader {number}", reason="load")


def _plan(cursor: Any, intents: int, positions: int) -> None:
    """One row for each intent: what it asks, who asks, when, and what becomes of it."""
    every = intents + HELD + UNDER_WAY
    cursor.execute(
        """
        CREATE TEMP TABLE plan ON COMMIT DROP AS
        SELECT n, pair, n %% 2 = 1 AS opens, kept, 1 + pair %% %(traders)s AS trader, pair %% %(sources)s AS source,
            (ARRAY['BTC-USD', 'ETH-USD', 'SOL-USD'])[1 + pair %% 3] AS symbol, pair %% 3 AS pair_index,
            now() - (%(every)s - n) * interval '15 s' AS at,
            CASE WHEN n > %(intents)s + %(held)s THEN 'UNDER_WAY' WHEN n > %(intents)s THEN 'HELD'
                WHEN pair %% 20 < 12 AND NOT (kept AND n %% 2 = 0) THEN 'LIVE'
                WHEN pair %% 20 < 17 AND NOT (kept AND n %% 2 = 0) THEN 'DRY'
                WHEN n %% 2 = 0 THEN 'NO_OP'
                WHEN pair %% 20 = 18 THEN 'EXPIRED' WHEN pair %% 20 = 19 THEN 'REVERTED' ELSE 'REJECTED' END AS fate
        FROM generate_series(1, %(every)s) n
        CROSS JOIN LATERAL (SELECT (n + 1) / 2 AS pair) p
        CROSS JOIN LATERAL (SELECT n <= %(intents)s AND pair %% 20 < 17
            AND (pair / 20) * 17 + pair %% 20 >= (%(last)s / 20) * 17 + least(%(last)s %% 20 + 1, 17) - %(positions)s AS kept) k
        """,
        {"traders": TRADERS, "sources": SOURCES, "every": every, "intents": intents, "held": HELD,
         "last": intents // 2, "positions": positions},
    )  # fmt: skip
    cursor.execute("CREATE INDEX ON plan (fate)")
    cursor.execute("ANALYZE plan")


def put(model: type[Model], rows: str, **columns: str) -> None:
    """INSERT … SELECT: an expression for each column named; the others as a new object of the model has them."""
    told: dict[str, str] = {}
    constants: list[Any] = []
    for field in model._meta.concrete_fields:
        assert field.column is not None
        if field.column in columns:
            told[field.column] = columns[field.column].replace("%", "%%")
        elif field.db_default is NOT_PROVIDED and field.default is not NOT_PROVIDED:
            told[field.column] = "%s"
            constants.append(field.get_db_prep_save(field.get_default(), connection))
        elif field.db_default is NOT_PROVIDED and not field.null and not field.primary_key:
            told[field.column] = "''"  # a word that Django leaves blank
    rows = rows.replace("%", "%%")
    names, values = ", ".join(f'"{name}"' for name in told), ", ".join(told.values())
    with connection.cursor() as cursor:
        statement = f'INSERT INTO "{model._meta.db_table}" ({names}) SELECT {values} FROM {rows}'
        cursor.execute(statement, constants)


def _people() -> None:
    put(Trader, f"generate_series(1, {TRADERS}) n", id="n", tg_user_id="1000 + n", label="'trader ' || n",
        address="'0x' || lpad(to_hex(n), 40, 'a')", created_at="now() - interval '1 year'")  # fmt: skip
    put(Wallet, f"generate_series(1, {TRADERS}) n", id="n", trader_id="n", chain_id="31337",
        address="'0x' || lpad(to_hex(n), 40, 'b')", balance_wei="15e17",
        next_nonce="1 + coalesce((SELECT max(p.n) FROM plan p WHERE p.trader = n.n), 0)",
        delegated_until="now() + interval '90 d'", created_at="now() - interval '1 year'")  # fmt: skip
    put(Source, f"generate_series(0, {SOURCES - 1}) n", name="'source-' || n", created_at="now()")
    put(SourceGrant, f"generate_series(0, {SOURCES - 1}) s, generate_series(1, {TRADERS}) n", id="s * 1000 + n",
        source="'source-' || s", tg_user_id="1000 + n", created_at="now()")  # fmt: skip
    put(Price, "unnest(ARRAY['BTC-USD', 'ETH-USD', 'SOL-USD'], ARRAY[60000, 3000, 150]) t(name, price)",
        symbol="name", price="price", published_at="now()", head_at="now()", seen_at="now()", first_seen_at="now()")  # fmt: skip


def _signals() -> None:
    put(Signal, "plan", id="n", source="'source-' || source", signal_id="'load-' || n", body_sha256="md5(n::text) || md5('b' || n)",
        tg_user_id="1000 + trader", symbol="symbol", side="CASE WHEN opens THEN 'LONG' ELSE 'CLOSE' END",
        collateral_usdc="CASE WHEN opens THEN 5 + n % 40 END", leverage_x="CASE WHEN opens THEN 2 + n % 8 END", slippage_pct="0.5",
        meta="'{}'", received_at="at", decided_at="at + interval '20 ms'",
        decision="CASE WHEN fate = 'REJECTED' THEN 'rejected' ELSE 'accepted' END",
        reasons="""CASE WHEN fate = 'REJECTED' THEN '["leverage_above_cap"]'::jsonb ELSE '["accepted"]' END""")  # fmt: skip


_STATES = """CASE fate WHEN 'LIVE' THEN 'filled' WHEN 'DRY' THEN 'simulated' WHEN 'NO_OP' THEN 'no_op'
    WHEN 'EXPIRED' THEN 'expired' WHEN 'REVERTED' THEN 'final_reverted' WHEN 'UNDER_WAY' THEN 'pending_inclusion'
    WHEN 'HELD' THEN 'held' ELSE 'rejected' END"""
_REASONS = """CASE fate WHEN 'REJECTED' THEN 'leverage_above_cap' WHEN 'EXPIRED' THEN 'lag_exceeded' WHEN 'NO_OP' THEN 'no_position'
    WHEN 'HELD' THEN 'mode_degraded' ELSE '' END"""
_OWNS = "fate IN ('LIVE', 'REVERTED', 'UNDER_WAY')"
_IS_OPEN = "opens OR fate IN ('HELD', 'UNDER_WAY')"


def _when(condition: str, value: str, otherwise: str = _NOTHING) -> str:
    return f"CASE WHEN {condition} THEN {value} ELSE {otherwise} END"


def _intents() -> None:
    put(TxIntent, "plan", id="n", intent_key="'sig:source-' || source || ':load-' || n", trader_id="trader", wallet_id="trader",
        tg_user_id="1000 + trader", source="'source-' || source", action=_when(_IS_OPEN, "'open'", "'close'"), symbol="symbol",
        is_long=_when(_IS_OPEN, "true"), collateral_usdc=_when(_IS_OPEN, "5 + n % 40"), leverage_x=_when(_IS_OPEN, "2 + n % 8"),
        slippage_pct="0.5", position_id=_when(f"NOT ({_IS_OPEN}) AND fate IN ('LIVE', 'DRY')", "pair"),
        close_usdc=_when(f"NOT ({_IS_OPEN}) AND fate IN ('LIVE', 'DRY')", "5 + (n - 1) % 40"),
        state=_STATES, reason=_REASONS, mode=_when(_OWNS, "'LIVE'", "CASE fate WHEN 'DRY' THEN 'DRY' END"),
        accepted_at="at", updated_at="at + interval '6 s'", settled_at=_when("fate NOT IN ('HELD', 'UNDER_WAY')", "at + interval '30 s'"),
        expires_at="at + interval '60 s'", nonce=_when(_OWNS, "n"), to_address=_when(_OWNS, f"'{VENUE}'", "''"),
        calldata=_when(_OWNS, "decode(repeat('9a', 300), 'hex')"), value_wei=_when(_OWNS, "0"), gas_limit=_when(_OWNS, "900000"),
        road=_when(_OWNS, "'onchain'", "''"), wanted_price="60000")  # fmt: skip


def _histories() -> None:
    roads = " ".join(f"WHEN '{fate}' THEN 'pending {road}'" for fate, road in _ROADS.items())
    words = f"string_to_array(CASE fate {roads} ELSE 'pending ' || {_STATES} END, ' ')"
    put(IntentTransition, f"plan, LATERAL (SELECT {words} AS road) r, LATERAL generate_subscripts(road, 1) step ORDER BY n, step",
        intent_id="n", from_state="coalesce(road[step - 1], '')", to_state="road[step]", at="at + (step - 1) * interval '900 ms'",
        why="''", by="'load'")  # fmt: skip


def _sends() -> None:
    put(TxSend, f"plan WHERE {_OWNS}", id="n", intent_id="n", attempt="0", kind="'exec'",
        tx_hash="'0x' || " + _HASH.format(kind=1, number="n"), raw="decode(repeat('02', 300), 'hex')", max_fee_wei="2e9", tip_wei="1e9",
        signed_at="at + interval '1 s'", offered_at="at + interval '2 s'", last_offered_at="at + interval '2 s'", offers="1",
        held_at="at + interval '2 s'", outcome=_when("fate = 'UNDER_WAY' AND n % 10 = 0", "'unknown'", "'accepted'"))  # fmt: skip
    put(TxReceipt, "plan WHERE fate IN ('LIVE', 'REVERTED')", id="n", send_id="n", intent_id="n", block_number="1000 + n / 8",
        block_hash="'0x' || " + _HASH.format(kind=2, number="n / 8"), status=_when("fate = 'LIVE'", "1", "0"), gas_used="300000",
        effective_gas_price_wei="1e9 + n", canonical="true", seen_at="at + interval '4 s'")  # fmt: skip


def _trades() -> None:
    put(VenueOrder, "plan WHERE fate = 'LIVE'", id="n", intent_id="n", venue=f"'{VENUE}'", order_id="n", block_number="1000 + n / 8",
        block_hash="'0x' || " + _HASH.format(kind=2, number="n / 8"), state="'executed'", done_block_number="1001 + n / 8",
        done_block_hash="''", created_at="at + interval '4 s'")  # fmt: skip
    done = "fate IN ('LIVE', 'DRY')"
    price = "CASE symbol WHEN 'BTC-USD' THEN 60000 WHEN 'ETH-USD' THEN 3000 ELSE 150 END"
    put(Position, f"plan WHERE opens AND {done}", id="pair", trader_id="trader", venue=f"'{VENUE}'", symbol="symbol", pair_index="pair_index",
        trade_index="pair", opened_at="at", mode="fate", state=_when("kept", "'open'", "'closed'"), is_long="true",
        collateral_usdc="5 + n % 40", leverage_x="2 + n % 8", open_price=price, close_price=_when("NOT kept", f"{price} + pair % 7"),
        paid_out_usdc=_when("NOT kept", "6 + n % 40"), closed_at=_when("NOT kept", "at + interval '15 s'"),
        ended_by=_when("kept", "''", "'close'"), settled_at="at + interval '45 s'", updated_at="at + interval '45 s'")  # fmt: skip
    put(Protection, f"plan WHERE opens AND kept AND {done}", position_id="pair", version="1", is_long="true", stop_loss=f"{price} * 0.9",
        set_by="'load'", set_at="at")  # fmt: skip
    put(Fill, f"plan WHERE {done}", id="n", intent_id="n", position_id="pair", action=_when("opens", "'open'", "'close'"), mode="fate",
        price=price, collateral_usdc="5 + (n - (CASE WHEN opens THEN 0 ELSE 1 END)) % 40", leverage_x="2 + (n - (CASE WHEN opens THEN 0 ELSE 1 END)) % 8",
        sent_to_trader_usdc=_when("NOT opens", "6 + (n - 1) % 40"), fee_usdc="0.01",
        tx_hash=_when("fate = 'DRY'", "'dry:' || n", "'0x' || " + _HASH.format(kind=3, number="n")), log_index="3",
        block_number=_when("fate = 'LIVE'", "1001 + n / 8"), block_hash="''", filled_at="at + interval '6 s'", settled_at="at + interval '30 s'")  # fmt: skip


def _stakes() -> None:
    stake = "(5 + n % 40) * (2 + n % 8)"
    rows = "plan WHERE opens AND fate IN ('LIVE', 'DRY') OR fate = 'UNDER_WAY'"
    state = "CASE WHEN fate = 'UNDER_WAY' THEN 'open' WHEN kept THEN 'exposed' ELSE 'released' END"
    over = "NOT kept AND fate <> 'UNDER_WAY'"
    put(Reservation, rows, id="n", intent_id="n", trader_id="trader", source="'source-' || source", symbol="symbol",
        mode=_when("fate = 'DRY'", "'DRY'", "'LIVE'"), state=state, asked_usdc=stake, notional_usdc=_when(over, "0", stake),
        reserved_at="at + interval '1 s'", released_at=_when(over, "at + interval '45 s'"))  # fmt: skip
    put(RiskLog, rows, reservation_id="n", at="at + interval '1 s'", mode=_when("fate = 'DRY'", "'DRY'", "'LIVE'"), state="'open'",
        change_usdc=stake, notional_usdc=stake, total_usdc=stake)  # fmt: skip


_PARTS: Mapping[str, Callable[[], None]] = {
    "people": _people,
    "signals": _signals,
    "intents": _intents,
    "their histories": _histories,
    "sends and receipts": _sends,
    "orders, positions and fills": _trades,
    "what is at stake": _stakes,
}
_FILLED = (
    Signal,
    Trader,
    Wallet,
    SourceGrant,
    TxIntent,
    TxSend,
    TxReceipt,
    VenueOrder,
    Position,
    Fill,
    Reservation,
)


def _go_on(cursor: Any, model: type[Model]) -> None:
    """The next row of the application's own comes behind these."""
    table = model._meta.db_table
    cursor.execute(
        f"SELECT setval(pg_get_serial_sequence(%s, 'id'), (SELECT coalesce(max(id), 0) + 1 FROM \"{table}\"), false)",
        [table],
    )

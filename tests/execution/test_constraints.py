"""Every 'at most one', every range and every 'never again' of the tables, attacked by plain SQL."""

from collections.abc import Callable, Iterator

import pytest
from django.db import IntegrityError, transaction

from execution_app.states import IntentState
from tests.execution import rows
from tests.guards import without_guards

ADDRESS = "0x" + "ab" * 20
RAW = "UPDATE tx_sends SET {} WHERE id = %s"


@pytest.fixture(autouse=True)
def undone(django_db_setup: None, django_db_blocker: object) -> Iterator[None]:
    """One transaction that is rolled back, which is quicker than emptying the tables each time."""
    with django_db_blocker.unblock(), transaction.atomic():  # type: ignore[attr-defined]
        with without_guards():
            rows.execute("DELETE FROM mode_changes")
        yield
        transaction.set_rollback(True)


def twice(make: Callable[..., int], **fields: object) -> None:
    make(**fields)
    make(**fields)


def slot_twice() -> None:
    first = rows.intent_in(IntentState.RESERVED)
    wallet = rows.one("SELECT wallet_id FROM tx_intents WHERE id = %s", first)
    nonce = rows.one("SELECT nonce FROM tx_intents WHERE id = %s", first)
    trader = rows.one("SELECT trader_id FROM tx_intents WHERE id = %s", first)
    other = rows.intent(wallet_id=wallet, trader_id=trader)
    rows.update("tx_intents", other, {"state": "reserved"} | rows.slot(nonce=nonce))


def reserve_without(column: str) -> None:
    pk = rows.intent_in(IntentState.PENDING)
    empty = {"state": "reserved"} | rows.slot() | {column: None}
    rows.update("tx_intents", pk, empty)


def close_without(**changes: object) -> None:
    pk = rows.intent(action="close", **close_owner())
    row = {"state": "reserved"} | rows.slot() | rows.closing({"action": "close"})
    rows.update("tx_intents", pk, row | changes)


def close_owner() -> dict[str, object]:
    wallet = rows.wallet()
    return {
        "wallet_id": wallet,
        "trader_id": rows.one("SELECT trader_id FROM wallets WHERE id = %s", wallet),
    }


def change(table: str, pk: int, **changes: object) -> None:
    rows.update(table, pk, changes)


def delete(table: str, pk: int) -> None:
    rows.execute(f"DELETE FROM {table} WHERE id = %s", pk)


def reserved() -> int:
    return rows.intent_in(IntentState.RESERVED)


def two_receipts() -> None:
    first = rows.receipt()
    intent = rows.one("SELECT intent_id FROM tx_receipts WHERE id = %s", first)
    rows.receipt(send_id=rows.send(intent_id=intent, attempt=1, kind="bump"), intent_id=intent)


def settled_fill() -> int:
    return rows.fill(settled_at="2026-01-01T00:00:00Z")


def decided_signal() -> int:
    return rows.signal(decided_at="2026-01-01T00:00:00Z", decision="accepted", reasons='["accepted"]')


def wallet_at(nonce: int) -> int:
    return rows.wallet(next_nonce=nonce)


def same_trader_wallets() -> None:
    trader = rows.trader()
    rows.wallet(trader_id=trader)
    rows.wallet(trader_id=trader)


def same_event() -> None:
    twice(rows.fill, tx_hash="0xevent", log_index=3)


def same_order() -> None:
    twice(rows.order, venue="0xvenue", order_id=7)


def same_position(**fields: object) -> None:
    trader = rows.trader()
    rows.position(trader_id=trader)
    rows.position(trader_id=trader, **fields)


def second_fill_of_an_intent() -> None:
    twice(rows.fill, intent_id=rows.intent())


def second_order_of_an_intent() -> None:
    twice(rows.order, intent_id=rows.intent())


def same_attempt() -> None:
    intent = reserved()
    rows.send(intent_id=intent)
    rows.send(intent_id=intent, kind="bump")


def two_execs() -> None:
    intent = reserved()
    rows.send(intent_id=intent)
    rows.send(intent_id=intent, attempt=1)


def same_receipt() -> None:
    twice(rows.receipt, send_id=rows.send(), canonical=False)


def forged_entry() -> None:
    with without_guards():
        rows.audit_entry(seq=0, at="2026-01-01T00:00:00Z", digests="", prev_hash="", hash="")


# What the database must say, and the attack.
ATTACKS: list[tuple[str, str, Callable[[], object]]] = [
    # Intents
    ("same key", "uq_tx_intents_idem", lambda: twice(rows.intent, intent_key="sig:a:1")),
    ("same slot", "uq_tx_intents_slot", slot_twice),
    (
        "two closes",
        "uq_tx_intents_closing",
        lambda: twice(rows.intent, position_id=rows.position(), holds_position=True),
    ),
    ("unknown state", "ck_tx_intents_state|starts pending", lambda: rows.intent(state="done")),
    ("unknown action", "ck_tx_intents_action", lambda: rows.intent(action="hedge")),
    ("unknown mode", "ck_tx_intents_mode", lambda: rows.intent(mode="PAPER")),
    ("no collateral", "ck_tx_intents_open_size", lambda: rows.intent(collateral_usdc=None)),
    ("no leverage", "ck_tx_intents_open_size", lambda: rows.intent(leverage_x=None)),
    ("no side", "ck_tx_intents_open_size", lambda: rows.intent(is_long=None)),
    ("zero collateral", "ck_tx_intents_collateral", lambda: rows.intent(collateral_usdc=0)),
    ("negative collateral", "ck_tx_intents_collateral", lambda: rows.intent(collateral_usdc=-1)),
    ("NaN collateral", "ck_tx_intents_collateral", lambda: rows.intent(collateral_usdc="NaN")),
    ("NaN leverage", "ck_tx_intents_leverage", lambda: rows.intent(leverage_x="NaN")),
    ("zero leverage", "ck_tx_intents_leverage", lambda: rows.intent(leverage_x=0)),
    ("negative leverage", "ck_tx_intents_leverage", lambda: rows.intent(leverage_x=-2)),
    ("hold without position", "ck_tx_intents_holds_what_it_has", lambda: rows.intent(holds_position=True)),
    ("close that holds nothing", "ck_tx_intents_close_holds", lambda: close_without(holds_position=False)),
    ("close without amount", "ck_tx_intents_close_size", lambda: close_without(close_usdc=None)),
    ("close of nothing", "ck_tx_intents_close_usdc", lambda: close_without(close_usdc=0)),
    ("NaN closed", "ck_tx_intents_close_usdc", lambda: close_without(close_usdc="NaN")),
    ("reduce by nothing", "ck_tx_intents_reduce_usdc", lambda: rows.intent(reduce_usdc=0)),
    ("reduce by NaN", "ck_tx_intents_reduce_usdc", lambda: rows.intent(reduce_usdc="NaN")),
    ("reduce by too much", "ck_tx_intents_reduce_pct", lambda: rows.intent(reduce_pct="100.0001")),
    ("reduce by both", "ck_tx_intents_reduce_pct", lambda: rows.intent(reduce_pct=1, reduce_usdc=1)),
    ("slot without nonce", "ck_tx_intents_sent_owns_slot", lambda: reserve_without("nonce")),
    ("slot without wallet", "ck_tx_intents_sent_owns_slot", lambda: reserve_without("wallet_id")),
    (
        "slot without trader",
        "ck_tx_intents_sent_owns_slot|asked for never changes",
        lambda: reserve_without("trader_id"),
    ),
    ("slot without order", "ck_tx_intents_sent_owns_slot", lambda: reserve_without("calldata")),
    ("slot without value", "ck_tx_intents_sent_owns_slot", lambda: reserve_without("value_wei")),
    ("slot without gas", "ck_tx_intents_sent_owns_slot", lambda: reserve_without("gas_limit")),
    ("slot without mode", "ck_tx_intents_sent_owns_slot", lambda: reserve_without("mode")),
    ("nonce while waiting", "ck_tx_intents_slot_only_when_sent", lambda: rows.intent(nonce=3)),
    (
        "live simulation",
        "ck_tx_intents_simulated_is_dry",
        lambda: change(
            "tx_intents",
            rows.intent_in(IntentState.PENDING),
            state="simulated",
            mode="LIVE",
            settled_at="2026-01-01T00:00:00Z",
        ),
    ),
    (
        "simulation without mode",
        "ck_tx_intents_simulated_is_dry",
        lambda: change(
            "tx_intents",
            rows.intent_in(IntentState.PENDING),
            state="simulated",
            settled_at="2026-01-01T00:00:00Z",
        ),
    ),
    ("another key", "for life", lambda: change("tx_intents", rows.intent(), intent_key="sig:b:2")),
    ("another nonce", "for life", lambda: change("tx_intents", reserved(), nonce=10**6)),
    ("another wallet", "for life", lambda: change("tx_intents", reserved(), wallet_id=rows.wallet())),
    ("another target", "for life", lambda: change("tx_intents", reserved(), to_address=ADDRESS)),
    ("another order", "for life", lambda: change("tx_intents", reserved(), calldata=b"\x09")),
    ("another value", "for life", lambda: change("tx_intents", reserved(), value_wei=1)),
    ("another gas limit", "for life", lambda: change("tx_intents", reserved(), gas_limit=1)),
    ("another position", "for life", lambda: change("tx_intents", reserved(), position_id=rows.position())),
    (
        "another amount",
        "for life",
        lambda: change("tx_intents", rows.intent_in(IntentState.RESERVED, action="close"), close_usdc=4),
    ),
    ("another mode", "for life", lambda: change("tx_intents", reserved(), mode="DRY")),
    ("nonce given back", "for life", lambda: change("tx_intents", reserved(), nonce=None)),
    ("deleted intent", "intents are kept", lambda: delete("tx_intents", rows.intent())),
    # History
    (
        "edited history",
        "append-only",
        lambda: change("intent_transitions", rows.transition(), why="nothing happened"),
    ),
    ("deleted history", "append-only", lambda: delete("intent_transitions", rows.transition())),
    (
        "move known twice",
        "uq_intent_moves",
        lambda: rows.insert("intent_moves", {"from_state": "pending", "to_state": "held"}),
    ),
    # Sends and receipts
    ("same hash", "tx_sends_tx_hash", lambda: twice(rows.send, tx_hash="0xsame")),
    ("same attempt", "uq_tx_sends_attempt", same_attempt),
    ("two execs", "uq_tx_sends_exec", two_execs),
    ("tip above cap", "ck_tx_sends_tip", lambda: rows.send(tip_wei=11)),
    ("negative tip", "ck_tx_sends_tip_positive", lambda: rows.send(tip_wei=-1)),
    ("unknown kind", "ck_tx_sends_kind", lambda: rows.send(kind="speedup")),
    ("unknown outcome", "ck_tx_sends_outcome", lambda: rows.send(outcome="lost")),
    ("other bytes", "never change", lambda: change("tx_sends", rows.send(), raw=b"\x00")),
    ("other hash", "never change", lambda: change("tx_sends", rows.send(), tx_hash="0xother")),
    ("other attempt", "never change", lambda: change("tx_sends", rows.send(), attempt=9)),
    ("other kind", "never change", lambda: change("tx_sends", rows.send(), kind="cancel")),
    ("other intent", "never change", lambda: change("tx_sends", rows.send(), intent_id=reserved())),
    ("other cap", "never change", lambda: change("tx_sends", rows.send(), max_fee_wei=99)),
    ("other tip", "never change", lambda: change("tx_sends", rows.send(), tip_wei=2)),
    ("deleted bytes", "signed bytes are kept", lambda: delete("tx_sends", rows.send())),
    ("two receipts of a send", "tx_receipts_send_id", same_receipt),
    ("two canonical receipts", "uq_tx_receipts_canonical", two_receipts),
    ("odd status", "ck_tx_receipts_status", lambda: rows.receipt(status=2)),
    # Venue orders, fills, positions
    ("order taken twice", "uq_venue_orders_order", same_order),
    ("two orders of an intent", "venue_orders_intent_id", second_order_of_an_intent),
    ("unknown order state", "ck_venue_orders_state", lambda: rows.order(state="open")),
    ("same event", "uq_fills_event", same_event),
    ("two fills of an intent", "fills_intent_id", second_fill_of_an_intent),
    ("unknown fill mode", "ck_fills_mode", lambda: rows.fill(mode="TEST")),
    ("unknown fill action", "ck_fills_action", lambda: rows.fill(action="add")),
    ("live fill without block", "ck_fills_live_has_block", lambda: rows.fill(block_number=None)),
    ("settled fill changed", "is settled", lambda: change("fills", settled_fill(), price=1)),
    ("settled fill unsettled", "is settled", lambda: change("fills", settled_fill(), settled_at=None)),
    ("settled fill deleted", "is settled", lambda: delete("fills", settled_fill())),
    ("same position", "uq_positions", lambda: same_position(state="closed")),
    ("open slot taken", "uq_positions_open_slot", lambda: same_position(opened_at="2026-02-02T00:00:00Z")),
    ("negative collateral held", "ck_positions_collateral", lambda: rows.position(collateral_usdc=-1)),
    ("unknown end", "ck_positions_ended_by", lambda: rows.position(state="closed", ended_by="magic")),
    ("end of an open position", "ck_positions_ended_by", lambda: rows.position(ended_by="close")),
    ("unknown position mode", "ck_positions_mode", lambda: rows.position(mode="TEST")),
    ("unknown position state", "ck_positions_state", lambda: rows.position(state="half")),
    # Traders and wallets
    ("same Telegram id", "traders_tg_user_id", lambda: twice(rows.trader, tg_user_id=5)),
    ("same trader address", "traders_address", lambda: twice(rows.trader, address=ADDRESS)),
    ("odd trader address", "ck_traders_address", lambda: rows.trader(address="0xzz")),
    ("two wallets of a trader", "wallets_trader_id", same_trader_wallets),
    ("same wallet address", "uq_wallets_chain_address", lambda: twice(rows.wallet, address=ADDRESS)),
    ("odd wallet address", "ck_wallets_address", lambda: rows.wallet(address="0x12")),
    ("negative next_nonce", "ck_wallets_next_nonce", lambda: rows.wallet(next_nonce=-1)),
    ("no place in flight", "ck_wallets_max_in_flight", lambda: rows.wallet(max_in_flight=0)),
    ("next_nonce back", "never steps back", lambda: change("wallets", wallet_at(5), next_nonce=4)),
    ("wallet's address changed", "never change", lambda: change("wallets", rows.wallet(), address=ADDRESS)),
    ("wallet's chain changed", "never change", lambda: change("wallets", rows.wallet(), chain_id=1)),
    (
        "wallet's trader changed",
        "never change",
        lambda: change("wallets", rows.wallet(), trader_id=rows.trader()),
    ),
    # The gate
    ("second control row", "ck_control_single", lambda: rows.insert("control", {"id": 2, "epoch": 1})),
    (
        "an unknown request",
        "ck_stack_mode_requested",
        lambda: rows.execute("UPDATE stack_mode SET requested = 'PAPER'"),
    ),
    ("history of what", "ck_mode_history_kind", lambda: rows.mode_change(kind="wished")),
    ("history of an unknown mode", "ck_mode_history_mode", lambda: rows.mode_change(mode="PAPER")),
    ("second mode of the stack", "ck_stack_mode_single", lambda: rows.stack_mode(id=2)),
    (
        "unknown mode of the stack",
        "ck_stack_mode_mode",
        lambda: rows.execute("UPDATE stack_mode SET mode = 'PAPER'"),
    ),
    ("price of nothing", "ck_prices_price", lambda: rows.price(price=0)),
    ("price that is no number", "ck_prices_price", lambda: rows.price(price="NaN")),
    ("second price of a symbol", "prices_pkey", lambda: twice(rows.price)),
    ("control row again", "control_pkey", lambda: rows.insert("control", {"id": 1, "epoch": 1})),
    ("same restriction", "uq_mode_changes_active", lambda: twice(rows.restriction)),
    ("unknown restriction", "ck_mode_changes_kind", lambda: rows.restriction(kind="pause")),
    ("unknown origin", "ck_mode_changes_origin", lambda: rows.restriction(origin="email")),
    # The audit log
    ("unknown audited action", "ck_audit_log_action", lambda: rows.audit_entry(action="did_it")),
    ("unknown audited origin", "ck_audit_log_origin", lambda: rows.audit_entry(origin="email")),
    ("audit entry nought", "ck_audit_log_seq", forged_entry),
    # Signals
    ("same signal", "uq_signals_source_signal_id", lambda: twice(rows.signal, signal_id="1")),
    ("unknown side", "ck_signals_side", lambda: rows.signal(side="BUY")),
    ("unknown decision", "ck_signals_decision", lambda: rows.signal(decision="maybe")),
    ("signal edited", "never changes", lambda: change("signals", rows.signal(), collateral_usdc=500)),
    ("signal renamed", "never changes", lambda: change("signals", rows.signal(), signal_id="other")),
    ("signal decided twice", "is decided", lambda: change("signals", decided_signal(), decision="rejected")),
    ("signal undecided", "is decided", lambda: change("signals", decided_signal(), decided_at=None)),
    ("signal deleted", "signals are kept", lambda: delete("signals", rows.signal())),
    (
        "same webhook id",
        "uq_signals_source_webhook_id",
        lambda: twice(rows.signal, webhook_id="msg_1"),
    ),
    ("nothing may come", "ck_sources_limits", lambda: rows.source(close_burst=0)),
    (
        "active and retired",
        "ck_source_secrets_retired",
        lambda: rows.secret(retired_at="2026-01-01T00:00:00Z"),
    ),
    ("same bucket", "uq_source_buckets", lambda: twice(rows.bucket)),
    ("unknown bucket", "ck_buckets_kind", lambda: rows.bucket(kind="hedge")),
    (
        "same grant",
        "uq_source_grants",
        lambda: twice(lambda: rows.insert("source_grants", {"source": "a", "tg_user_id": 1})),
    ),
    ("same token name", "uq_api_tokens_name", lambda: twice(rows.token, name="a")),
    ("same token", "uq_api_tokens_sha256", lambda: twice(rows.token, sha256="a" * 64)),
    ("a token that trades", "ck_api_tokens_scope", lambda: rows.token(scope="write")),
    ("a token itself", "ck_api_tokens_sha256", lambda: rows.token(sha256="vanta_" + "a" * 43)),
    (
        "ends before it begins",
        "ck_api_tokens_expires_later",
        lambda: rows.token(expires_at="2026-01-01T00:00:00Z"),
    ),
]


@pytest.mark.parametrize(
    ("words", "attack"), [(words, attack) for _, words, attack in ATTACKS], ids=[name for name, *_ in ATTACKS]
)
def test_the_database_refuses(words: str, attack: Callable[[], object]) -> None:
    with pytest.raises(IntegrityError, match=words), transaction.atomic():
        attack()


def close_again() -> None:
    position = rows.position()
    rows.intent(position_id=position, state="rejected", settled_at="2026-01-01T00:00:00Z")
    rows.intent(position_id=position)


ALLOWED: list[tuple[str, Callable[[], object]]] = [
    ("two intents without a position", lambda: [rows.intent(), rows.intent()]),
    ("a receipt that is no longer canonical", lambda: rows.receipt(canonical=False)),
    ("a lifted restriction again", lambda: twice(rows.restriction, lifted_at="2026-01-01T00:00:00Z")),
    ("the same restriction elsewhere", lambda: [rows.restriction(), rows.restriction(origin="admin")]),
    ("an open slot in the other mode", lambda: same_position(mode="DRY")),
    ("a slot reused after a close", lambda: same_position(state="closed", opened_at="2026-02-02T00:00:00Z")),
    ("next_nonce forward", lambda: change("wallets", wallet_at(5), next_nonce=6)),
    ("an offered send", lambda: change("tx_sends", rows.send(), outcome="accepted", offers=1)),
    ("a close after a refused one", close_again),
    (
        "two closes of a position, one after the other",
        lambda: twice(rows.intent, position_id=rows.position()),
    ),
    ("a provisional fill taken back", lambda: delete("fills", rows.fill())),
]


@pytest.mark.parametrize("use", [use for _, use in ALLOWED], ids=[name for name, _ in ALLOWED])
def test_ordinary_work_is_not_refused(use: Callable[[], object]) -> None:
    use()

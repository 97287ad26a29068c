"""What is final is not revived, what happened stays told, and nothing is emptied: attacked by plain SQL."""

from collections.abc import Callable

import pytest
from django.db import DatabaseError, IntegrityError, connection, transaction

from execution_app.states import IntentState
from tests.execution import rows
from tests.execution.test_constraints import change, delete, undone
from tests.guards import without_guards

__all__ = ["undone"]  # the fixture: one transaction that is rolled back
NOW = "2026-01-01T00:00:00Z"
LATER = "2026-02-02T00:00:00Z"


def settled(make: Callable[..., int], **fields: object) -> int:
    """A row of an intent that is final by now."""
    intent = rows.intent_in(IntentState.FILLED)
    pk = make(intent_id=intent, **fields)
    change("tx_intents", intent, settled_at=NOW)
    return pk


def sent_receipt(**fields: object) -> int:
    return rows.receipt(send_id=rows.send(intent_id=fields["intent_id"]), **fields)


def closed_for_good() -> int:
    return rows.position(state="closed", ended_by="close", settled_at=NOW)


def held_send() -> int:
    stamps = dict.fromkeys(("leased_at", "offered_at", "last_offered_at", "held_at", "stuck_at"), NOW)
    return rows.send(outcome="accepted", offers=2, **stamps)


APPROVED = {"approved_at": LATER, "approved_by": "ann"}


def held_close() -> int:
    return rows.intent_in(IntentState.HELD, action="close")


def approved() -> int:
    pk = held_close()
    change("tx_intents", pk, **APPROVED)
    return pk


def approved_anew() -> None:
    pk = approved()
    with without_guards():
        rows.execute(
            "UPDATE tx_intents SET approved_at = approved_at - interval '301 seconds' WHERE id = %s", pk
        )
    change("tx_intents", pk, **APPROVED)
    assert rows.one(
        "SELECT abs(extract(epoch FROM clock_timestamp() - approved_at)) < 60 FROM tx_intents WHERE id = %s",
        pk,
    )


def lifted() -> int:
    return rows.restriction(lifted_at=NOW, lifted_by="ann")


def retired() -> int:
    return rows.secret(active=False, retired_at=NOW)


def chain(**changes: object) -> None:
    rows.execute(
        "INSERT INTO chains (chain_id, genesis_hash, trading_address, head_number, head_hash, finalized_number,"
        " halted_reason) VALUES (77, '0xg', '0xt', 0, '', 0, '')"
    )
    names = ", ".join(f"{name} = %s" for name in changes)
    rows.execute(f"UPDATE chains SET {names} WHERE chain_id = 77", *changes.values())


def delete_chain() -> None:
    chain(head_number=1)
    rows.execute("DELETE FROM chains")


def deceive_the_moves() -> None:
    """A temporary table is found before ours by a guard that does not say which schema it means."""
    pk = rows.intent_in(IntentState.PENDING)
    rows.execute("CREATE TEMP TABLE intent_moves (from_state text, to_state text) ON COMMIT DROP")
    rows.execute("INSERT INTO pg_temp.intent_moves VALUES ('pending', 'ordered')")
    change("tx_intents", pk, state="ordered", **rows.slot())


ATTACKS: list[tuple[str, str, Callable[[], object]]] = [
    # What was asked for
    *(
        (f"another {column}", "asked for never changes", lambda c=column, v=value: change("tx_intents", rows.intent(), **{c: v}))
        for column, value in (
            ("collateral_usdc", 500), ("leverage_x", 50), ("is_long", False), ("symbol", "ETH-USD"), ("action", "close"),
            ("tg_user_id", 9), ("slippage_pct", 9), ("take_profit", 9), ("stop_loss", 9), ("reduce_pct", 9),
        )
    ),
    ("another limit of cost", "may cost never changes", lambda: change("tx_intents", rows.intent(max_cost_wei=5), max_cost_wei=6)),
    ("another cost", "fixed with its nonce", lambda: change("tx_intents", rows.intent_in(IntentState.RESERVED), l1_fee_wei=1)),
    *(
        (f"{column} of {value}", f"ck_tx_intents_{name}", lambda c=column, v=value: rows.intent(**{c: v}))
        for column, name, value in (
            ("max_cost_wei", "max_cost", 0), ("max_cost_wei", "max_cost", "NaN"), ("l1_fee_wei", "l1_fee", -1), ("l1_fee_wei", "l1_fee", "NaN"),
        )
    ),
    ("a negative fee below", "ck_tx_receipts_l1_fee", lambda: rows.receipt(l1_fee_wei=-1)),
    ("another trader", "asked for never changes", lambda: change("tx_intents", rows.intent(), trader_id=rows.trader())),
    ("a move by a false table", "cannot move from pending to ordered", deceive_the_moves),
    ("another part", "its part never changes", lambda: change("tx_intents", rows.intent_in(IntentState.RESERVED), reduce_usdc=1)),
    # Approvals
    ("born approved", "starts unapproved", lambda: rows.intent(action="close", approved_at=NOW, approved_by="x")),
    ("an approved open", "an open is never approved", lambda: change("tx_intents", rows.intent_in(IntentState.HELD), **APPROVED)),
    ("approved while pending", "only what is held", lambda: change("tx_intents", rows.intent(action="close"), **APPROVED)),
    ("approved with its nonce", "only what is held", lambda: change("tx_intents", rows.intent_in(IntentState.RESERVED, action="close"), **APPROVED)),
    ("approved as it leaves", "only what is held", lambda: change("tx_intents", held_close(), state="rejected", settled_at=NOW, **APPROVED)),
    ("approval taken back", "not taken back", lambda: change("tx_intents", approved(), approved_at=None, approved_by="")),
    ("approved twice", "approved already", lambda: change("tx_intents", approved(), **APPROVED)),
    ("approved by another", "approved already", lambda: change("tx_intents", approved(), approved_by="bob")),
    ("approved by nobody", "ck_tx_intents_approval", lambda: change("tx_intents", held_close(), approved_at=NOW)),
    # Sends: what happened to the bytes
    ("unoffered again", "cannot become unoffered", lambda: change("tx_sends", held_send(), outcome="unoffered")),
    ("fewer offers", "stays told", lambda: change("tx_sends", held_send(), offers=1)),
    *(
        (f"{column} {how}", "stays told", lambda c=column, v=value: change("tx_sends", held_send(), **{c: v}))
        for column, how, value in (
            ("held_at", "forgotten", None), ("held_at", "moved", LATER), ("offered_at", "forgotten", None),
            ("offered_at", "moved", LATER), ("stuck_at", "forgotten", None), ("leased_at", "forgotten", None),
            ("last_offered_at", "forgotten", None),
        )
    ),
    # Receipts
    ("deleted receipt", "rows are kept", lambda: delete("tx_receipts", rows.receipt())),
    ("receipt of another send", "for life", lambda: change("tx_receipts", rows.receipt(), send_id=rows.send())),
    ("receipt of another intent", "for life", lambda: change("tx_receipts", rows.receipt(), intent_id=rows.intent())),
    ("final receipt undone", "is final", lambda: change("tx_receipts", settled(sent_receipt), canonical=False)),
    ("final receipt turned", "is final", lambda: change("tx_receipts", settled(sent_receipt), status=0)),
    # Venue orders
    ("final order revived", "is final", lambda: change("venue_orders", settled(rows.order, state="executed"), state="registered")),
    ("final order moved", "is final", lambda: change("venue_orders", settled(rows.order, state="executed"), done_block_number=9)),
    ("final order deleted", "is final", lambda: delete("venue_orders", settled(rows.order, state="executed"))),
    ("executed order deleted", "it is kept", lambda: delete("venue_orders", rows.order(state="executed"))),
    ("executed order cancelled", "from executed to cancelled", lambda: change("venue_orders", rows.order(state="executed"), state="cancelled")),
    ("cancelled order executed", "from cancelled to executed", lambda: change("venue_orders", rows.order(state="cancelled"), state="executed")),
    ("another order number", "under its number", lambda: change("venue_orders", rows.order(state="executed"), order_id=1)),
    ("order of another intent", "for life", lambda: change("venue_orders", rows.order(), intent_id=rows.intent())),
    ("a fill of nobody's", "ck_fills_whose", lambda: rows.fill(ended_by="")),
    (
        "the venue's fill without a payout",
        "ck_fills_whose",
        lambda: rows.fill(ended_by="owner", action="close"),
    ),
    ("the venue opens nothing", "ck_fills_whose", lambda: rows.fill(ended_by="owner", sent_to_trader_usdc=1)),
    (
        "an end that says nothing",
        "ck_fills_whose",
        lambda: rows.fill(ended_by="closed_elsewhere", action="close", sent_to_trader_usdc=1),
    ),
    (
        "an order's fill that names an end",
        "ck_fills_whose",
        lambda: rows.fill(ended_by="owner", intent_id=rows.intent(), action="close", sent_to_trader_usdc=1),
    ),
    # Positions
    ("closed position reopened", "closed for good", lambda: change("positions", closed_for_good(), state="open", ended_by="")),
    ("closed position voided", "closed for good", lambda: change("positions", closed_for_good(), state="void", ended_by="")),
    ("another end that is known", "closed for good", lambda: change(
        "positions", rows.position(state="closed", ended_by="liquidation", settled_at=NOW), ended_by="owner")),
    ("another end", "closed for good", lambda: change("positions", closed_for_good(), ended_by="closed_elsewhere")),
    ("deleted position", "rows are kept", lambda: delete("positions", rows.position())),
    *(
        (f"position's {column}", "same trade for life", lambda c=column, v=value: change("positions", rows.position(), **{c: v}))
        for column, value in (
            ("mode", "DRY"), ("trade_index", 5), ("pair_index", 5), ("symbol", "ETH-USD"), ("venue", "0x"), ("opened_at", LATER),
        )
    ),
    ("position of another trader", "same trade for life", lambda: change("positions", rows.position(), trader_id=rows.trader())),
    # Fills
    ("provisional fill's price", "executed never changes", lambda: change("fills", rows.fill(), price=1)),
    ("provisional fill moved", "executed never changes", lambda: change("fills", rows.fill(), position_id=rows.position())),
    # The gate
    ("restriction lifted twice", "lifted already", lambda: change("mode_changes", lifted(), lifted_by="bob")),
    ("restriction revived", "lifted already", lambda: change("mode_changes", lifted(), lifted_at=None)),
    ("restriction of another origin", "never changes", lambda: change("mode_changes", rows.restriction(), origin="admin")),
    ("restriction of another kind", "never changes", lambda: change("mode_changes", rows.restriction(), kind="dry")),
    ("another reason", "never changes", lambda: change("mode_changes", rows.restriction(), reason="none")),
    ("deleted restriction", "rows are kept", lambda: delete("mode_changes", rows.restriction())),
    ("another mode in the history", "append-only", lambda: change("mode_history", rows.mode_change(), mode="LIVE")),
    ("a change forgotten", "append-only", lambda: delete("mode_history", rows.mode_change())),
    ("epoch back", "never steps back", lambda: rows.execute("UPDATE control SET epoch = epoch - 1")),
    ("no control row", "rows are kept", lambda: rows.execute("DELETE FROM control")),
    # Who trades where
    ("another chain", "what it is never changes", lambda: chain(genesis_hash="0xother")),
    ("another venue", "what it is never changes", lambda: chain(trading_address="0xother")),
    ("another chain id", "what it is never changes", lambda: chain(chain_id=78)),
    ("forgotten chain", "rows are kept", delete_chain),
    ("another address", "never change", lambda: change("traders", rows.trader(), address=rows.address())),
    ("another Telegram id", "never change", lambda: change("traders", rows.trader(), tg_user_id=8)),
    ("deleted trader", "rows are kept", lambda: delete("traders", rows.trader())),
    ("deleted wallet", "rows are kept", lambda: delete("wallets", rows.wallet())),
    # Signals and secrets
    ("a decision without its time", "come together", lambda: change("signals", rows.signal(), decision="accepted")),
    ("a time without its decision", "come together", lambda: change("signals", rows.signal(), decided_at=NOW)),
    ("retired secret revived", "retired for good", lambda: change("source_secrets", retired(), active=True, retired_at=None)),
    ("retired at another time", "retired for good", lambda: change("source_secrets", retired(), retired_at=LATER)),
    ("secret of another source", "for life", lambda: change("source_secrets", rows.secret(), source=rows.source())),
    ("deleted secret", "are kept", lambda: delete("source_secrets", rows.secret())),
]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "attack"), [(words, attack) for _, words, attack in ATTACKS], ids=[name for name, *_ in ATTACKS]
)
def test_the_database_refuses(words: str, attack: Callable[[], object]) -> None:
    with pytest.raises(IntegrityError, match=words), transaction.atomic():
        attack()


ALLOWED: list[tuple[str, Callable[[], object]]] = [
    ("a reorg of a receipt", lambda: change("tx_receipts", rows.receipt(), canonical=False)),
    ("a reorg of an order", lambda: change("venue_orders", rows.order(state="executed"), state="registered")),
    ("an order that left with its block", lambda: delete("venue_orders", rows.order())),
    ("a reorg of a close", lambda: change("positions", rows.position(state="closed", ended_by="close"), state="open", ended_by="")),
    ("an end that is learnt", lambda: change(
        "positions", rows.position(state="closed", ended_by="closed_elsewhere", settled_at=NOW), ended_by="stop_loss")),
    ("a position that comes back", lambda: change("positions", rows.position(state="void"), state="open")),
    ("a fill that settles", lambda: change("fills", rows.fill(), settled_at=NOW)),
    ("another answer of a node", lambda: change("tx_sends", held_send(), outcome="already_known", offers=3, last_offered_at=LATER)),
    ("lifting once", lambda: change("mode_changes", rows.restriction(), lifted_at=NOW, lifted_by="ann")),
    ("the epoch forwards", lambda: rows.execute("UPDATE control SET epoch = epoch + 1")),
    ("a decision", lambda: change("signals", rows.signal(), decided_at=NOW, decision="accepted")),
    ("retiring a secret", lambda: change("source_secrets", rows.secret(), active=False, retired_at=NOW)),
    ("approving what is held", approved),
    ("approving anew what ran out, from now", approved_anew),
    ("switching a trader", lambda: change("traders", rows.trader(), enabled=False, label="x")),
]  # fmt: skip


@pytest.mark.parametrize("use", [use for _, use in ALLOWED], ids=[name for name, _ in ALLOWED])
def test_ordinary_work_is_not_refused(use: Callable[[], object]) -> None:
    use()


KEPT = (
    "audit_log", "chains", "control", "fills", "intent_transitions", "mode_changes", "mode_history", "positions", "signals",
    "source_secrets", "traders", "tx_intents", "tx_receipts", "tx_sends", "venue_orders", "wallets",
)  # fmt: skip


@pytest.mark.parametrize("table", KEPT)
def test_nothing_is_emptied(table: str) -> None:
    with pytest.raises(IntegrityError, match="TRUNCATE"), transaction.atomic():
        rows.execute(f"TRUNCATE {table} CASCADE")


# What somebody was last told of a thing that comes and goes, in free words: any may follow any other.
# A page's answer is judged by its signature, whenever it is looked at; the token is used up by the bot's own update.
UNGUARDED = {"telegram_conditions", "telegram_pages"}


def test_every_state_column_has_its_guard() -> None:
    """A new table with a state needs a trigger, or a reason here why any word may follow any other."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT DISTINCT table_name FROM information_schema.columns WHERE table_schema = 'public'"
            " AND column_name IN ('state', 'outcome', 'decision', 'decided_at', 'lifted_at', 'settled_at',"
            " 'retired_at', 'canonical', 'status', 'epoch')"
        )
        stateful = {name for (name,) in cursor.fetchall()}
        cursor.execute(
            "SELECT DISTINCT tgrelid::regclass::text FROM pg_trigger WHERE NOT tgisinternal"
            " AND tgenabled = 'O' AND tgtype & 16 > 0"
        )
        guarded = {name for (name,) in cursor.fetchall()}
    # The library of tasks' results is not ours and holds nothing about money.
    assert {name for name in stateful - UNGUARDED if not name.startswith("django_")} <= guarded
    assert stateful >= UNGUARDED


def test_every_guard_says_which_schema_it_means() -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT p.proname, p.proconfig FROM pg_proc p JOIN pg_trigger t ON t.tgfoid = p.oid"
            " WHERE NOT t.tgisinternal"
        )
        found = dict(cursor.fetchall())
    assert len(found) > 10
    assert {name for name, config in found.items() if not config or "pg_temp" not in config[0]} == set()


def test_the_owner_without_guards_can(undone: None) -> None:
    """So the tests' own stage is set by a superuser's power and not by a hole."""
    with without_guards():
        delete("traders", rows.trader())
    with pytest.raises(DatabaseError), transaction.atomic():
        delete("traders", rows.trader())

"""Signed messages and the road of an intent, attacked by plain SQL."""

from collections.abc import Callable

import pytest
from django.db import IntegrityError, transaction

from execution_app.states import IntentState
from tests.execution import rows
from tests.execution.test_constraints import change, delete, undone

__all__ = ["undone"]  # the fixture: one transaction that is rolled back
NOW = "2026-01-01T00:00:00Z"
NONCE = "0x" + "ab" * 32
OWNED: rows.Row = {"state": "reserved", "mode": "LIVE", "road": "gateway"}


def reserved(**fields: object) -> int:
    """An open that is reserved for a message."""
    wallet_id = rows.wallet()
    trader_id = rows.one("SELECT trader_id FROM wallets WHERE id = %s", wallet_id)
    pk = rows.intent(wallet_id=wallet_id, trader_id=trader_id)
    rows.update("tx_intents", pk, OWNED | fields)
    return pk


def message(**fields: object) -> int:
    row: rows.Row = {"intent_id": None, "signer": rows.address(), "nonce": NONCE, "digest": rows.tx_hash()}
    row |= {"content": b"\x01", "deadline_ms": 1_800_000_000_000, "from_block": 1, "signature": b"\x02" * 65}
    row |= {"posts": 0, "outcome": "unoffered"} | fields
    row["intent_id"] = row["intent_id"] or reserved()
    return rows.insert("venue_messages", row)


def twice(**same: object) -> None:
    for _ in range(2):
        message(**same)


def moved(state: IntentState) -> int:
    pk = reserved()
    message(intent_id=pk)
    for step in ("signed", "sending", "pending_inclusion"):
        rows.update("tx_intents", pk, {"state": step})
        if step == state:
            break
    return pk


def levels_in(state: str) -> int:
    return rows.intent_in(IntentState(state), gateway=True, **rows.of_levels())


def mined() -> int:
    return rows.intent_in(IntentState.MINED, gateway=True)


def lapsed_by_chain() -> None:
    change("tx_intents", rows.intent_in(IntentState.PENDING_INCLUSION), state="lapsed", settled_at=NOW)


ATTACKS: list[tuple[str, str, Callable[[], object]]] = [
    ("the same nonce again", "uq_venue_messages_nonce", lambda: twice(signer="0x" + "11" * 20)),
    ("the same digest again", "venue_messages_digest", lambda: twice(digest="0xsame")),
    ("two of an intent", "venue_messages_intent_id", lambda: twice(intent_id=reserved(), nonce=NONCE)),
    ("a signer that is none", "ck_venue_messages_nonce", lambda: message(signer="0xzz")),
    ("a short nonce", "ck_venue_messages_nonce", lambda: message(nonce="0x01")),
    ("a deadline in seconds", "ck_venue_messages_deadline", lambda: message(deadline_ms=1_800_000_000)),
    ("posted, never announced", "ck_venue_messages_leased_first", lambda: message(posted_at=NOW, last_posted_at=NOW)),
    ("an unknown outcome", "ck_venue_messages_outcome", lambda: message(outcome="lost")),
    ("for what waits", "not reserved for a message", lambda: message(intent_id=rows.intent())),
    ("for a slot", "not reserved for a message", lambda: message(intent_id=rows.intent_in(IntentState.RESERVED))),
    ("other bytes", "never change", lambda: change("venue_messages", message(), content=b"\x09")),
    ("another signature", "never change", lambda: change("venue_messages", message(), signature=b"\x03" * 65)),
    ("another deadline", "never change", lambda: change("venue_messages", message(), deadline_ms=1_900_000_000_000)),
    ("another nonce", "never change", lambda: change("venue_messages", message(), nonce="0x" + "cd" * 32)),
    ("unposted", "stays told", lambda: change("venue_messages", message(posts=1), posts=0)),
    ("unannounced", "stays told", lambda: change("venue_messages", message(leased_at=NOW), leased_at=None)),
    ("no longer held", "stays told", lambda: change("venue_messages", message(held_at=NOW), held_at=None)),
    ("deleted", "signed messages are kept", lambda: delete("venue_messages", message())),
    ("an unknown road", "ck_tx_intents_road", lambda: rows.intent(road="pigeon")),
    ("a slot that lapses", "ck_tx_intents_lapsed_by_gateway|its road", lapsed_by_chain),
    ("another road", "its road to the end", lambda: change("tx_intents", reserved(), road="onchain")),
    ("a message and a slot", "ck_tx_intents_sent_owns_slot|owns its message", lambda: change("tx_intents", reserved(), nonce=3)),
    ("another wallet", "owns its message", lambda: change("tx_intents", reserved(), wallet_id=rows.wallet())),
    ("another position", "owns its message", lambda: change("tx_intents", reserved(), position_id=rows.position())),
    ("another amount", "owns its message", lambda: change("tx_intents", reserved(), close_usdc=4)),
    ("a message in DRY", "ck_tx_intents_sent_owns_slot", lambda: reserved(mode="DRY")),
    ("levels of nothing", "ck_tx_intents_levels", lambda: rows.intent(action="levels", road="gateway")),
    ("levels by transaction", "ck_tx_intents_levels", lambda: rows.intent(**rows.of_levels() | {"road": ""})),
    ("levels that fill", "ck_tx_intents_levels", lambda: change("tx_intents", levels_in("mined"), state="ordered")),
    ("other levels", "asked for never changes", lambda: change("tx_intents", levels_in("signed"), stop_loss=1)),
    ("an order of levels", "asked for never changes", lambda: change("tx_intents", levels_in("signed"), action="open")),
    ("an order that changes levels", "ck_tx_intents_changed_levels", lambda: change("tx_intents", mined(), state="changed")),
    ("spent at half a block", "ck_venue_messages_spent_at", lambda: change("venue_messages", message(), spent_at_block=7)),
    ("left unsigned", "ck_venue_messages_signed_first", lambda: change("venue_messages", message(signature=b""), leased_at=NOW)),
    ("signed again", "ck_venue_messages_signed_first", lambda: change("venue_messages", message(), sign_leased_at=NOW)),
    ("signed, then not", "never change", lambda: change("venue_messages", message(), signature=b"")),
    ("nobody's message", "ck_tx_intents_sent_owns_slot", lambda: rows.update("tx_intents", rows.intent(), OWNED)),
]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "attack"), [(words, attack) for _, words, attack in ATTACKS], ids=[name for name, *_ in ATTACKS]
)
def test_the_database_refuses(words: str, attack: Callable[[], object]) -> None:
    with pytest.raises(IntegrityError, match=words), transaction.atomic():
        attack()


def test_what_the_engine_does_is_allowed() -> None:
    pk = reserved()
    row = message(intent_id=pk)
    change("venue_messages", row, leased_at=NOW)
    change("venue_messages", row, posts=1, posted_at=NOW, last_posted_at=NOW, outcome="unknown")
    change("venue_messages", row, held_at=NOW, tracking_id="a", outcome="accepted", last_seq=3, said="x")
    change("venue_messages", row, tracking_id="", last_seq=-1, unused_at_block=7, unused_at_hash="0x1")
    later = message(signature=b"")
    change(
        "venue_messages",
        later,
        sign_leased_at=NOW,
        sign_lease="9fa592b5-6101-4e65-b962-e8027bba4ec1",
        sign_tries=1,
    )
    change("venue_messages", later, signature=b"\x02" * 65, sign_leased_at=None, sign_lease=None)
    change("tx_intents", reserved(), state="lapsed", settled_at=NOW)
    for state in (IntentState.SIGNED, IntentState.SENDING, IntentState.PENDING_INCLUSION):
        change("tx_intents", moved(state), state="lapsed", settled_at=NOW)

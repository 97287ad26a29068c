"""Changes of a trade's margin, attacked by plain SQL."""

from collections.abc import Callable

import pytest
from django.db import IntegrityError, transaction

from tests.execution import rows
from tests.execution.test_constraints import change, close_owner, delete, undone

__all__ = ["undone"]  # the fixture: one transaction that is rolled back
SETTLED = {"settled_at": "2026-01-02T00:00:00Z"}


def margin(**fields: object) -> int:
    row: rows.Row = {
        "position_id": None,
        "change_usdc": 1,
        "collateral_usdc": 6,
        "leverage_x": "1.6666666666",
    }
    row |= {"venue_timestamp": "2026-01-01T00:00:00Z", "tx_hash": rows.tx_hash(), "log_index": 0}
    row |= {"block_number": 2, "block_hash": rows.tx_hash()} | fields
    row["position_id"] = row["position_id"] or rows.position()
    return rows.insert("margin_changes", row)


def simulated(**fields: object) -> int:
    place: rows.Row = {"block_number": None, "block_hash": "", "venue_timestamp": None, "after_fill": 1}
    found = fields.get("position_id") or rows.position(mode="DRY")
    return margin(**({"position_id": found, "intent_id": asked(), **place, **SETTLED} | fields))


def asked(**fields: object) -> int:
    owner = close_owner()
    position = rows.position(trader_id=owner["trader_id"])
    wanted: rows.Row = {"action": "margin", "road": "onchain", "position_id": position, "margin_usdc": 1}
    return rows.intent(**(wanted | owner | fields))


def signal(**fields: object) -> int:
    return rows.signal(**({"side": "MARGIN", "slippage_pct": None} | fields))


def ordered() -> None:
    pk = asked()
    for state in ("reserved", "signed", "sending", "pending_inclusion", "mined", "ordered"):
        change("tx_intents", pk, state=state, **(rows.slot() if state == "reserved" else {}))


def one_intent_twice() -> None:
    intent = asked()
    margin(intent_id=intent)
    margin(intent_id=intent, position_id=rows.position())


def twice() -> None:
    tx_hash = rows.tx_hash()
    margin(tx_hash=tx_hash)
    margin(tx_hash=tx_hash, position_id=rows.position())


ATTACKS: list[tuple[str, str, Callable[[], object]]] = [
    ("one event twice", "uq_margin_changes_event", twice),
    ("one intent twice", "margin_changes_intent_id", one_intent_twice),
    ("margin of nothing", "ck_tx_intents_margin", lambda: asked(margin_usdc=0)),
    ("margin of NaN", "ck_tx_intents_margin", lambda: asked(margin_usdc="NaN")),
    ("margin without its amount", "ck_tx_intents_margin", lambda: asked(margin_usdc=None)),
    ("margin without its position", "ck_tx_intents_margin", lambda: asked(position_id=None)),
    ("margin by message", "ck_tx_intents_margin", lambda: asked(road="gateway")),
    ("margin of an open", "ck_tx_intents_margin", lambda: asked(action="open")),
    ("margin that is an order", "ck_tx_intents_margin", ordered),
    ("another margin", "never changes", lambda: change("tx_intents", asked(), margin_usdc=2)),
    ("signal that says both", "ck_signals_margin", lambda: signal(deposit_usdc=1, withdraw_usdc=1)),
    ("signal that says neither", "ck_signals_margin", signal),
    ("margin with slippage", "ck_signals_changes", lambda: signal(deposit_usdc=1, slippage_pct=1)),
    ("open with margin", "ck_signals_margin", lambda: rows.signal(deposit_usdc=1)),
    ("change of nothing", "ck_margin_changes_change", lambda: margin(change_usdc=0)),
    ("change of NaN", "ck_margin_changes_change", lambda: margin(change_usdc="NaN")),
    ("no collateral left", "ck_margin_changes_collateral", lambda: margin(collateral_usdc=0)),
    ("leverage of nothing", "ck_margin_changes_leverage", lambda: margin(leverage_x=0)),
    ("margin of a simulation", "where it is", lambda: margin(position_id=rows.position(mode="DRY"))),
    ("simulated margin of a LIVE trade", "where it is", lambda: simulated(position_id=rows.position())),
    ("simulated margin of nobody", "ck_margin_changes_place", lambda: simulated(intent_id=None)),
    ("simulated margin without its place", "ck_margin_changes_place", lambda: simulated(after_fill=None)),
    ("margin without its time", "ck_margin_changes_place", lambda: margin(venue_timestamp=None)),
    ("another's position", "none of this trader", lambda: asked(position_id=rows.position())),
    ("a position of another symbol", "none of this trader", lambda: asked(symbol="ETH-USD")),
    ("another position", "never changes", lambda: change("tx_intents", asked(), position_id=rows.position())),
    ("another amount", "as the venue told it", lambda: change("margin_changes", margin(), change_usdc=2)),
    ("settled and undone", "is final", lambda: change("margin_changes", margin(**SETTLED), settled_at=None)),
    ("settled and gone", "is final", lambda: delete("margin_changes", margin(**SETTLED))),
    ("all gone", "final stays", lambda: rows.execute("TRUNCATE margin_changes")),
]


@pytest.mark.parametrize(("words", "attack"), [row[1:] for row in ATTACKS], ids=[row[0] for row in ATTACKS])
def test_the_database_refuses(words: str, attack: Callable[[], object]) -> None:
    with pytest.raises(IntegrityError, match=words), transaction.atomic():
        attack()


def test_what_is_not_final_goes_with_its_block() -> None:
    pk = margin(change_usdc=-1)
    change("margin_changes", pk, **SETTLED)
    delete("margin_changes", margin(position_id=rows.position()))
    assert asked(margin_usdc=-1)
    assert asked(position_id=None, state="rejected", settled_at="2026-01-01T00:00:00Z")
    assert signal(withdraw_usdc=1)
    assert simulated()

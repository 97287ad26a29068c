"""Increases and what they leave on fills, positions and corrections, attacked by plain SQL."""

from collections.abc import Callable

import pytest
from django.db import IntegrityError, transaction

from tests.execution import rows
from tests.execution.test_constraints import change, undone
from tests.execution.test_correction_guards import correction

__all__ = ["undone"]  # the fixture: one transaction that is rolled back
SLOTTED = ("reserved", "signed", "sending", "pending_inclusion", "mined", "ordered", "filled")


def increase(**fields: object) -> int:
    wallet = rows.wallet()
    trader = rows.one("SELECT trader_id FROM wallets WHERE id = %s", wallet)
    row: rows.Row = {"action": "increase", "wallet_id": wallet, "trader_id": trader, "road": "gateway"}
    row |= {"position_id": fields.get("position_id") or rows.position(trader_id=trader)}
    return rows.intent(**(row | fields))


def led_to(*states: str, **reserved: object) -> None:
    pk = increase()
    for state in states:
        change("tx_intents", pk, state=state, **(reserved if state == "reserved" else {}))


def of_another(**fields: object) -> None:
    increase(position_id=rows.position(**fields))


def grown(**fields: object) -> int:
    row: rows.Row = {"action": "increase", "open_price_after": 60_100, "leverage_after_x": 2}
    return rows.fill(**(row | fields))


ATTACKS: list[tuple[str, str, Callable[[], object]]] = [
    ("increase of nothing", "none of this trader|ck_tx_intents_increase", lambda: increase(position_id=None, trader_id=None, wallet_id=None)),
    ("increase without a size", "ck_tx_intents_increase", lambda: increase(collateral_usdc=None)),
    ("increase without leverage", "ck_tx_intents_increase", lambda: increase(leverage_x=None)),
    ("increase on-chain", "ck_tx_intents_increase", lambda: increase(road="onchain")),
    ("increase in a slot", "ck_tx_intents_increase|ck_tx_intents_sent_owns_slot", lambda: led_to("reserved", **rows.slot())),
    ("increase that changes levels", "ck_tx_intents_changed_levels|ck_tx_intents_increase", lambda: led_to(*SLOTTED[:5], "changed", mode="LIVE")),
    ("increase that found nothing", "ck_tx_intents_increase", lambda: change("tx_intents", increase(), state="no_op", settled_at="2026-01-01T00:00:00Z")),
    ("another's position", "none of this trader", of_another),
    ("a position on the other side", "none of this trader", lambda: increase(is_long=False)),
    ("a position of another symbol", "none of this trader", lambda: increase(symbol="ETH-USD")),
    ("another size", "never changes", lambda: change("tx_intents", increase(), collateral_usdc=50)),
    ("another leverage", "never changes", lambda: change("tx_intents", increase(), leverage_x=50)),
    ("another position", "never changes", lambda: change("tx_intents", increase(), position_id=rows.position())),
    ("fill without the trade", "ck_fills_increase", lambda: grown(open_price_after=None)),
    ("fill without its leverage", "ck_fills_increase", lambda: grown(leverage_after_x=None)),
    ("fill at nothing", "ck_fills_increase", lambda: grown(open_price_after=0)),
    ("fill at NaN", "ck_fills_increase", lambda: grown(leverage_after_x="NaN")),
    ("open with another price after", "ck_fills_increase", lambda: rows.fill(open_price_after=5)),
    ("correction at nothing", "ck_position_corrections_open_price", lambda: correction(open_price=0)),
    ("correction at NaN", "ck_position_corrections_open_price", lambda: correction(open_price="NaN")),
]  # fmt: skip


@pytest.mark.parametrize(("words", "attack"), [row[1:] for row in ATTACKS], ids=[row[0] for row in ATTACKS])
def test_the_database_refuses(words: str, attack: Callable[[], object]) -> None:
    with pytest.raises(IntegrityError, match=words), transaction.atomic():
        attack()


def test_what_is_sound_is_taken() -> None:
    change("tx_intents", increase(), state="reserved", mode="LIVE")
    assert grown()
    assert correction(open_price=60_100)
    # A signal that found no position is kept, refused.
    refused = {"state": "rejected", "settled_at": "2026-01-01T00:00:00Z", "leverage_x": None, "is_long": None}
    assert rows.intent(action="increase", **refused)

"""What rests at the venue and what takes it back, attacked by plain SQL."""

from collections.abc import Callable

import pytest
from django.db import IntegrityError, transaction

from tests.execution import rows
from tests.execution.test_constraints import change, close_owner, undone

__all__ = ["undone"]  # the fixture: one transaction that is rolled back


def resting(**fields: object) -> int:
    limit: rows.Row = {"order_type": "limit", "limit_price": 5, "road": "onchain"}
    return rows.intent(**(limit | close_owner() | fields))


def taking_back(order: int | None = None, **fields: object) -> int:
    target = order or resting()
    owner = {
        name: rows.one(f"SELECT {name} FROM tx_intents WHERE id = %s", target)
        for name in ("wallet_id", "trader_id")
    }
    cancel: rows.Row = {"action": "cancel_order", "target_id": target, "road": "onchain"}
    return rows.intent(**(cancel | owner | fields))


def changing(**fields: object) -> int:
    change: rows.Row = {"action": "update_order", "limit_price": 4}
    return taking_back(None, **(change | fields))


def another_takes_it_back() -> None:
    owner = close_owner()
    taking_back(wallet_id=owner["wallet_id"], trader_id=owner["trader_id"])


def cancel_ordered() -> None:
    ordered(taking_back())


def ordered(pk: int) -> None:
    for state in ("reserved", "signed", "sending", "pending_inclusion", "mined", "ordered"):
        change("tx_intents", pk, state=state, **(rows.slot() if state == "reserved" else {}))


ATTACKS: list[tuple[str, str, Callable[[], object]]] = [
    (
        "unknown order type",
        "ck_tx_intents_order_type|ck_tx_intents_limit_price",
        lambda: rows.intent(order_type="iceberg"),
    ),
    ("limit without price", "ck_tx_intents_limit_price", lambda: resting(limit_price=None)),
    ("limit at nothing", "ck_tx_intents_limit_price", lambda: resting(limit_price=0)),
    ("limit at NaN", "ck_tx_intents_limit_price", lambda: resting(limit_price="NaN")),
    ("market with price", "ck_tx_intents_limit_price", lambda: rows.intent(limit_price=5)),
    ("limit by message", "ck_tx_intents_limit_price", lambda: resting(road="gateway")),
    ("close at a limit", "ck_tx_intents_limit_price", lambda: resting(action="close")),
    (
        "cancel of nothing",
        "ck_tx_intents_target",
        lambda: rows.intent(action="cancel_order", road="onchain"),
    ),
    ("open with target", "ck_tx_intents_target", lambda: taking_back(action="open")),
    ("cancel by message", "ck_tx_intents_target", lambda: taking_back(road="gateway")),
    ("cancel that is an order", "ck_tx_intents_target", cancel_ordered),
    (
        "market order taken back",
        "no order of this trader",
        lambda: taking_back(rows.intent(**close_owner())),
    ),
    ("another's order taken back", "no order of this trader", another_takes_it_back),
    ("change of nothing", "ck_tx_intents_changes_something", lambda: changing(limit_price=None)),
    ("change by message", "ck_tx_intents_target", lambda: changing(road="gateway")),
    ("change without its order", "ck_tx_intents_target", lambda: changing(target_id=None)),
    ("change to NaN", "ck_tx_intents_limit_price", lambda: changing(limit_price="NaN")),
    ("change to below nothing", "ck_tx_intents_limit_price", lambda: changing(limit_price=-1)),
    ("change to another kind", "ck_tx_intents_limit_price", lambda: changing(order_type="limit")),
    ("slippage of nothing", "ck_tx_intents_new_slippage", lambda: changing(new_slippage_pct=0)),
    ("slippage of an open", "ck_tx_intents_new_slippage", lambda: resting(new_slippage_pct=1)),
    ("change that is an order", "ck_tx_intents_target", lambda: ordered(changing())),
    (
        "change of a market order",
        "no order of this trader",
        lambda: changing(target_id=rows.intent(**close_owner())),
    ),
    (
        "another slippage",
        "never changes",
        lambda: change("tx_intents", changing(new_slippage_pct=1), new_slippage_pct=2),
    ),
    ("terms of a market order", "ck_venue_orders_terms", lambda: rows.order(limit_price=5, slippage_pct=1)),
    ("half of its terms", "ck_venue_orders_terms", lambda: rows.order(limit_index=0, limit_price=5)),
    ("levels alone", "ck_venue_orders_terms", lambda: rows.order(limit_index=0, take_profit=5)),
    (
        "terms at NaN",
        "ck_venue_orders_terms",
        lambda: rows.order(limit_index=0, limit_price="NaN", slippage_pct=1),
    ),
    ("change of no order", "ck_signals_changes", lambda: rows.signal(side="CHANGE")),
    ("open that changes", "ck_signals_changes", lambda: rows.signal(changes="one")),
    ("open without slippage", "ck_signals_changes", lambda: rows.signal(slippage_pct=None)),
    ("another price", "never changes", lambda: change("tx_intents", resting(), limit_price=4)),
    ("another type", "never changes", lambda: change("tx_intents", resting(), order_type="stop_limit")),
    ("another target", "never changes", lambda: change("tx_intents", taking_back(), target_id=resting())),
]


@pytest.mark.parametrize(("words", "attack"), [row[1:] for row in ATTACKS], ids=[row[0] for row in ATTACKS])
def test_the_database_refuses(words: str, attack: Callable[[], object]) -> None:
    with pytest.raises(IntegrityError, match=words), transaction.atomic():
        attack()


def test_what_is_sound_is_taken() -> None:
    assert taking_back(resting())
    assert changing(take_profit=0, new_slippage_pct=1)
    assert changing(target_id=None, state="rejected", settled_at="2026-01-01T00:00:00Z")
    assert rows.order(limit_index=0, limit_price=5, slippage_pct=1, take_profit=6)
    assert rows.signal(side="CHANGE", changes="one", slippage_pct=None)

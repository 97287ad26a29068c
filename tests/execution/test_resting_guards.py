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


def another_takes_it_back() -> None:
    owner = close_owner()
    taking_back(wallet_id=owner["wallet_id"], trader_id=owner["trader_id"])


def cancel_ordered() -> None:
    pk = taking_back()
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

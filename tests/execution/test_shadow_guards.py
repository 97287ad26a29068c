"""Estimates of LIVE orders, attacked by plain SQL."""

from collections.abc import Callable

import pytest
from django.db import IntegrityError, transaction

from tests.execution import rows
from tests.execution.test_constraints import change, delete, undone

__all__ = ["undone"]  # the fixture: one transaction that is rolled back
NAN = "NaN"


def shadow(**fields: object) -> int:
    row: rows.Row = {"intent_id": None, "oracle_price": 100, "price": 101, "fee_usdc": 0} | fields
    row["intent_id"] = row["intent_id"] or rows.intent()
    return rows.insert("shadow_fills", row)


def twice() -> None:
    intent_id = rows.intent()
    for _ in range(2):
        shadow(intent_id=intent_id)


ATTACKS: list[tuple[str, str, Callable[[], object]]] = [
    ("two of an intent", "shadow_fills_intent_id", twice),
    *(
        (f"{name} of {value}", "ck_shadow_fills_price", lambda n=name, v=value: shadow(**{n: v}))
        for name in ("oracle_price", "price") for value in (0, -1, NAN)
    ),
    ("a fee below nothing", "ck_shadow_fills_fee", lambda: shadow(fee_usdc=-1)),
    ("a fee that is no number", "ck_shadow_fills_fee", lambda: shadow(fee_usdc=NAN)),
    ("half a gap", "ck_shadow_fills_gap", lambda: change("shadow_fills", shadow(), delay_ms=5)),
    (
        "a gap that is no number",
        "ck_shadow_fills_gap",
        lambda: change("shadow_fills", shadow(), price_gap_pct=NAN, fee_gap_usdc=0, delay_ms=5),
    ),
    (
        "filled before it was asked for",
        "ck_shadow_fills_gap",
        lambda: change("shadow_fills", shadow(), price_gap_pct=0, fee_gap_usdc=0, delay_ms=-1),
    ),
    ("estimated anew", "made once", lambda: change("shadow_fills", shadow(), price=99)),
    ("forgotten", "are kept", lambda: delete("shadow_fills", shadow())),
]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "attack"), [(words, attack) for _, words, attack in ATTACKS], ids=[name for name, *_ in ATTACKS]
)
def test_the_database_refuses(words: str, attack: Callable[[], object]) -> None:
    with pytest.raises(IntegrityError, match=words), transaction.atomic():
        attack()


def test_a_gap_comes_and_goes_with_its_fill() -> None:
    pk = shadow()
    change("shadow_fills", pk, price_gap_pct=-1, fee_gap_usdc=-1, delay_ms=0)
    change("shadow_fills", pk, price_gap_pct=None, fee_gap_usdc=None, delay_ms=None)

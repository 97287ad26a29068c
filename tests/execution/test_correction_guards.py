"""Corrections of positions and external trades, attacked by plain SQL."""

from collections.abc import Callable

import pytest
from django.db import IntegrityError, transaction

from tests.execution import rows
from tests.execution.test_constraints import change, delete, undone

__all__ = ["undone"]  # the fixture: one transaction that is rolled back
NOW = "2026-01-01T00:00:00Z"
NAN = "NaN"


def correction(**fields: object) -> int:
    row: rows.Row = {
        "position_id": None,
        "block_number": 7,
        "block_hash": "0x07",
        "collateral_usdc": 4,
        "leverage_x": 2,
        "venue_timestamp": NOW,
        "differed": "collateral_usdc is 5, the venue has 4",
    }
    row |= fields
    row["position_id"] = row["position_id"] or rows.position(mode="LIVE")
    return rows.insert("position_corrections", row)


def external(**fields: object) -> int:
    row: rows.Row = {
        "trader_id": None,
        "venue": "0x1",
        "symbol": "BTC-USD",
        "pair_index": 1,
        "trade_index": 0,
        "is_long": True,
        "collateral_usdc": 5,
        "leverage_x": 2,
        "open_price": 60_000,
        "venue_timestamp": NOW,
    }
    row |= fields
    row["trader_id"] = row["trader_id"] or rows.trader()
    return rows.insert("external_trades", row)


def twice(first: int, second: int) -> None:
    position = rows.position(mode="LIVE")
    correction(position_id=position, block_number=first)
    correction(position_id=position, block_number=second)


def same_slot() -> None:
    trader = rows.trader()
    external(trader_id=trader)
    external(trader_id=trader)


ATTACKS: list[tuple[str, str, Callable[[], object]]] = [
    ("one block twice", "uq_position_corrections|follow one another", lambda: twice(7, 7)),
    ("back to an older block", "follow one another", lambda: twice(7, 6)),
    ("of a DRY position", "open LIVE", lambda: correction(position_id=rows.position(mode="DRY"))),
    ("of an ended one", "open LIVE", lambda: correction(position_id=rows.position(mode="LIVE", state="closed"))),
    *(
        (f"{name} of {value}", f"ck_position_corrections_{name.partition('_')[0]}", lambda n=name, v=value: correction(**{n: v}))
        for name in ("collateral_usdc", "leverage_x") for value in (0, -1, NAN)
    ),
    ("without a word", "ck_position_corrections_differed", lambda: correction(differed="")),
    ("told otherwise", "stays told", lambda: change("position_corrections", correction(), collateral_usdc=5)),
    ("untold", "stays told", lambda: delete("position_corrections", correction())),
    ("two in one slot", "uq_external_trades_slot", same_slot),
]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "attack"), [(words, attack) for _, words, attack in ATTACKS], ids=[name for name, *_ in ATTACKS]
)
def test_the_database_refuses(words: str, attack: Callable[[], object]) -> None:
    with pytest.raises(IntegrityError, match=words), transaction.atomic():
        attack()


def test_corrections_that_follow_one_another_are_allowed() -> None:
    twice(6, 7)


def test_corrections_are_not_emptied() -> None:
    with pytest.raises(IntegrityError, match="TRUNCATE"), transaction.atomic():
        rows.execute("TRUNCATE position_corrections CASCADE")

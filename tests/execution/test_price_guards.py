"""Prices that are kept, attacked by plain SQL."""

from collections.abc import Callable

import pytest
from django.db import IntegrityError, transaction

from tests.execution import rows
from tests.execution.test_constraints import undone

__all__ = ["undone"]  # the fixture: one transaction that is rolled back
AT = "2026-01-01T00:00:00Z"


def of_feed(**fields: object) -> int:
    row: rows.Row = {"symbol": "BTC-USD", "source": "core", "price": 100, "published_at": AT}
    return rows.insert("feed_prices", row | fields)


def tick(**fields: object) -> int:
    return rows.insert("price_ticks", {"symbol": "BTC-USD", "at": AT, "price": 100} | fields)


def twice(make: Callable[[], int]) -> Callable[[], None]:
    def attack() -> None:
        make()
        make()

    return attack


ATTACKS: list[tuple[str, str, Callable[[], object]]] = [
    ("two of one source", "uq_feed_prices_source", twice(of_feed)),
    ("a source that nobody knows", "ck_feed_prices_source", lambda: of_feed(source="gossip")),
    *(
        (f"the feed's price is {value}", "ck_feed_prices_price", lambda v=value: of_feed(price=v))
        for value in (0, -1, "NaN")
    ),
    ("two of one moment", "uq_price_ticks_at", twice(tick)),
    *(
        (f"{name} of a moment is {value}", "ck_price_ticks_price", lambda n=name, v=value: tick(**{n: v}))
        for name in ("price", "core", "pro")
        for value in (0, -1, "NaN")
    ),
]


@pytest.mark.parametrize(
    ("words", "attack"), [(words, attack) for _, words, attack in ATTACKS], ids=[name for name, *_ in ATTACKS]
)
def test_the_database_refuses(words: str, attack: Callable[[], object]) -> None:
    with pytest.raises(IntegrityError, match=words), transaction.atomic():
        attack()

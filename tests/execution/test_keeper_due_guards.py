"""What a simulation has registered, attacked by plain SQL."""

from collections.abc import Callable

import pytest
from django.db import IntegrityError, transaction

from tests.execution import rows
from tests.execution.test_constraints import change, undone

__all__ = ["undone"]  # the fixture: one transaction that is rolled back
AT, LATER = "2026-01-01T00:00:00Z", "2026-01-01T00:00:04Z"


def registered(**fields: object) -> int:
    row: rows.Row = {"keeper_due_at": AT, "mode": "DRY", "wanted_price": 60_000}
    return rows.intent(**(row | fields))


ATTACKS: list[tuple[str, str, Callable[[], object]]] = [
    ("registered in no mode", "ck_tx_intents_keeper_due", lambda: registered(mode=None)),
    ("registered in LIVE", "ck_tx_intents_keeper_due", lambda: registered(mode="LIVE")),
    ("registered without a price", "ck_tx_intents_keeper_due", lambda: registered(wanted_price=None)),
    ("registered at nothing", "ck_tx_intents_keeper_due", lambda: registered(wanted_price=0)),
    ("registered at NaN", "ck_tx_intents_keeper_due", lambda: registered(wanted_price="NaN")),
    ("levels that wait for a keeper", "ck_tx_intents_keeper_due", lambda: registered(**rows.of_levels())),
    ("another time", "does not change", lambda: change("tx_intents", registered(), keeper_due_at=LATER)),
    ("no time any more", "does not change", lambda: change("tx_intents", registered(), keeper_due_at=None)),
    ("another price", "does not change", lambda: change("tx_intents", registered(), wanted_price=1)),
    ("another mode", "owns its key, mode", lambda: change("tx_intents", registered(), mode="LIVE")),
]


@pytest.mark.parametrize(("words", "attack"), [row[1:] for row in ATTACKS], ids=[row[0] for row in ATTACKS])
def test_the_database_refuses(words: str, attack: Callable[[], object]) -> None:
    with pytest.raises(IntegrityError, match=words), transaction.atomic():
        attack()


def test_what_is_sound_is_taken() -> None:
    pk = rows.intent()
    change("tx_intents", pk, keeper_due_at=AT, mode="DRY", wanted_price=60_000)
    change("tx_intents", pk, reason_detail="waits")

"""Levels of positions and what fired, attacked by plain SQL."""

from collections.abc import Callable

import pytest
from django.db import IntegrityError, transaction

from execution_app.models import Protection
from tests.execution import rows
from tests.execution.test_constraints import change, delete, undone
from tests.guards import without_guards

__all__ = ["undone"]  # the fixture: one transaction that is rolled back
NOW = "2026-01-01T00:00:00Z"
NAN = "NaN"


def protection(**fields: object) -> int:
    row: rows.Row = {
        "position_id": None,
        "version": 1,
        "is_long": True,
        "stop_loss": 50_000,
        "set_by": "test",
    }
    row |= fields
    row["position_id"] = row["position_id"] or rows.position(is_long=row["is_long"])
    return rows.insert("protections", row)


def close_of(protection_id: int, **fields: object) -> int:
    position = rows.one("SELECT position_id FROM protections WHERE id = %s", protection_id)
    row = {"action": "close", "position_id": position, "only_position": True} | fields
    return rows.intent(**row)


def trigger(**fields: object) -> int:
    row: rows.Row = {"protection_id": None, "intent_id": None, "kind": "stop_loss", "price": 1, "level": 2}
    row |= fields
    row["protection_id"] = row["protection_id"] or protection()
    row["intent_id"] = row["intent_id"] or close_of(row["protection_id"])
    return rows.insert("protection_triggers", row)


def twice() -> None:
    guarded = protection()
    trigger(protection_id=guarded)
    trigger(protection_id=guarded)


def one_close_for_two() -> None:
    """Of one position, whose first version has ended."""
    first = protection()
    close = close_of(first)
    trigger(protection_id=first, intent_id=close)
    trigger(protection_id=newer(first), intent_id=close)


def newer(first: int, **fields: object) -> int:
    change("protections", first, ended_at=NOW)
    position = rows.one("SELECT position_id FROM protections WHERE id = %s", first)
    return protection(position_id=position, **{"version": 2} | fields)


def two_current() -> None:
    position = rows.one("SELECT position_id FROM protections WHERE id = %s", protection())
    protection(position_id=position, version=2)


def same_version() -> None:
    with without_guards():
        newer(protection(), version=1)


def version_zero() -> None:
    with without_guards():
        protection(version=0)


def by_an_ended_one() -> None:
    first = protection()
    newer(first)
    trigger(protection_id=first)


def by_a_close_of_another() -> None:
    trigger(intent_id=rows.intent(action="close", position_id=rows.position(), only_position=True))


def by_a_close_of_any() -> None:
    guarded = protection()
    trigger(protection_id=guarded, intent_id=close_of(guarded, only_position=False))


def watermark(is_long: bool, after: object) -> None:
    side = {"is_long": is_long, "stop_loss": None}
    change("protections", protection(watermark=60_000, **side), watermark=after)


ATTACKS: list[tuple[str, str, Callable[[], object]]] = [
    ("one version twice", "uq_protections_version", same_version),
    ("two that count", "uq_protections_current", two_current),
    ("version zero", "ck_protections_version", version_zero),
    ("a version left out", "follow one another", lambda: protection(version=2)),
    ("begun ended", "begins before it ends", lambda: protection(ended_at=NOW)),
    ("on the other side", "on the other side", lambda: protection(position_id=rows.position(is_long=False))),
    ("set by nobody", "ck_protections_set_by", lambda: protection(set_by="")),
    *(
        (f"{name} of {value}", f"ck_protections_{name}", lambda n=name, v=value: protection(**{"stop_loss": None, n: v}))
        for name in ("take_profit", "stop_loss", "trailing_stop_usd", "watermark", "trailing_stop_pct", "break_even_pct")
        for value in (0, -1, NAN)
    ),
    ("trailing by all and more", "ck_protections_trailing_stop_pct", lambda: protection(trailing_stop_pct="100.0001")),
    ("trailing by both", "ck_protections_trailing_stop_pct", lambda: protection(trailing_stop_pct=1, trailing_stop_usd=1)),
    ("break even at too much", "ck_protections_break_even_pct", lambda: protection(break_even_pct="100.0001")),
    ("a long upside down", "ck_protections_sides", lambda: protection(stop_loss=50, take_profit=50)),
    ("a short upside down", "ck_protections_sides", lambda: protection(is_long=False, stop_loss=50, take_profit=51)),
    ("another level", "never changes", lambda: change("protections", protection(), stop_loss=1)),
    ("another author", "never changes", lambda: change("protections", protection(), set_by="eve")),
    ("of another position", "never changes", lambda: change("protections", protection(), position_id=rows.position())),
    ("revived", "has ended", lambda: change("protections", ended(), ended_at=None)),
    ("followed after its end", "has ended", lambda: change("protections", ended(), watermark=1)),
    ("a best price forgotten", "never gets worse", lambda: watermark(True, None)),
    ("a long's best price lowered", "never gets worse", lambda: watermark(True, 59_999)),
    ("a short's best price raised", "never gets worse", lambda: watermark(False, 60_001)),
    ("deleted protection", "rows are kept", lambda: delete("protections", protection())),
    ("fired twice", "protection_triggers_protection_id_key", twice),
    ("one close for two", "protection_triggers_intent_id_key", one_close_for_two),
    ("fired after its end", "fires once, while it counts", by_an_ended_one),
    ("fired by a close of another position", "of its very position", by_a_close_of_another),
    ("fired by a close that may take another", "of its very position", by_a_close_of_any),
    ("another kind", "ck_protection_triggers_kind", lambda: trigger(kind="whim")),
    ("a level without a price", "ck_protection_triggers_level", lambda: trigger(price=None)),
    ("a price without a level", "ck_protection_triggers_level", lambda: trigger(level=None)),
    ("a level that is no number", "ck_protection_triggers_level", lambda: trigger(level=NAN)),
    ("a time with a level", "ck_protection_triggers_level", lambda: trigger(kind="time_stop", price=None)),
    ("a price that is no number", "ck_protection_triggers_price", lambda: trigger(price=NAN)),
    ("a price of nothing", "ck_protection_triggers_price", lambda: trigger(kind="time_stop", level=None, price=0)),
    ("fired at another price", "stays told", lambda: change("protection_triggers", trigger(), price=2)),
    ("not fired after all", "stays told", lambda: delete("protection_triggers", trigger())),
    ("a close of only nothing", "ck_tx_intents_only_position", lambda: rows.intent(action="close", only_position=True)),
    ("an open of only a position", "ck_tx_intents_only_position", lambda: rows.intent(position_id=rows.position(), only_position=True)),
    ("a close that takes any", "keeps to the position", lambda: change("tx_intents", close_of(protection()), only_position=False)),
    ("a close that takes another", "keeps to the position", lambda: change("tx_intents", close_of(protection()), position_id=rows.position())),
    *(
        (f"{name} of {value}", f"ck_tx_intents_{name}", lambda n=name, v=value: rows.intent(**{n: v}))
        for name in ("trailing_stop_pct", "break_even_pct") for value in (0, "100.0001", NAN)
    ),
    *(
        (f"another {name}", "never changes", lambda n=name: change("tx_intents", rows.intent(**{n: 5}), **{n: 6}))
        for name in ("trailing_stop_pct", "break_even_pct", "time_stop_s")
    ),
]  # fmt: skip


def ended() -> int:
    pk = protection()
    change("protections", pk, ended_at=NOW)
    return pk


@pytest.mark.parametrize(
    ("words", "attack"), [(words, attack) for _, words, attack in ATTACKS], ids=[name for name, *_ in ATTACKS]
)
def test_the_database_refuses(words: str, attack: Callable[[], object]) -> None:
    with pytest.raises(IntegrityError, match=words), transaction.atomic():
        attack()


def test_what_the_watch_does_is_allowed() -> None:
    first = protection(trailing_stop_pct=5, watermark=60_000)
    change("protections", first, watermark=60_001, native_crossed_at=NOW)
    change("protections", first, native_crossed_at=None)
    trigger(protection_id=first)
    second = newer(first, watermark=60_001)
    trigger(protection_id=second, kind="time_stop", price=None, level=None)
    mine = Protection.objects.filter(pk__in=[first, second]).order_by("pk")
    assert list(mine.values_list("watermark", "native_crossed_at", "trigger__kind")) == [
        (60_001, None, "stop_loss"),
        (60_001, None, "time_stop"),
    ]


@pytest.mark.parametrize("table", ["protections", "protection_triggers"])
def test_nothing_is_emptied(table: str) -> None:
    with pytest.raises(IntegrityError, match="TRUNCATE"), transaction.atomic():
        rows.execute(f"TRUNCATE {table} CASCADE")

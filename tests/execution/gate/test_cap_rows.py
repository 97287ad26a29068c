"""Caps are set and lifted under the lock that opens ask under, each with an entry of what was and what is."""

import threading
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection, transaction

from execution_app import reservations
from execution_app.audit_words import AuditAction, AuditOrigin
from execution_app.errors import Refused
from execution_app.gate import cap_rows, loosening
from execution_app.gate.cap_rows import Change, lift_cap, set_cap
from execution_app.models import AuditEntry, Cap
from execution_app.models.risk import HIGHEST_CAP
from execution_app.states import CapName, CapScope

MINE = (CapName.EXPOSURE, CapScope.SYMBOL, "BTC-USD")
REASON = "a good reason"


def put(value: object, *, name: CapName = CapName.EXPOSURE, **words: Any) -> Change:
    said = {"by": "ann", "reason": REASON, **words}
    return set_cap(name, CapScope.SYMBOL, "BTC-USD", Decimal(str(value)), **said)


def values(entry: AuditEntry) -> tuple[object, ...]:
    told = [
        said and {name: Decimal(word) for name, word in said.items()} for said in (entry.before, entry.after)
    ]
    return entry.action, entry.subject, *told


def test_every_change_says_what_was_and_what_is(database: None) -> None:
    first = put(100)
    assert (first.changed, first.before, first.now) == (True, None, Cap.objects.get())
    again = put("100.000000")
    assert (again.changed, again.before, again.now) == (False, first.now, first.now)
    stricter = put("50.5", by="bob", origin=AuditOrigin.ADMIN)
    assert (stricter.changed, stricter.before) == (True, first.now)
    assert stricter.now is not None
    assert stricter.now.value == Decimal("50.5")
    lifted = lift_cap(*MINE, by="eve", reason="  the week is over  ")
    assert (lifted.changed, lifted.before, lifted.now) == (True, stricter.now, None)
    nothing = lift_cap(*MINE, by="eve", reason="the week is over")
    assert (nothing.changed, nothing.before, nothing.now) == (False, None, None)
    entries = list(AuditEntry.objects.order_by("seq"))
    subject = "cap exposure_usdc symbol BTC-USD"
    assert [values(entry) for entry in entries] == [
        (AuditAction.CAP_SET, subject, None, {"value": Decimal(100)}),
        (AuditAction.CAP_SET, subject, {"value": Decimal(100)}, {"value": Decimal("50.5")}),
        (AuditAction.CAP_REMOVED, subject, {"value": Decimal("50.5")}, None),
    ]
    assert [(entry.actor, entry.origin) for entry in entries] == [
        ("ann", "command"),
        ("bob", "admin"),
        ("eve", "command"),
    ]
    history = Cap.objects.order_by("id").values_list("set_by", "reason", "lifted_by", "lifted_reason")
    assert list(history) == [("ann", REASON, "bob", REASON), ("bob", REASON, "eve", "the week is over")]
    assert not Cap.objects.filter(lifted_at=None).exists()


def test_only_a_higher_value_needs_a_code(database: None, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str, str]] = []
    monkeypatch.setattr(loosening, "permit", lambda *, by, reason, code: asked.append((by, reason, code)))
    for value in (100, 99, 99, 98):
        put(value)
    assert asked == []
    put("98.000001", code="123456")
    lift_cap(*MINE, by="ann", reason=REASON, code="654321")
    assert asked == [("ann", REASON, "123456"), ("ann", REASON, "654321")]


@pytest.mark.parametrize("loosen", [lambda: put(200), lambda: lift_cap(*MINE, by="ann", reason=REASON)])
def test_what_another_has_changed_meanwhile_is_not_loosened(
    database: None, monkeypatch: pytest.MonkeyPatch, loosen: Callable[[], Change]
) -> None:
    """Whoever typed a code meant the cap that they saw."""
    put(100)
    monkeypatch.setattr(loosening, "permit", lambda **_: put(10))
    with pytest.raises(Refused, match="somebody has just changed exposure_usdc"):
        loosen()
    assert [cap.value for cap in Cap.objects.filter(lifted_at=None)] == [10]
    monkeypatch.undo()
    put(9)

    def lift(**_: object) -> None:
        monkeypatch.undo()
        lift_cap(*MINE, by="eve", reason=REASON)

    monkeypatch.setattr(loosening, "permit", lift)
    with pytest.raises(Refused, match="somebody has just changed"):
        loosen()


@pytest.mark.parametrize(
    "change",
    [lambda: put(50), lambda: lift_cap(*MINE, by="ann", reason=REASON)],
    ids=["set", "lift"],
)
def test_a_cap_waits_for_the_open_that_asks_and_is_no_part_of_a_larger_transaction(
    database: None, change: Callable[[], Change]
) -> None:
    put(100)
    done = threading.Event()

    def work() -> None:
        change()
        done.set()
        connection.close()

    thread = threading.Thread(target=work)
    with transaction.atomic():
        reservations.lock()
        thread.start()
        assert not done.wait(0.5), "an open was asking the caps of before"
    thread.join(30)
    assert done.is_set()
    put(40)
    with transaction.atomic(), pytest.raises(RuntimeError, match="durable"):
        change()


def test_long_words_are_cut_to_their_columns(database: None) -> None:
    put(100, by="b" * 1_000, reason="  " + "r" * 1_000)
    lift_cap(*MINE, by="l" * 1_000, reason="  " + "q" * 1_000)
    cap = Cap.objects.get()
    assert (cap.set_by, cap.reason) == ("b" * 150, "r" * 400)
    assert (cap.lifted_by, cap.lifted_reason) == ("l" * 150, "q" * 400)


@pytest.mark.parametrize("name", CapName)
def test_which_values_a_cap_may_have(database: None, name: CapName) -> None:
    """Counts and wei are whole, all else goes to the sixth decimal; a ban has nothing but 0."""
    counted = name in (CapName.OPEN_POSITIONS, CapName.ORDERS_PER_MINUTE, CapName.GAS_PER_DAY)
    assert put(0, name=name).changed
    for wrong in ("-1", "-0.000001", HIGHEST_CAP, "NaN", "Infinity"):
        with pytest.raises(Refused, match="zero or more"):
            put(wrong, name=name)
    with pytest.raises(Refused, match="at most"):
        put("0.0000001", name=name)
    if name is CapName.BANNED:
        with pytest.raises(Refused, match="no value but 0"):
            put(1, name=name)
        return
    assert put(1, name=name).changed
    assert put(HIGHEST_CAP - 1, name=name).changed
    if counted:
        with pytest.raises(Refused, match="at most 0 decimals"):
            put("0.1", name=name)
    else:
        assert put("0.000001", name=name).changed


@pytest.mark.parametrize("reason", ["", "  \n"])
def test_nothing_is_set_without_a_reason(database: None, reason: str) -> None:
    with pytest.raises(Refused, match="needs a reason"):
        put(1, reason=reason)
    assert not Cap.objects.exists()


def test_a_scope_that_nobody_could_be_of_is_refused_and_changes_nothing(database: None) -> None:
    with pytest.raises(Refused, match="no trader can be named 'bob'"):
        cap_rows.set_cap(CapName.EXPOSURE, CapScope.TRADER, "bob", Decimal(1), by="ann", reason=REASON)
    assert not Cap.objects.exists()
    assert not AuditEntry.objects.exists()

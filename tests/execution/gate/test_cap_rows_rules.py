"""What a change of a cap locks and leaves alone, and which rows it takes for the one that it replaces."""

from decimal import Decimal
from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from execution_app.audit_words import AuditOrigin
from execution_app.errors import Refused
from execution_app.gate import cap_rows, loosening
from execution_app.gate.cap_rows import Change, lift_cap, set_cap
from execution_app.models import AuditEntry, Cap
from execution_app.models.risk import HIGHEST_CAP
from execution_app.states import CapName, CapScope

pytestmark = pytest.mark.usefixtures("database")
MINE = (CapName.EXPOSURE, CapScope.SYMBOL, "BTC-USD")
# Each beside it differs in one word.
BESIDE = [
    (CapName.NOTIONAL, CapScope.SYMBOL, "BTC-USD"),
    (CapName.EXPOSURE, CapScope.SOURCE, "BTC-USD"),
    (CapName.EXPOSURE, CapScope.SYMBOL, "ETH-USD"),
]
WHY = "a good reason"


def put(value: object, at: tuple[CapName, CapScope, str] = MINE, **more: Any) -> Change:
    return set_cap(*at, Decimal(str(value)), **{"by": "ann", "reason": WHY, **more})


def lift(**more: Any) -> Change:
    return lift_cap(*MINE, **{"by": "bob", "reason": WHY, **more})


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, str]]:
    """What the door to anything looser was asked for."""
    found: list[tuple[str, str, str]] = []
    monkeypatch.setattr(loosening, "permit", lambda *, by, reason, code: found.append((by, reason, code)))
    return found


def active() -> dict[tuple[str, str, str], Decimal]:
    rows = Cap.objects.filter(lifted_at=None)
    return {(row.name, row.scope, row.scope_value): row.value for row in rows}


def test_a_change_is_of_one_cap_and_of_none_beside_it(asked: list[tuple[str, str, str]]) -> None:
    for number, at in enumerate(BESIDE):
        put(50 + number, at)
    assert active() == {at: 50 + number for number, at in enumerate(BESIDE)}
    beside = active()
    assert lift() == Change(False, None, None)
    for value in (60, 40, 40, 40.5):
        put(value)
    assert active() == beside | {MINE: Decimal("40.5")}
    assert asked == [("ann", WHY, "")], "a first, a lower and the same value are not looser"
    assert lift(code="1").changed
    assert active() == beside
    assert asked[1:] == [("bob", WHY, "1")]
    put(60)
    assert len(asked) == 2, "what was lifted is not replaced"
    closed = Cap.objects.exclude(lifted_at=None).order_by("id")
    assert [(row.value, row.lifted_by) for row in closed] == [
        (60, "ann"),
        (40, "ann"),
        (Decimal("40.5"), "bob"),
    ]
    assert not Cap.objects.filter(lifted_at=None).exclude(lifted_by="").exists()


def test_each_change_is_one_commit_under_the_lock_of_those_who_ask(asked: list[tuple[str, str, str]]) -> None:
    for change in (lambda: put(50), lambda: put(40), lambda: put(60), lift):
        if change is lift:
            put(60)
        with transaction.atomic(), pytest.raises(RuntimeError, match="durable"):
            change()
        with CaptureQueriesContext(connection) as statements:
            change()
        told = [query["sql"] for query in statements]
        lock = next(at for at, one in enumerate(told) if "pg_advisory_xact_lock" in one)
        written = [at for at, one in enumerate(told) if one.startswith(("INSERT", "UPDATE"))]
        read = [at for at, one in enumerate(told) if one.startswith("SELECT") and '"caps"' in one]
        assert len(read) == 2
        assert read[0] < lock < read[1] < min(written)


def test_every_change_is_told_in_plain_numbers(asked: list[tuple[str, str, str]]) -> None:
    put(1000, origin=AuditOrigin.ADMIN)
    put(1000)
    put("0.000001")
    lift(origin=AuditOrigin.ADMIN)
    told = list(
        AuditEntry.objects.order_by("seq").values_list("action", "origin", "actor", "before", "after")
    )
    assert [one[:3] for one in told] == [
        ("cap_set", "admin", "ann"),
        ("cap_set", "command", "ann"),
        ("cap_removed", "admin", "bob"),
    ]
    numbers = [tuple(side and (list(side), Decimal(side["value"])) for side in one[3:]) for one in told]
    high, low = (["value"], Decimal(1000)), (["value"], Decimal("0.000001"))
    assert numbers == [(None, high), (high, low), (low, None)]
    assert not any("E" in side["value"] for one in told for side in one[3:] if side)


def test_who_saw_another_row_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The row that it saw, another one, or none: whatever it is, it is the one that was seen."""
    usual = cap_rows._active
    words = r"^somebody has just changed exposure_usdc; look again$"
    seen: list[Cap | None] = []
    monkeypatch.setattr(cap_rows, "_active", lambda *at: seen.pop() if seen else usual(*at))
    monkeypatch.setattr(loosening, "permit", lambda **_: None)
    first = put(50).now
    second = put(40).now
    for seen_before in (None, first):
        seen[:] = [seen_before]
        with pytest.raises(Refused, match=words):
            put(60)
    seen[:] = [first]
    with pytest.raises(Refused, match=words):
        lift()
    assert active() == {MINE: 40}
    lift()
    seen[:] = [second]
    with pytest.raises(Refused, match=words):
        put(60)
    assert active() == {}


def check(name: CapName, value: object, reason: str = WHY) -> str:
    try:
        cap_rows._check(name, Decimal(str(value)), reason)
    except Refused as refused:
        return str(refused)
    return ""


def test_every_value_that_a_cap_may_have() -> None:
    for name in CapName:
        counted = name in (CapName.OPEN_POSITIONS, CapName.ORDERS_PER_MINUTE, CapName.GAS_PER_DAY)
        assert check(name, 0) == ""
        for wrong in ("-1", "-0.000001", HIGHEST_CAP, HIGHEST_CAP + 1, "NaN", "Infinity", "-Infinity"):
            assert check(name, wrong).startswith(f"{name.value} must be zero or more and below"), (
                name,
                wrong,
            )
        digits = 0 if counted else 6
        assert check(name, "0.0000001") == f"{name.value} has at most {digits} decimals"
        if name is CapName.BANNED:
            assert check(name, 1) == f"{name.value} has no value but 0, not 1"
            continue
        assert check(name, 1) == check(name, HIGHEST_CAP - 1) == ""
        told = f"{name.value} has at most 0 decimals" if counted else ""
        assert check(name, "0.5") == check(name, "0.000001") == told
        assert check(name, 1, " \n") == f"the cap {name.value} needs a reason"


def test_what_is_refused_by_the_database_leaves_the_cap_of_before() -> None:
    with pytest.raises(Refused, match=r"^no trader can be named 'bob'$"):
        put(1, (CapName.EXPOSURE, CapScope.TRADER, "bob"))
    assert not Cap.objects.exists()
    assert not AuditEntry.objects.exists()

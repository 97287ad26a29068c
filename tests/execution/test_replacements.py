"""When the lowest slot's bytes are replaced, by what, and what is asked for again instead."""

from dataclasses import replace as changed
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from pytest_django.fixtures import Settings

from execution_app import meters
from execution_app.engine import replace, signatures
from execution_app.engine.waiting import database_now
from execution_app.gate.admission import Departure
from execution_app.models import SignRequest, TxIntent, TxSend, Wallet
from execution_app.node import fees, signers
from execution_app.node.signing.slots import Signed
from execution_app.states import IntentState, Mode, SendKind
from tests.execution import rows
from tests.execution.slots import CLOSE, HELD, LIVE, LONG_AGO, bytes_of, other_wallet, slot, two_wallets

pytestmark = pytest.mark.usefixtures("database")
GWEI = 10**9
MARKET = fees.Market(GWEI, GWEI)
SENDING, PENDING = IntentState.SENDING, IntentState.PENDING_INCLUSION
PAID: dict[str, Any] = {"max_fee_wei": 10 * GWEI, "tip_wei": GWEI}
NEVER: dict[str, Any] = {"outcome": "invalid_permanent", "offered_at": LONG_AGO}
CALLED_OFF: dict[str, Any] = {"cancel_asked_at": LONG_AGO}


@pytest.fixture(autouse=True)
def parts(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """An open gate, a local key, a ceiling of 90 gwei; bytes are stuck after 600 s, so that no test's own time counts."""
    configure(settings, max_fee_per_gas_gwei=90, at_fee_ceiling="hold", bump_after_s=600, enable_rbf=True)
    rule(monkeypatch)
    monkeypatch.setattr(replace, "may_leave", lambda *_, **__: Departure.LEAVE)
    monkeypatch.setattr(signers, "is_remote", lambda: False)
    monkeypatch.setattr(signers, "sign", lambda slot, fee: Signed(b"\x02", rows.tx_hash()))


def configure(settings: Settings, **changes: object) -> None:
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(update=changes)


def rule(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
    monkeypatch.setattr(replace, "ruling_now", lambda: changed(LIVE, **changes))


@pytest.fixture
def wallet() -> Wallet:
    return two_wallets()


def stuck(
    wallet: Wallet, nonce: int = 3, state: IntentState = PENDING, *, kind: str = "exec", **fields: Any
) -> TxSend:
    """The newest bytes of a slot, which a node has held for long."""
    of_send = {"max_fee_wei", "tip_wei", "held_at", "outcome", "offered_at", "stuck_at", "attempt"}
    told = {name: fields.pop(name) for name in of_send & fields.keys()}
    return bytes_of(slot(wallet, nonce, state, **fields), **(PAID | HELD | {"kind": kind} | told))


def made(wallet: Wallet, consumed: int = 3) -> tuple[str, int] | None:
    send = replace.replace(wallet.pk, MARKET, consumed)
    return None if send is None else (str(send.kind), send.attempt)


BUMP, CANCEL = ("bump", 1), ("cancel", 1)


def test_stuck_bytes_get_a_higher_fee(wallet: Wallet) -> None:
    older = stuck(wallet)
    counted = meters.RBF_ATTEMPT._value.get(), meters.TX_STUCK._value.get()
    send = replace.replace(wallet.pk, MARKET, 3)
    assert send is not None
    assert (send.intent_id, send.attempt, send.kind) == (older.intent_id, 1, "bump")
    fee = fees.raised(fees.Fee(10 * GWEI, GWEI), MARKET, 90 * GWEI)
    assert fee == fees.Fee(int(send.max_fee_wei), int(send.tip_wei))
    send.refresh_from_db()
    assert send.leased_at is not None, "it leaves as soon as it is stored"
    assert (meters.RBF_ATTEMPT._value.get(), meters.TX_STUCK._value.get()) == (counted[0] + 1, counted[1] + 1)


@pytest.mark.parametrize("fields", [{}, CLOSE, {"kind": "cancel"}], ids=["open", "close", "cancel"])
def test_while_the_base_fee_is_above_half_of_the_ceiling_a_slot_gets_what_the_ceiling_allows(
    wallet: Wallet, fields: dict[str, Any]
) -> None:
    """Whatever it is, exits wait behind it."""
    stuck(wallet, **fields)
    send = replace.replace(wallet.pk, fees.Market(60 * GWEI, GWEI), 3)
    assert send is not None
    assert (send.max_fee_wei, send.tip_wei) == (90 * GWEI, GWEI * 9 // 8)
    assert replace.replace(wallet.pk, fees.Market(60 * GWEI, GWEI), 3) is None


def test_the_newest_bytes_are_replaced(wallet: Wallet) -> None:
    intent = stuck(wallet).intent
    bytes_of(intent, 2, "bump", **HELD, max_fee_wei=30 * GWEI, tip_wei=2 * GWEI)
    bytes_of(intent, 1, "bump", **HELD, max_fee_wei=20 * GWEI, tip_wei=GWEI)
    send = replace.replace(wallet.pk, MARKET, 3)
    assert send is not None
    assert (send.attempt, send.max_fee_wei) == (3, 30 * GWEI * 9 // 8)


def test_it_is_one_commit_under_the_wallets_lock(wallet: Wallet) -> None:
    stuck(wallet)
    with transaction.atomic(), pytest.raises(RuntimeError, match="durable"):
        made(wallet)
    with CaptureQueriesContext(connection) as asked:
        assert made(wallet) == BUMP
    assert any('FROM "wallets"' in one["sql"] and "FOR NO KEY UPDATE" in one["sql"] for one in asked)


def test_only_the_lowest_slot_of_this_wallet_is_raised(wallet: Wallet) -> None:
    stuck(wallet, 4)
    stuck(other_wallet(), 3)
    with CaptureQueriesContext(connection) as asked:
        assert made(wallet) is None
    assert len(asked) == 1, "nobody waits for the wallet"
    stuck(wallet, 5, IntentState.MINED)
    assert made(wallet, 5) is None
    fresh = stuck(wallet, 3, held_at=database_now())
    assert made(wallet) is None
    fresh.refresh_from_db()
    assert fresh.stuck_at is None


def test_the_lowest_slot_is_looked_up_once_more_under_the_lock(
    monkeypatch: pytest.MonkeyPatch, wallet: Wallet
) -> None:
    """It was mined, or given another fee, while the wallet was waited for."""
    monkeypatch.setattr(replace, "_may_be_due", lambda *_: True)
    stuck(other_wallet(), 3)
    stuck(wallet, 4)
    stuck(wallet, 3, IntentState.MINED)
    assert made(wallet) is None
    assert made(wallet, 7) is None
    slot(wallet, 8, SENDING)
    assert made(wallet, 8) is None, "there are no bytes"
    stuck(wallet, 9, held_at=database_now())
    assert made(wallet, 9) is None
    stuck(wallet, 10, IntentState.SIGNED)
    assert made(wallet, 10) is None, "what has not left is offered first"
    assert made(wallet, 4) == BUMP


def test_a_halted_wallet_replaces_nothing(wallet: Wallet) -> None:
    stuck(wallet)
    Wallet.objects.filter(pk=wallet.pk).update(halted_reason="drill", halted_at=database_now())
    assert made(wallet) is None


STOPS = [
    {"emergency_stop": True},
    {"mode": Mode.DRY},
    {"emergency_stop": True, "mode": Mode.DRY},
]


@pytest.mark.parametrize("ruling", STOPS)
@pytest.mark.parametrize(
    ("asked", "kind", "raised"),
    [(True, "cancel", True), (False, "cancel", False), (True, "bump", False), (False, "exec", False)],
)
def test_under_a_stop_only_a_cancel_that_a_person_asked_for_is_raised(
    monkeypatch: pytest.MonkeyPatch,
    wallet: Wallet,
    ruling: dict[str, Any],
    kind: str,
    *,
    asked: bool,
    raised: bool,
) -> None:
    rule(monkeypatch, **ruling)
    stuck(wallet, kind=kind, **(CALLED_OFF if asked else {}))
    assert made(wallet) == (CANCEL if raised else None)


def test_without_bytes_nobody_asked_for_a_cancel(monkeypatch: pytest.MonkeyPatch, wallet: Wallet) -> None:
    monkeypatch.setattr(replace, "_may_be_due", lambda *_: True)
    slot(wallet, 3, IntentState.RESERVED, cancel_asked_at=LONG_AGO)
    assert made(wallet) is None


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, None),
        ({"speed_up_asked_at": "2100-01-01T00:00:00Z"}, BUMP),
        ({"speed_up_asked_at": LONG_AGO}, None),
        ({"speed_up_asked_at": "2100-01-01T00:00:00Z", "held_at": None}, None),
    ],
)
def test_who_wants_it_sooner_need_not_wait_for_the_timer(
    wallet: Wallet, fields: dict[str, Any], expected: tuple[str, int] | None
) -> None:
    """Not of bytes that no node is known to hold: these are offered first."""
    stuck_before = meters.TX_STUCK._value.get()
    fresh = stuck(wallet, **({"held_at": database_now()} | fields))
    assert made(wallet) == expected
    fresh.refresh_from_db()
    assert fresh.stuck_at is None
    assert meters.TX_STUCK._value.get() == stuck_before


def test_that_bytes_are_stuck_is_noted_and_counted_once(settings: Settings, wallet: Wallet) -> None:
    configure(settings, enable_rbf=False)
    counted = meters.TX_STUCK._value.get()
    send, beside = stuck(wallet), stuck(wallet, 4)
    for _ in range(2):
        assert made(wallet) is None
        send.refresh_from_db()
        assert send.stuck_at is not None
        assert meters.TX_STUCK._value.get() == counted + 1
    beside.refresh_from_db()
    assert beside.stuck_at is None
    noted_at = send.stuck_at
    made(wallet)
    send.refresh_from_db()
    assert send.stuck_at == noted_at


@pytest.mark.parametrize("enabled", [True, False])
def test_what_no_node_will_ever_take_is_cancelled_whatever_is_enabled(
    settings: Settings, wallet: Wallet, *, enabled: bool
) -> None:
    configure(settings, enable_rbf=enabled)
    stuck(wallet, state=SENDING, held_at=None, **NEVER)
    assert made(wallet) == CANCEL


def test_a_cancel_that_no_node_takes_is_raised(settings: Settings, wallet: Wallet) -> None:
    stuck(wallet, kind="cancel", state=SENDING, held_at=None, **NEVER)
    assert made(wallet) == CANCEL
    configure(settings, enable_rbf=False)
    stuck(wallet, 4, kind="cancel", state=SENDING, held_at=None, **NEVER)
    assert made(wallet, 4) is None


@pytest.mark.parametrize(("attempt", "expected"), [(9, ("bump", 10)), (10, None), (11, None)])
def test_a_slot_is_raised_ten_times(wallet: Wallet, attempt: int, expected: tuple[str, int] | None) -> None:
    stuck(wallet, attempt=attempt, kind="bump")
    assert made(wallet) == expected


@pytest.mark.parametrize("fields", [{}, CLOSE, {"kind": "cancel"}], ids=["open", "close", "cancel"])
def test_a_slot_that_the_base_fee_has_left_behind_is_raised_all_the_same(
    wallet: Wallet, fields: dict[str, Any]
) -> None:
    """As after a node that called gas cheap until all its bumps were used: up to the ceiling, as ever."""
    used_up: dict[str, Any] = {"attempt": 10, "kind": "bump"}
    stuck(wallet, **(used_up | fields))
    for base_wei, raised in ((10 * GWEI, False), (90 * GWEI, False), (10 * GWEI + 1, True)):
        send = replace.replace(wallet.pk, fees.Market(base_wei, GWEI), 3)
        assert (send is not None) is raised, base_wei
    assert send is not None
    assert (send.attempt, send.max_fee_wei) == (11, 2 * (10 * GWEI + 1) + GWEI * 9 // 8)


def request(intent: TxIntent, kind: SendKind = SendKind.EXEC) -> None:
    SignRequest.objects.create(intent=intent, attempt=1, kind=kind, max_fee_wei=9, tip_wei=1)


def test_while_a_remote_signer_is_asked_for_this_slot_it_is_not_raised(wallet: Wallet) -> None:
    send, other = stuck(wallet), stuck(other_wallet(), 9)
    request(other.intent)
    assert made(wallet) == BUMP
    TxSend.objects.filter(intent=send.intent, attempt=1).update(**HELD)
    request(send.intent)
    assert made(wallet) is None


def test_a_remote_signer_is_only_asked(monkeypatch: pytest.MonkeyPatch, wallet: Wallet) -> None:
    asked: list[int] = []
    monkeypatch.setattr(signers, "is_remote", lambda: True)
    monkeypatch.setattr(signatures, "ask", lambda intent, attempt, kind, fee: asked.append(attempt))
    counted = meters.RBF_ATTEMPT._value.get()
    stuck(wallet)
    assert made(wallet) is None
    assert (asked, meters.RBF_ATTEMPT._value.get()) == ([1], counted)


# Whether anything is due


@pytest.mark.parametrize(
    ("fields", "due"),
    [
        ({}, True),
        ({"held_at": "now"}, False),
        ({"held_at": "2100-01-01T00:00:00Z"}, True),  # the clock was set back
        ({"held_at": None}, False),
        ({"held_at": None, "outcome": "underpriced", "offered_at": LONG_AGO}, True),
        ({"held_at": None, "outcome": "replacement_underpriced", "offered_at": LONG_AGO}, True),
        ({"held_at": None, **NEVER}, True),
        ({"held_at": None, "outcome": "invalid_permanent", "offered_at": "now"}, False),
        ({"held_at": None, "outcome": "pool_full", "offered_at": LONG_AGO}, False),
        ({"held_at": None, "outcome": "unknown", "offered_at": LONG_AGO}, False),
    ],
)
def test_stuck_is_what_is_held_for_long_or_refused_for_its_fee_or_for_good(
    wallet: Wallet, fields: dict[str, Any], *, due: bool
) -> None:
    told: dict[str, Any] = {
        name: database_now() if value == "now" else value for name, value in fields.items()
    }
    send = stuck(wallet, state=SENDING, **told)
    stuck(wallet, 4)
    unheld = bytes_of(slot(wallet, 5, SENDING))
    assert replace._is_stuck(send) is due
    assert replace._is_stuck(unheld) is False
    assert replace._may_be_due(wallet.pk, 3) is due
    assert replace._may_be_due(wallet.pk, 5) is False


def test_a_slot_may_be_due_because_somebody_wants_it_sooner(wallet: Wallet) -> None:
    bytes_of(slot(wallet, 3, SENDING, speed_up_asked_at=LONG_AGO))
    stuck(wallet, 4, state=IntentState.MINED)
    stuck(other_wallet(), 5)
    for nonce, due in ((3, True), (4, False), (5, False)):
        assert replace._may_be_due(wallet.pk, nonce) is due
    assert replace._may_be_due(other_wallet().pk, 3) is False


# What a replacement may be


NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("after_s", [None, -1, 0, 1])
def test_bytes_that_have_not_left_ask_the_gate_again(
    monkeypatch: pytest.MonkeyPatch, wallet: Wallet, after_s: int | None
) -> None:
    told: list[tuple[object, bool]] = []

    def may_leave(intent: TxIntent, ruling: object, now: object, *, expired: bool) -> Departure:
        told.append((now, expired))
        return Departure.PARK

    monkeypatch.setattr(replace, "may_leave", may_leave)
    monkeypatch.setattr(replace, "database_now", lambda: NOW)
    intent = stuck(wallet, state=SENDING, held_at=None).intent
    bytes_of(slot(wallet, 4, PENDING), **HELD)
    intent.expires_at = None if after_s is None else NOW + timedelta(seconds=after_s)
    assert replace._departure(intent, LIVE) is Departure.PARK
    assert told == [(NOW, after_s is not None and after_s <= 0)]
    intent.cancel_asked_at = NOW
    assert replace._departure(intent, LIVE) is Departure.CANCEL
    bytes_of(intent, 1, "bump", **HELD)
    assert replace._departure(intent, LIVE) is Departure.LEAVE, "it has left, whatever the gate says"
    assert len(told) == 1


def unheld(wallet: Wallet, **fields: Any) -> TxSend:
    return stuck(wallet, state=SENDING, held_at=None, outcome="underpriced", offered_at=LONG_AGO, **fields)


@pytest.mark.parametrize(
    ("departure", "kind", "expected"),
    [
        (Departure.LEAVE, "exec", BUMP),
        (Departure.PARK, "exec", None),
        (Departure.CANCEL, "exec", CANCEL),
        (Departure.PARK, "cancel", CANCEL),  # a cancel asks nobody
    ],
)
def test_a_higher_fee_for_bytes_that_have_not_left_is_the_gates_to_permit(
    monkeypatch: pytest.MonkeyPatch,
    wallet: Wallet,
    departure: Departure,
    kind: str,
    expected: tuple[str, int] | None,
) -> None:
    monkeypatch.setattr(replace, "may_leave", lambda *_, **__: departure)
    unheld(wallet, kind=kind)
    assert made(wallet) == expected

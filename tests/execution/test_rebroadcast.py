"""Which bytes that have left are given to nodes once more, in the running, under a stop and in DRY."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from pytest_django.fixtures import Settings

from execution_app.engine import broadcast
from execution_app.engine.waiting import database_now
from execution_app.gate.modes import Ruling
from execution_app.models import TxIntent, TxSend, Wallet
from execution_app.states import IntentState, Mode
from tests.execution.slots import HELD, LIVE, LONG_AGO, bytes_of, other_wallet, slot, two_wallets

pytestmark = pytest.mark.usefixtures("database")
NOW = datetime(2026, 1, 1, tzinfo=UTC)
MOMENT = timedelta(microseconds=1)
SENDING, PENDING = IntentState.SENDING, IntentState.PENDING_INCLUSION


@pytest.fixture
def wallet(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Wallet:
    """Beside another, under an open gate; timers are so long that nothing of a test's own time runs out."""
    monkeypatch.setattr(broadcast, "LEASE_S", 600)
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(update={"rebroadcast_after_s": 600})
    rule(monkeypatch, LIVE)
    return two_wallets()


def rule(monkeypatch: pytest.MonkeyPatch, ruling: Ruling) -> None:
    monkeypatch.setattr(broadcast, "ruling_now", lambda: ruling)


def keys(sends: Iterable[TxSend]) -> list[int]:
    return [send.pk for send in sends]


# Whether there are any


@pytest.fixture
def leased(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Of which wallets bytes were leased; each time two."""
    asked: list[int] = []

    def lease(wallet_id: int) -> list[TxSend]:
        asked.append(wallet_id)
        return [TxSend(), TxSend()]

    monkeypatch.setattr(broadcast, "_lease_again", lease)
    monkeypatch.setattr(broadcast, "offer", lambda sends, begun_s: asked.append(len(sends)))
    return asked


def test_what_is_due_is_offered_again(wallet: Wallet, leased: list[int]) -> None:
    bytes_of(slot(wallet, 3, PENDING), **HELD)
    assert broadcast.rebroadcast(wallet.pk) == 2
    assert leased == [wallet.pk, 2]


def test_while_nothing_of_the_wallet_is_due_nobody_waits_for_it(wallet: Wallet, leased: list[int]) -> None:
    bytes_of(slot(wallet, 3, PENDING), last_offered_at=database_now(), **HELD)
    bytes_of(slot(wallet, 4, SENDING))  # no node holds it
    bytes_of(slot(other_wallet(), 3, PENDING), **HELD)
    assert broadcast.rebroadcast(wallet.pk) == 0
    assert leased == []


# Which they are


def stopped(**changes: Any) -> Ruling:
    return replace(LIVE, **changes)


def bumped(wallet: Wallet) -> tuple[TxSend, TxSend]:
    """What a node holds, and the same with a higher fee, which none is known to hold."""
    intent = slot(wallet, 3, PENDING)
    return bytes_of(intent, **HELD), bytes_of(intent, 1, "bump")


def test_in_the_running_the_newest_go_and_behind_them_what_nodes_held(wallet: Wallet) -> None:
    held, bump = bumped(wallet)
    assert broadcast._lease_again(wallet.pk) == [bump, held]


@pytest.mark.parametrize(
    "ruling",
    [
        stopped(emergency_stop=True),
        stopped(mode=Mode.DRY),
        stopped(mode=Mode.DRY, emergency_stop=True),
    ],
)
def test_under_a_stop_and_in_dry_only_what_nodes_held_goes(
    monkeypatch: pytest.MonkeyPatch, wallet: Wallet, ruling: Ruling
) -> None:
    held, bump = bumped(wallet)
    rule(monkeypatch, ruling)
    assert broadcast._lease_again(wallet.pk) == [held]
    bump.refresh_from_db()
    assert bump.leased_at is None


def test_of_a_halted_wallet_only_what_nodes_held_goes(wallet: Wallet) -> None:
    held, _ = bumped(wallet)
    Wallet.objects.filter(pk=wallet.pk).update(halted_reason="drill", halted_at=database_now())
    assert broadcast._lease_again(wallet.pk) == [held]


def test_a_cancel_that_a_person_asked_for_goes_under_a_stop_too(
    monkeypatch: pytest.MonkeyPatch, wallet: Wallet
) -> None:
    rule(monkeypatch, stopped(emergency_stop=True))
    intent = slot(wallet, 3, PENDING, cancel_asked_at=LONG_AGO)
    bytes_of(intent, **HELD)
    cancel = bytes_of(intent, 1, "cancel")
    assert broadcast._lease_again(wallet.pk) == [cancel]


def test_it_is_announced_in_one_commit_under_the_wallets_lock(wallet: Wallet) -> None:
    """A lease is of bytes that may be the first to leave; what nodes held needs none."""
    held, bump = bumped(wallet)
    beside = bytes_of(slot(wallet, 4, SENDING))
    _, others = bumped(other_wallet())
    with transaction.atomic(), pytest.raises(RuntimeError, match="durable"):
        broadcast._lease_again(wallet.pk)
    with CaptureQueriesContext(connection) as asked:
        sends = broadcast._lease_again(wallet.pk)
    assert any('FROM "wallets"' in one["sql"] and "FOR NO KEY UPDATE" in one["sql"] for one in asked)
    found = dict(TxSend.objects.values_list("pk", "leased_at"))
    assert found.pop(bump.pk) is not None
    assert set(found) == {
        held.pk,
        beside.pk,
        others.pk,
        *keys(TxSend.objects.filter(intent=others.intent)),
    } - {bump.pk}
    assert set(found.values()) == {None}
    assert [(send.intent.wallet, send.intent.trader) for send in sends] == [(wallet, wallet.trader)] * 2


def test_what_was_just_offered_is_not_offered_again(wallet: Wallet) -> None:
    intent = slot(wallet, 3, PENDING)
    bytes_of(intent, last_offered_at=database_now(), **HELD)
    due = bytes_of(slot(wallet, 4, PENDING), last_offered_at=LONG_AGO, **HELD)
    assert broadcast._lease_again(wallet.pk) == [due]
    bump = bytes_of(intent, 1, "bump")
    assert broadcast._lease_again(wallet.pk) == [bump, due], "of its slot only what is due"


# Slots and bytes


def test_slots_that_have_left_are_the_unmined_of_which_a_node_holds_some_bytes(wallet: Wallet) -> None:
    later, first = slot(wallet, 9, PENDING), slot(wallet, 2, SENDING)
    for intent in (later, first):
        bytes_of(intent, **HELD)
    bytes_of(first, 1, "bump")
    bytes_of(slot(wallet, 3, SENDING))
    for nonce, state in enumerate((IntentState.SIGNED, IntentState.MINED, IntentState.ORDERED), 4):
        bytes_of(slot(wallet, nonce, state), **HELD)
    bytes_of(slot(other_wallet(), 2, PENDING), **HELD)
    assert list(broadcast._left(wallet.pk)) == [first, later]


def test_a_page_of_them_is_asked_for(monkeypatch: pytest.MonkeyPatch, wallet: Wallet) -> None:
    for nonce in (5, 4, 3):
        bytes_of(slot(wallet, nonce, PENDING), **HELD)
    monkeypatch.setattr(broadcast, "BATCH", 2)
    assert [intent.nonce for intent in broadcast._left(wallet.pk)] == [3, 4]


@pytest.mark.parametrize(
    ("asked", "kind", "held", "known"),
    [
        (True, "cancel", False, True),
        (False, "cancel", False, False),
        (True, "bump", False, False),
        (False, "bump", True, True),
        (False, "cancel", True, True),
    ],
)
def test_known_is_what_a_node_holds_and_what_fills_a_slot_that_a_person_wants_filled(
    wallet: Wallet, kind: str, *, asked: bool, held: bool, known: bool
) -> None:
    intent = slot(wallet, 3, PENDING, **({"cancel_asked_at": LONG_AGO} if asked else {}))
    older = bytes_of(intent, **HELD)
    newer = bytes_of(intent, 1, kind, **(HELD if held else {}))
    bytes_of(slot(other_wallet(), 3, PENDING), **HELD)
    [found] = broadcast._known([intent])
    assert found == (newer if known else older)
    assert found.intent is intent, "as it was read, not once more from the database"


def test_of_slots_that_no_node_holds_nothing_is_known(wallet: Wallet) -> None:
    silent, second, first = slot(wallet, 3, SENDING), slot(wallet, 5, PENDING), slot(wallet, 4, PENDING)
    bytes_of(silent)
    sends = [bytes_of(intent, **HELD) for intent in (first, second)]
    assert broadcast._known([silent]) == []
    assert broadcast._known([first, silent, second]) == sends
    assert broadcast._known([second, first]) == sends[::-1]


def test_the_newest_of_a_slot_is_the_one_of_the_highest_attempt(wallet: Wallet) -> None:
    intents = [slot(wallet, nonce, SENDING) for nonce in (4, 3)]
    for attempt, kind in ((2, "bump"), (0, "exec"), (1, "bump")):
        for intent in intents:
            bytes_of(intent, attempt, kind)
    found = broadcast.newest(intents)
    assert [(send.intent_id, send.attempt) for send in found] == [(intent.pk, 2) for intent in intents]
    assert all(send.intent is intent for send, intent in zip(found, intents, strict=True))


# Timers


@pytest.mark.parametrize(
    ("leased", "offered", "due"),
    [
        (timedelta(seconds=40), None, False),
        (timedelta(seconds=40) + MOMENT, None, True),
        (timedelta(seconds=-40), None, False),
        (timedelta(seconds=-40) - MOMENT, None, True),
        (None, timedelta(seconds=100), False),
        (None, timedelta(seconds=100) + MOMENT, True),
        (None, timedelta(seconds=-100), False),
        (None, timedelta(seconds=-100) - MOMENT, True),
        (None, None, True),
        # The offer of this lease was made: from there on the longer timer runs.
        (timedelta(seconds=50), timedelta(seconds=50), False),
        (timedelta(seconds=50), timedelta(seconds=50) + MOMENT, True),
        (timedelta(seconds=50), timedelta(seconds=50) - MOMENT, False),
        (timedelta(seconds=30), timedelta(seconds=200), False),
    ],
)
def test_a_timer_has_run_out_once_more_than_its_time_has_passed(
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    leased: timedelta | None,
    offered: timedelta | None,
    *,
    due: bool,
) -> None:
    monkeypatch.setattr(broadcast, "LEASE_S", 40)
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(update={"rebroadcast_after_s": 100})
    at = [None if ago is None else NOW - ago for ago in (leased, offered)]
    assert broadcast._is_due(TxSend(leased_at=at[0], last_offered_at=at[1]), NOW) is due


def test_bytes_behind_others_are_of_the_same_slot() -> None:
    """Only where no node is known to hold the newer ones, and no cancel is taken back by it."""

    def send(pk: int, slot_of: int, kind: str = "exec", held: datetime | None = NOW) -> TxSend:
        return TxSend(pk=pk, intent_id=slot_of, kind=kind, held_at=held)

    bump, older, others = send(2, 1, "bump", None), send(1, 1), send(3, 2)
    assert broadcast._behind([bump], [others, older]) == [older]
    assert broadcast._behind([send(2, 1, "bump")], [older]) == []
    assert broadcast._behind([bump], [bump]) == []
    cancel = send(4, 1, "cancel", None)
    assert broadcast._behind([cancel], [older]) == []
    assert broadcast._behind([cancel], [send(5, 1, "bump")]) == []
    assert broadcast._behind([cancel], [send(5, 1, "cancel")]) == [send(5, 1, "cancel")]
    assert broadcast._behind([bump], [send(5, 1, "cancel")]) == [send(5, 1, "cancel")]


def test_a_slot_is_not_moved_by_another_offer(wallet: Wallet) -> None:
    bumped(wallet)
    broadcast._lease_again(wallet.pk)
    assert list(TxIntent.objects.values_list("state", flat=True)) == ["pending_inclusion"]

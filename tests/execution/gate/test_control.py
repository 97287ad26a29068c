"""Restrictions as rows: set, lifted where they were set, and ordered by one lock."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection, transaction

from execution_app.gate import control
from execution_app.models import Control, Restriction
from execution_app.states import IntentState, Origin, RestrictionKind
from tests.execution import rows

GENEROUS_S = 15.0
STOP, DRY, REDUCE = RestrictionKind.STOP, RestrictionKind.DRY, RestrictionKind.REDUCE_ONLY


def impose(kind: RestrictionKind = STOP, origin: Origin = Origin.HTTP) -> control.Imposed:
    return control.impose(kind, origin, by="test", reason="because")


def elsewhere(*calls: Callable[[], object]) -> list[object]:
    """Run the calls at once, each in a thread with a database connection of its own."""

    def run(call: Callable[[], object]) -> object:
        try:
            return call()
        finally:
            connection.close()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


def test_setting_twice_changes_nothing(database: None) -> None:
    assert impose().changed
    assert not impose().changed
    assert Restriction.objects.count() == 1


@pytest.mark.parametrize("kind", RestrictionKind)
@pytest.mark.parametrize("origin", Origin)
def test_only_the_origin_lifts(database: None, kind: RestrictionKind, origin: Origin) -> None:
    impose(kind, origin)
    for other in set(Origin) - {origin}:
        assert not control.lift(kind, other, by="test")
    for other_kind in set(RestrictionKind) - {kind}:
        assert not control.lift(other_kind, origin, by="test")
    assert control.active_kinds() == {kind}
    assert control.lift(kind, origin, by="test")
    assert not control.lift(kind, origin, by="test")
    assert control.active_kinds() == frozenset()


def test_a_stop_of_two_origins_needs_two_liftings(database: None) -> None:
    impose(STOP, Origin.HTTP)
    impose(STOP, Origin.REDIS)
    control.lift(STOP, Origin.REDIS, by="test")
    assert control.active_kinds() == {STOP}
    control.lift(STOP, Origin.HTTP, by="test")
    assert control.active_kinds() == frozenset()


def test_rows_stay_as_history(database: None) -> None:
    impose()
    control.lift(STOP, Origin.HTTP, by="someone")
    impose()
    first, second = Restriction.objects.order_by("id")
    assert (first.lifted_by, first.lifted_at is not None) == ("someone", True)
    assert second.lifted_at is None
    assert (second.set_by, second.reason) == ("test", "because")


def test_only_what_redis_is_asked_to_remember_turns_the_epoch(database: None) -> None:
    before = control.epoch()
    impose(STOP, Origin.HTTP)
    assert control.epoch() == before
    impose(STOP, Origin.REDIS)
    assert control.epoch() == before + 1
    impose(STOP, Origin.REDIS)
    assert control.epoch() == before + 1


def test_an_old_word_does_not_lift_a_newer_restriction(database: None) -> None:
    """A process that read `false`, slept, and wakes after the next stop was recorded."""
    read_epoch = control.epoch()
    impose(STOP, Origin.REDIS)
    assert not control.lift(STOP, Origin.REDIS, by="test", epoch=read_epoch)
    assert control.active_kinds() == {STOP}
    assert control.lift(STOP, Origin.REDIS, by="test", epoch=read_epoch + 1)


def test_a_word_said_again_is_newer_than_a_lifting_that_was_read_before_it(database: None) -> None:
    """A process that read `false`, slept, and wakes after the stop that holds was said again."""

    def say(beside: str | None, origin: Origin = Origin.REDIS) -> control.Imposed:
        return control.impose(STOP, origin, by="test", reason="because", beside=beside)

    assert (say("1").turned, control.epoch()) == (True, 2), (
        "a new one turns it once, whatever it stands beside"
    )
    for beside in (None, "", "1", "3", "two", " 2"):
        said = say(beside)
        assert (said.changed, said.turned, control.epoch()) == (False, False, 2), beside
    said = say("2")
    assert (said.changed, said.turned, control.epoch()) == (False, True, 3)
    assert not say("2").turned, "the next process that read the same word"
    assert not control.lift(STOP, Origin.REDIS, by="test", epoch=2)
    assert control.active_kinds() == {STOP}
    assert control.lift(STOP, Origin.REDIS, by="test", epoch=3)
    assert (say("3", Origin.HTTP).turned, say("3", Origin.HTTP).turned, control.epoch()) == (False, False, 3)


def test_racing_words_turn_the_epoch_once(database: None) -> None:
    impose(STOP, Origin.REDIS)
    before = control.epoch()

    def again() -> control.Imposed:
        return control.impose(STOP, Origin.REDIS, by="test", reason="because", beside=str(before))

    said = elsewhere(*[again] * 10)
    assert sum(one.turned for one in said if isinstance(one, control.Imposed)) == 1
    assert (control.epoch(), Restriction.objects.count()) == (before + 1, 1)


def test_racing_setters_set_once(database: None) -> None:
    before = control.epoch()
    imposed = elsewhere(*[lambda: impose(STOP, Origin.REDIS)] * 10)
    assert sum(one.changed for one in imposed if isinstance(one, control.Imposed)) == 1
    assert Restriction.objects.count() == 1
    assert control.epoch() == before + 1


def test_hold_still_asks_for_a_transaction(database: None) -> None:
    with pytest.raises(RuntimeError, match="inside the transaction"):
        control.hold_still()


def test_a_stop_waits_for_whoever_holds_the_gate_and_is_seen_afterwards(database: None) -> None:
    held, released = threading.Event(), threading.Event()
    order: list[str] = []

    def guarded_work() -> None:
        with transaction.atomic():
            assert control.hold_still() == frozenset()
            held.set()
            assert released.wait(timeout=20)
            order.append("work committed")

    def stop() -> None:
        assert held.wait(timeout=20)
        impose()
        order.append("stop returned")

    def let_go() -> None:
        """Only when the stop is seen to wait for the lock."""
        assert held.wait(timeout=20)
        waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE %s"
        deadline_s = time.monotonic() + 60
        while not rows.one(waits, "%pg_advisory_xact_lock(%") and time.monotonic() < deadline_s:
            threading.Event().wait(0.01)
        released.set()

    elsewhere(guarded_work, stop, let_go)
    assert order == ["work committed", "stop returned"]
    with transaction.atomic():
        assert control.hold_still() == {STOP}


def test_readers_of_the_gate_do_not_wait_for_one_another(database: None) -> None:
    together = threading.Barrier(4)

    def read() -> None:
        with transaction.atomic():
            control.hold_still()
            together.wait(timeout=20)

    elsewhere(*[read] * 4)


def test_a_stop_names_what_may_still_leave(database: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "LEASE_S", 60.0)  # so that the lease does not end the wait
    intent = rows.intent_in(IntentState.SENDING)
    send = rows.send(intent_id=intent)
    rows.execute("UPDATE tx_sends SET leased_at = clock_timestamp() WHERE id = %s", send)
    began_s = time.monotonic()
    in_flight = impose().in_flight
    assert in_flight == [rows.one("SELECT tx_hash FROM tx_sends WHERE id = %s", send)]
    assert time.monotonic() - began_s < GENEROUS_S


@pytest.mark.parametrize(
    "ended",
    [
        "leased_at = clock_timestamp(), last_offered_at = clock_timestamp()",
        "leased_at = clock_timestamp() - interval '1 minute'",
    ],
)
def test_a_stop_does_not_wait_for_what_has_ended(
    database: None, ended: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "WAIT_S", 60.0)
    send = rows.send(intent_id=rows.intent_in(IntentState.SENDING))
    rows.execute(f"UPDATE tx_sends SET {ended} WHERE id = %s", send)
    began_s = time.monotonic()
    assert impose().in_flight == []
    assert time.monotonic() - began_s < GENEROUS_S


def test_a_stop_waits_until_a_broadcast_has_ended(database: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "WAIT_S", 60.0)
    monkeypatch.setattr(control, "LEASE_S", 60.0)
    send = rows.send(intent_id=rows.intent_in(IntentState.SENDING))
    rows.execute("UPDATE tx_sends SET leased_at = clock_timestamp() WHERE id = %s", send)

    def end() -> None:
        """Only when the stop holds already, and while the lease still counts."""
        deadline_s = time.monotonic() + 30
        while not control.active_kinds() and time.monotonic() < deadline_s:
            threading.Event().wait(0.01)
        rows.execute("UPDATE tx_sends SET last_offered_at = clock_timestamp() WHERE id = %s", send)

    stopped, _ = elsewhere(impose, end)
    assert isinstance(stopped, control.Imposed)
    assert stopped.in_flight == []


def test_a_stop_names_what_nobody_knows_of_until_it_is_mined(database: None) -> None:
    named = []
    for state in (IntentState.SENDING, IntentState.MINED):
        for outcome in ("unknown", "rpc_fault", "nonce_too_high", "unoffered"):
            send = rows.send(intent_id=rows.intent_in(state))
            rows.execute("UPDATE tx_sends SET outcome = %s WHERE id = %s", outcome, send)
            if state is IntentState.SENDING and outcome in ("unknown", "rpc_fault"):
                named.append(rows.one("SELECT tx_hash FROM tx_sends WHERE id = %s", send))
    assert impose().in_flight == sorted(named)


def test_reduce_only_and_dry_do_not_wait(database: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "WAIT_S", 60.0)
    monkeypatch.setattr(control, "LEASE_S", 60.0)
    send = rows.send(intent_id=rows.intent_in(IntentState.SENDING))
    rows.execute("UPDATE tx_sends SET leased_at = clock_timestamp() WHERE id = %s", send)
    began_s = time.monotonic()
    assert impose(REDUCE).in_flight == []
    assert impose(DRY).in_flight == []
    assert time.monotonic() - began_s < GENEROUS_S


def test_what_a_lifting_waits_for_the_audit_log_is_said_of_its_transaction_alone(database: None) -> None:
    """Whatever comes next on the connection waits for locks as long as before."""
    before = rows.one("SHOW lock_timeout")
    impose()
    assert control.lift(STOP, Origin.HTTP, by="test")
    assert rows.one("SHOW lock_timeout") == before


def test_long_words_are_cut_to_their_columns(database: None) -> None:
    control.impose(STOP, Origin.HTTP, by="b" * 1_000, reason="r" * 1_000)
    control.lift(STOP, Origin.HTTP, by="l" * 1_000)
    row = Restriction.objects.get()
    assert (len(row.set_by), len(row.reason), len(row.lifted_by)) == (150, 400, 150)


def test_neither_a_stop_nor_its_lifting_can_be_half_of_a_larger_transaction(database: None) -> None:
    with transaction.atomic(), pytest.raises(RuntimeError, match="durable"):
        impose()
    assert not Restriction.objects.exists()
    impose()
    with transaction.atomic(), pytest.raises(RuntimeError, match="durable"):
        control.lift(STOP, Origin.HTTP, by="test")
    assert control.active_kinds() == {STOP}
    assert Control.objects.count() == 1

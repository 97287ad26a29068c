"""What a stop names as still under way, moment by moment, and what the audit log is told of every restriction."""

import time
import uuid
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from django.db import DatabaseError, OperationalError, connection

from execution_app import audit
from execution_app.audit_words import AuditAction
from execution_app.gate import control
from execution_app.models import AuditEntry, Control, Restriction, SignRequest, TxIntent, TxSend, VenueMessage
from execution_app.states import IntentState, Origin, RestrictionKind
from tests import real_parts
from tests.execution import rows
from tests.guards import without_guards

STOP, DRY, REDUCE = RestrictionKind.STOP, RestrictionKind.DRY, RestrictionKind.REDUCE_ONLY
GENEROUS_S = 15.0
# Moments by the database's clock, in seconds before now; a lease counts for a minute here, whatever this machine loses.
LEASED, OLD, LONG_AGO, AHEAD = 0.5, 60.5, 600.0, -600.0


@pytest.fixture(autouse=True)
def _without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """What would be waited for is told at once."""
    monkeypatch.setattr(control, "WAIT_S", 0.0)
    monkeypatch.setattr(control, "LEASE_S", 60.0)


def impose(kind: RestrictionKind = STOP, origin: Origin = Origin.HTTP) -> control.Imposed:
    return control.impose(kind, origin, by="test", reason="because")


def moments(**ago: float | None) -> rows.Row:
    now = rows.one("SELECT clock_timestamp()")
    return {name: None if s is None else now - timedelta(seconds=s) for name, s in ago.items()}


def message(state: IntentState = IntentState.SENDING, settled: bool = False, **fields: Any) -> str:
    """A message that the gateway is not known to have; returns its digest."""
    digest = rows.tx_hash()
    row: rows.Row = {"signer": rows.address(), "nonce": rows.tx_hash(), "digest": digest, "content": b"\x01"}
    row |= {"deadline_ms": 1_900_000_000_000, "from_block": 1, "signature": b"\x02" * 65, "posts": 0}
    row |= {
        "outcome": "unoffered",
        "made_at": rows.one("SELECT now()"),
        "intent_id": rows.intent_in(state, gateway=True),
    }
    with without_guards():
        rows.insert("venue_messages", row | fields)
        if settled:
            rows.update("tx_intents", row["intent_id"], {"settled_at": "2026-01-01T00:00:00Z"})
    return digest


def send(state: IntentState = IntentState.SENDING, settled: bool = False, **fields: Any) -> str:
    intent_id = rows.intent_in(state)
    pk = rows.send(intent_id=intent_id)
    with without_guards():
        rows.update("tx_sends", pk, fields)
        if settled:
            rows.update("tx_intents", intent_id, {"settled_at": "2026-01-01T00:00:00Z"})
    return TxSend.objects.get(pk=pk).tx_hash


# When it was announced, when it was last answered, when a node or the gateway was known to hold it; and whether it may
# still leave. What was answered before its last announcement is under way again; an answer that lies ahead is of before
# the clock was set back.
UNDER_WAY: list[tuple[float | None, float | None, float | None, bool]] = [
    (LEASED, None, None, True),
    (LEASED, LONG_AGO, None, True),
    (LEASED, AHEAD, None, True),
    (LEASED, 0.1, None, False),
    (OLD, None, None, False),
    (OLD, LONG_AGO, None, False),
    (None, None, None, False),
    (LEASED, None, 0.1, False),
]


@pytest.mark.parametrize(("leased", "answered", "held", "is_named"), UNDER_WAY)
def test_bytes_are_under_way_from_their_announcement_to_their_answer(
    database: None, leased: float | None, answered: float | None, held: float | None, is_named: bool
) -> None:
    tx_hash = send(**moments(leased_at=leased, last_offered_at=answered, held_at=held))
    digest = message(**moments(leased_at=leased, last_posted_at=answered, held_at=held))
    assert impose().in_flight == (sorted([tx_hash, digest]) if is_named else [])


def test_what_is_settled_is_not_under_way(database: None) -> None:
    send(settled=True, **moments(leased_at=LEASED))
    message(settled=True, **moments(leased_at=LEASED))
    assert impose().in_flight == []


def test_a_message_that_was_posted_may_be_executed_until_it_is(database: None) -> None:
    """The gateway did not clearly take it, nor did the chain show it."""
    posted = moments(leased_at=LONG_AGO, posted_at=LONG_AGO, last_posted_at=LONG_AGO)
    digest = message(**posted)
    message(IntentState.MINED, **posted)
    message(settled=True, **posted)
    message(**posted, **moments(held_at=1))
    message(**moments(leased_at=LONG_AGO))
    assert impose().in_flight == [digest]


def test_what_a_signer_is_asked_for_is_named_in_order(database: None) -> None:
    """Of transactions and of messages; who asked longer ago than a lease lasts has given up."""
    wanted = []
    for leased in (LEASED, OLD, LEASED):
        intent = TxIntent.objects.get(pk=rows.intent_in(IntentState.RESERVED))
        with without_guards():
            SignRequest.objects.create(
                intent=intent, attempt=0, kind="exec", max_fee_wei=2, tip_wei=1, lease=uuid.uuid4(),
                **moments(leased_at=leased),
            )  # fmt: skip
        assert intent.wallet is not None
        wanted.append(f"nonce {intent.nonce} of {intent.wallet.address}")
    for leased in (LEASED, OLD, LEASED):
        unsigned = {"signature": b"", "sign_lease": uuid.uuid4(), **moments(sign_leased_at=leased)}
        found = VenueMessage.objects.get(digest=message(IntentState.RESERVED, **unsigned))
        wanted.append(f"message {found.digest} of {found.signer}")
    rows.execute("UPDATE sign_requests SET tries = 1 WHERE id = (SELECT min(id) FROM sign_requests)")
    imposed = impose()
    assert imposed.at_signer == [wanted[at] for at in (0, 2, 3, 5)]
    assert imposed.in_flight == []


def test_a_stop_waits_about_as_long_as_it_says(database: None, monkeypatch: pytest.MonkeyPatch) -> None:
    for begun in (lambda: send(**moments(leased_at=LEASED)), lambda: message(**moments(leased_at=LEASED))):
        monkeypatch.setattr(control, "WAIT_S", 0.4)
        name = begun()
        began_s = time.monotonic()
        assert name in impose().in_flight
        assert 0.4 <= time.monotonic() - began_s < GENEROUS_S
    monkeypatch.setattr(control, "WAIT_S", 60.0)
    rows.execute("UPDATE tx_sends SET held_at = now()")
    rows.execute("UPDATE venue_messages SET held_at = now()")
    began_s = time.monotonic()
    assert impose().in_flight == []
    assert time.monotonic() - began_s < GENEROUS_S


def test_a_stop_whose_wait_fails_holds_and_says_so(database: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def lose() -> None:
        raise OperationalError("the server closed the connection")

    with monkeypatch.context() as broken:
        broken.setattr(control, "_await_leases", lose)
        with pytest.raises(control.UnawaitedError, match="the stop holds"):
            impose()
        assert impose(REDUCE) == control.Imposed(True, [])
    assert control.active_kinds() == {STOP, REDUCE}
    assert impose() == control.Imposed(False, [], [])


def told() -> list[tuple[object, ...]]:
    return [
        (entry.action, entry.subject, entry.before, entry.after, entry.actor, entry.origin, entry.reason)
        for entry in AuditEntry.objects.order_by("seq")
    ]


def test_the_audit_log_is_told_what_held_before_and_after(database: None) -> None:
    def state(epoch: int, *restrictions: str) -> dict[str, object]:
        return {"epoch": epoch, "restrictions": list(restrictions)}

    updated_at = Control.objects.get().updated_at
    impose(DRY)
    assert Control.objects.get().updated_at == updated_at
    assert impose(STOP, Origin.REDIS).changed
    assert Control.objects.get().updated_at > updated_at
    assert not impose(STOP, Origin.REDIS).changed
    assert not control.lift(REDUCE, Origin.HTTP, by="ann")
    assert control.lift(DRY, Origin.HTTP, by="ann", reason="fills look right")
    imposed, lifted = AuditAction.RESTRICTION_IMPOSED, AuditAction.RESTRICTION_LIFTED
    assert told() == [
        (imposed, "dry of http", state(1), state(1, "dry of http"), "test", "http", "because"),
        (
            *(imposed, "emergency_stop of redis", state(1, "dry of http")),
            *(state(2, "dry of http", "emergency_stop of redis"), "test", "redis", "because"),
        ),
        (
            *(lifted, "dry of http", state(2, "dry of http", "emergency_stop of redis")),
            *(state(2, "emergency_stop of redis"), "ann", "http", "fills look right"),
        ),
    ]


def test_restrictions_are_told_in_the_order_in_which_they_were_set(database: None) -> None:
    rows.restriction(kind="dry", set_at="2026-01-02T00:00:00Z")
    rows.restriction(kind="emergency_stop", set_at="2026-01-01T00:00:00Z")
    rows.restriction(kind="reduce_only", lifted_at="2026-01-01T00:00:00Z", lifted_by="ann")
    assert [row.kind for row in control.active()] == ["emergency_stop", "dry"]


def test_only_what_is_lifted_is_marked_as_lifted(database: None) -> None:
    impose(STOP)
    control.lift(STOP, Origin.HTTP, by="first")
    impose(STOP)
    impose(DRY)
    assert control.lift(STOP, Origin.HTTP, by="second")
    assert dict(Restriction.objects.values_list("pk", "lifted_by")) == dict(
        zip(sorted(Restriction.objects.values_list("pk", flat=True)), ("first", "second", ""), strict=True)
    )


def test_nothing_is_lifted_while_the_audit_log_is_busy(database: None) -> None:
    """And it is given up soon, since stops wait behind it."""
    impose()
    with connection.cursor() as cursor:
        cursor.execute("SET lock_timeout = '60s'")
    with psycopg.connect(real_parts.postgres.url) as holder:
        holder.execute("SELECT pg_advisory_xact_lock(1635083380)")
        began_s = time.monotonic()
        with pytest.raises(OperationalError):
            control.lift(STOP, Origin.HTTP, by="test")
        assert time.monotonic() - began_s < GENEROUS_S
    assert control.active_kinds() == {STOP}
    assert control.lift(STOP, Origin.HTTP, by="test")


@pytest.mark.parametrize("outcome", [True, False, DatabaseError("gone")])
def test_an_entry_that_was_not_written_is_tried_once_more_and_the_stop_holds(
    database: None, monkeypatch: pytest.MonkeyPatch, outcome: bool | Exception
) -> None:
    answers: list[bool | Exception] = [False, outcome]

    def try_record(*_: object, **__: object) -> bool:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(audit, "try_record", try_record)
    assert impose() == control.Imposed(True, [], [])
    assert answers == []
    assert control.active_kinds() == {STOP}
    assert impose() == control.Imposed(False, [], []), "what held already has its entry"


def test_a_turn_at_the_line_is_short() -> None:
    turn = control.Turn()
    assert turn.is_over() is False
    turn._begun_s -= 0.16
    assert turn.is_over() is True

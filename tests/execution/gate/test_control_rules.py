"""Restrictions rule by rule, each in milliseconds: what is locked, what is told, what is waited for and named."""

import uuid
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from django.db import OperationalError, connection, transaction
from django.test.utils import CaptureQueriesContext

from execution_app import audit
from execution_app.gate import control
from execution_app.models import AuditEntry, Control, Restriction, SignRequest, TxIntent, VenueMessage
from execution_app.states import IntentState, Origin, RestrictionKind, SendOutcome
from tests.execution import rows
from tests.execution.gate.test_stops import AHEAD, LEASED, LONG_AGO, OLD, message, moments, send
from tests.guards import without_guards

pytestmark = pytest.mark.usefixtures("database")
STOP, DRY, REDUCE = RestrictionKind.STOP, RestrictionKind.DRY, RestrictionKind.REDUCE_ONLY


class Clock:
    """The process's time, which passes only while somebody sleeps. Who sleeps for ever is found out."""

    def __init__(self) -> None:
        self.now_s = 1_000.0
        self.naps: list[float] = []
        self.readings = 0
        self.meanwhile: Callable[[], object] = lambda: None

    def monotonic(self) -> float:
        self.readings += 1
        assert self.readings < 100, "nobody sleeps in between"
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.naps.append(seconds)
        self.readings = 0
        self.now_s += 0.25
        assert len(self.naps) < 10, "nothing ends this wait"
        self.meanwhile()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(control, "time", made)
    monkeypatch.setattr(control, "LEASE_S", 60.0)  # whatever this machine loses
    return made


def impose(kind: RestrictionKind, origin: Origin = Origin.HTTP) -> control.Imposed:
    return control.impose(kind, origin, by="ann", reason="because")


def lift(kind: RestrictionKind, origin: Origin = Origin.HTTP, **more: Any) -> object:
    return control.lift(kind, origin, by="bob", **more)


def asked_by(call: Callable[[], object]) -> list[str]:
    with CaptureQueriesContext(connection) as asked:
        call()
    return [query["sql"] for query in asked]


def events(caplog: pytest.LogCaptureFixture) -> list[str]:
    told = [record.msg for record in caplog.records if record.name == "execution_app.gate.control"]
    caplog.clear()
    return [str(one["event"]) for one in told if isinstance(one, dict)]


# Locks


def test_whoever_changes_restrictions_stands_in_line_and_then_holds_the_row() -> None:
    """In this order, so that newcomers wait behind it instead of sharing the row past it."""
    for change in (lambda: impose(DRY), lambda: impose(DRY), lambda: lift(DRY), lambda: lift(DRY)):
        statements = asked_by(change)
        line = [
            at for at, one in enumerate(statements) if f"pg_advisory_xact_lock({control.LINE_LOCK})" in one
        ]
        row = [at for at, one in enumerate(statements) if '"control"' in one and one.endswith("FOR UPDATE")]
        assert len(line) == len(row) == 1
        assert line < row
        reads = [
            at for at, one in enumerate(statements) if one.startswith("SELECT") and "mode_changes" in one
        ]
        assert min([*reads, len(statements)]) > row[0], "what holds is read once nobody can change it"


def test_whoever_asks_the_gate_shares_the_line_and_the_row() -> None:
    with transaction.atomic():
        statements = asked_by(control.hold_still)
        assert asked_by(control.hold_line) == statements[:2]
    assert statements[0] == f"SELECT pg_advisory_xact_lock_shared({control.LINE_LOCK})"
    assert statements[1] == "SELECT 1 FROM control WHERE id = 1 FOR SHARE"
    assert "mode_changes" in statements[2]


def test_a_lifting_waits_a_second_for_the_audit_log_and_asks_for_that_alone() -> None:
    impose(DRY)
    waits = "SELECT set_config('lock_timeout', '1000ms', true)"
    statements = asked_by(lambda: lift(DRY))
    (at,) = (at for at, one in enumerate(statements) if one == waits)
    assert "UPDATE" in statements[at - 1]
    assert "INSERT INTO audit_log" in "".join(statements[at:])
    assert waits not in asked_by(lambda: lift(DRY)), "nothing is lifted, and nothing is told"


def test_each_change_and_a_late_entry_are_commits_of_their_own() -> None:
    entry = control._Entry("dry of http", "because", {"a": 1}, {"a": 2}, "ann", Origin.HTTP)
    for call in (lambda: impose(DRY), lambda: lift(DRY), lambda: control._write_late(entry)):
        with transaction.atomic(), pytest.raises(RuntimeError, match="durable"):
            call()
    control._write_late(entry)
    found = AuditEntry.objects.get()
    assert (found.action, found.subject, found.reason) == ("restriction_imposed", "dry of http", "because")
    assert (found.before, found.after, found.actor, found.origin) == ({"a": 1}, {"a": 2}, "ann", "http")


# What is written and told


def test_a_restriction_is_set_once_lifted_once_and_told_each_time(caplog: pytest.LogCaptureFixture) -> None:
    assert control.epoch() == Control.objects.get().epoch == 1
    began = Control.objects.get().updated_at
    assert impose(REDUCE) == control.Imposed(True, [], [])
    assert (Control.objects.get().updated_at, control.epoch()) == (began, 1)
    assert events(caplog) == ["restriction set"]
    assert impose(DRY, Origin.REDIS) == control.Imposed(True, [], [], turned=True)
    assert Control.objects.get().updated_at > began
    assert control.epoch() == 2, "an older copy of Redis lifts nothing"
    events(caplog)
    assert impose(DRY, Origin.REDIS) == control.Imposed(False, [], [])
    assert (control.epoch(), events(caplog)) == (2, [])
    assert control.active_kinds() == {REDUCE, DRY}
    assert lift(DRY, Origin.REDIS, epoch=1) is False
    assert events(caplog) == ["word to lift is too old"]
    assert lift(DRY) is lift(REDUCE, Origin.REDIS) is False
    assert events(caplog) == []
    assert lift(DRY, Origin.REDIS, epoch=2, reason="over") is True
    assert events(caplog) == ["restriction lifted"]
    assert control.active_kinds() == {REDUCE}
    reduced, dried = "reduce_only of http", "dry of redis"
    told = AuditEntry.objects.order_by("seq").values_list(
        *("action", "subject", "before", "after", "actor", "origin", "reason")
    )
    state = [
        {"epoch": 1, "restrictions": []},
        {"epoch": 1, "restrictions": [reduced]},
        {"epoch": 2, "restrictions": [reduced, dried]},
        {"epoch": 2, "restrictions": [reduced]},
    ]
    assert list(told) == [
        ("restriction_imposed", reduced, state[0], state[1], "ann", "http", "because"),
        ("restriction_imposed", dried, state[1], state[2], "ann", "redis", "because"),
        ("restriction_lifted", dried, state[2], state[3], "bob", "redis", "over"),
    ]


def test_the_words_of_a_restriction_fill_their_columns_and_no_more() -> None:
    control.impose(DRY, Origin.HTTP, by="b" * 151, reason="r" * 401)
    control.lift(DRY, Origin.HTTP, by="l" * 151)
    row = Restriction.objects.get()
    assert (row.set_by, row.reason, row.lifted_by) == ("b" * 150, "r" * 400, "l" * 150)


@pytest.mark.parametrize("late", [True, False, OperationalError("gone")])
def test_an_entry_that_comes_late_or_never_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, late: bool | Exception
) -> None:
    answers: list[bool | Exception] = [False, late]

    def try_record(*_: object, **__: object) -> bool:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(audit, "try_record", try_record)
    impose(DRY)
    said = {True: ["audit entry written late"], False: []}.get(late is True, [])
    said = ["audit entry missing"] if isinstance(late, Exception) else said
    assert events(caplog) == [
        "the audit log does not take its entry; the restriction holds",
        *said,
        "restriction set",
    ]
    assert impose(DRY).changed is False
    assert (events(caplog), answers) == ([], []), "what held already is not told again"


def test_a_stop_tells_what_its_wait_found_and_nothing_else_waits(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    found: list[tuple[list[str], list[str]]] = [(["0x1"], ["nonce 1 of 0x2"]), ([], [])]
    monkeypatch.setattr(control, "_await_leases", lambda: found.pop(0))
    assert impose(STOP) == control.Imposed(True, ["0x1"], ["nonce 1 of 0x2"])
    assert events(caplog) == ["restriction set", "a signer was being asked; its answers are thrown away"]
    assert impose(STOP) == control.Imposed(False, [], [])
    assert events(caplog) == []
    assert impose(DRY) == impose(REDUCE) == control.Imposed(True, [], [])


# What is waited for


def lease(**ago: float | None) -> SignRequest:
    intent = TxIntent.objects.get(pk=rows.intent_in(IntentState.RESERVED))
    named = {"attempt": 0, "kind": "exec", "max_fee_wei": 2, "tip_wei": 1, "lease": uuid.uuid4()}
    with without_guards():
        return SignRequest.objects.create(intent=intent, **named, **moments(**ago))


def unsigned(**ago: float | None) -> str:
    return message(IntentState.RESERVED, signature=b"", sign_lease=uuid.uuid4(), **moments(**ago))


def await_leases(clock: Clock) -> tuple[list[str], list[str], int]:
    clock.naps.clear()
    clock.readings = 0
    in_flight, at_signer = control._await_leases()
    assert set(clock.naps) <= {0.05}
    return in_flight, at_signer, len(clock.naps)


def test_bytes_are_waited_for_from_their_announcement_to_their_answer(clock: Clock) -> None:
    """An answer of before its last announcement is none, and one that lies ahead is of before a clock was set back."""
    assert await_leases(clock) == ([], [], 0)
    ended = [
        (LEASED, 0.1, None),
        (OLD, None, None),
        (OLD, LONG_AGO, None),
        (None, None, None),
        (LEASED, None, 0.1),
    ]
    for leased, answered, held in ended:
        send(**moments(leased_at=leased, last_offered_at=answered, held_at=held))
        message(**moments(leased_at=leased, last_posted_at=answered, held_at=held))
    send(settled=True, **moments(leased_at=LEASED))
    message(settled=True, **moments(leased_at=LEASED))
    assert await_leases(clock) == ([], [], 0)
    named = [send(**moments(leased_at=LEASED, last_offered_at=at)) for at in (None, LONG_AGO, AHEAD)]
    assert await_leases(clock) == (sorted(named), [], 4)
    named += [message(**moments(leased_at=LEASED, last_posted_at=at)) for at in (None, LONG_AGO, AHEAD)]
    assert await_leases(clock) == (sorted(named), [], 4)


def test_messages_alone_are_waited_for_until_the_gateway_answers(clock: Clock) -> None:
    digest = message(**moments(leased_at=LEASED))

    def answer() -> None:
        if len(clock.naps) == 2:
            rows.execute("UPDATE venue_messages SET last_posted_at = clock_timestamp()")

    assert await_leases(clock) == ([digest], [], 4)
    clock.meanwhile = answer
    assert await_leases(clock) == ([], [], 2)


def test_a_signer_is_waited_for_and_named_by_age(clock: Clock) -> None:
    """Of transactions first, then of messages; who asked longer ago than a lease lasts has given up."""
    lease(leased_at=OLD)
    unsigned(sign_leased_at=OLD)
    assert await_leases(clock) == ([], [], 0)
    asked = [lease(leased_at=LEASED) for _ in range(2)]
    slots = [f"nonce {one.intent.nonce} of {one.intent.wallet.address}" for one in asked if one.intent.wallet]
    rows.execute(
        "UPDATE sign_requests SET tries = 1 WHERE id = %s", asked[0].pk
    )  # now it lies behind the other
    assert await_leases(clock) == ([], slots, 4)
    digests = [unsigned(sign_leased_at=LEASED) for _ in range(2)]
    found = [VenueMessage.objects.get(digest=digest) for digest in digests]
    with without_guards():
        rows.execute("UPDATE venue_messages SET sign_tries = 1 WHERE id = %s", found[0].pk)
    messages = [f"message {one.digest} of {one.signer}" for one in found]
    assert await_leases(clock) == ([], slots + messages, 4)
    rows.execute("UPDATE sign_requests SET leased_at = leased_at - interval '1 hour'")
    assert await_leases(clock) == ([], messages, 4)


def test_what_nobody_knows_of_is_named_without_a_wait(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Offered without a clear answer, or posted and not known to be there, and not mined yet."""
    named = []
    for outcome in SendOutcome:
        for state in (IntentState.SENDING, IntentState.MINED):
            tx_hash = send(state, outcome=outcome.value)
            if state is IntentState.SENDING and outcome in (SendOutcome.UNKNOWN, SendOutcome.RPC_FAULT):
                named.append(tx_hash)
    send(outcome="unknown", **moments(held_at=1))
    send(outcome="unknown", settled=True)
    posted = moments(leased_at=LONG_AGO, posted_at=LONG_AGO, last_posted_at=LONG_AGO)
    named.append(message(**posted))
    message(IntentState.MINED, **posted)
    message(settled=True, **posted)
    message(**posted, **moments(held_at=1))
    message(**moments(leased_at=LONG_AGO))
    assert await_leases(clock) == (sorted(named), [], 0)
    named.append(message(**posted))
    monkeypatch.setattr(control, "IN_FLIGHT_LIMIT", 1)
    in_flight, _, _ = await_leases(clock)
    assert len(in_flight) == 2, "one of each kind"
    assert set(in_flight) < set(named)


def test_a_turn_at_the_line_is_over_once_it_was_longer_than_it_may_be(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = SimpleNamespace(s=100.0)
    monkeypatch.setattr(control, "time", SimpleNamespace(monotonic=lambda: now.s))
    monkeypatch.setattr(control, "TURN_S", 0.25)
    turn = control.Turn()
    found = []
    for now.s in (100.0, 100.25, 100.5):
        found.append(turn.is_over())
    assert found == [False, False, True]

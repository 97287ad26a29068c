"""Stops and other restrictions: rows under one lock.

Setting one takes LINE_LOCK, then the control row FOR UPDATE, and last the
audit log's lock; whoever takes a nonce or begins a first broadcast reads the
row FOR SHARE. So once `impose` has returned, everything that began before has
committed what it did, and nothing new begins.

Tightening does not depend on the audit log: where its lock is not to be had
within a second, the restriction holds and its entry is written late.
Loosening without an entry does not happen.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

import structlog
from django.db import DatabaseError, OperationalError, connection, transaction
from django.db.models import F, Q
from django.db.models.functions import Now

from execution_app import audit
from execution_app.audit_words import AuditAction, AuditOrigin
from execution_app.gate.modes import Kinds
from execution_app.models import Control, Restriction, SignRequest, TxSend, VenueMessage
from execution_app.states import UNMINED, Origin, RestrictionKind, SendOutcome

log = structlog.get_logger(__name__)

LEASE_S = 4.0  # bytes that no node is known to hold are given to none later than this after the announcement
WAIT_S = 1.0
# How long a transaction with many intents to ask for goes on once it has the line; a stop waits for it.
TURN_S = 0.15
IN_FLIGHT_LIMIT = 500
# Answers after which a node may or may not hold the bytes.
UNCLEAR = (SendOutcome.UNKNOWN, SendOutcome.RPC_FAULT)
LINE_LOCK = 0x73746F70
_ACTIVE = "SELECT kind FROM mode_changes WHERE lifted_at IS NULL"


@dataclass(frozen=True)
class Imposed:
    """`in_flight` are hashes that may still have left: under way, or offered without a clear answer; of messages, digests.

    `at_signer` are slots of which a remote signer had been asked for a signature
    and had not answered: that answer is thrown away when it comes. `turned` says
    that the database has gone on to another epoch with it.
    """

    changed: bool
    in_flight: list[str]
    at_signer: list[str] = field(default_factory=list)
    turned: bool = False


class UnawaitedError(OperationalError):
    """The stop is recorded and holds; the database failed while broadcasts that had begun were waited for.

    They may still leave. The same call again changes nothing, and waits for them.
    """


def impose(
    kind: RestrictionKind, origin: Origin, *, by: str, reason: str, beside: str | None = None
) -> Imposed:
    """Set a restriction; the same one again changes nothing.

    `beside` is the epoch that a word in Redis was read beside. While it is the database's, a lifting that
    was read before may still be on its way, and is older than this word: so the epoch turns, by the first
    process that carries the word over, even where the restriction holds already.

    For a stop, waits at most WAIT_S for broadcasts that had begun. Raises UnawaitedError
    where the database fails during that, and DatabaseError where nobody knows whether it is recorded.
    """
    with transaction.atomic(durable=True):
        _stand_in_line()
        control = Control.objects.select_for_update().get(pk=1)
        before = _told(control)
        _, changed = Restriction.objects.get_or_create(
            kind=kind, origin=origin, lifted_at=None, defaults={"set_by": by[:150], "reason": reason[:400]}
        )
        turned = origin is Origin.REDIS and (changed or beside == str(control.epoch))
        if turned:
            # Neither an older copy of Redis nor an older word there may lift what is recorded here.
            control.epoch += 1
            control.updated_at = Now()
            control.save(update_fields=["epoch", "updated_at"])
        entry = _Entry(f"{kind.value} of {origin.value}", reason, before, _told(control), by, origin)
        told = not changed or entry.written()
    if not told:
        log.error("the audit log does not take its entry; the restriction holds", entry=entry.subject, by=by)
        _write_late(entry)
    if changed:
        log.warning("restriction set", kind=kind.value, origin=origin.value, by=by, reason=reason)
    if kind is not RestrictionKind.STOP:
        return Imposed(changed, [], turned=turned)
    try:
        in_flight, at_signer = _await_leases()
    except DatabaseError as problem:
        raise UnawaitedError(f"the stop holds; what may still leave is not known: {problem}") from problem
    if at_signer:
        log.warning("a signer was being asked; its answers are thrown away", slots=at_signer)
    return Imposed(changed, in_flight, at_signer, turned)


@dataclass(frozen=True)
class _Entry:
    """What the audit log is told of a restriction that was set."""

    subject: str
    reason: str
    before: dict[str, object]
    after: dict[str, object]
    by: str
    origin: Origin

    def written(self) -> bool:
        """Write it in the caller's transaction; False, and nothing is spoilt, where it cannot be."""
        return audit.try_record(
            AuditAction.RESTRICTION_IMPOSED,
            self.subject,
            reason=self.reason,
            before=self.before,
            after=self.after,
            who=audit.by(self.by, AuditOrigin(self.origin.value)),
        )


def _write_late(entry: _Entry) -> None:
    """What holds already gets its entry after the fact; a failure is said, and changes nothing."""
    try:
        with transaction.atomic(durable=True):
            late = entry.written()
    except DatabaseError:
        log.exception("audit entry missing", entry=entry.subject, by=entry.by)
        return
    if late:
        log.error("audit entry written late", entry=entry.subject, by=entry.by)


def lift(
    kind: RestrictionKind,
    origin: Origin,
    *,
    by: str,
    reason: str = "",
    epoch: int | None = None,
    judge: Callable[[], object] | None = None,
) -> bool:
    """Lift the restriction that was set from this origin; others stay. Says whether one was.

    With an epoch nothing is lifted once the database has gone on to another:
    the word to lift is then older than the restriction. `judge` is asked when it is this
    word's turn, before which nothing was lifted; what it raises leaves all as it is.
    """
    with transaction.atomic(durable=True):
        _stand_in_line()
        control = Control.objects.select_for_update().get(pk=1)
        if epoch is not None and control.epoch != epoch:
            log.warning("word to lift is too old", kind=kind.value, epoch=epoch, now=control.epoch)
            return False
        if judge is not None:
            judge()
        before = _told(control)
        lifted = Restriction.objects.filter(kind=kind, origin=origin, lifted_at=None).update(
            lifted_at=Now(), lifted_by=by[:150]
        )
        if lifted:
            # Others wait behind this, stops too: where the log is not free it is given up, and nothing is lifted.
            with connection.cursor() as cursor:
                cursor.execute("SELECT set_config('lock_timeout', %s, true)", [audit.PATIENCE])
            audit.record(
                AuditAction.RESTRICTION_LIFTED,
                f"{kind.value} of {origin.value}",
                reason=reason,
                before=before,
                after=_told(control),
                who=audit.by(by, AuditOrigin(origin.value)),
            )
    if lifted:
        log.warning("restriction lifted", kind=kind.value, origin=origin.value, by=by, reason=reason)
    return bool(lifted)


def active() -> list[Restriction]:
    return list(Restriction.objects.filter(lifted_at=None).order_by("set_at"))


def active_kinds() -> Kinds:
    with connection.cursor() as cursor:
        cursor.execute(_ACTIVE)
        return frozenset(RestrictionKind(kind) for (kind,) in cursor.fetchall())


def epoch() -> int:
    return Control.objects.values_list("epoch", flat=True).get(pk=1)


def hold_still() -> Kinds:
    """Read the restrictions so that none can be set until the caller's transaction ends."""
    hold_line()
    return active_kinds()


def hold_line() -> None:
    """No restriction can be set until the caller's transaction ends; whoever reads them reads them after this."""
    if not connection.in_atomic_block:
        raise RuntimeError("the gate is read inside the transaction that it guards")
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock_shared(%s)", [LINE_LOCK])
        cursor.execute("SELECT 1 FROM control WHERE id = 1 FOR SHARE")


class Turn:
    """A transaction's turn at the line, from when it has it: many short ones let a stop in between them."""

    def __init__(self) -> None:
        self._begun_s = time.monotonic()

    def is_over(self) -> bool:
        return time.monotonic() - self._begun_s > TURN_S


def _told(control: Control) -> dict[str, object]:
    """What holds now, as the audit log tells it."""
    return {
        "epoch": control.epoch,
        "restrictions": [f"{row.kind} of {row.origin}" for row in active()],
    }


def _stand_in_line() -> None:
    """Have newcomers wait behind this transaction.

    Row locks let them share the row past whoever waits to change it, so under
    load a stop would wait for ever; advisory locks are granted in order.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [LINE_LOCK])


def _is_unanswered(last: str) -> Q:
    """Whether the lease is younger than the last answer; one that lies ahead is of before the clock was set back."""
    return Q(**{last: None}) | Q(**{f"{last}__lt": F("leased_at")}) | Q(**{f"{last}__gt": Now()})


def _await_leases() -> tuple[list[str], list[str]]:
    """Wait for broadcasts and signatures that had begun.

    Returns the hashes of those that did not end in time, or ended in nobody knows
    what, and the slots that a signer is still asked for.
    """
    deadline_s = time.monotonic() + WAIT_S
    unheld = TxSend.objects.filter(held_at=None, intent__settled_at=None)
    unposted = VenueMessage.objects.filter(held_at=None, intent__settled_at=None)
    while True:
        under_way = list(
            unheld.filter(leased_at__gt=Now() - timedelta(seconds=LEASE_S))
            .filter(_is_unanswered("last_offered_at"))
            .values_list("tx_hash", flat=True)
        )
        under_way += (
            unposted.filter(leased_at__gt=Now() - timedelta(seconds=LEASE_S))
            .filter(_is_unanswered("last_posted_at"))
            .values_list("digest", flat=True)
        )
        asked = SignRequest.objects.filter(leased_at__gt=Now() - timedelta(seconds=LEASE_S))
        at_signer = [
            f"nonce {nonce} of {address}"
            for nonce, address in asked.values_list("intent__nonce", "intent__wallet__address").order_by("id")
        ]
        unsigned = VenueMessage.objects.filter(sign_leased_at__gt=Now() - timedelta(seconds=LEASE_S))
        at_signer += [
            f"message {digest} of {address}"
            for digest, address in unsigned.values_list("digest", "signer").order_by("id")
        ]
        if not (under_way or at_signer) or time.monotonic() >= deadline_s:
            unclear = unheld.filter(outcome__in=UNCLEAR, intent__state__in=sorted(UNMINED))
            hashes = {*under_way, *unclear.values_list("tx_hash", flat=True)[:IN_FLIGHT_LIMIT]}
            # A message that the gateway did not clearly take may be executed until its deadline.
            told = unposted.filter(posted_at__isnull=False, intent__state__in=sorted(UNMINED))
            hashes |= set(told.values_list("digest", flat=True)[:IN_FLIGHT_LIMIT])
            return sorted(hashes), at_signer
        time.sleep(0.05)

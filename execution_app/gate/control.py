"""Stops and other restrictions: rows under one lock.

Setting one takes the control row FOR UPDATE; whoever takes a nonce or begins a
first broadcast reads it FOR SHARE. So once `impose` has returned, everything
that began before has committed what it did, and nothing new begins.
"""

import time
from dataclasses import dataclass
from datetime import timedelta

import structlog
from django.db import connection, transaction
from django.db.models.functions import Now

from execution_app.gate.modes import Kinds
from execution_app.models import Control, Restriction, TxSend
from execution_app.states import Origin, RestrictionKind

log = structlog.get_logger(__name__)

LEASE_S = 4.0  # nobody gives bytes to a node for the first time longer than this after announcing it
WAIT_S = 1.0
LINE_LOCK = 0x73746F70


@dataclass(frozen=True)
class Imposed:
    """`in_flight` are hashes whose broadcast was under way and may still have left."""

    changed: bool
    in_flight: list[str]


def impose(kind: RestrictionKind, origin: Origin, *, by: str, reason: str) -> Imposed:
    """Set a restriction; the same one again changes nothing.

    For a stop, waits at most WAIT_S for broadcasts that had begun.
    """
    with transaction.atomic(durable=True):
        _stand_in_line()
        control = Control.objects.select_for_update().get(pk=1)
        _, changed = Restriction.objects.get_or_create(
            kind=kind, origin=origin, lifted_at=None, defaults={"set_by": by[:150], "reason": reason[:400]}
        )
        if changed and origin is Origin.REDIS:
            # An older copy of Redis must not be able to lift what is recorded here.
            control.epoch += 1
            control.updated_at = Now()
            control.save(update_fields=["epoch", "updated_at"])
    if changed:
        log.warning("restriction set", kind=kind.value, origin=origin.value, by=by, reason=reason)
    return Imposed(changed, _await_leases() if kind is RestrictionKind.STOP else [])


def lift(
    kind: RestrictionKind, origin: Origin, *, by: str, reason: str = "", epoch: int | None = None
) -> bool:
    """Lift the restriction that was set from this origin; others stay. Says whether one was.

    With an epoch nothing is lifted once the database has gone on to another:
    the word to lift is then older than the restriction.
    """
    with transaction.atomic(durable=True):
        _stand_in_line()
        control = Control.objects.select_for_update().get(pk=1)
        if epoch is not None and control.epoch != epoch:
            log.warning("word to lift is too old", kind=kind.value, epoch=epoch, now=control.epoch)
            return False
        lifted = Restriction.objects.filter(kind=kind, origin=origin, lifted_at=None).update(
            lifted_at=Now(), lifted_by=by[:150]
        )
    if lifted:
        log.warning("restriction lifted", kind=kind.value, origin=origin.value, by=by, reason=reason)
    return bool(lifted)


def active() -> list[Restriction]:
    return list(Restriction.objects.filter(lifted_at=None).order_by("set_at"))


def active_kinds() -> Kinds:
    return frozenset(
        RestrictionKind(kind)
        for kind in Restriction.objects.filter(lifted_at=None).values_list("kind", flat=True)
    )


def epoch() -> int:
    return Control.objects.values_list("epoch", flat=True).get(pk=1)


def hold_still() -> Kinds:
    """Read the restrictions so that none can be set until the caller's transaction ends."""
    if not connection.in_atomic_block:
        raise RuntimeError("the gate is read inside the transaction that it guards")
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock_shared(%s)", [LINE_LOCK])
        cursor.execute("SELECT 1 FROM control WHERE id = 1 FOR SHARE")
    return active_kinds()


def _stand_in_line() -> None:
    """Have newcomers wait behind this transaction.

    Row locks let them share the row past whoever waits to change it, so under
    load a stop would wait for ever; advisory locks are granted in order.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [LINE_LOCK])


def _await_leases() -> list[str]:
    """Wait for broadcasts that had begun; name those that did not end in time."""
    deadline_s = time.monotonic() + WAIT_S
    while True:
        open_leases = list(
            TxSend.objects.filter(
                leased_at__gt=Now() - timedelta(seconds=LEASE_S),
                offered_at=None,
            ).values_list("tx_hash", flat=True)
        )
        if not open_leases or time.monotonic() >= deadline_s:
            return open_leases
        time.sleep(0.05)

"""A restored database is closed before anybody can reach it, and what it cannot remember is refused.

`close` is one commit in the copy: emergency stop, DRY, every wallet halted, an epoch
above whatever Redis may hold. The former database serves others until it loses its
name, so `take_over` follows with what was set in it last. Between the copy's moment and
the restore others were served of whom nothing is known here, so `objection` refuses
whatever may be from then.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog
from django.db import transaction
from django.db.models.functions import Greatest, Now

from execution_app import audit
from execution_app.audit_words import AuditAction, AuditOrigin
from execution_app.errors import Refused
from execution_app.gate import control
from execution_app.models import AuditEntry, Chain, Control, RestorePoint, Restriction, TxIntent, Wallet
from execution_app.states import IntentState, Origin, RestrictionKind

log = structlog.get_logger(__name__)

# How far ahead of ours a sender's clock may be: a time up to then may be of before the restore.
CLOCK_SKEW = timedelta(seconds=5)
# What the chain has, and what ends without anybody's signature.
LANDED = (
    IntentState.MINED,
    IntentState.ORDERED,
    IntentState.FILLED,
    IntentState.CHANGED,
    IntentState.VENUE_CANCELLED,
)
HALTED_REASON_LIMIT = 200
TOLD = 50  # wallets, restrictions named in the audit log


@dataclass(frozen=True)
class Held:
    """A restriction that held in the database before this one."""

    kind: RestrictionKind
    origin: Origin
    by: str
    reason: str


@dataclass(frozen=True)
class Former:
    """What is still known of the database that is replaced. `next_nonces` by "chain id:address"."""

    name: str = ""
    epoch: int = 0
    next_nonces: Mapping[str, int] = field(default_factory=dict)
    held: Collection[Held] = ()
    audit_seq: int = 0
    audit_head: str = ""


@dataclass(frozen=True)
class Copy:
    """Where a restored database comes from."""

    snapshot_at: datetime
    sha256: str
    by: str
    reason: str


def close(copy: Copy, former: Former) -> RestorePoint:
    """Close the database that this connection is on, in one commit. Nobody else is connected to it.

    Restrictions that the copy does not know are taken over from the former database: a restore never loosens.
    """
    who = audit.by(copy.by, AuditOrigin.COMMAND)
    with transaction.atomic(durable=True):
        before = Control.objects.select_for_update().get(pk=1).epoch
        epoch = max(before, former.epoch) + 1
        Control.objects.filter(pk=1).update(epoch=epoch, updated_at=Now())
        why = f"restored from a backup of {copy.snapshot_at:%Y-%m-%dT%H:%M:%SZ}: {copy.reason}"[:400]
        own = [
            Held(kind, Origin.COMMAND, copy.by, why) for kind in (RestrictionKind.STOP, RestrictionKind.DRY)
        ]
        imposed = [one for one in (*own, *former.held) if _impose(one)]
        halted = [wallet.address for wallet in Wallet.objects.order_by("pk") if _halt(wallet, why, former)]
        # Compared with this database before now is compared with another one.
        Chain.objects.update(reconciled_at=None)
        # The server's clock may be behind that of the server where the copy was taken.
        point = RestorePoint.objects.create(
            snapshot_at=copy.snapshot_at,
            restored_at=Greatest(Now(), copy.snapshot_at),
            backup_sha256=copy.sha256,
            former=former.name,
            epoch=epoch,
            restored_by=copy.by[:150],
            reason=copy.reason[:400],
        )
        audit.record(
            AuditAction.DATABASE_RESTORED,
            f"backup of {copy.snapshot_at.isoformat()}",
            reason=copy.reason,
            before={"epoch": before, "former": former.name, "former_audit_head": former.audit_head},
            after={
                "epoch": epoch,
                "sha256": copy.sha256,
                "imposed": [f"{one.kind} of {one.origin}" for one in imposed][:TOLD],
                "halted": halted[:TOLD],
            },
            who=who,
        )
    point.refresh_from_db()
    return point


def take_over(point: RestorePoint, former: Former) -> list[Held]:
    """What was set in the former database after `close` was told of it; nobody reaches it by its usual name any more.

    Others use this database already, so restrictions are set as anybody sets them. The entry comes
    last: without it `unread` tells of the restore, and all of this is done again.
    """
    imposed = [
        one
        for one in former.held
        if control.impose(one.kind, one.origin, by=one.by, reason=one.reason).changed
    ]
    with transaction.atomic(durable=True):
        before = Control.objects.select_for_update().get(pk=1).epoch
        # Redis holds what the former database had last, at most: that must not pass for this one's.
        epoch = before if before > former.epoch else former.epoch + 1
        Control.objects.filter(pk=1, epoch__lt=epoch).update(epoch=epoch, updated_at=Now())
        why = f"restored from a backup of {point.snapshot_at:%Y-%m-%dT%H:%M:%SZ}: {point.reason}"
        behind = [wallet for wallet in Wallet.objects.order_by("pk") if _is_behind(wallet, former)]
        for wallet in behind:
            _halt(wallet, why, former)
        audit.record(
            AuditAction.DATABASE_RESTORED,
            f"from the former database {point.former}",
            reason=point.reason,
            before={"epoch": before},
            after={
                "epoch": epoch,
                "former": point.former,
                "former_audit_head": former.audit_head,
                "imposed": [f"{one.kind} of {one.origin}" for one in imposed][:TOLD],
                "behind": [wallet.address for wallet in behind][:TOLD],
            },
            who=audit.by(point.restored_by, AuditOrigin.COMMAND),
        )
    return imposed


def unread() -> RestorePoint | None:
    """The restore that was killed before `take_over`; None without one, and once a person has gone on from it."""
    point = unreconciled()
    if point is None or not point.former:
        return None
    told = AuditEntry.objects.filter(action=AuditAction.DATABASE_RESTORED, after__former=point.former)
    return None if told.exists() else point


def audit_seq(point: RestorePoint) -> int:
    """Up to which entry the audit log is the copy's own; the former database has others behind it."""
    told = AuditEntry.objects.filter(action=AuditAction.DATABASE_RESTORED)
    return told.values_list("seq", flat=True).get(before__former=point.former) - 1


def _impose(held: Held) -> bool:
    _, changed = Restriction.objects.get_or_create(
        kind=held.kind,
        origin=held.origin,
        lifted_at=None,
        defaults={"set_by": held.by[:150], "reason": held.reason[:400]},
    )
    return changed


def _given_away(wallet: Wallet, former: Former) -> int:
    return former.next_nonces.get(f"{wallet.chain_id}:{wallet.address}", 0)


def _is_behind(wallet: Wallet, former: Former) -> bool:
    return _given_away(wallet, former) > max(wallet.next_nonce, wallet.seen_next_nonce or 0)


def _halt(wallet: Wallet, why: str, former: Former) -> bool:
    """Halt it, and remember the nonces that are gone; one that is halted keeps its reason."""
    seen = max(_given_away(wallet, former), wallet.seen_next_nonce or 0)
    if seen > wallet.next_nonce:
        Wallet.objects.filter(pk=wallet.pk).update(seen_next_nonce=seen)
    changed = Wallet.objects.filter(pk=wallet.pk, halted_reason="").update(
        halted_reason=why[:HALTED_REASON_LIMIT], halted_at=Now()
    )
    return bool(changed)


def latest() -> RestorePoint | None:
    return RestorePoint.objects.order_by("-restored_at", "-id").first()


def objection(ts: datetime | None, received_at: datetime) -> str:
    """Why a signal may be one that a database before this one has executed; blank where it cannot be.

    Not the copy's moment counts but the restore's: what came in between is what this database forgot.
    """
    point = latest()
    if point is None:
        return ""
    since = f"the database was restored at {point.restored_at.isoformat()}"
    if ts is not None and ts <= point.restored_at + CLOCK_SKEW:
        return f"ts {ts.isoformat()} is not later than that by {CLOCK_SKEW.seconds} s: {since}"
    if received_at <= point.restored_at:
        return f"it was received at {received_at.isoformat()}: {since}"
    if ts is None and (point.untimed_accepted_at is None or received_at <= point.untimed_accepted_at):
        return f"it has no ts, and no person had accepted such signals: {since}"
    return ""


def accept_untimed(*, by: str, reason: str) -> bool:
    """Take signals without a time from now on; says whether that is new. The caller has checked the second factor.

    Raises Refused where nothing was restored.
    """
    with transaction.atomic(durable=True):
        point = RestorePoint.objects.select_for_update().order_by("-restored_at", "-id").first()
        if point is None:
            raise Refused("this database was never restored: signals without a ts are taken")
        if point.untimed_accepted_at is not None:
            return False
        RestorePoint.objects.filter(pk=point.pk).update(
            untimed_accepted_at=Now(), untimed_accepted_by=by[:150]
        )
        audit.record(
            AuditAction.UNTIMED_ACCEPTED,
            f"restore {point.pk}",
            reason=reason,
            after={"restored_at": point.restored_at.isoformat()},
            who=audit.by(by, AuditOrigin.COMMAND),
        )
    log.warning("signals without a time are taken again", by=by)
    return True


def unreconciled() -> RestorePoint | None:
    """The restore after which chain and venue have not been found to agree with this database; None without one."""
    point = latest()
    return None if point is None or point.reconciled_at is not None else point


def objections(point: RestorePoint) -> list[str]:
    """What speaks in rows against going on after a restore. A wallet whose trader is disabled may stay halted."""
    found = []
    if not Chain.objects.filter(reconciled_at__gt=point.restored_at, halted_reason="").exists():
        found.append("chain and database have not been found to agree since the restore")
    halted = Wallet.objects.exclude(halted_reason="").filter(trader__enabled=True).order_by("pk")
    found += [f"wallet {address} is halted" for address in halted.values_list("address", flat=True)[:TOLD]]
    landed = TxIntent.objects.filter(state__in=LANDED, settled_at=None).count()
    if landed:
        found.append(f"{landed} executions on the chain are not settled yet")
    return found


def note_reconciled(point: RestorePoint) -> None:
    RestorePoint.objects.filter(pk=point.pk, reconciled_at=None).update(reconciled_at=Now())

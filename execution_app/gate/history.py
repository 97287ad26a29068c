"""What became of the mode, newest first: the stack's own changes beside every restriction that was set and lifted.

The table `mode_history` has one line for each change of the stack (gate/changes.py). Who restricted is in
`mode_changes`; who lifted, and why, in the audit log, without which nothing is lifted.
"""

from dataclasses import dataclass
from datetime import datetime

from execution_app.audit_words import AuditAction
from execution_app.models import AuditEntry, ModeChange, Restriction

MOST = 1_000


@dataclass(frozen=True)
class Change:
    """`what` is `effective`, `requested` or a restriction; `streak` and `epoch` are None where they are not known."""

    at: datetime
    what: str
    became: str
    reason: str
    streak: int | None
    epoch: int | None
    who: str
    origin: str


def read(limit: int) -> list[Change]:
    """The newest changes, at most `limit` and MOST."""
    limit = max(0, min(limit, MOST))
    found = [*_of_the_stack(limit), *_set(limit), *_lifted(limit)]
    return sorted(found, key=lambda change: change.at, reverse=True)[:limit]


def _of_the_stack(limit: int) -> list[Change]:
    rows = ModeChange.objects.order_by("-id")[:limit]
    return [
        Change(row.at, row.kind, row.mode, row.reason, row.streak, row.epoch, row.said_by, "automatic")
        for row in rows
    ]


def _set(limit: int) -> list[Change]:
    rows = Restriction.objects.order_by("-id")[:limit]
    return [
        Change(row.set_at, row.kind, "set", row.reason, None, None, row.set_by, row.origin) for row in rows
    ]


def _lifted(limit: int) -> list[Change]:
    entries = AuditEntry.objects.filter(action=AuditAction.RESTRICTION_LIFTED).order_by("-seq")[:limit]
    return [
        Change(
            at=entry.at,
            what=entry.subject.partition(" ")[0],
            became="lifted",
            reason=entry.reason,
            streak=None,
            epoch=(entry.after or {}).get("epoch"),
            who=entry.actor,
            origin=entry.origin,
        )
        for entry in entries
    ]

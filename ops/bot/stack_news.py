"""What rows tell of the whole stack: restrictions that were set and lifted, and the mode that holds."""

from collections.abc import Sequence

from execution_app.audit_words import AuditAction
from execution_app.models import AuditEntry, ModeChange, Restriction
from execution_app.states import ModeKind
from ops.bot.models import Event
from ops.bot.notices import News

Read = Sequence[tuple[int, News | None]]


def imposed(after: int, top: int, most: int) -> Read:
    """Restrictions as they are set; one row each, which is there from the moment that it holds."""
    rows = Restriction.objects.filter(id__gt=after, id__lte=top).order_by("id")[:most]
    return [(row.pk, _imposed(row)) for row in rows]


def _imposed(row: Restriction) -> News:
    name = f"restriction {row.pk}"
    facts = {
        "what": "imposed",
        "kind": row.kind,
        "origin": row.origin,
        "by": row.set_by,
        "reason": row.reason,
    }
    return News(
        Event.MODE, thread=name, key=name, at=row.set_at, facts=facts, origin=row.origin, by=row.set_by
    )


def lifted(after: int, top: int, most: int) -> Read:
    """Restrictions as they are lifted; their rows change then, their entries do not."""
    rows = AuditEntry.objects.filter(seq__gt=after, seq__lte=top).order_by("seq")[:most]
    return [(row.seq, _lifted(row)) for row in rows]


def _lifted(row: AuditEntry) -> News | None:
    if row.action != AuditAction.RESTRICTION_LIFTED:
        return None
    name = f"audit {row.seq}"
    kind, _, origin = row.subject.partition(" of ")
    facts = {"what": "lifted", "kind": kind, "origin": origin, "by": row.actor, "reason": row.reason}
    return News(Event.MODE, thread=name, key=name, at=row.at, facts=facts, origin=row.origin, by=row.actor)


def modes(after: int, top: int, most: int) -> Read:
    """Changes of the mode that holds; what is asked for follows from restrictions and settings."""
    rows = ModeChange.objects.filter(id__gt=after, id__lte=top).order_by("id")[:most]
    return [(row.pk, _mode(row)) for row in rows]


def _mode(row: ModeChange) -> News | None:
    if row.kind != ModeKind.EFFECTIVE:
        return None
    name = f"mode {row.pk}"
    facts = {"what": "mode", "mode": row.mode, "reason": row.reason}
    return News(Event.MODE, thread=name, key=name, at=row.at, facts=facts)

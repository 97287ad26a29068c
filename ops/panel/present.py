"""The mode as an operator must see it right after an action: this process's view, corrected by the rows."""

import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

from execution_app import people
from execution_app.gate import control, watch
from execution_app.gate.watch import ModeView
from execution_app.models import Restriction
from execution_app.states import Origin, RestrictionKind

SETTLE_S = 1.0
_POLL_S = 0.05

# Where an operator lifts what was set there.
LIFTED_BY = {
    Origin.REDIS: """redis-cli SET exec_mode '{"emergency_stop":false}'""",
    Origin.HTTP: "DELETE /admin/emergency-stop",
    Origin.ADMIN: "Resume on this site",
    Origin.COMMAND: "manage.py resume, mode LIVE or reduce-only off",
    Origin.TELEGRAM: "manage.py telegram lift, or /resume where TELEGRAM_MAY_RESUME is set",
    Origin.AUTOMATIC: "nothing yet: nothing sets it",
}


@dataclass(frozen=True)
class Presence:
    """The effective mode and the restrictions behind it."""

    view: ModeView
    restrictions: tuple[Restriction, ...]

    @property
    def stops(self) -> list[Restriction]:
        return [row for row in self.restrictions if row.kind == RestrictionKind.STOP]

    def stopped_by(self, origin: Origin) -> bool:
        return any(row.origin == origin for row in self.stops)

    def other_stops(self, origin: Origin) -> list[Restriction]:
        return [row for row in self.stops if row.origin != origin]

    def as_json(self) -> dict[str, Any]:
        return asdict(self.view)


def presence() -> Presence:
    """What holds now. A stop that is in the rows holds, even before this process has looked again."""
    rows = tuple(control.active())
    kinds = {row.kind for row in rows}
    view = watch.view()
    if RestrictionKind.STOP in kinds and not view.emergency_stop:
        reason = f"emergency stop; {view.reason}" if view.reason else "emergency stop"
        view = replace(view, emergency_stop=True, reason=reason)
    return Presence(replace(view, reduce_only=view.reduce_only or RestrictionKind.REDUCE_ONLY in kinds), rows)


def settled_presence() -> Presence:
    """The presence once this process has seen what was just lifted; at most SETTLE_S later."""
    deadline_s = time.monotonic() + SETTLE_S
    while True:
        now = presence()
        if now.view.emergency_stop == bool(now.stops) or time.monotonic() >= deadline_s:
            return now
        time.sleep(_POLL_S)


def holding() -> tuple[tuple[str, str], ...]:
    """The mode and every restriction behind it, as facts of a page: its name, and what it is."""
    now = presence()
    why = f"; {now.view.reason}" if now.view.reason else ""
    held = [
        (
            f"{row.kind} of {row.origin}",
            f"by {people.unveiled(row.set_by)}: {row.reason or 'no reason given'}",
        )
        for row in now.restrictions
    ]
    return (("mode now", f"{now.view.mode}, {now.view.requested} is asked for{why}"), *held)


def how_to_lift(stops: Iterable[Restriction]) -> list[dict[str, str]]:
    return [{"origin": row.origin, "lifted_by": LIFTED_BY[Origin(row.origin)]} for row in stops]

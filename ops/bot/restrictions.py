"""What restricts execution, in words."""

from execution_app.gate import control
from execution_app.models import StackMode
from execution_app.states import Mode, Origin, RestrictionKind
from ops.bot import words

# Where an operator lifts what was set there.
LIFTED = {
    Origin.REDIS: "in Redis, by an opposite value of exec_mode",
    Origin.HTTP: "DELETE /admin/emergency-stop",
    Origin.ADMIN: "Resume on the admin site",
    Origin.COMMAND: "manage.py resume, mode LIVE or reduce-only off",
    Origin.TELEGRAM: "/resume, or manage.py telegram lift",
    Origin.AUTOMATIC: "nothing sets it yet",
}


def holding() -> str:
    """Every restriction that holds, who set it, and where it is lifted."""
    lines = [
        f"\N{BULLET} <b>{row.kind}</b> from {row.origin} by {words.safe(row.set_by)}, {words.moment(row.set_at)}: "
        f"{words.safe(row.reason)}\n   lifted: {words.safe(LIFTED[Origin(row.origin)])}"
        for row in control.active()
    ]
    return "\n".join(lines) or words.NOTHING_HOLDS


def mode_line() -> str:
    """One line: the mode of the whole stack, and what stands above it."""
    stack = StackMode.objects.get(pk=1)
    kinds = control.active_kinds()
    marks = []
    if RestrictionKind.STOP in kinds:
        marks.append("\N{OCTAGONAL SIGN} STOPPED")
    if RestrictionKind.REDUCE_ONLY in kinds:
        marks.append("reduce-only")
    asked = "" if stack.requested == stack.mode else f" ({stack.requested} is asked for)"
    sign = "\N{LARGE GREEN CIRCLE}" if stack.mode == Mode.LIVE else "\N{LARGE YELLOW CIRCLE}"
    return ", ".join([f"{sign} <b>{stack.mode}</b>{asked}", *marks])

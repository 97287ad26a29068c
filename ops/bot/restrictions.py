"""What restricts execution, in words."""

from django.conf import settings

from execution_app import people
from execution_app.gate import control
from execution_app.models import StackMode
from execution_app.states import Mode, Origin, RestrictionKind
from ops.bot import words


def holding() -> str:
    """Every restriction that holds, who set it, and where it is lifted."""
    lines = [
        words.RESTRICTION.format(
            kind=words.restriction(row.kind),
            origin=words.origin(row.origin),
            by=words.safe(people.unveiled(row.set_by)),
            at=words.moment(row.set_at),
            reason=words.safe(row.reason),
            where=_lifted(RestrictionKind(row.kind), Origin(row.origin)),
        )
        for row in control.active()
    ]
    return "\n".join(lines) or words.NOTHING_HOLDS


def _lifted(kind: RestrictionKind, origin: Origin) -> str:
    """Where it is lifted, which is where it was set."""
    if origin is Origin.TELEGRAM and not settings.ENVIRONMENT.telegram_may_resume:
        return words.LIFTED_TELEGRAM_MACHINE
    if (kind, origin) == (RestrictionKind.REDUCE_ONLY, Origin.TELEGRAM):
        return words.LIFTED_TELEGRAM_REDUCE_ONLY
    return words.text(f"LIFTED_{origin.name}")


def mode_line() -> str:
    """One line: the mode of the whole stack, and what stands above it."""
    stack = StackMode.objects.get(pk=1)
    kinds = control.active_kinds()
    marks = ""
    if RestrictionKind.STOP in kinds:
        marks += words.MODE_STOPPED
    if RestrictionKind.REDUCE_ONLY in kinds:
        marks += words.MODE_REDUCE_ONLY
    asked = "" if stack.requested == stack.mode else words.MODE_ASKED.format(mode=stack.requested)
    sign = "\N{LARGE GREEN CIRCLE}" if stack.mode == Mode.LIVE else "\N{LARGE YELLOW CIRCLE}"
    return words.MODE_LINE.format(sign=sign, mode=stack.mode, asked=asked, marks=marks)

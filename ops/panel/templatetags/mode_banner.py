"""The banner that every page of the admin site carries."""

from typing import Any

from django import template
from django.template import Context
from django.utils import timezone

from execution_app.gate.watch import ModeView
from execution_app.models import ModeChange
from execution_app.states import ModeKind, Origin
from ops.panel.present import how_to_lift, presence
from ops.panel.switch import may_switch

register = template.Library()


@register.inclusion_tag("panel/mode_banner.html", takes_context=True)
def mode_banner(context: Context, *, home: bool = False) -> dict[str, Any]:
    """Mode, stop and why; who holds a stop is shown to those who are logged in."""
    now = presence()
    request = context.get("request")
    user = getattr(request, "user", None)
    staff = bool(user and user.is_authenticated and user.is_staff)
    return {
        "home": home,
        "staff": staff,
        "may_switch": bool(user and may_switch(user)),
        "view": now.view,
        # The largest word of the banner says that already.
        "reason": now.view.reason.removeprefix("emergency stop").lstrip("; "),
        "since": _since(now.view) if staff else None,
        "now": timezone.now(),
        "held_here": now.stopped_by(Origin.ADMIN),
        "stops": now.stops if staff else [],
        "other_stops": how_to_lift(now.other_stops(Origin.ADMIN)) if staff else [],
    }


def _since(view: ModeView) -> ModeChange | None:
    """The change that brought the mode this process sees; None where the history has another one last."""
    last = ModeChange.objects.filter(kind=ModeKind.EFFECTIVE).order_by("-id").first()
    return last if last is not None and last.mode == view.mode else None

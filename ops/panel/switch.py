"""Stop and Resume on the admin site: one page that asks for the reason, then does it."""

from collections.abc import Callable
from functools import wraps
from http import HTTPStatus
from typing import Any

import structlog
from django import forms
from django.contrib import admin, messages
from django.contrib.auth.models import AbstractUser, AnonymousUser
from django.core.exceptions import PermissionDenied
from django.db import Error as DatabaseError
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, QueryDict
from django.http.response import HttpResponseBase
from django.template.loader import render_to_string
from django.template.response import SimpleTemplateResponse, TemplateResponse
from django.urls import reverse
from django.utils import timezone

from execution_app.engine import resting
from execution_app.errors import Refused
from execution_app.gate import control, loosening, second_factor
from execution_app.states import Origin, RestrictionKind
from ops.panel import passkeys
from ops.panel.present import Presence, how_to_lift, presence, settled_presence
from ops.panel.views import DEADLINE_S, RETRY_AFTER_S, STOP_BY_REDIS
from signals_app.deadline import database_deadline

PERMISSION = "execution_app.change_control"
REASON_LIMIT = 400
SHOWN = 10  # orders that are named
TEMPLATE = "panel/switch.html"
NO_ANSWER = "panel/no_answer.html"

log = structlog.get_logger(__name__)


class ReasonForm(forms.Form):
    """Why; written into the history beside who and when."""

    reason = forms.CharField(
        max_length=REASON_LIMIT,
        required=False,
        widget=forms.TextInput(attrs={"class": "vanta-input", "autocomplete": "off", "autofocus": True}),
    )


class ResumeForm(ReasonForm):
    """Loosening: a reason of some length, and a one-time code of whoever presses."""

    code = forms.CharField(
        label="One-time code",
        max_length=12,
        required=False,
        widget=forms.TextInput(
            attrs={"class": "vanta-input", "autocomplete": "one-time-code", "inputmode": "numeric"}
        ),
    )

    passkey = passkeys.AnswerField()

    def __init__(self, *args: Any, request: HttpRequest, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._request, self._username = request, str(request.user.get_username())
        self.fields["reason"].required = True
        self.has_passkey = second_factor.has_passkey(self._username)
        if not second_factor.is_needed(self._username):
            del self.fields["code"]

    def clean(self) -> dict[str, Any]:
        found: dict[str, Any] = super().clean() or {}
        if "reason" in found:
            try:
                with passkeys.shown(self._request):
                    loosening.permit(by=self._username, reason=found["reason"], code=found.get("code", ""))
            except Refused as error:
                raise forms.ValidationError(str(error)) from None
        return found


def within_deadline(page: Callable[..., HttpResponseBase]) -> Callable[..., HttpResponseBase]:
    """Answer within about DEADLINE_S whatever the database does; the login, the form and what it shows ask it, too."""

    @wraps(page)
    def bounded(request: HttpRequest, *args: str, **kwargs: str) -> HttpResponseBase:
        try:
            with database_deadline(DEADLINE_S):
                answer = page(request, *args, **kwargs)
                # The banner looks at the database while the page is made.
                return answer.render() if isinstance(answer, SimpleTemplateResponse) else answer
        except DatabaseError as error:
            log.exception("a page was not answered", path=request.path, error=type(error).__name__)
            return _no_answer(request)

    return bounded


def _no_answer(request: HttpRequest) -> HttpResponse:
    """What is known without a database, and what stops without one. Nobody may be known by name here.

    Of a page that was only looked at that nothing was changed; of one that was sent nobody knows what is committed.
    """
    asked = request.path.rstrip("/").rpartition("/")[2] if request.method == "POST" else ""
    context = {"asked": asked, "by_redis": STOP_BY_REDIS, "again": request.path}
    page = render_to_string(NO_ANSWER, context)
    headers = {"Retry-After": str(RETRY_AFTER_S), "Cache-Control": "no-store"}
    return HttpResponse(page, status=HTTPStatus.SERVICE_UNAVAILABLE, headers=headers)


def _holds(imposed: control.Imposed | None) -> HttpResponse:
    """The stop is recorded, and the database failed behind it: said here and now, since every other page asks it.

    Without `imposed` it failed before anybody knew which broadcasts had begun.
    """
    context = {
        "asked": "stopped",
        "left": imposed.in_flight if imposed else [],
        "unawaited": imposed is None,
        "again": reverse("admin:execution_app_control_stop" if imposed is None else "admin:index"),
    }
    return HttpResponse(render_to_string(NO_ANSWER, context), headers={"Cache-Control": "no-store"})


def may_switch(user: AbstractUser | AnonymousUser) -> bool:
    return bool(user.is_active and user.is_staff and user.has_perm(PERMISSION))


def stop(request: HttpRequest) -> HttpResponse:
    """Set the stop of origin `admin`; the reason is optional, since a stop must not wait for words."""
    form = ReasonForm(_given(request))
    if not _confirmed(request, form):
        return _page(request, form, "stop", "Stop all execution")
    reason = form.cleaned_data["reason"] or "no reason given"
    try:
        imposed = control.impose(RestrictionKind.STOP, Origin.ADMIN, by=_name(request), reason=reason)
    except control.UnawaitedError:
        log.exception("a stop holds, and nobody says what may still leave")
        return _holds(None)
    rests = resting.keys_under_stop()
    if rests is None:
        return _holds(imposed)
    if rests:
        keys = ", ".join(rests[:SHOWN])
        messages.warning(
            request, f"{len(rests):,} order(s) rest at the venue and may fill under the stop: {keys}"
        )
    if imposed.in_flight:
        may_have_left = ", ".join(imposed.in_flight)
        messages.warning(
            request, f"Stopped. These may still have left and are tracked to their end: {may_have_left}"
        )
    else:
        messages.success(
            request, "Stopped." if imposed.changed else "Was stopped here already; nothing changed."
        )
    return HttpResponseRedirect(reverse("admin:index"))


def resume(request: HttpRequest) -> HttpResponse:
    """Lift the stop of origin `admin`, with a reason and a second factor; stops of other origins stay."""
    if not may_switch(request.user):
        raise PermissionDenied  # before a code is looked at
    form = ResumeForm(_given(request), request=request)
    if not _confirmed(request, form):
        return _page(request, form, "resume", "Resume execution")
    lifted = control.lift(
        RestrictionKind.STOP, Origin.ADMIN, by=_name(request), reason=form.cleaned_data["reason"]
    )
    now = settled_presence()
    if not lifted:
        messages.info(request, "No stop was set on this site; nothing changed.")
    elif now.stops:
        messages.warning(request, "Lifted here; a stop of another origin still holds.")
    else:
        messages.success(request, "Resumed.")
    return HttpResponseRedirect(reverse("admin:index"))


def _given(request: HttpRequest) -> QueryDict | None:
    """None on a first visit; an empty POST is an answer, too."""
    return request.POST if request.method == "POST" else None


def _confirmed(request: HttpRequest, form: ReasonForm) -> bool:
    if not may_switch(request.user):
        raise PermissionDenied
    return request.method == "POST" and form.is_valid()


def _name(request: HttpRequest) -> str:
    return str(request.user.get_username())


def _page(request: HttpRequest, form: ReasonForm, action: str, title: str) -> HttpResponse:
    now: Presence = presence()
    context = {
        **admin.site.each_context(request),
        "title": title,
        "action": action,
        "form": form,
        "presence": now,
        "held_here": now.stopped_by(Origin.ADMIN),
        "mine": [row for row in now.stops if row.origin == Origin.ADMIN],
        "now": timezone.now(),
        "rests": len(resting.all_live()) if action == "stop" else 0,
        "least_reason": loosening.LEAST_REASON,
        "other_stops": how_to_lift(now.other_stops(Origin.ADMIN)),
    }
    return TemplateResponse(request, TEMPLATE, context)

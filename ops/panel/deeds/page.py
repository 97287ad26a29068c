"""The page of a deed: what it is about, then the form, then the verb; and the list of all deeds."""

from http import HTTPStatus

import structlog
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db import ProgrammingError
from django.http import FileResponse, Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.template.response import TemplateResponse
from psycopg.errors import InsufficientPrivilege

from execution_app.errors import Refused, Retryable, Stale
from ops.panel import passkeys
from ops.panel.deeds import gate, intents, people, positions, signals, sources
from ops.panel.deeds.deed import Deed, DeedForm, Person, Subject, User

NO_RIGHT = (
    "This process logs in to the database as a role that may not do that; nothing was done. Use the command."
)

log = structlog.get_logger(__name__)

DEEDS: dict[str, Deed] = {
    deed.name: deed
    for deed in (
        *gate.DEEDS,
        *intents.DEEDS,
        *intents.SEVERAL,
        *positions.DEEDS,
        *signals.DEEDS,
        *sources.DEEDS,
        *people.DEEDS,
    )
}
# Those that name nothing, in the order of how often they are needed.
OFFERED = ("dry", "live", "reduce-only", "allow-opens", "flatten", "set-cap", "bind-trader", "rotate-secret",
           "export-person", "forget-person")  # fmt: skip


def may_do(user: User) -> bool:
    """Whether there is a deed that names nothing for this person."""
    return any(DEEDS[name].offered(user) for name in OFFERED)


def deeds(request: HttpRequest) -> HttpResponse:
    """Every deed that names nothing and that this person may do."""
    offered = [DEEDS[name] for name in OFFERED if DEEDS[name].offered(request.user)]
    context = {**admin.site.each_context(request), "title": "Actions", "deeds": offered}
    return TemplateResponse(request, "panel/deeds.html", context)


def deed(request: HttpRequest, name: str, target: str = "") -> HttpResponseBase:
    """GET shows what would be done; POST with the typed word and a reason does it, once."""
    found = DEEDS.get(name)
    if found is None:
        raise Http404
    if not found.offered(request.user):
        raise PermissionDenied  # before anything is looked at
    subject = found.look(target)
    if not found.permits(request.user, subject):
        raise PermissionDenied
    username = str(request.user.get_username())
    given = request.POST if request.method == "POST" else None
    form = found.form(given, deed=found, subject=subject, username=username)
    if given is not None and not subject.obstacle and form.is_valid():
        said = _done(request, found, subject, form)
        if said and found.FILE in form.cleaned_data:
            file, filename = form.cleaned_data[found.FILE]
            headers = {"Cache-Control": "no-store"}
            return FileResponse(file, as_attachment=True, filename=filename, headers=headers)
        if said and found.tells_secret:
            return _shown_once(request, found, subject, said)
        if said:
            messages.success(request, said)
            return HttpResponseRedirect(subject.back)
    status = HTTPStatus.OK if given is None else HTTPStatus.UNPROCESSABLE_ENTITY
    context = {
        **admin.site.each_context(request),
        "title": found.title,
        "deed": found,
        "subject": subject,
        "form": form,
    }
    return TemplateResponse(request, "panel/deed.html", context, status=status)


def _shown_once(request: HttpRequest, found: Deed, subject: Subject, said: str) -> HttpResponse:
    context = {**admin.site.each_context(request), "title": found.title, "subject": subject, "said": said}
    answer = TemplateResponse(request, "panel/deed_told.html", context)
    answer.headers["Cache-Control"] = "no-store"
    return answer


def _done(request: HttpRequest, found: Deed, subject: Subject, form: DeedForm) -> str:
    """What the verb told; blank where it refused, which then stands in the form."""
    told, username = form.cleaned_data, str(request.user.get_username())
    person = Person(username, told["reason"], told.get("code", ""), told["once"].hex)
    try:
        with person.acting(), passkeys.shown(request):
            return found.do(subject, person, told)
    except (Refused, Retryable, Stale) as problem:
        why = str(problem)
    except ProgrammingError as problem:
        # Under logins of their own the webhook's may touch no intent, wallet or cap (ops/rollout/grants.py).
        if not isinstance(problem.__cause__, InsufficientPrivilege):
            raise
        why = NO_RIGHT
    form.add_error(None, why)
    log.warning("a deed was refused", deed=found.name, subject=subject.title, by=username, why=why)
    return ""

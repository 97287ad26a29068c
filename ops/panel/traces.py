"""Pages of the decision trace: find a signal or an intent, and read what became of it."""

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse

from execution_app.engine.waiting import database_now
from execution_app.models import TxIntent
from ops.panel import roles, story
from ops.panel.home.box import bounded
from ops.panel.search import SHOWN, search

ASKED_LIMIT = 220  # an intent's key is no longer
WITHIN_MS = 3_000
NEEDED = ("signals_app.view_signal", "execution_app.view_txintent")
AUDIT = "execution_app.view_auditentry"


def may_find(user: roles.User) -> bool:
    """All that there is, or what is theirs."""
    return bool(user.has_perms(NEEDED)) or roles.sees_own(user)


def _permit(request: HttpRequest) -> bool:
    """Whether they see all, or else what is theirs."""
    if request.user.has_perms(NEEDED):
        return True
    if not roles.sees_own(request.user):
        raise PermissionDenied
    return False


def _own(keys: list[str], own_ids: list[int]) -> set[str]:
    """Of these keys those that are of one of these Telegram ids, whether or not an intent came of it."""
    found = set(
        TxIntent.objects.filter(intent_key__in=keys, tg_user_id__in=own_ids).values_list(
            "intent_key", flat=True
        )
    )
    for key in set(keys) - found:
        signal = story.signal_of(key)
        if signal is not None and signal.tg_user_id in own_ids:
            found.add(key)
    return found


def find(request: HttpRequest) -> HttpResponse:
    """`?q=`: a signal id, an intent's key, a hash, an address or a Telegram id; one hit leads to its trace."""
    sees_all = _permit(request)
    asked = request.GET.get("q", "").strip()[:ASKED_LIMIT]
    with bounded(WITHIN_MS):
        hits = search(asked) if asked else []
        if not sees_all:
            own = _own([hit.key for hit in hits], roles.own_ids(request.user))
            hits = [hit for hit in hits if hit.key in own]
    if len(hits) == 1:
        return HttpResponseRedirect(reverse("panel:trace", args=[hits[0].key]))
    context = {
        **admin.site.each_context(request),
        "title": "Find",
        "asked": asked,
        "hits": hits,
        "most": SHOWN,
    }
    return TemplateResponse(request, "panel/find.html", context)


def trace(request: HttpRequest, key: str) -> HttpResponse:
    """From the body received to the position, and what the audit log has of that time for whoever may read it."""
    sees_all = _permit(request)
    # PostgreSQL cannot even be asked for some of what a path may hold.
    if not key.isprintable() or len(key) > ASKED_LIMIT:
        raise Http404
    with bounded(WITHIN_MS):
        found = story.find(key) if sees_all or _own([key], roles.own_ids(request.user)) else None
        if found is None:
            raise Http404
        may_audit = request.user.has_perm(AUDIT)
        entries = story.audit_around(found) if may_audit else []
        now = database_now()
    context = {
        **admin.site.each_context(request),
        "title": f"Trace: {found.key}",
        "found": found,
        "entries": entries,
        "may_audit": may_audit,
        "now": now,
    }
    return TemplateResponse(request, "panel/trace.html", context)

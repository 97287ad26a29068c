"""The home page, and where it leads: to pages that have something for whoever looks, and to no others."""

from collections.abc import Callable
from dataclasses import dataclass

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from ops.panel import charts, traces
from ops.panel.deeds import page as deeds
from ops.panel.exports import page as exports
from ops.panel.roles import User


@dataclass(frozen=True)
class Way:
    """`name` is the URL's, `may` asks whether the page would say more than that nothing is permitted."""

    name: str
    title: str
    may: Callable[[User], bool]


def _everybody(_user: User) -> bool:
    return True


WAYS = (
    Way("panel:charts", "Charts: result by day, exposure, latency, outcomes", charts.may_see),
    Way("panel:deeds", "Actions: mode, reduce-only, flatten, caps, sources", deeds.may_do),
    Way("panel:export", "Export: fills, fees, gas as CSV", exports.may_export),
    Way("panel:runbook", "Runbook: what each alert means", _everybody),
    Way("panel:passkeys", "Passkeys: a second factor of yours", _everybody),
)


def home(request: HttpRequest) -> HttpResponse:
    """The whole home page. The site's own view would make the list of tables twice."""
    request.current_app = admin.site.name
    context = {
        **admin.site.each_context(request),
        "title": admin.site.index_title,
        "index": True,
        "ways": [way for way in WAYS if way.may(request.user)],
        "may_find": traces.may_find(request.user),
    }
    return TemplateResponse(request, "admin/index.html", context)

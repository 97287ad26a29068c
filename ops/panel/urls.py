"""Pages of the panel that belong to no table; they stand before those of the admin site, whose last one takes all."""

from collections.abc import Callable
from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.urls import path

from ops.panel import charts, passkeys, runbook, traces, ways
from ops.panel.deeds import page as deeds
from ops.panel.exports import page as exports
from ops.panel.home import page
from ops.panel.switch import within_deadline

app_name = "panel"

View = Callable[..., HttpResponseBase]


def guarded(view: View) -> View:
    """For staff who are logged in, and answered in time whatever the database does."""

    def inside(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        answer: HttpResponseBase = admin.site.admin_view(view)(request, *args, **kwargs)
        return answer

    return within_deadline(inside)


urlpatterns = [
    path("", guarded(ways.home), name="index"),
    path("live/home/", guarded(page.live_home), name="home"),
    path("live/banner/", guarded(page.live_banner), name="banner"),
    path("find/", guarded(traces.find), name="find"),
    path("trace/<path:key>/", guarded(traces.trace), name="trace"),
    path("do/", guarded(deeds.deeds), name="deeds"),
    path("do/<slug:name>/", guarded(deeds.deed), name="deed"),
    path("do/<slug:name>/<path:target>/", guarded(deeds.deed), name="deed"),
    path("export/", guarded(exports.export), name="export"),
    path("passkeys/", guarded(passkeys.passkeys), name="passkeys"),
    path("passkeys/<int:key>/remove/", guarded(passkeys.remove), name="passkey-remove"),
    path("passkeys/options/<slug:what>/", guarded(passkeys.options), name="passkey-options"),
    path("charts/", guarded(charts.charts), name="charts"),
    path("runbook/", guarded(runbook.page), name="runbook"),
    path("runbook/<slug:name>/", guarded(runbook.page), name="runbook"),
]
